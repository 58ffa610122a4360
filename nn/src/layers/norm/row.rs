//! Layer normalisation and its form without a mean: what transformers do to each position alone.

use super::super::pool::mean_over;
use super::{features, spread};
use crate::layer::{Context, Layer};
use kiln_ir::{Init, Kind, Layout, Refusal, Tensor};

/// Layer normalisation: Ba, Kiros and Hinton, "Layer normalization" (2016), equations 3 and 4. `x: [b, .., features]` keeps its shape.
///
/// ```text
/// y = gain * (x - mean(x)) / sqrt(variance(x) + epsilon) + b      over the last axis
/// ```
///
/// Params, of the element type of `x`: `gain: [features]`, ones, and `b: [features]`, zeros. The variance is divided by the number of
/// features. Epsilon is 1e-5, as PyTorch and GPT-2 have it (Keras has 1e-3).
///
/// Refused, at the line that added the layer: element types that are not floating, fewer than two axes, a symbolic number of features
/// and a negative epsilon.
///
/// ```
/// use kiln_nn::{LayerNorm, Sequential};
///
/// let model = Sequential::new([16]).dense(32).layer(LayerNorm::new());
/// assert_eq!(model.summary().unwrap().rows[1].parameters.constant(), Some(64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    epsilon: f64,
    bias: bool,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self {
            epsilon: 1e-5,
            bias: true,
        }
    }
}

impl LayerNorm {
    /// The layer with gain and bias.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added to the variance before its root is taken.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Leaves the bias out.
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }
}

impl Layer for LayerNorm {
    fn kind(&self) -> &str {
        "layer_norm"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(row) = Row::of(cx, self.kind(), x, self.epsilon) else {
            return cx.builder().poison();
        };
        // A row is in cache, so its own mean costs a sweep and no memory, and no digits are lost to a mean far from 0.
        let centred = x - row.along(row.mean(x));
        let y = centred * row.along((row.mean(centred.square()) + self.epsilon).rsqrt());
        let y = y * cx.param("gain", row.ty.dtype, [row.features], &Init::ones());
        if self.bias {
            y + cx.param("b", row.ty.dtype, [row.features], &Init::zeros())
        } else {
            y
        }
    }
}

/// Root mean square normalisation: Zhang and Sennrich, "Root mean square layer normalization" (NeurIPS 2019), equation 4.
/// `x: [b, .., features]` keeps its shape.
///
/// ```text
/// y = gain * x / sqrt(mean(x^2) + epsilon)      over the last axis
/// ```
///
/// One param, of the element type of `x`: `gain: [features]`, ones. Epsilon, which the paper does not have, is 1e-5, as in Llama. Refusals
/// are those of [`LayerNorm`].
///
/// ```
/// use kiln_nn::{RmsNorm, Sequential};
///
/// let model = Sequential::new([16]).dense(32).layer(RmsNorm::new());
/// assert_eq!(model.summary().unwrap().rows[1].parameters.constant(), Some(32));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    epsilon: f64,
}

impl Default for RmsNorm {
    fn default() -> Self {
        Self { epsilon: 1e-5 }
    }
}

impl RmsNorm {
    /// The layer with an epsilon of 1e-5.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added to the mean of the squares before its root is taken.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

impl Layer for RmsNorm {
    fn kind(&self) -> &str {
        "rms_norm"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(row) = Row::of(cx, self.kind(), x, self.epsilon) else {
            return cx.builder().poison();
        };
        let y = x * row.along((row.mean(x.square()) + self.epsilon).rsqrt());
        y * cx.param("gain", row.ty.dtype, [row.features], &Init::ones())
    }
}

/// The last axis of a tensor, whose size is known.
struct Row {
    ty: kiln_ir::TensorType,
    axes: [usize; 1],
    features: i64,
}

impl Row {
    /// The last axis of `x`; a mistake, a negative epsilon among them, is reported in the name of `what`.
    #[track_caller]
    fn of(cx: &Context<'_>, what: &str, x: Tensor<'_>, epsilon: f64) -> Option<Self> {
        let ty = x.ty()?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            let message = format!("`{what}` with an epsilon of {epsilon}");
            let refusal =
                Refusal::new(Kind::Attribute, message).help("epsilon is a number at 0 or above");
            cx.builder().refuse(refusal, &[]);
            return None;
        }
        let (axis, features) = features(what, x, Layout::ChannelsLast)?;
        Some(Self {
            ty,
            axes: [axis],
            features,
        })
    }

    /// The mean of each row.
    #[track_caller]
    fn mean<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        mean_over(x, &self.axes)
    }

    /// One number a row, repeated along the row.
    #[track_caller]
    fn along<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        spread(x, &self.ty, &self.axes)
    }
}
