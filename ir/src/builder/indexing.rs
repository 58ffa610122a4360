//! The methods of [`Tensor`] that find elements at computed places: windows that move, sorted rows, and the largest of each row.

use super::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::{Argsort, DimSize, DynamicSlice, DynamicUpdateSlice, Iota, OutOfRange, Sort};
use crate::types::{Shape, TensorType};

impl<'g> Tensor<'g> {
    /// The window of shape `sizes` that begins at `starts`, one integer scalar for each axis. A start that would let the window stick out
    /// is clamped to `0..=extent - size`, as in StableHLO. Differentiable in `self`.
    ///
    /// # Errors
    /// Recorded in the builder: a window of another rank than the tensor or larger than it, starts that are no integer scalars.
    ///
    /// ```
    /// use kiln_ir::{Array, Builder, DType, Values, eval};
    ///
    /// let g = Builder::new("window");
    /// let x = g.input("x", DType::F32, [5]);
    /// let at = g.input("at", DType::I64, ());
    /// g.output("y", x.dynamic_slice(&[at], [2]));
    /// let graph = g.finish().unwrap();
    /// let floats = |v: &[f64]| Array::new(DType::F32, vec![v.len()], Values::Float(v.to_vec())).unwrap();
    /// let found = eval(&graph, |slot| match slot.name.as_str() {
    ///     "x" => Some(floats(&[0.0, 1.0, 2.0, 3.0, 4.0])),
    ///     _ => Array::new(DType::I64, vec![], Values::Int(vec![9])).ok(),
    /// });
    /// assert_eq!(found.unwrap().outputs[0], floats(&[3.0, 4.0]));
    /// ```
    #[track_caller]
    pub fn dynamic_slice(self, starts: &[Tensor<'g>], sizes: impl Into<Shape>) -> Self {
        let sizes = sizes.into();
        let operands = [&[self], starts].concat();
        self.builder.push(DynamicSlice { sizes }, &operands)
    }

    /// The tensor with `update`, of its rank and element type, written over the window that begins at `starts`, which are clamped as those
    /// of [`dynamic_slice`](Self::dynamic_slice) are. Where `self` is a state and the result its new value, only the window is written.
    ///
    /// # Errors
    /// Recorded in the builder: an update of another rank or element type or larger than the tensor, starts that are no integer scalars.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType, Init};
    ///
    /// let g = Builder::new("cache");
    /// let cache = g.state("keys", DType::F32, [2, 8, 1024, 64], Init::zeros());
    /// let row = g.input("row", DType::F32, [2, 8, 1, 64]);
    /// let (zero, at) = (g.splat(DType::I64, (), 0.0), g.input("at", DType::I64, ()));
    /// g.update(cache, cache.dynamic_update_slice(row, &[zero, zero, at, zero]));
    /// assert!(g.finish().is_ok());
    /// ```
    #[track_caller]
    pub fn dynamic_update_slice(self, update: Tensor<'g>, starts: &[Tensor<'g>]) -> Self {
        let operands = [&[self, update], starts].concat();
        self.builder.push(DynamicUpdateSlice, &operands)
    }

    /// The elements of each row along `axis` in order, the largest first where `descending`. Stable; NaN comes last either way.
    /// Differentiable: the cotangent goes back to where the elements came from.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    ///
    /// let g = Builder::new("median");
    /// let x = g.input("x", DType::F32, (g.dim("b"), 5));
    /// let sorted = x.sort(1, false);
    /// assert_eq!(sorted.ty().unwrap().to_string(), "f32[b, 5]");
    /// ```
    #[track_caller]
    pub fn sort(self, axis: usize, descending: bool) -> Self {
        self.builder.push(Sort { axis, descending }, &[self])
    }

    /// Where the elements of [`sort`](Self::sort) come from: their positions along `axis`, i64, of the tensor's shape.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    ///
    /// let g = Builder::new("ranks");
    /// let x = g.input("x", DType::F32, (g.dim("b"), 5));
    /// assert_eq!(x.argsort(1, true).ty().unwrap().to_string(), "i64[b, 5]");
    /// ```
    #[track_caller]
    pub fn argsort(self, axis: usize, descending: bool) -> Self {
        let count = self.ty().and_then(|ty| ty.shape.get(axis).cloned());
        let argsort = Argsort {
            axis,
            descending,
            // Without such an axis the op's own rule refuses.
            count: count.unwrap_or(Dim::from(0)),
        };
        self.builder.push(argsort, &[self])
    }

