//! Attention as a layer: the projections around [`attention`], and positions that turn queries and keys.

mod blocks;
mod cache;
mod core;
mod rotary;

pub use core::{AttentionOptions, AttentionSchedule, attention};
pub use rotary::rotary;

use super::Dense;
use crate::initialisers::{GlorotUniform, Initialiser};
use crate::layer::{Context, Layer, Mode};
use kiln_ir::{Kind, Refusal, Tensor};
use std::sync::Arc;

/// Multi-head attention: Vaswani et al., "Attention is all you need" (NeurIPS 2017), section 3.2.2. `x: [b, t, features]` keeps its shape.
///
/// As a [`Layer`] it attends to `x` itself; [`MultiHeadAttention::attend`] takes a memory to attend to, and what of it may be seen.
///
/// Params, of the element type of `x`: within itself, one projection `qkv/w: [features, (heads + 2 kv_heads) width]` with `qkv/b`, in this
/// order; across a memory, `q/w: [features, heads width]` and `kv/w: [memory's features, 2 kv_heads width]` with their `b`; and
/// `out/w: [heads width, features]` with `out/b`. Weights are Glorot uniform, biases zeros. The width of a head is `features / heads`
/// unless told otherwise.
///
/// [`attention`] says what is computed between, and what becomes of a query that may see nothing.
///
/// In a context that goes on with a sequence ([`Context::continuing`]) a causal attention within itself keeps the states `keys` and `values:
/// [b, kv_heads, context, width]`, zeros at first. Each step writes the rows of its tokens in place and attends to what was written so far.
/// Batch and tokens are fixed there, and a mask is refused. Across a memory nothing is kept.
///
/// Refused, at the line that added the layer: inputs that are not floating `[b, t, features]` with fixed features, features that the heads do
/// not divide where no width is given, heads that are no multiple of the key heads, and an odd width with rotary positions.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, MultiHeadAttention};
///
/// let g = Builder::new("attention");
/// let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 128));
/// let y = Context::training(&g).layer("attention", &MultiHeadAttention::new(4).causal(), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 128]");
/// ```
#[derive(Clone)]
pub struct MultiHeadAttention {
    heads: i64,
    kv_heads: i64,
    width: Option<i64>,
    bias: bool,
    causal: bool,
    dropout: f64,
    rotary: Option<f64>,
    schedule: AttentionSchedule,
    weight: Arc<dyn Initialiser + Send + Sync>,
}

/// What an attention looks at.
#[derive(Clone, Copy, Default)]
pub struct Memory<'g> {
    /// The sequence `[b, s, features]` that keys and values are made of; without one, the input itself.
    pub memory: Option<Tensor<'g>>,
    /// `bool`, true where a key may be seen: `[b, s]`, as of padding, `[b, t, s]` or `[b, heads, t, s]`.
    pub visible: Option<Tensor<'g>>,
}

impl MultiHeadAttention {
    /// Attention of `heads` heads, each with keys of its own, with biases, to everything.
    pub fn new(heads: i64) -> Self {
        Self {
            heads,
            kv_heads: heads,
            width: None,
            bias: true,
            causal: false,
            dropout: 0.0,
            rotary: None,
            schedule: AttentionSchedule::Chosen,
            weight: Arc::new(GlorotUniform),
        }
    }

    /// Fewer heads of keys and values, each shared by `heads / kv_heads` heads of queries: grouped-query attention, Ainslie et al., "GQA"
    /// (EMNLP 2023); one is multi-query attention.
    pub fn kv_heads(mut self, kv_heads: i64) -> Self {
        self.kv_heads = kv_heads;
        self
    }

    /// The width of a head.
    pub fn head_width(mut self, width: i64) -> Self {
        self.width = Some(width);
        self
    }

    /// Leaves the biases of all projections out.
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// Lets a query see only what is not behind it.
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// The share of the probabilities that is dropped in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// Turns queries and keys by their positions, from 0 on, with the paper's base of 10,000: see [`rotary`](fn@rotary).
    pub fn rotary(self) -> Self {
        self.rotary_base(10_000.0)
    }

    /// [`MultiHeadAttention::rotary`] with another base.
    pub fn rotary_base(mut self, base: f64) -> Self {
        self.rotary = Some(base);
        self
    }

