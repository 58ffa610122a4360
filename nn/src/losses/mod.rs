//! Losses: how far predictions are from targets.
//!
//! A loss gives one number for each example; its mean over the batch is what is minimised. The batch is symbolic, so the short last
//! batch of an epoch is averaged over its own size.

mod absolute;
mod cross_entropy;
mod elementwise;
mod squared;

pub use absolute::MeanAbsoluteError;
pub use cross_entropy::{CrossEntropy, SparseCrossEntropy};
pub use squared::MeanSquaredError;

use kiln_ir::{Kind, Refusal, Tensor};

/// A loss of predictions and targets.
pub trait Loss {
    /// One value for each example, or for each position where examples are sequences.
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g>;

    /// The mean over all examples, a scalar.
    #[track_caller]
    fn mean<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.per_example(prediction, target).mean()
    }
}

/// Whether both have one type. A broadcast of `[b, 1]` against `[b]` would compare each example with each other one, so it is refused
/// in the name of `what`.
#[track_caller]
pub(crate) fn same_type(what: &str, prediction: Tensor<'_>, target: Tensor<'_>) -> bool {
    let (Some(p), Some(t)) = (prediction.ty(), target.ty()) else {
        return false;
    };
    if p == t {
        return true;
    }
    let (kind, help) = if p.shape == t.shape {
        (
            Kind::Type,
            format!("`.convert(DType::{:?})` the targets", p.dtype),
        )
    } else {
        (
            Kind::Shape,
            format!("targets of shape {} fit; reshape them", p.shape),
        )
    };
    let message = format!("`{what}` of predictions {p} and targets {t}");
    let refusal = Refusal::new(kind, message).help(help);
    prediction.builder().refuse(refusal, &[prediction, target]);
    false
}