    /// The `count` largest elements of each row along `axis`, largest first, and their positions along it, i64; of equal ones the first
    /// ones, and NaN only where numbers run out. Both have the tensor's shape with `axis` of size `count`. Differentiable in the values.
    ///
    /// # Errors
    /// Recorded in the builder: an axis that is not there, or has fewer elements.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    ///
    /// let g = Builder::new("sampling");
    /// let logits = g.input("logits", DType::F32, (g.dim("b"), 50_257));
    /// let (values, tokens) = logits.top_k(40, 1);
    /// assert_eq!(values.ty().unwrap().to_string(), "f32[b, 40]");
    /// assert_eq!(tokens.ty().unwrap().to_string(), "i64[b, 40]");
    /// ```
    #[track_caller]
    pub fn top_k(self, count: impl Into<Dim>, axis: usize) -> (Self, Self) {
        let argsort = Argsort {
            axis,
            descending: true,
            count: count.into(),
        };
        let positions = self.builder.push(argsort, &[self]);
        (self.take_along_axis(axis, positions), positions)
    }

    /// The elements at `indices` along `axis`, row by row: `result[.., i, ..] = self[.., indices[.., i, ..], ..]`, of the shape of the
    /// indices, which is the tensor's except for `axis`. Indices, taken as i64, are clamped to the axis. Differentiable in `self`.
    ///
    /// # Errors
    /// Recorded in the builder: an axis that is not there, indices that are no integers or of another shape in the other axes.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    ///
    /// let g = Builder::new("chosen");
    /// let q = g.input("q", DType::F32, (g.dim("b"), 4));
    /// let action = g.input("action", DType::I32, (g.dim("b"), 1));
    /// assert_eq!(q.take_along_axis(1, action).ty().unwrap().to_string(), "f32[b, 1]");
    /// ```
    #[track_caller]
    pub fn take_along_axis(self, axis: usize, indices: Tensor<'g>) -> Self {
        let (Some(ty), Some(at)) = (self.ty(), indices.ty()) else {
            return self.builder.poison();
        };
        let mut wanted = ty.shape.to_vec();
        if let (Some(own), Some(other)) = (wanted.get_mut(axis), at.shape.get(axis)) {
            *own = other.clone();
        }
        if axis >= ty.rank() || *wanted != *at.shape || !at.dtype.is_integer() {
            let refusal = Refusal::new(
                Kind::Shape,
                format!("`take_along_axis` of {ty} along axis {axis} at indices of type {at}"),
            );
            let refusal =
                refusal.help("indices are integers of the tensor's shape except for the axis");
            return self.builder.refuse(refusal, &[self, indices]);
        }
        match along_axis(self, axis, indices) {
            Some(places) => {
                let flat = self.reshape(vec![ty.shape.elements()]);
                flat.gather(0, places, OutOfRange::Clamp)
            }
            None => self.builder.poison(),
        }
    }
}

/// The row-major offsets in `x` of the elements at `indices` along `axis`, clamped to it, in the shape of the indices: that of `x` except
/// for the axis. `None` where one of the tensors stands for a mistake.
pub(crate) fn along_axis<'g>(
    x: Tensor<'g>,
    axis: usize,
    indices: Tensor<'g>,
) -> Option<Tensor<'g>> {
    let builder = x.builder();
    let (extents, shape) = (x.ty()?.shape, indices.ty()?.shape);
    let size = |dim: Dim| builder.push(DimSize { dim }, &[]);
    let stride = |axis: usize| Shape::from(extents[axis + 1..].to_vec()).elements();
    let extent = extents.get(axis)?;
    let last = size(extent - &Dim::from(1));
    let index = indices.convert(DType::I64).minimum(last).maximum(0.0);
    let mut places = index.times(size(stride(axis)));
    for other in (0..extents.len()).filter(|a| *a != axis) {
        let ty = TensorType::new(DType::I64, &shape);
        let count = builder.push(Iota { ty, axis: other }, &[]);
        places = places.plus(count.times(size(stride(other))));
    }
    Some(places)
}
