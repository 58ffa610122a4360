//! Steps of the generator that move elements.

use super::Making;
use kiln_ir::ops::{Broadcast, Concat, Pad, Reshape, Slice};
use kiln_ir::{Dim, Shape, Tensor, TensorType};

impl<'g> Making<'g> {
    pub(super) fn broadcast(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let mut shape: Vec<Dim> = Vec::new();
        let mut axes = Vec::new();
        for dim in ty.shape.iter() {
            if self.numbers.one_in(3) {
                shape.push(self.extent());
            }
            axes.push(shape.len());
            let repeat = dim.constant() == Some(1) && self.numbers.one_in(2);
            shape.push(if repeat { self.extent() } else { dim.clone() });
        }
        if self.numbers.one_in(3) {
            shape.push(self.extent());
        }
        let shape = Shape::from(shape);
        self.push(Broadcast { shape, axes }, &[x])
    }

    pub(super) fn extent(&mut self) -> Dim {
        self.numbers
            .pick(&["b", "t", "1", "2", "3"])
            .parse()
            .expect("a dim")
    }

    pub(super) fn reshape(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let mut shape = ty.shape.to_vec();
        let rank = shape.len();
        match self.numbers.below(5) {
            0 => shape = vec![ty.shape.elements()],
            1 => shape.insert(self.numbers.below(rank + 1), Dim::from(1)),
            2 => shape.retain(|d| d.constant() != Some(1)),
            3 if rank > 1 => {
                let at = self.numbers.below(rank - 1);
                let second = shape.remove(at + 1);
                shape[at] = &shape[at] * &second;
            }
            _ if rank > 0 => {
                let at = self.numbers.below(rank);
                let factors = ["b", "t", "2", "3"].map(|f| f.parse::<Dim>().expect("a dim"));
                let factor = self.numbers.pick(&factors);
                let rest = shape[at].exact_div(&factor)?;
                shape[at] = rest;
                let behind = at + self.numbers.below(2);
                shape.insert(behind, factor);
            }
            _ => return None,
        }
        let shape = Shape::from(shape);
        self.push(Reshape { shape }, &[x])
    }

    pub(super) fn slice(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let mut slice = Slice {
            start: Vec::new(),
            limit: Vec::new(),
            stride: Vec::new(),
        };
        for dim in ty.shape.iter() {
            let stride = self.numbers.pick(&[1, 1, 2, 3]);
            let (start, limit) = match dim.constant() {
                Some(n) => {
                    let start = self.numbers.below(n as usize + 1) as i64;
                    let limit = start + self.numbers.below((n - start) as usize + 1) as i64;
                    (Dim::from(start), Dim::from(limit))
                }
                None if self.numbers.one_in(2) => (dim.floor_div(&Dim::from(2)), dim.clone()),
                None => (Dim::from(0), dim.clone()),
            };
            slice.start.push(start);
            slice.limit.push(limit);
            slice.stride.push(stride);
        }
        self.push(slice, &[x])
    }

    pub(super) fn pad(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let rank = ty.rank();
        let mut widths = |most: usize| -> Vec<i64> {
            (0..rank).map(|_| self.numbers.below(most) as i64).collect()
        };
        let pad = Pad {
            low: widths(3).into_iter().map(Dim::from).collect(),
            high: widths(3).into_iter().map(Dim::from).collect(),
            interior: widths(2),
        };
        let value = self.partner(&TensorType::new(ty.dtype, ()));
        self.push(pad, &[x, value])
    }

    pub(super) fn concat(&mut self, x: Tensor<'g>, ty: &TensorType) -> Option<Tensor<'g>> {
        let rank = ty.rank();
        if rank == 0 {
            return None;
        }
        let axis = self.numbers.below(rank);
        let fits = |t: &Tensor<'g>| {
            t.ty().is_some_and(|t| {
                t.dtype == ty.dtype
                    && t.rank() == rank
                    && (0..rank).all(|a| a == axis || t.shape[a] == ty.shape[a])
            })
        };
        let others: Vec<Tensor<'g>> = self.pool.iter().copied().filter(fits).collect();
        let mut parts = vec![x];
        for _ in 0..self.numbers.below(3) {
            let part = self.numbers.pick(&others);
            parts.insert(self.numbers.below(parts.len() + 1), part);
        }
        self.push(Concat { axis }, &parts)
    }
}
