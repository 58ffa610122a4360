//! Integer labels against the classes on the last axis of a tensor.

use crate::last_axis::LastAxis;
use kiln_ir::ops::Iota;
use kiln_ir::{DType, Kind, Refusal, Tensor, TensorType};

/// Labels that fit a tensor of classes, widened so that they can be compared with the number of any class.
pub(crate) struct Classes<'g> {
    labels: Tensor<'g>,
    dtype: DType,
}

impl<'g> Classes<'g> {
    /// The labels of `scores`, of which `rows` is the last axis; a mistake is reported in the name of `what`.
    #[track_caller]
    pub(crate) fn of(
        what: &str,
        rows: &LastAxis,
        scores: Tensor<'g>,
        labels: Tensor<'g>,
    ) -> Option<Self> {
        let (ty, wanted) = (labels.ty()?, rows.row_ty());
        let refusal = if !ty.dtype.is_integer() {
            let message = format!("`{what}` with labels of type {ty}");
            Refusal::new(Kind::Type, message)
                .help("labels are the numbers of classes; a distribution over them goes to the dense cross-entropy")
        } else if ty.shape != wanted.shape {
            let message = format!(
                "`{what}` of {} with labels of shape {}",
                rows.ty(),
                ty.shape
            );
            Refusal::new(Kind::Shape, message).help(format!(
                "labels of shape {} fit, one for each row",
                wanted.shape
            ))
        } else {
            let dtype = match ty.dtype {
                DType::U32 | DType::U64 | DType::I64 => DType::I64,
                _ => DType::I32,
            };
            let labels = labels.convert(dtype);
            return Some(Self { labels, dtype });
        };
        scores.builder().refuse(refusal, &[scores, labels]);
        None
    }

    /// `bool`, of the scores' shape: whether the element belongs to the label's class.
    #[track_caller]
    pub(crate) fn one_hot(&self, rows: &LastAxis) -> Tensor<'g> {
        let index = Iota {
            ty: TensorType::new(self.dtype, &rows.ty().shape),
            axis: rows.axis(),
        };
        let index = self.labels.builder().push(index, &[]);
        index.eq(rows.spread(self.labels))
    }

    /// `bool`, one for each row: whether the label names a class.
    #[track_caller]
    pub(crate) fn in_range(&self, rows: &LastAxis) -> Tensor<'g> {
        let size = kiln_ir::ops::DimSize {
            dim: rows.ty().shape[rows.axis()].clone(),
        };
        let size = self.labels.builder().push(size, &[]).convert(self.dtype);
        self.labels.ge(0.0).and(self.labels.lt(size))
    }

    /// The labels.
    pub(crate) fn labels(&self) -> Tensor<'g> {
        self.labels
    }
}
