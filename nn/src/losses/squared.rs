//! The squared error.

use super::elementwise::mean_of_elements;
use super::{Loss, same_type};
use kiln_ir::Tensor;

/// The mean of `(prediction - target)^2`, for tensors of one type and any shape whose first axis is the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeanSquaredError;

impl Loss for MeanSquaredError {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("mean squared error", prediction, target, |p, y| {
            (p - y).square()
        })
    }

    /// One sum over everything instead of a mean of means, which is the same number with one reduction less.
    #[track_caller]
    fn mean<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        if !same_type("mean squared error", prediction, target) {
            return prediction.builder().poison();
        }
        (prediction - target).square().mean()
    }
}
