//! Losses that are the mean, over the elements of an example, of a function of predictions and targets.

use super::same_type;
use crate::weights::size;
use kiln_ir::Shape;
use kiln_ir::Tensor;
use kiln_ir::ops::ReduceKind;

/// The mean of `of(prediction, target)` over all axes but the first, for tensors of one type.
#[track_caller]
pub(super) fn mean_of_elements<'g>(
    what: &str,
    prediction: Tensor<'g>,
    target: Tensor<'g>,
    of: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Tensor<'g> {
    if !same_type(what, prediction, target) {
        return prediction.builder().poison();
    }
    mean_of_each(of(prediction, target))
}

/// The mean of `values` over all axes but the first.
#[track_caller]
pub(super) fn mean_of_each(values: Tensor<'_>) -> Tensor<'_> {
    let Some(ty) = values.ty() else {
        return values;
    };
    if ty.rank() < 2 {
        return values;
    }
    let count = size(values, Shape::from(&ty.shape[1..]).elements());
    let rest: Vec<usize> = (1..ty.rank()).collect();
    values.reduce(ReduceKind::Sum, &rest) / count
}
