//! Losses: how far predictions are from targets.
//!
//! A loss gives one number for each example; its mean over the batch is what is minimised. The batch is symbolic, so the short last
//! batch of an epoch is averaged over its own size.

mod absolute;
mod binary;
mod cross_entropy;
mod ctc;
mod divergence;
mod elementwise;
mod focal;
mod hinge;
mod huber;
mod regularised;
mod similarity;
mod smoothed;
mod squared;
mod weighted;

pub use absolute::MeanAbsoluteError;
pub use binary::BinaryCrossEntropy;
pub use cross_entropy::{CrossEntropy, SparseCrossEntropy};
pub use ctc::{Ctc, ctc};
pub use divergence::{KlDivergence, Poisson};
pub use focal::{BinaryFocal, CategoricalFocal};
pub use hinge::{CategoricalHinge, Hinge, SquaredHinge};
pub use huber::{Huber, LogCosh};
pub use regularised::Regularised;
pub use similarity::{CosineSimilarity, triplet};
pub use smoothed::Smoothed;
pub use squared::MeanSquaredError;
pub use weighted::ClassWeighted;

use crate::weights::spread;
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

    /// The mean in which an example counts as often as `weights`, of shape `[b]`, says: the weighted sum over the number of examples, as in
    /// Keras, so that what an example adds does not hang on the weights of those beside it.
    #[track_caller]
    fn weighted_mean<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Tensor<'g>,
    ) -> Tensor<'g> {
        let each = self.per_example(prediction, target);
        (each * spread("loss", weights, each)).mean()
    }
}

/// A loss that somebody else holds, as behind a `dyn Loss`.
impl<L: Loss + ?Sized> Loss for &L {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        (**self).per_example(prediction, target)
    }

    #[track_caller]
    fn mean<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        (**self).mean(prediction, target)
    }

    #[track_caller]
    fn weighted_mean<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Tensor<'g>,
    ) -> Tensor<'g> {
        (**self).weighted_mean(prediction, target, weights)
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
