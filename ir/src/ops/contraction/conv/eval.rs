//! Which elements of operand and kernel meet in one element of the result, found by plain loops.

use super::{Conv, DataRole, KernelRole};
use crate::array::Array;
use crate::dim::BindError;
use crate::ops::EvalCx;

/// The loops of a convolution of two arrays that fit its shape rule.
pub(super) struct Pairs<'e> {
    conv: &'e Conv,
    lhs: &'e [usize],
    out: &'e [usize],
    lhs_strides: Vec<usize>,
    rhs_strides: Vec<usize>,
    /// The kernel's spatial extents.
    kernel: Vec<usize>,
    /// The index along each spatial axis of every element of the window, in row-major order; none where no input feature can meet. There
    /// are no more of them than the kernel has elements.
    elements: Vec<Vec<usize>>,
    /// The low padding of each spatial axis.
    low: Vec<i64>,
    /// Extents within one group.
    batch: usize,
    input: usize,
    output: usize,
}

impl<'e> Pairs<'e> {
    pub(super) fn of(
        conv: &'e Conv,
        lhs: &'e [usize],
        rhs: &'e [usize],
        cx: &EvalCx<'e>,
    ) -> Result<Self, BindError> {
        let (axes, groups) = (&conv.axes, &conv.groups);
        let count = usize::try_from(groups.count).unwrap_or(1).max(1);
        let part = |extent: usize, split: bool| if split { extent / count } else { extent };
        let low = conv.window.iter().map(|a| a.low.eval(cx.bindings));
        let kernel: Vec<usize> = axes.rhs.spatial.iter().map(|a| rhs[*a]).collect();
        let elements = if rhs.contains(&0) {
            0
        } else {
            kernel.iter().product()
        };
        Ok(Self {
            conv,
            lhs,
            out: cx.shape,
            lhs_strides: Array::strides(lhs),
            rhs_strides: Array::strides(rhs),
            elements: (0..elements).map(|k| Array::unravel(k, &kernel)).collect(),
            kernel,
            low: low.collect::<Result<_, _>>()?,
            batch: part(lhs[axes.lhs.batch], groups.lhs == DataRole::Batch),
            input: part(lhs[axes.lhs.feature], groups.lhs == DataRole::Feature),
            output: part(rhs[axes.rhs.output], groups.rhs == KernelRole::Output),
        })
    }

    /// Calls `meet` with the row-major positions of each pair of elements that meet in element `i` of the result; `None` is padding.
    pub(super) fn visit(&self, i: usize, mut meet: impl FnMut(Option<usize>, usize)) {
        let (axes, groups) = (&self.conv.axes, &self.conv.groups);
        let at = Array::unravel(i, self.out);
        let (batch, output) = (at[axes.out.batch], at[axes.out.feature]);
        // The result has elements, so no extent within a group is 0 here.
        let (group, batch, output) = match groups.out {
            DataRole::Batch => (batch / self.batch, batch % self.batch, output),
            DataRole::Feature => (output / self.output, batch, output % self.output),
        };
        let (ls, rs) = (&self.lhs_strides, &self.rhs_strides);
        let mut lhs = batch * ls[axes.lhs.batch];
        lhs += match groups.lhs {
            DataRole::Batch => group * self.batch * ls[axes.lhs.batch],
            DataRole::Feature => group * self.input * ls[axes.lhs.feature],
        };
        let mut rhs = output * rs[axes.rhs.output];
        rhs += match groups.rhs {
            KernelRole::Input => group * self.input * rs[axes.rhs.input],
            KernelRole::Output => group * self.output * rs[axes.rhs.output],
        };
        for k in &self.elements {
            let Some((l, r)) = self.spatial(&at, k) else {
                continue;
            };
            for c in 0..self.input {
                meet(
                    l.map(|l| lhs + l + c * ls[axes.lhs.feature]),
                    rhs + r + c * rs[axes.rhs.input],
                );
            }
        }
    }

    /// The offsets along the spatial axes of what element `k` of the window meets, `None` for padding, and of that element. Nothing for
    /// holes.
    fn spatial(&self, at: &[usize], k: &[usize]) -> Option<(Option<usize>, usize)> {
        let axes = &self.conv.axes;
        let (mut lhs, mut rhs) = (Some(0), 0);
        for (a, axis) in self.conv.window.iter().enumerate() {
            let extent = self.lhs[axes.lhs.spatial[a]];
            let at = at[axes.out.spatial[a]];
            if axis.is_hole(self.low[a], at, k[a]) {
                return None;
            }
            let stride = self.lhs_strides[axes.lhs.spatial[a]];
            let p = axis.meets(self.low[a], at, k[a], extent);
            let element = if self.conv.reverse {
                self.kernel[a] - 1 - k[a]
            } else {
                k[a]
            };
            lhs = lhs.zip(p).map(|(lhs, p)| lhs + p * stride);
            rhs += element * self.rhs_strides[axes.rhs.spatial[a]];
        }
        Some((lhs, rhs))
    }
}
