//! Weights of examples: how much each counts in a loss or a metric.

use kiln_ir::ops::{Broadcast, DimSize};
use kiln_ir::{Dim, Kind, Refusal, Tensor};

/// `weights`, [b] or as long a beginning of the shape of `each` as they have, repeated along its further axes and of its element type. Other
/// weights are a mistake in the name of `what`.
#[track_caller]
pub(crate) fn spread<'g>(what: &str, weights: Tensor<'g>, each: Tensor<'g>) -> Tensor<'g> {
    let (Some(given), Some(wanted)) = (weights.ty(), each.ty()) else {
        return each.builder().poison();
    };
    if !wanted.shape.starts_with(&given.shape) {
        let message = format!("`{what}` of {wanted} with weights {given}");
        let help = "a weight belongs to an example: their shape is [b], or begins as that of the values does";
        let refusal = Refusal::new(Kind::Shape, message).help(help);
        return each.builder().refuse(refusal, &[each, weights]);
    }
    let weights = weights.convert(wanted.dtype);
    let broadcast = Broadcast {
        axes: (0..given.rank()).collect(),
        shape: wanted.shape,
    };
    weights.builder().push(broadcast, &[weights])
}

/// How many elements `each` has, as a scalar of its element type.
#[track_caller]
pub(crate) fn count<'g>(each: Tensor<'g>) -> Tensor<'g> {
    match each.ty() {
        Some(ty) => size(each, ty.shape.elements()),
        None => each,
    }
}

/// The number `dim` as a scalar of the element type of `like`.
#[track_caller]
pub(crate) fn size<'g>(like: Tensor<'g>, dim: Dim) -> Tensor<'g> {
    match like.ty() {
        Some(ty) => like.builder().push(DimSize { dim }, &[]).convert(ty.dtype),
        None => like,
    }
}
