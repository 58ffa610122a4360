//! Operators that move elements.
//!
//! Target shapes are constants where they can be. Where a single extent is symbolic it is written as the 0 or -1 of `Reshape`, so that models
//! with a free batch size need no arithmetic.

use super::attribute;
use super::body::{Body, Out, Value};
use kiln_ir::ops::{Broadcast, Concat, Pad, Reverse, Slice};
use kiln_ir::{DType, Dim, Shape, TensorType};

/// The end of a slice that reaches the end of the axis, whatever its extent.
const TO_THE_END: i64 = i64::MAX;
/// The end of a slice of step -1 that reaches the first element.
const TO_THE_START: i64 = -i64::MAX;

impl Body<'_> {
    /// The same elements in another shape.
    pub(super) fn reshape(&mut self, x: &Value, shape: &Shape) -> Out {
        if x.ty.shape == *shape {
            return Ok(x.clone());
        }
        let (target, keeps_zero) = match short_target(x.shape(), shape) {
            Some(numbers) => (self.model.integers(&numbers), false),
            None => (self.model.shape(shape)?, true),
        };
        let attributes = match keeps_zero {
            true => vec![attribute::int("allowzero", 1)],
            false => Vec::new(),
        };
        let ty = TensorType::new(x.dtype(), shape);
        Ok(self.one("Reshape", &[x, &target], attributes, ty))
    }

    /// New axes of size 1 at these places of the result.
    pub(super) fn unsqueeze(&mut self, x: &Value, axes: &[usize]) -> Value {
        if axes.is_empty() {
            return x.clone();
        }
        let mut dims = x.shape().to_vec();
        for axis in axes {
            dims.insert(*axis, Dim::from(1));
        }
        let numbers: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        let at = self.model.integers(&numbers);
        let ty = TensorType::new(x.dtype(), dims);
        self.one("Unsqueeze", &[x, &at], Vec::new(), ty)
    }

    /// Elements repeated along axes of size 1 and new leading axes.
    pub(super) fn expand(&mut self, x: &Value, shape: &Shape) -> Out {
        if x.ty.shape == *shape {
            return Ok(x.clone());
        }
        let skipped = shape.len() - x.rank();
        // A 1 keeps what is there, which needs no arithmetic for extents that are not repeated.
        let target = shape.iter().enumerate().map(|(axis, dim)| {
            let own = axis.checked_sub(skipped).and_then(|a| x.shape().get(a));
            match own {
                Some(own) if own == dim => Dim::from(1),
                Some(_) | None => dim.clone(),
            }
        });
        let target: Vec<Dim> = target.collect();
        let target = self.model.shape(&target)?;
        Ok(self.typed("Expand", &[x], &[&target], Vec::new(), shape))
    }

    /// Axis `i` of the result is axis `order[i]`.
    pub(super) fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        if order.iter().enumerate().all(|(i, a)| i == *a) {
            return x.clone();
        }
        let dims: Vec<Dim> = order.iter().map(|a| x.shape()[*a].clone()).collect();
        let ty = TensorType::new(x.dtype(), dims);
        self.one("Transpose", &[x], vec![attribute::axes("perm", order)], ty)
    }

    /// Elements from `start` in steps along each axis, below `limit`.
    ///
    /// ONNX moves bounds that lie outside into the tensor, where the IR refuses them. So unless it is sure without numbers that they lie inside,
    /// which gives the extent of the result, elements are picked by their numbers: then the extent is sure, and a runtime refuses as well.
    pub(super) fn slice(
        &mut self,
        x: &Value,
        start: &[Dim],
        limit: &[Dim],
        stride: &[i64],
        shape: &Shape,
    ) -> Out {
        let mut x = x.clone();
        let mut cut = Vec::new();
        for axis in 0..x.rank() {
            let (own, from, to) = (x.shape()[axis].clone(), &start[axis], &limit[axis]);
            let begins = from.constant() == Some(0);
            if begins && *to == own && stride[axis] == 1 {
                continue;
            }
            let within = |bound: &Dim| (&own - bound).is_sum_of_sizes();
            if within(from) && within(to) {
                cut.push(axis);
            } else {
                x = self.picked(&x, axis, from, stride[axis], &shape[axis])?;
            }
        }
        if cut.is_empty() {
            return Ok(x);
        }
        let end = |axis: usize| match limit[axis] == x.shape()[axis] {
            true => Dim::from(TO_THE_END),
            false => limit[axis].clone(),
        };
        let starts: Vec<Dim> = cut.iter().map(|a| start[*a].clone()).collect();
        let ends: Vec<Dim> = cut.iter().map(|a| end(*a)).collect();
        let steps: Vec<i64> = cut.iter().map(|a| stride[*a]).collect();
        self.cut(&x, &starts, &ends, &cut, &steps, shape)
    }

    /// `count` entries of an axis from `start` on, by their numbers.
    fn picked(&mut self, x: &Value, axis: usize, start: &Dim, step: i64, count: &Dim) -> Out {
        let mut places = self.range(count)?;
        if step != 1 {
            let step = self.integer(DType::I64, step);
            places = self.same("Mul", &[&places, &step]);
        }
        if start.constant() != Some(0) {
            let start = self.model.extent(start)?;
            places = self.same("Add", &[&places, &start]);
        }
        let mut dims = x.shape().to_vec();
        dims[axis] = count.clone();
        let places = Value {
            ty: TensorType::new(DType::I64, [count.clone()]),
            ..places
        };
        let along = vec![attribute::int("axis", axis as i64)];
        Ok(self.one(
            "Gather",
            &[x, &places],
            along,
            TensorType::new(x.dtype(), dims),
        ))
    }

    /// Elements in steps along each axis, without so many of the first and so many of the last.
    pub(super) fn inner_slice(
        &mut self,
        x: &Value,
        before: &[i64],
        behind: &[i64],
        stride: &[i64],
        shape: &Shape,
    ) -> Out {
        let cut: Vec<usize> = (0..x.rank())
            .filter(|a| (before[*a], behind[*a], stride[*a]) != (0, 0, 1))
            .collect();
        if cut.is_empty() {
            return Ok(x.clone());
        }
        let end = |a: usize| {
            if behind[a] == 0 {
                TO_THE_END
            } else {
                -behind[a]
            }
        };
        let starts: Vec<Dim> = cut.iter().map(|a| Dim::from(before[*a])).collect();
        let ends: Vec<Dim> = cut.iter().map(|a| Dim::from(end(*a))).collect();
        let steps: Vec<i64> = cut.iter().map(|a| stride[*a]).collect();
        self.cut(x, &starts, &ends, &cut, &steps, shape)
    }

    /// ONNX's `Slice`, along some axes.
    fn cut(
        &mut self,
        x: &Value,
        starts: &[Dim],
        ends: &[Dim],
        axes: &[usize],
        steps: &[i64],
        shape: &Shape,
    ) -> Out {
        let (starts, ends) = (self.model.shape(starts)?, self.model.shape(ends)?);
        let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        let axes = self.model.integers(&axes);
        let mut inputs = vec![x, &starts, &ends, &axes];
        let written = steps
            .iter()
            .any(|s| *s != 1)
            .then(|| self.model.integers(steps));
        inputs.extend(&written);
        let ty = TensorType::new(x.dtype(), shape);
        Ok(self.one("Slice", &inputs, Vec::new(), ty))
    }

    /// Axes read from their ends.
    pub(super) fn reverse(&mut self, x: &Value, axes: &[usize]) -> Out {
        if axes.is_empty() {
            return Ok(x.clone());
        }
        let each = |number: i64| vec![Dim::from(number); axes.len()];
        let steps = vec![-1; axes.len()];
        let shape = x.ty.shape.clone();
        self.cut(x, &each(-1), &each(TO_THE_START), axes, &steps, &shape)
    }

    /// Elements of one value around a tensor; negative edges take elements away.
    pub(super) fn pad(
        &mut self,
        x: &Value,
        low: &[Dim],
        high: &[Dim],
        value: &Value,
        shape: &Shape,
    ) -> Out {
        let edges: Vec<Dim> = low.iter().chain(high).cloned().collect();
        if edges.iter().all(|d| d.constant() == Some(0)) {
            return Ok(x.clone());
        }
        let pads = self.model.shape(&edges)?;
        let within = super::types::computed_in("Pad", x.dtype());
        let (cast, value) = (self.cast(x, within), self.cast(value, within));
        let ty = TensorType::new(within, shape);
        let padded = self.one("Pad", &[&cast, &pads, &value], Vec::new(), ty);
        Ok(self.cast(&padded, x.dtype()))
    }

    /// `between[a]` elements of one value between any two neighbours of each axis; the result has the shape.
    pub(super) fn dilate(
        &mut self,
        x: &Value,
        between: &[i64],
        value: &Value,
        shape: &Shape,
    ) -> Out {
        let mut x = x.clone();
        for (axis, between) in between.iter().enumerate() {
            if *between == 0 {
                continue;
            }
            let own = x.shape()[axis].clone();
            let mut dims = x.shape().to_vec();
            dims[axis] = shape[axis].clone();
            if own.constant().is_none() {
                x = self.spread(&x, axis, between + 1, value, &dims.into())?;
                continue;
            }
            // Each element with the ones behind it is a row; the last row ends with its element.
            let column = self.unsqueeze(&x, &[axis + 1]);
            let rank = column.rank();
            let (low, mut high) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
            high[axis + 1] = Dim::from(*between);
            let mut dims = column.shape().to_vec();
            dims[axis + 1] = Dim::from(between + 1);
            let rows = self.pad(&column, &low, &high, value, &dims.clone().into())?;
            dims.remove(axis + 1);
            dims[axis] = &own * &Dim::from(between + 1);
            let flat = self.reshape(&rows, &dims.clone().into())?;
            dims[axis] = shape[axis].clone();
            let (start, end) = ([Dim::from(0)], [Dim::from(-between)]);
            x = self.cut(&flat, &start, &end, &[axis], &[1], &dims.into())?;
        }
        Ok(x)
    }

    /// Every `step`-th element along an axis from the operand, the others of one value; the result has the shape. Unlike a cut of rows it
    /// has the extent that it must have by construction, whatever a symbol is.
    fn spread(&mut self, x: &Value, axis: usize, step: i64, value: &Value, shape: &Shape) -> Out {
        let places = self.range(&shape[axis])?;
        let step = self.integer(DType::I64, step);
        let from = self.same("Div", &[&places, &step]);
        let ty = TensorType::new(x.dtype(), shape);
        let along = vec![attribute::int("axis", axis as i64)];
        let picked = self.one("Gather", &[x, &from], along, ty);
        let again = self.same("Mul", &[&from, &step]);
        let own = self.test("Equal", &[&again, &places]);
        let behind: Vec<usize> = (1..x.rank() - axis).collect();
        let own = self.unsqueeze(&own, &behind);
        Ok(self.choose(&own, &picked, value))
    }

    /// Tensors one behind the other.
    pub(super) fn concat(&mut self, parts: &[&Value], axis: usize, ty: TensorType) -> Value {
        match parts {
            [x] => (*x).clone(),
            [] | [_, _, ..] => {
                let axis = vec![attribute::int("axis", axis as i64)];
                self.one("Concat", parts, axis, ty)
            }
        }
    }

    /// The numbers 0 to `count` as a vector of i64.
    pub(super) fn range(&mut self, count: &Dim) -> Out {
        /// Longer constants are computed when the model is loaded.
        const LONGEST: i64 = 1 << 16;
        if let Some(count) = count.constant().filter(|n| *n <= LONGEST) {
            let numbers: Vec<i64> = (0..count).collect();
            return Ok(self.model.integers(&numbers));
        }
        let end = self.model.extent(count)?;
        let end = self.reshape(&end, &Shape::scalar())?;
        let (zero, one) = (self.integer(DType::I64, 0), self.integer(DType::I64, 1));
        let ty = TensorType::new(DType::I64, [count.clone()]);
        Ok(self.one("Range", &[&zero, &end, &one], Vec::new(), ty))
    }
}