    /// In which order it is computed, and so how much memory it takes.
    pub fn schedule(mut self, schedule: AttentionSchedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// How the weights of all projections start.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }

    /// The attention of `x` to a memory, or to itself, with what may be seen of it. The caller has opened the layer's scope:
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    /// use kiln_nn::{Context, Memory, MultiHeadAttention};
    ///
    /// let g = Builder::new("translation");
    /// let sequence = |name, time| g.input(name, DType::F32, (g.dim("b"), g.dim(time), 64));
    /// let (x, source) = (sequence("x", "t"), sequence("source", "s"));
    /// let words = g.input("words", DType::Bool, (g.dim("b"), g.dim("s")));
    /// let inputs = Memory { memory: Some(source), visible: Some(words) };
    /// let layer = MultiHeadAttention::new(4);
    /// let y = Context::training(&g).within("cross", "attention", |cx| layer.attend(cx, x, &inputs));
    /// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 64]");
    /// ```
    #[track_caller]
    pub fn attend<'g>(&self, cx: &Context<'g>, x: Tensor<'g>, inputs: &Memory<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(features) = sequence(cx, x) else {
            return cx.builder().poison();
        };
        let Some(width) = self.head(cx, x, features) else {
            return cx.builder().poison();
        };
        let (own, shared) = (self.heads * width, self.kv_heads * width);
        let project =
            |name: &str, units: i64, x: Tensor<'g>| cx.member(name, &self.projection(units), x);
        let (q, k, v) = match inputs.memory {
            None => {
                let all = project("qkv", own + 2 * shared, x);
                let part = |from, heads| heads_of(all, from, heads, width);
                let (q, k) = (part(0, self.heads), part(own, self.kv_heads));
                (q, k, part(own + shared, self.kv_heads))
            }
            Some(memory) => {
                if sequence(cx, memory).is_none() {
                    return cx.builder().poison();
                }
                let (q, kv) = (project("q", own, x), project("kv", 2 * shared, memory));
                let part = |from| heads_of(kv, from, self.kv_heads, width);
                (heads_of(q, 0, self.heads, width), part(0), part(shared))
            }
        };
        let continuation = cx.continuation().filter(|_| inputs.memory.is_none());
        let turned = |x: Tensor<'g>| match (self.rotary, &continuation) {
            (Some(base), Some(from)) => rotary(x, from.positions(), base),
            (Some(base), None) => rotary(x, rotary::from_zero(x), base),
            (None, _) => x,
        };
        let options = AttentionOptions {
            causal: self.causal,
            visible: inputs.visible,
            dropout: match cx.mode() {
                Mode::Training => self.dropout,
                Mode::Inference => 0.0,
            },
            schedule: self.schedule,
        };
        let q = turned(q);
        if q.id().is_none() {
            // What is wrong with the queries is wrong with the keys too, and once is enough to say it.
            return q;
        }
        let y = match &continuation {
            Some(from) if self.causal && inputs.visible.is_none() => {
                cache::attend(cx, [q, turned(k), v], from)
            }
            Some(_) => self.refuse_to_go_on(cx, x),
            None => attention(q, turned(k), v, &options),
        };
        let Some(ty) = y.ty() else { return y };
        let y = y.reshape((&ty.shape[0], &ty.shape[1], own));
        project("out", features, y)
    }

    /// Reports what keeps the attention from going on with a sequence.
    #[track_caller]
    fn refuse_to_go_on<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (message, help) = if self.causal {
            (
                "an attention that goes on with a sequence is given what of it may be seen",
                "it sees all tokens before and no others; masks are for whole sequences",
            )
        } else {
            (
                "an attention that is not causal goes on with a sequence",
                "what it sees ahead is not there yet; an encoder takes whole sequences, in a context that is not continuing",
            )
        };
        let refusal = Refusal::new(Kind::Attribute, message).help(help);
        cx.builder().refuse(refusal, &[x])
    }

    fn projection(&self, units: i64) -> Dense {
        let dense = Dense {
            weight: self.weight.clone(),
            ..Dense::new(units)
        };
        if self.bias {
            dense
        } else {
            dense.without_bias()
        }
    }

    /// The width of a head; a mistake is reported.
    #[track_caller]
    fn head(&self, cx: &Context<'_>, x: Tensor<'_>, features: i64) -> Option<i64> {
        let Self {
            heads, kv_heads, ..
        } = *self;
        let refuse = |message: String, help: &str| {
            let refusal = Refusal::new(Kind::Attribute, message).help(help);
            cx.builder().refuse(refusal, &[x]);
            None
        };
        if heads < 1 || kv_heads < 1 || heads % kv_heads != 0 {
            let message = format!("`attention` with {heads} heads and {kv_heads} of keys");
            return refuse(
                message,
                "the heads are a multiple of those of keys, 1 or more",
            );
        }
        match self.width {
            Some(width) if width >= 1 => Some(width),
            Some(width) => {
                let message = format!("`attention` with heads of width {width}");
                refuse(message, "a head has one feature or more")
            }
            None if features % heads == 0 && features > 0 => Some(features / heads),
            None => {
                let message = format!("`attention` with {heads} heads of {features} features");
                let help = "the heads divide the features, or `head_width` says how wide they are";
                refuse(message, help)
            }
        }
    }
}

impl Layer for MultiHeadAttention {
    fn kind(&self) -> &str {
        "attention"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.attend(cx, x, &Memory::default())
    }
}

/// The number of features of a sequence; a mistake is reported.
#[track_caller]
fn sequence(cx: &Context<'_>, x: Tensor<'_>) -> Option<i64> {
    let ty = x.ty()?;
    if let ([_, _, features], true) = (&*ty.shape, ty.dtype.is_float())
        && let Some(features) = features.constant()
    {
        return Some(features);
    }
    let refusal = Refusal::new(Kind::Shape, format!("`attention` of {ty}"))
        .help("it takes floating sequences [b, t, features] with a fixed number of features");
    cx.builder().refuse(refusal, &[x]);
    None
}

/// The features from `from` on of a projection `[b, t, features]`, as `[b, t, heads, width]`.
#[track_caller]
fn heads_of(x: Tensor<'_>, from: i64, heads: i64, width: i64) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    let (b, t) = (&ty.shape[0], &ty.shape[1]);
    x.slice_axis(2, from, from + heads * width)
        .reshape((b, t, heads, width))
}
