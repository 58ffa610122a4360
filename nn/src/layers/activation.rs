//! Activations: functions of a tensor, and the layer that makes one of them a member of a model.

use crate::last_axis::LastAxis;
use crate::layer::{Context, Layer};
use kiln_ir::Tensor;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// `max(x, 0)` as `select(x <= 0, 0, x)`: the gradient at 0 is 0, and NaN stays NaN.
#[track_caller]
pub fn relu(x: Tensor<'_>) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    let zero = x.builder().splat(ty.dtype, &ty.shape, 0.0);
    zero.where_(x.le(0.0), x)
}

/// The Gaussian error linear unit `x P(X <= x)` of a standard normal `X`, `x (1 + erf(x / sqrt 2)) / 2`: Hendrycks and Gimpel, "Gaussian
/// error linear units" (2016), equation 1.
#[track_caller]
pub fn gelu(x: Tensor<'_>) -> Tensor<'_> {
    x * 0.5 * ((x * FRAC_1_SQRT_2).erf() + 1.0)
}

/// The approximation of [`gelu`] that GPT-2 was trained with, `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: Hendrycks and Gimpel
/// (2016), section 2. It differs from the exact one by up to 5e-4.
#[track_caller]
pub fn gelu_tanh(x: Tensor<'_>) -> Tensor<'_> {
    let inner = (x + x.square() * x * 0.044_715) * FRAC_2_PI.sqrt();
    x * 0.5 * (inner.tanh() + 1.0)
}

/// `x logistic(x)`, called swish where it is scaled: Hendrycks and Gimpel (2016), and Ramachandran, Zoph and Le, "Searching for activation
/// functions" (2017), with a beta of 1.
#[track_caller]
pub fn silu(x: Tensor<'_>) -> Tensor<'_> {
    x * x.logistic()
}

/// `e^x` divided by its sum along the last axis. The row's maximum is subtracted first, so no finite row overflows; it carries no
/// gradient, for the result does not depend on it.
#[track_caller]
pub fn softmax(x: Tensor<'_>) -> Tensor<'_> {
    let Some(axis) = LastAxis::of("softmax", x) else {
        return x.builder().poison();
    };
    let exponentials = axis.centred(x).exp();
    exponentials / axis.spread(axis.sum(exponentials))
}

/// The logarithm of [`softmax`], exact where the softmax itself would round to 0.
#[track_caller]
pub fn log_softmax(x: Tensor<'_>) -> Tensor<'_> {
    let Some(axis) = LastAxis::of("log_softmax", x) else {
        return x.builder().poison();
    };
    let centred = axis.centred(x);
    centred - axis.spread(axis.sum(centred.exp()).log())
}

/// A function without params as a layer.
///
/// ```
/// use kiln_nn::{Activation, Sequential};
///
/// let model = Sequential::new([4])
///     .dense(8)
///     .activation(Activation::new("swish", |x| x * x.logistic()))
///     .dense(1);
/// assert_eq!(model.summary().unwrap().rows[1].path, "swish_1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    kind: &'static str,
    function: for<'g> fn(Tensor<'g>) -> Tensor<'g>,
}

impl Activation {
    /// A layer of kind `kind` that applies `function`.
    pub const fn new(kind: &'static str, function: for<'g> fn(Tensor<'g>) -> Tensor<'g>) -> Self {
        Self { kind, function }
    }

    /// [`relu`].
    pub const fn relu() -> Self {
        Self::new("relu", relu)
    }

    /// [`gelu`], the exact one.
    pub const fn gelu() -> Self {
        Self::new("gelu", gelu)
    }

    /// [`gelu_tanh`].
    pub const fn gelu_tanh() -> Self {
        Self::new("gelu_tanh", gelu_tanh)
    }

    /// [`silu`].
    pub const fn silu() -> Self {
        Self::new("silu", silu)
    }

    /// [`softmax`] along the last axis.
    pub const fn softmax() -> Self {
        Self::new("softmax", softmax)
    }

    /// [`log_softmax`] along the last axis.
    pub const fn log_softmax() -> Self {
        Self::new("log_softmax", log_softmax)
    }
}

impl Layer for Activation {
    fn kind(&self) -> &str {
        self.kind
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        (self.function)(x)
    }
}