/// The shape as `Reshape` takes it where that is numbers: 0 for an extent that stays in its place, and -1 for one that follows from the rest.
fn short_target(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let mut rest = None;
    let mut kept = false;
    let mut numbers = Vec::with_capacity(to.len());
    for (axis, dim) in to.iter().enumerate() {
        numbers.push(match dim.constant() {
            // As a number it would mean something else.
            Some(0) => return None,
            Some(number) => number,
            None if from.get(axis) == Some(dim) => {
                kept = true;
                0
            }
            None if rest.is_none() => {
                rest = Some(axis);
                -1
            }
            None => return None,
        });
    }
    // An extent that stays may be 0, and then nothing follows from the rest.
    (rest.is_none() || !kept).then_some(numbers)
}

/// The operand with axes of size 1 where elements are repeated, such that it broadcasts to the result: what elementwise operators take.
pub(super) fn compact(body: &mut Body<'_>, op: &Broadcast, x: &Value, rank: usize) -> Value {
    // Of an operand that is itself such a value, the leading axes are left out.
    let axes = &op.axes[rank - x.rank()..];
    let Some(first) = axes.first() else {
        return x.clone();
    };
    let new: Vec<usize> = (*first..op.shape.len())
        .filter(|a| !axes.contains(a))
        .map(|a| a - first)
        .collect();
    body.unsqueeze(x, &new)
}

