//! Steps of the generator that do what layers do, so that graphs have the rows, epilogues and masks that fusion is made for.

use super::Making;
use kiln_ir::{Dim, ReduceKind, Shape, Tensor, TensorType};

impl<'g> Making<'g> {
    /// What layers do: softmax or a normalisation along one axis, in sweeps that fusion puts into one kernel.
    pub(super) fn normalised(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        if !ty.dtype.is_float() || ty.rank() == 0 {
            return None;
        }
        // The last axis makes rows, any other columns.
        let axis = if self.numbers.one_in(3) {
            self.numbers.below(ty.rank())
        } else {
            ty.rank() - 1
        };
        let mut kept = ty.shape.to_vec();
        kept[axis] = Dim::from(1);
        let spread = |t: Tensor<'g>| t.reshape(kept.clone()).broadcast_to(&ty.shape);
        let sum = |t: Tensor<'g>| t.reduce(ReduceKind::Sum, &[axis]);
        let small = x.tanh();
        Some(match self.numbers.below(4) {
            0 => {
                let e = (small - spread(small.reduce(ReduceKind::Max, &[axis]))).exp();
                e / spread(sum(e))
            }
            1 => {
                let shifted = small - spread(small.reduce(ReduceKind::Max, &[axis]));
                shifted - spread(sum(shifted.exp()).log())
            }
            2 => {
                let centred = small - spread(sum(small) * 0.25);
                centred * spread((sum(centred.square()) + 1e-3).rsqrt())
            }
            _ => {
                let e = small.exp();
                let scaled = e * spread(sum(e));
                scaled - spread(scaled.reduce(ReduceKind::Min, &[axis]))
            }
        })
    }

    /// A product with a bias and an activation behind it.
    pub(super) fn dense(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let product = self.dot(x, ty)?;
        let made = product.ty()?;
        if !made.dtype.is_float() {
            return Some(product);
        }
        let last = made.shape.last().cloned();
        let bias = self.partner(&TensorType::new(
            made.dtype,
            last.into_iter().collect::<Shape>(),
        ));
        let sum = product + bias;
        let active = match self.numbers.below(3) {
            0 => sum.tanh(),
            1 => sum.where_(sum.gt(0.0), 0.0),
            _ => sum * sum.logistic(),
        };
        if self.numbers.one_in(2) {
            self.pool.push(active);
            return self.normalised(active, &made);
        }
        Some(active)
    }

    pub(super) fn dropped(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let key = self.g.constant([2], &[self.numbers.bits() as u32, 7]);
        let counter = self.g.constant([2], &[0u32, 1]);
        let kept = self.g.rng_bits(key, counter, &ty.shape).unit_f32().lt(0.75);
        Some((x * 2.0).where_(kept, 0.0))
    }
}
