//! Reading and writing at computed places.
//!
//! ONNX counts negative indices from the end and fails at others out of range. Indices that clamp or skip are brought into range before.
//! Those that fail are handed over as they are, since a check that nothing follows from has no form in ONNX: -1 then means the last entry.

use super::attribute;
use super::body::{Body, Out, Value};
use kiln_ir::ops::{DynamicSlice, Gather, Scatter, ScatterKind};
use kiln_ir::{DType, Dim, OutOfRange, Shape, TensorType};

/// The indices as i64, and where they are in range, if that matters and is not sure.
struct Indices {
    places: Value,
    inside: Option<Value>,
}

/// Indices into an axis of this extent.
fn indices(
    body: &mut Body<'_>,
    given: &Value,
    extent: &Dim,
    out_of_range: OutOfRange,
) -> Out<Indices> {
    let mut given = given.clone();
    if given.dtype() == DType::U64 {
        // What is too large for an i64 must not become negative.
        let largest = body.integer(DType::U64, i64::MAX);
        given = body.same("Min", &[&given, &largest]);
    }
    let places = body.cast(&given, DType::I64);
    if out_of_range == OutOfRange::Fail {
        return Ok(Indices {
            places,
            inside: None,
        });
    }
    let zero = body.integer(DType::I64, 0);
    let last = scalar(body, &(extent - &Dim::from(1)))?;
    let high = body.same("Min", &[&places, &last]);
    let clamped = body.same("Max", &[&high, &zero]);
    let inside = match out_of_range {
        OutOfRange::Skip => Some(body.test("Equal", &[&places, &clamped])),
        OutOfRange::Clamp | OutOfRange::Fail => None,
    };
    Ok(Indices {
        places: clamped,
        inside,
    })
}

/// An extent as a scalar.
pub(super) fn scalar(body: &mut Body<'_>, dim: &Dim) -> Out {
    if let Some(number) = dim.constant() {
        return Ok(body.integer(DType::I64, number));
    }
    let vector = body.model.extent(dim)?;
    body.reshape(&vector, &Shape::scalar())
}

/// A result that stands for axes `first..` of a larger one: with axes of size 1 behind it, so that it broadcasts.
fn in_front(body: &mut Body<'_>, x: &Value, behind: usize) -> Value {
    let axes: Vec<usize> = (x.rank()..x.rank() + behind).collect();
    body.unsqueeze(x, &axes)
}

pub(super) fn gather(
    body: &mut Body<'_>,
    op: Gather,
    x: &Value,
    given: &Value,
    ty: &TensorType,
) -> Out {
    let extent = x.shape()[op.axis].clone();
    let axis = vec![attribute::int("axis", op.axis as i64)];
    let found = indices(body, given, &extent, op.out_of_range)?;
    let Some(inside) = found.inside else {
        return Ok(body.one("Gather", &[x, &found.places], axis, ty.clone()));
    };
    let behind = x.rank() - op.axis - 1;
    let inside = in_front(body, &inside, behind);
    // Of an axis without elements nothing can be picked, not even to be skipped: it gets one.
    let x = match extent.constant() {
        Some(n) if n > 0 => x.clone(),
        Some(_) | None => longer(body, x, op.axis)?,
    };
    let picked = body.one("Gather", &[&x, &found.places], axis, ty.clone());
    let zero = body.number(x.dtype(), 0.0);
    Ok(body.choose(&inside, &picked, &zero))
}

/// The tensor with one more entry of zeros along an axis.
fn longer(body: &mut Body<'_>, x: &Value, axis: usize) -> Out {
    let (low, mut high) = (vec![Dim::from(0); x.rank()], vec![Dim::from(0); x.rank()]);
    high[axis] = Dim::from(1);
    let mut dims = x.shape().to_vec();
    dims[axis] = &dims[axis] + &Dim::from(1);
    let zero = body.number(x.dtype(), 0.0);
    body.pad(x, &low, &high, &zero, &dims.into())
}

