//! GPT-2: Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised multitask learners" (2019), section 2.3.
//!
//! Tokens and learned positions, blocks with norms before, a last norm, and the table of tokens as output head. Nothing in Kiln knows of it.

use kiln::nn::{
    Embedding, FeedForward, LayerNorm, LearnedPositions, MultiHeadAttention, TransformerBlock,
};
use kiln::{Context, Init, Layer, Tensor};

/// The sizes of a model, and whether its layers have biases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpt {
    /// How many tokens there are.
    pub(crate) vocabulary: i64,
    /// The longest sequence.
    pub(crate) context: i64,
    pub(crate) layers: usize,
    pub(crate) heads: i64,
    pub(crate) width: i64,
    pub(crate) bias: bool,
}

impl Gpt {
    fn norm(&self) -> LayerNorm {
        let norm = LayerNorm::new();
        if self.bias { norm } else { norm.without_bias() }
    }

    fn block(&self) -> TransformerBlock {
        let attention = MultiHeadAttention::new(self.heads).causal().weight(start());
        let feed_forward = FeedForward::new(4 * self.width).weight(start());
        let (attention, feed_forward) = if self.bias {
            (attention, feed_forward)
        } else {
            (attention.without_bias(), feed_forward.without_bias())
        };
        TransformerBlock::new(attention, feed_forward).norm(self.norm())
    }
}

/// All weights start alike.
fn start() -> Init {
    Init::normal(0.02)
}

/// Tokens `[b, t]` to logits `[b, t, vocabulary]`.
impl Layer for Gpt {
    fn kind(&self) -> &str {
        "gpt"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let tokens = Embedding::new(self.vocabulary, self.width).weight(start());
        let x = cx.layer("tokens", &tokens, x);
        let x = cx.layer("positions", &LearnedPositions::new(self.context), x);
        let x = (0..self.layers).fold(x, |x, i| cx.layer(&format!("block_{i}"), &self.block(), x));
        let x = cx.layer("norm", &self.norm(), x);
        let head = |cx: &Context<'g>| tokens.logits(cx, x);
        cx.sharing().within("tokens", "head", head)
    }
}
