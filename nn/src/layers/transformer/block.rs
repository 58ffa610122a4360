//! The block that transformers are stacks of.

use super::super::{Dropout, LayerNorm, Memory, MultiHeadAttention};
use crate::layer::{Context, Layer};
use kiln_ir::{Kind, Refusal, Tensor};
use std::sync::Arc;

/// A block of a transformer: attention within the sequence, attention to a memory where there is one, and a feed-forward layer, each with a
/// residual and a normalisation. `x: [b, t, features]` keeps its shape.
///
/// ```text
/// before (the default):  x := x + f(norm(x))      Xiong et al., "On layer normalization in the transformer architecture" (ICML 2020)
/// behind:                x := norm(x + f(x))      Vaswani et al., "Attention is all you need" (NeurIPS 2017), section 3.1
/// ```
///
/// Encoders are blocks as they are, and so are decoders without a memory, GPT's, with a causal attention; with [`TransformerBlock::cross`]
/// it is the decoder of a translation. Blocks with norms before need a last norm behind the stack, which the model adds.
///
/// Scopes: `attention`, `cross` and `feed_forward`, and `attention_norm`, `cross_norm` and `feed_forward_norm`.
///
/// As a [`Layer`] it sees all of its input; [`TransformerBlock::transform`] takes masks and the memory.
///
/// ```
/// use kiln_nn::{FeedForward, MultiHeadAttention, Sequential, TransformerBlock};
///
/// let block = || TransformerBlock::new(MultiHeadAttention::new(4).causal(), FeedForward::new(256));
/// let model = Sequential::new([32, 64]).layer(block()).layer(block());
/// assert_eq!(model.summary().unwrap().rows[0].output.to_string(), "f32[b, 32, 64]");
/// ```
#[derive(Clone)]
pub struct TransformerBlock {
    attention: MultiHeadAttention,
    cross: Option<MultiHeadAttention>,
    feed_forward: Arc<dyn Layer + Send + Sync>,
    norm: Arc<dyn Layer + Send + Sync>,
    norm_behind: bool,
    dropout: f64,
}

/// What a block looks at besides its input.
#[derive(Clone, Copy, Default)]
pub struct BlockInputs<'g> {
    /// `bool`, true where the sequence itself may be seen, as in [`Memory::visible`].
    pub visible: Option<Tensor<'g>>,
    /// The sequence `[b, s, features]` that the cross-attention looks at, and what of it may be seen.
    pub memory: Memory<'g>,
}

impl TransformerBlock {
    /// A block with these two layers and [`LayerNorm`] before each.
    pub fn new(
        attention: MultiHeadAttention,
        feed_forward: impl Layer + Send + Sync + 'static,
    ) -> Self {
        Self {
            attention,
            cross: None,
            feed_forward: Arc::new(feed_forward),
            norm: Arc::new(LayerNorm::new()),
            norm_behind: false,
            dropout: 0.0,
        }
    }

    /// Adds attention to a memory between the two.
    pub fn cross(mut self, attention: MultiHeadAttention) -> Self {
        self.cross = Some(attention);
        self
    }

    /// The normalisation, applied with params of its own for each of the layers.
    pub fn norm(mut self, norm: impl Layer + Send + Sync + 'static) -> Self {
        self.norm = Arc::new(norm);
        self
    }

    /// Normalises behind each residual instead of before each layer.
    pub fn norm_behind(mut self) -> Self {
        self.norm_behind = true;
        self
    }

    /// The share that is dropped of what each of the layers adds to the residual, in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// The block with masks and a memory. The caller has opened its scope:
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    /// use kiln_nn::{BlockInputs, Context, FeedForward, Memory, MultiHeadAttention, TransformerBlock};
    ///
    /// let g = Builder::new("translation");
    /// let sequence = |name, time| g.input(name, DType::F32, (g.dim("b"), g.dim(time), 64));
    /// let (x, source) = (sequence("x", "t"), sequence("source", "s"));
    /// let decoder = TransformerBlock::new(MultiHeadAttention::new(4).causal(), FeedForward::new(256))
    ///     .cross(MultiHeadAttention::new(4));
    /// let memory = Memory { memory: Some(source), ..Default::default() };
    /// let inputs = BlockInputs { memory, ..Default::default() };
    /// let y = Context::training(&g).within("decoder", "block", |cx| decoder.transform(cx, x, &inputs));
    /// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 64]");
    /// ```
    #[track_caller]
    pub fn transform<'g>(
        &self,
        cx: &Context<'g>,
        x: Tensor<'g>,
        inputs: &BlockInputs<'g>,
    ) -> Tensor<'g> {
        if self.cross.is_some() != inputs.memory.memory.is_some() {
            let _at = cx.at_application();
            let (message, help) = match self.cross {
                Some(_) => (
                    "a transformer block with cross-attention is given no memory",
                    "`transform` takes the memory; a block used as a plain layer has none",
                ),
                None => (
                    "a transformer block without cross-attention is given a memory",
                    "`TransformerBlock::cross` adds the attention that looks at it",
                ),
            };
            let refusal = Refusal::new(Kind::Signature, message).help(help);
            return cx.builder().refuse(refusal, &[x]);
        }
        let own = Memory {
            memory: None,
            visible: inputs.visible,
        };
        let attend = |name: &'static str, layer: &MultiHeadAttention, memory: &Memory<'g>, x| {
            cx.member_within(name, layer.kind(), |cx| layer.attend(cx, x, memory))
        };
        let x = self.residual(cx, "attention", x, |x| {
            attend("attention", &self.attention, &own, x)
        });
        let x = match &self.cross {
            Some(cross) => self.residual(cx, "cross", x, |x| {
                attend("cross", cross, &inputs.memory, x)
            }),
            None => x,
        };
        self.residual(cx, "feed_forward", x, |x| {
            cx.member("feed_forward", &*self.feed_forward, x)
        })
    }

    /// `x` with what `layer` adds to it, and the normalisation of both.
    #[track_caller]
    fn residual<'g>(
        &self,
        cx: &Context<'g>,
        name: &str,
        x: Tensor<'g>,
        layer: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let norm = |x| cx.member(&format!("{name}_norm"), &*self.norm, x);
        let added = layer(if self.norm_behind { x } else { norm(x) });
        let dropout = Dropout::new(self.dropout);
        let added = cx.member(&format!("{name}_dropout"), &dropout, added);
        let sum = {
            let _at = cx.at_application();
            x + added
        };
        if self.norm_behind { norm(sum) } else { sum }
    }
}

impl Layer for TransformerBlock {
    fn kind(&self) -> &str {
        "transformer_block"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.transform(cx, x, &BlockInputs::default())
    }
}