/// `ScatterElements`, whose updates are taken in order, so that the last at an index stays. Updates that are skipped are written to an entry
/// behind the last one, which is then cut off.
pub(super) fn scatter(
    body: &mut Body<'_>,
    op: Scatter,
    operands: [&Value; 3],
    ty: &TensorType,
) -> Out {
    let [base, given, updates] = operands;
    let (axis, rank) = (op.axis, base.rank());
    let extent = base.shape()[axis].clone();
    let found = indices(body, given, &extent, op.out_of_range)?;
    let mut base = base.clone();
    let mut places = found.places;
    if let Some(inside) = &found.inside {
        let behind = scalar(body, &extent)?;
        places = body.choose(inside, &places, &behind);
        base = longer(body, &base, axis)?;
    }
    // Updates have one axis of indices in the place of theirs; each element of a slice has its index.
    let count = given.ty.shape.elements();
    let mut dims = ty.shape.to_vec();
    dims[axis] = count.clone();
    let shape: Shape = dims.into();
    let updates = body.reshape(updates, &shape)?;
    let places = body.reshape(&places, &[count].into())?;
    let places = in_front(body, &places, rank - axis - 1);
    let places = body.expand(&places, &shape)?;
    let reduction = match op.kind {
        ScatterKind::Set => "none",
        ScatterKind::Add => "add",
        ScatterKind::Max => "max",
    };
    let attributes = vec![
        attribute::int("axis", axis as i64),
        attribute::text("reduction", reduction),
    ];
    // The halves are added in f32 and rounded once.
    let within = match (op.kind, base.dtype()) {
        (ScatterKind::Set, dtype) => dtype,
        (ScatterKind::Add | ScatterKind::Max, DType::F16 | DType::BF16) => DType::F32,
        (ScatterKind::Add | ScatterKind::Max, dtype) => dtype,
    };
    let (wide, added) = (body.cast(&base, within), body.cast(&updates, within));
    let result_ty = TensorType::new(within, &base.ty.shape);
    let scattered = body.one(
        "ScatterElements",
        &[&wide, &places, &added],
        attributes,
        result_ty,
    );
    let scattered = body.cast(&scattered, ty.dtype);
    if found.inside.is_none() {
        return Ok(scattered);
    }
    let (start, stride) = (vec![Dim::from(0); rank], vec![1; rank]);
    body.slice(&scattered, &start, &ty.shape, &stride, &ty.shape)
}

/// The indices along an axis of a window that begins at a computed start, clamped so that the window does not stick out.
fn window(body: &mut Body<'_>, start: &Value, size: &Dim, extent: &Dim) -> Out {
    let room = &(extent - size) + &Dim::from(1);
    let begin = indices(body, start, &room, OutOfRange::Clamp)?.places;
    let range = body.range(size)?;
    Ok(body.same("Add", &[&begin, &range]))
}

/// Indices picked along each axis, since the place of a `Slice` that is computed hides the shape of its result.
pub(super) fn dynamic_slice(body: &mut Body<'_>, op: &DynamicSlice, operands: &[Value]) -> Out {
    let (x, starts) = operands.split_first().ok_or("it has no operands")?;
    let mut x = x.clone();
    for (axis, (start, size)) in starts.iter().zip(op.sizes.iter()).enumerate() {
        let extent = x.shape()[axis].clone();
        if extent == *size {
            continue;
        }
        let places = window(body, start, size, &extent)?;
        let mut dims = x.shape().to_vec();
        dims[axis] = size.clone();
        let ty = TensorType::new(x.dtype(), dims);
        let axis = vec![attribute::int("axis", axis as i64)];
        x = body.one("Gather", &[&x, &places], axis, ty);
    }
    Ok(x)
}

/// `ScatterND` over the axes up to the last along which the window is smaller than the tensor.
pub(super) fn dynamic_update_slice(body: &mut Body<'_>, operands: &[Value]) -> Out {
    let [x, update, starts @ ..] = operands else {
        return Err("it has no operands".into());
    };
    if update.shape().iter().any(|d| d.constant() == Some(0)) {
        return Ok(x.clone());
    }
    let smaller = |axis: &usize| x.shape()[*axis] != update.shape()[*axis];
    let Some(last) = (0..x.rank()).rev().find(smaller) else {
        return Ok(update.clone());
    };
    let mut grid: Vec<Dim> = update.shape()[..=last].to_vec();
    let whole: Shape = grid.clone().into();
    grid.push(Dim::from(1));
    let mut columns = Vec::with_capacity(last + 1);
    for (axis, start) in starts.iter().enumerate().take(last + 1) {
        let (size, extent) = (&update.shape()[axis], &x.shape()[axis]);
        let places = match size == extent {
            true => body.range(size)?,
            false => window(body, start, size, extent)?,
        };
        let places = in_front(body, &places, last - axis);
        let places = body.expand(&places, &whole)?;
        let at = places.rank();
        columns.push(body.unsqueeze(&places, &[at]));
    }
    let depth = columns.len();
    if let Some(dim) = grid.last_mut() {
        *dim = Dim::from(depth);
    }
    let parts: Vec<&Value> = columns.iter().collect();
    let ty = TensorType::new(DType::I64, grid);
    let places = body.concat(&parts, depth, ty);
    Ok(body.one("ScatterND", &[x, &places, update], Vec::new(), x.ty.clone()))
}
