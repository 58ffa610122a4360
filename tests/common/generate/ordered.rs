//! Running folds, sorted rows, the largest of a row, and windows that move.

use super::Making;
use kiln_ir::ops::{Argsort, Cumulative, CumulativeKind, DynamicSlice, DynamicUpdateSlice, Sort};
use kiln_ir::{DType, Dim, Shape, Tensor, TensorType};

impl<'g> Making<'g> {
    /// A fold or an order along an axis.
    pub(super) fn ordered(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let axis = self.numbers.below(ty.rank());
        let descending = self.numbers.one_in(2);
        match self.numbers.below(5) {
            0 => self.push(Sort { axis, descending }, &[x]),
            1 => {
                let extent = &ty.shape[axis];
                let count = if self.numbers.one_in(2) {
                    extent.clone()
                } else {
                    extent.floor_div(&Dim::from(2))
                };
                let argsort = Argsort {
                    axis,
                    descending,
                    count,
                };
                self.push(argsort, &[x])
            }
            2 => {
                let count = ty.shape[axis].floor_div(&Dim::from(2));
                Some(x.top_k(count, axis).0)
            }
            _ => {
                let kind = self.numbers.pick(&CumulativeKind::ALL);
                // The gradients of products and maxima are as large as the square of the axis.
                if kind != CumulativeKind::Sum && super::size(&ty.shape) > 400 {
                    return None;
                }
                let wide = ty.dtype == DType::F32 && kind != CumulativeKind::Max;
                let accumulate = (wide && self.numbers.one_in(3)).then_some(DType::F64);
                let cumulative = Cumulative {
                    kind,
                    axis,
                    reverse: descending,
                    accumulate,
                };
                self.push(cumulative, &[x])
            }
        }
    }

    /// A window at starts that are mostly computed.
    pub(super) fn windowed(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let mut sizes = Vec::new();
        let mut starts = Vec::new();
        for extent in ty.shape.iter() {
            sizes.push(match self.numbers.below(3) {
                0 => extent.clone(),
                1 => extent.floor_div(&Dim::from(2)),
                _ => (extent + &Dim::from(2)).floor_div(&Dim::from(3)),
            });
            starts.push(self.start());
        }
        if self.numbers.one_in(2) {
            let sizes = Shape::from(sizes);
            let operands = [&[x], &starts[..]].concat();
            return self.push(DynamicSlice { sizes }, &operands);
        }
        let update = self.partner(&TensorType::new(ty.dtype, Shape::from(sizes)));
        let operands = [&[x, update], &starts[..]].concat();
        self.push(DynamicUpdateSlice, &operands)
    }

    fn start(&mut self) -> Tensor<'g> {
        let found: Vec<Tensor<'g>> = self
            .pool
            .iter()
            .copied()
            .filter(|t| {
                t.ty()
                    .is_some_and(|t| t.dtype.is_integer() && t.rank() == 0)
            })
            .collect();
        if found.is_empty() || self.numbers.one_in(3) {
            let at = self.numbers.pick(&[-1.0, 0.0, 1.0, 2.0, 7.0]);
            return self.g.splat(DType::I64, (), at);
        }
        self.numbers.pick(&found)
    }
}
