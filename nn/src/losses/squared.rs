//! The squared error.

use super::{Loss, same_type};
use kiln_ir::ops::{DimSize, ReduceKind};
use kiln_ir::{Shape, Tensor};

/// The mean of `(prediction - target)^2`, for tensors of one type and any shape whose first axis is the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeanSquaredError;

impl Loss for MeanSquaredError {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        if !same_type("mean squared error", prediction, target) {
            return prediction.builder().poison();
        }
        let squares = (prediction - target).square();
        let Some(ty) = squares.ty() else {
            return squares;
        };
        if ty.rank() < 2 {
            return squares;
        }
        let size = DimSize {
            dim: Shape::from(&ty.shape[1..]).elements(),
        };
        let count = squares.builder().push(size, &[]).convert(ty.dtype);
        let rest: Vec<usize> = (1..ty.rank()).collect();
        squares.reduce(ReduceKind::Sum, &rest) / count
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
