//! The methods of [`Tensor`] that pad, join, index, guard and draw, and those of [`Builder`] that take several tensors or none.

use super::Builder;
use super::tensor::{Operand, Tensor, broadcast_shapes};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::{
    Arg, ArgKind, Bitcast, Concat, Cumulative, CumulativeKind, Fma, Gather, OutOfRange, Pad,
    Require, Reverse, RngBits, Scatter, ScatterKind,
};
use crate::types::Shape;

impl Builder {
    /// The tensors one behind the other along `axis`. They have one element type and agree in all other axes.
    #[track_caller]
    pub fn concat<'g>(&'g self, parts: &[Tensor<'g>], axis: usize) -> Tensor<'g> {
        self.push(Concat { axis }, parts)
    }

    /// Random u32 words of any shape, a pure function of `key: u32[2]` and `counter: u32[2]`, as [`RngBits`] defines them.
    #[track_caller]
    pub fn rng_bits<'g>(
        &'g self,
        key: Tensor<'g>,
        counter: Tensor<'g>,
        shape: impl Into<Shape>,
    ) -> Tensor<'g> {
        let shape = shape.into();
        self.push(RngBits { shape }, &[key, counter])
    }
}

impl<'g> Tensor<'g> {
    /// `self * factor + summand`, rounded once. Shapes broadcast.
    #[track_caller]
    pub fn fma(self, factor: impl Operand<'g>, summand: impl Operand<'g>) -> Self {
        let operands = [self, factor.against(self), summand.against(self)];
        let home = self.builder.innermost(&operands);
        let operands = operands.map(|t| home.import(t));
        let types: Option<Vec<Shape>> = operands.iter().map(|t| Some(t.ty()?.shape)).collect();
        let shape = types.and_then(|shapes| {
            shapes
                .iter()
                .skip(1)
                .try_fold(shapes.first()?.clone(), |all, s| broadcast_shapes(&all, s))
        });
        match shape {
            Some(shape) => home.push(Fma, &operands.map(|t| t.broadcast_to(&shape))),
            None => home.push(Fma, &operands),
        }
    }

    /// The same bits as another element type of the same size; to `bool` there is none.
    #[track_caller]
    pub fn bitcast(self, to: DType) -> Self {
        self.builder.push(Bitcast { to }, &[self])
    }

    /// The same value, where `condition`, a `bool` tensor of any shape, holds everywhere; else the step fails with `message` before it
    /// writes any state. The guard acts whether or not the result is used.
    #[track_caller]
    pub fn require(self, condition: Tensor<'g>, message: &str) -> Self {
        let message = message.to_owned();
        self.builder.push(Require { message }, &[self, condition])
    }

    /// The tensor with `low` elements before, `high` behind and `interior` between the elements of each axis, all of them `value`: a
    /// literal, or a scalar tensor of the same element type.
    #[track_caller]
    pub fn pad(self, value: impl Operand<'g>, low: &[Dim], high: &[Dim], interior: &[i64]) -> Self {
        let pad = Pad {
            low: low.to_vec(),
            high: high.to_vec(),
            interior: interior.to_vec(),
        };
        self.builder.push(pad, &[self, value.scalar(self)])
    }

    /// `self` and `other` one behind the other along `axis`; [`Builder::concat`] takes any number.
    #[track_caller]
    pub fn concat(self, other: Tensor<'g>, axis: usize) -> Self {
        self.builder.concat(&[self, other], axis)
    }

    /// The elements in reverse order along `axes`.
    #[track_caller]
    pub fn reverse(self, axes: &[usize]) -> Self {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.builder.push(Reverse { axes }, &[self])
    }

    /// Each element combined with all before it along `axis`.
    #[track_caller]
    pub fn cumulative(self, kind: CumulativeKind, axis: usize) -> Self {
        let cumulative = Cumulative {
            kind,
            axis,
            reverse: false,
            accumulate: None,
        };
        self.builder.push(cumulative, &[self])
    }

    /// Each element combined with all behind it along `axis`.
    #[track_caller]
    pub fn cumulative_from_end(self, kind: CumulativeKind, axis: usize) -> Self {
        let cumulative = Cumulative {
            kind,
            axis,
            reverse: true,
            accumulate: None,
        };
        self.builder.push(cumulative, &[self])
    }

    /// The index of the largest element along `axis`, which disappears, as i64. The first of equal ones; NaN wins.
    #[track_caller]
    pub fn argmax(self, axis: usize) -> Self {
        let kind = ArgKind::Max;
        self.builder.push(Arg { kind, axis }, &[self])
    }

    /// The index of the smallest element along `axis`, which disappears, as i64. The first of equal ones; NaN wins.
    #[track_caller]
    pub fn argmin(self, axis: usize) -> Self {
        let kind = ArgKind::Min;
        self.builder.push(Arg { kind, axis }, &[self])
    }

    /// Slices along `axis`, picked by integer `indices` of any shape, whose axes take the place of `axis`: rows of an embedding are
    /// `table.gather(0, tokens, OutOfRange::Clamp)`, of shape `tokens.shape ++ [width]`.
    #[track_caller]
    pub fn gather(self, axis: usize, indices: Tensor<'g>, out_of_range: OutOfRange) -> Self {
        self.builder
            .push(Gather { axis, out_of_range }, &[self, indices])
    }

    /// The tensor with `updates` joined in at integer `indices` along `axis`. The updates have the shape that [`gather`](Self::gather)
    /// at the same indices would give.
    #[track_caller]
    pub fn scatter(
        self,
        kind: ScatterKind,
        axis: usize,
        indices: Tensor<'g>,
        updates: Tensor<'g>,
        out_of_range: OutOfRange,
    ) -> Self {
        let scatter = Scatter {
            kind,
            axis,
            out_of_range,
        };
        self.builder.push(scatter, &[self, indices, updates])
    }

    /// Random u32 words as uniform f32 numbers in `[0, 1)`: the upper 24 bits times 2^-24, bit for bit
    /// [`philox::unit_f32`](crate::philox::unit_f32).
    #[track_caller]
    pub fn unit_f32(self) -> Self {
        self.shr(8.0).convert(DType::F32).times(1.0 / 16_777_216.0)
    }
}
