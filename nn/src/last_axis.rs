//! Rows: what softmax and the cross-entropies do along the last axis.

use kiln_ir::ops::{Broadcast, ReduceKind};
use kiln_ir::{Kind, Refusal, Tensor, TensorType};

/// The last axis of a floating tensor.
pub(crate) struct LastAxis {
    ty: TensorType,
    axis: usize,
}

impl LastAxis {
    /// The last axis of `x`, or none where `x` is poisoned, a scalar, or not floating; a mistake is reported in the name of `what`.
    #[track_caller]
    pub(crate) fn of(what: &str, x: Tensor<'_>) -> Option<Self> {
        let ty = x.ty()?;
        let refusal = if !ty.dtype.is_float() {
            Refusal::new(Kind::Type, format!("`{what}` of {ty}"))
                .help("it takes floating tensors; convert it first")
        } else if ty.rank() == 0 {
            Refusal::new(
                Kind::Shape,
                format!("`{what}` of {ty}, which has no last axis"),
            )
            .help("the last axis holds the classes, as in f32[b, 10]")
        } else {
            let axis = ty.rank() - 1;
            return Some(Self { ty, axis });
        };
        x.builder().refuse(refusal, &[x]);
        None
    }

    /// The number of the axis.
    pub(crate) fn axis(&self) -> usize {
        self.axis
    }

    /// The type of the tensor.
    pub(crate) fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The type of one value a row.
    pub(crate) fn row_ty(&self) -> TensorType {
        TensorType::new(self.ty.dtype, &self.ty.shape[..self.axis])
    }

    /// `x` less the maximum of its row, through which no gradient flows.
    #[track_caller]
    pub(crate) fn centred<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let maximum = self.spread(x.reduce(ReduceKind::Max, &[self.axis]));
        x - maximum.stop_gradient()
    }

    /// The sum of each row.
    #[track_caller]
    pub(crate) fn sum<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.reduce(ReduceKind::Sum, &[self.axis])
    }

    /// One value a row, repeated along the row.
    #[track_caller]
    pub(crate) fn spread<'g>(&self, row: Tensor<'g>) -> Tensor<'g> {
        let broadcast = Broadcast {
            shape: self.ty.shape.clone(),
            axes: (0..self.axis).collect(),
        };
        row.builder().push(broadcast, &[row])
    }
}
