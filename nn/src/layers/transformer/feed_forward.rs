//! What a transformer does to each position alone.

use super::super::{Activation, Dense, Dropout, silu};
use crate::initialisers::{GlorotUniform, Initialiser};
use crate::layer::{Context, Layer};
use kiln_ir::{Dim, Kind, Refusal, Tensor};
use std::sync::Arc;

/// Two dense layers with an activation between: Vaswani et al., "Attention is all you need" (NeurIPS 2017), equation 2.
/// `x: [.., features]` keeps its shape.
///
/// Params: `up/w: [features, hidden]`, `up/b`, `down/w: [hidden, features]`, `down/b`. The activation is the exact
/// [`gelu`](crate::gelu) unless told otherwise (the paper's is relu).
///
/// ```
/// use kiln_nn::{FeedForward, Sequential};
///
/// let model = Sequential::new([16]).layer(FeedForward::new(64));
/// let parameters = 16 * 64 + 64 + 64 * 16 + 16;
/// assert_eq!(model.summary().unwrap().parameters.constant(), Some(parameters));
/// ```
#[derive(Clone)]
pub struct FeedForward {
    hidden: i64,
    activation: Activation,
    bias: bool,
    dropout: f64,
    weight: Arc<dyn Initialiser + Send + Sync>,
}

impl FeedForward {
    /// A layer of `hidden` features between, with gelu and biases.
    pub fn new(hidden: i64) -> Self {
        Self {
            hidden,
            activation: Activation::gelu(),
            bias: true,
            dropout: 0.0,
            weight: Arc::new(GlorotUniform),
        }
    }

    /// The function between the two dense layers.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Leaves both biases out.
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// The share of the hidden features that is dropped in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// How both weights start.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }
}

impl Layer for FeedForward {
    fn kind(&self) -> &str {
        "feed_forward"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(features) = features(cx, self.kind(), x) else {
            return cx.builder().poison();
        };
        let dense = |units| dense(units, &self.weight, self.bias);
        let hidden = cx.member("up", &dense(self.hidden), x);
        let hidden = cx.member("activation", &self.activation, hidden);
        let hidden = cx.member("dropout", &Dropout::new(self.dropout), hidden);
        cx.member("down", &dense(features), hidden)
    }
}

/// A gated feed-forward layer, `(silu(x gate) * (x up)) down`: Shazeer, "GLU variants improve transformer" (2020), equation 6, with no biases
/// as there. `x: [.., features]` keeps its shape.
///
/// Params: `gate/w` and `up/w: [features, hidden]`, `down/w: [hidden, features]`. The paper takes two thirds of the hidden features of a
/// [`FeedForward`], so that both have as many parameters.
///
/// ```
/// use kiln_nn::{Sequential, SwiGlu};
///
/// let model = Sequential::new([12]).layer(SwiGlu::new(32));
/// assert_eq!(model.summary().unwrap().parameters.constant(), Some(3 * 12 * 32));
/// ```
#[derive(Clone)]
pub struct SwiGlu {
    hidden: i64,
    dropout: f64,
    weight: Arc<dyn Initialiser + Send + Sync>,
}

impl SwiGlu {
    /// A layer of `hidden` features between.
    pub fn new(hidden: i64) -> Self {
        Self {
            hidden,
            dropout: 0.0,
            weight: Arc::new(GlorotUniform),
        }
    }

    /// The share of the hidden features that is dropped in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// How the three weights start.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }
}

impl Layer for SwiGlu {
    fn kind(&self) -> &str {
        "swiglu"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(features) = features(cx, self.kind(), x) else {
            return cx.builder().poison();
        };
        let dense = |units| dense(units, &self.weight, false);
        let gate = cx.member("gate", &dense(self.hidden), x);
        let up = cx.member("up", &dense(self.hidden), x);
        let hidden = {
            let _at = cx.at_application();
            silu(gate) * up
        };
        let hidden = cx.member("dropout", &Dropout::new(self.dropout), hidden);
        cx.member("down", &dense(features), hidden)
    }
}

fn dense(units: i64, weight: &Arc<dyn Initialiser + Send + Sync>, bias: bool) -> Dense {
    let dense = Dense {
        weight: weight.clone(),
        ..Dense::new(units)
    };
    if bias { dense } else { dense.without_bias() }
}

/// The number of features on the last axis of `x`; a mistake is reported in the name of `what`.
#[track_caller]
fn features(cx: &Context<'_>, what: &str, x: Tensor<'_>) -> Option<i64> {
    let _at = cx.at_application();
    let ty = x.ty()?;
    let features = ty.shape.last().and_then(Dim::constant);
    if features.is_none() {
        let message = format!("`{what}` needs a fixed number of features on the last axis of {ty}");
        let help = "only the axes before the last may be symbolic, and there must be a last one";
        let refusal = Refusal::new(Kind::Shape, message).help(help);
        cx.builder().refuse(refusal, &[x]);
    }
    features
}
