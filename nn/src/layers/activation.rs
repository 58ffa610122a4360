//! Activations: functions of a tensor, and the layer that makes one of them a member of a model.

use crate::last_axis::LastAxis;
use crate::layer::{Context, Layer};
use kiln_ir::Tensor;

/// `max(x, 0)` as `select(x <= 0, 0, x)`: the gradient at 0 is 0, and NaN stays NaN.
#[track_caller]
pub fn relu(x: Tensor<'_>) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    let zero = x.builder().splat(ty.dtype, &ty.shape, 0.0);
    zero.where_(x.le(0.0), x)
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
