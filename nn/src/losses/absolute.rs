//! The absolute error.

use super::Loss;
use super::elementwise::mean_of_elements;
use kiln_ir::Tensor;

/// The mean of `|prediction - target|`, for tensors of one type and any shape whose first axis is the batch. Its gradient at 0 is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeanAbsoluteError;

impl Loss for MeanAbsoluteError {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("mean absolute error", prediction, target, |p, y| {
            (p - y).abs()
        })
    }
}
