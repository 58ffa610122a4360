//! Embeddings, attention and transformers, compiled: a training step of each gives the same bits in every variant and on every number of
//! threads, and what the interpreter gives within rounding.

mod common;

use common::layer::check;
use kiln_ir::{DType, Tensor};
use kiln_nn::{
    AttentionSchedule, BlockInputs, Context, Embedding, FeedForward, Layer, LayerNorm,
    LearnedPositions, Memory, MultiHeadAttention, OutOfRange, RmsNorm, Sequential, SwiGlu,
    TransformerBlock,
};

#[test]
fn attention_in_every_form() {
    check(&MultiHeadAttention::new(3), &[5, 12]);
    check(
        &MultiHeadAttention::new(2).causal().without_bias(),
        &[7, 32],
    );
    check(&MultiHeadAttention::new(4).kv_heads(2).causal(), &[6, 16]);
    check(&MultiHeadAttention::new(2).rotary().dropout(0.3), &[5, 8]);
    // Heads of a register's lanes, which are joined in blocks.
    check(&MultiHeadAttention::new(3).causal(), &[5, 48]);
    check(&MultiHeadAttention::new(1).head_width(20).causal(), &[1, 3]);
}

#[test]
fn attention_in_blocks() {
    // Blocks that are cut at the end, that all queries fit into, and one query each; spans of keys, and a head for several.
    for (rows, t) in [(2, 5), (16, 16), (1, 3), (4, 19)] {
        let schedule = AttentionSchedule::Blocks(rows);
        let heads = |heads| MultiHeadAttention::new(heads).schedule(schedule);
        check(&heads(3), &[t, 12]);
        check(&heads(4).kv_heads(2).causal(), &[t, 16]);
        check(&heads(2).causal().rotary().dropout(0.3), &[t, 8]);
    }
}

#[test]
fn norms_and_feed_forward_layers() {
    check(&LayerNorm::new(), &[5, 33]);
    check(&RmsNorm::new(), &[5, 33]);
    check(&FeedForward::new(40), &[5, 12]);
    check(&SwiGlu::new(40).dropout(0.2), &[5, 12]);
    check(&LearnedPositions::new(9), &[5, 12]);
}

/// Tokens made of the input, so that the table learns through both ends, and the input through a sum.
struct Tied;

impl Layer for Tied {
    fn kind(&self) -> &str {
        "tied"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let table = Embedding::new(9, 8).out_of_range(OutOfRange::Clamp);
        let tokens = (x * 3.0 + 4.0).convert(DType::I32);
        let vectors = cx.layer("tokens", &table, tokens).tanh();
        let logits = cx
            .sharing()
            .within("tokens", "head", |cx| table.logits(cx, vectors));
        let (b, t, f) = (&ty.shape[0], &ty.shape[1], &ty.shape[2]);
        logits + x.reshape((b, t, f, 1))
    }
}

#[test]
fn tied_weights() {
    check(&Tied, &[5, 4]);
}

/// A decoder whose memory is its input, of which something is hidden, in some examples all.
struct Decoder;

impl Layer for Decoder {
    fn kind(&self) -> &str {
        "decoder"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let feature = x.slice(
            &[0.into(), 0.into(), 0.into()],
            &[ty.shape[0].clone(), ty.shape[1].clone(), 1.into()],
            &[1; 3],
        );
        let visible = feature.reshape(&ty.shape[..2]).gt(0.3);
        let inputs = BlockInputs {
            visible: None,
            memory: Memory {
                memory: Some(x.tanh()),
                visible: Some(visible),
            },
        };
        let block = TransformerBlock::new(MultiHeadAttention::new(2).causal(), SwiGlu::new(24))
            .norm(RmsNorm::new())
            .cross(MultiHeadAttention::new(2));
        cx.within("block", "transformer_block", |cx| {
            block.transform(cx, x, &inputs)
        })
    }
}

/// What stands between layers is fused there, and must not move a bit either.
#[test]
fn blocks_of_layers() {
    let block = || {
        TransformerBlock::new(MultiHeadAttention::new(2).causal(), FeedForward::new(64))
            .dropout(0.1)
    };
    let stack = Sequential::new([6, 32])
        .layer(LearnedPositions::new(8))
        .layer(block())
        .layer(block().norm_behind())
        .layer(LayerNorm::new())
        .dense(5);
    check(&stack, &[6, 32]);
    check(&Decoder, &[6, 8]);
}
