//! Hinge losses: those of support vector machines, which are content once an example is right by a margin of 1.

use super::elementwise::mean_of_elements;
use super::{Loss, same_type};
use crate::last_axis::LastAxis;
use kiln_ir::Tensor;
use kiln_ir::ops::ReduceKind;

/// The mean of `max(1 - y score, 0)`, for scores and targets `y` of -1 or 1 of one type and any shape whose first axis is the batch: Cortes
/// and Vapnik, "Support-vector networks" (Machine Learning 20, 1995). (Keras turns targets of 0 into -1; here they are what they are.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hinge;

impl Loss for Hinge {
    #[track_caller]
    fn per_example<'g>(&self, scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("hinge", scores, targets, missing)
    }
}

/// The mean of the squares of what [`Hinge`] is the mean of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquaredHinge;

impl Loss for SquaredHinge {
    #[track_caller]
    fn per_example<'g>(&self, scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("squared hinge", scores, targets, |s, y| {
            missing(s, y).square()
        })
    }
}

/// How much lacks of a margin of 1.
#[track_caller]
fn missing<'g>(scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
    ((scores * targets).neg() + 1.0).maximum(0.0)
}

/// `max(1 + wrong - right, 0)` for scores and targets `[.., n]` of one type, of which a target is 1 for the class of the row and 0 for the
/// others: `right` is the score of that class and `wrong` the largest `(1 - target) score`, which as in Keras is 0 at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CategoricalHinge;

impl Loss for CategoricalHinge {
    #[track_caller]
    fn per_example<'g>(&self, scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "categorical hinge";
        let Some(rows) = LastAxis::of(what, scores) else {
            return scores.builder().poison();
        };
        if !same_type(what, scores, targets) {
            return scores.builder().poison();
        }
        let right = rows.sum(scores * targets);
        let others = scores * (targets.neg() + 1.0);
        let wrong = others.reduce(ReduceKind::Max, &[rows.axis()]);
        (wrong - right + 1.0).maximum(0.0)
    }
}