pub(super) fn slice(body: &mut Body<'_>, op: &Slice, x: &Value, ty: &TensorType) -> Out {
    body.slice(x, &op.start, &op.limit, &op.stride, &ty.shape)
}

pub(super) fn pad(body: &mut Body<'_>, op: &Pad, operands: &[Value], ty: &TensorType) -> Out {
    let [x, value] = operands else {
        return Err("it has no operands".into());
    };
    let spans = x.shape().iter().zip(&op.interior).map(|(d, i)| {
        let gaps = (d - &Dim::from(1)).maximum(&Dim::from(0));
        if *i == 0 {
            d.clone()
        } else {
            d + &(&gaps * &Dim::from(*i))
        }
    });
    let spans: Shape = spans.collect();
    let dilated = body.dilate(x, &op.interior, value, &spans)?;
    body.pad(&dilated, &op.low, &op.high, value, &ty.shape)
}

pub(super) fn concat(
    body: &mut Body<'_>,
    op: &Concat,
    operands: &[Value],
    ty: &TensorType,
) -> Value {
    let parts: Vec<&Value> = operands.iter().collect();
    body.concat(&parts, op.axis, ty.clone())
}

pub(super) fn reverse(body: &mut Body<'_>, op: &Reverse, x: &Value) -> Out {
    body.reverse(x, &op.axes)
}
