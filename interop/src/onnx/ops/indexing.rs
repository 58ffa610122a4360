//! Operators that read or write at computed places. Negative indices count from the end, and one out of range makes the step fail, except
//! within loops, where it is clamped.

use super::super::call::{Call, Results, axis, numbers, one};
use super::super::error::Reason;
use super::super::fold::MOST_FOLDED;
use super::super::value::{Known, constant, iota};
use super::movement::pick;
use super::{Operator, op};
use kiln_ir::ops::{Argsort, DimSize};
use kiln_ir::{Class, DType, Dim, OutOfRange, ScanOptions, ScatterKind, Shape, Tensor, Yield};

pub(super) const OPERATORS: &[Operator] = &[
    op("Compress", 9, compress),
    op("Gather", 7, gather),
    op("GatherElements", 11, gather_elements),
    op("GatherND", 11, gather_nd),
    op("NonZero", 9, non_zero),
    op("OneHot", 9, one_hot),
    op("ReverseSequence", 10, reverse_sequence),
    op("Scatter", 9, scatter_elements),
    op("ScatterElements", 11, scatter_elements),
    op("ScatterND", 11, scatter_nd),
    op("TopK", 7, top_k),
];

/// What an index out of range does: bodies of loops may not fail.
pub(super) fn out_of_range(c: &Call<'_, '_>) -> OutOfRange {
    if std::ptr::eq(c.builder, c.builder.outermost()) {
        OutOfRange::Fail
    } else {
        OutOfRange::Clamp
    }
}

/// An extent as an i64 scalar.
pub(super) fn size<'g>(c: &Call<'_, 'g>, dim: &Dim) -> Tensor<'g> {
    let size = c.builder.push(DimSize { dim: dim.clone() }, &[]);
    size.convert(DType::I64)
}

/// Indices along an axis of `extent` elements, as i64 that count from its beginning.
fn from_beginning<'g>(c: &Call<'_, 'g>, indices: Tensor<'g>, extent: &Dim) -> Tensor<'g> {
    let indices = indices.convert(DType::I64);
    let from_end = indices.plus(size(c, extent));
    from_end.where_(indices.lt(0.0), indices)
}

/// As [`from_beginning`]; one out of range makes the step fail, and is clamped within loops.
fn within<'g>(c: &Call<'_, 'g>, indices: Tensor<'g>, extent: &Dim) -> Tensor<'g> {
    let found = from_beginning(c, indices, extent);
    match out_of_range(c) {
        OutOfRange::Fail => {
            let inside = found.ge(0.0).and(found.lt(size(c, extent)));
            let name = &c.node.op_type;
            found.require(inside, &format!("an index of {name} is out of range"))
        }
        OutOfRange::Clamp | OutOfRange::Skip => {
            let last = size(c, extent).minus(1.0);
            found.minimum(last).maximum(0.0)
        }
    }
}

/// The indices of an input along an axis of `extent` elements; known ones are counted here.
pub(super) fn indices<'g>(
    c: &Call<'_, 'g>,
    position: usize,
    extent: &Dim,
) -> Result<Tensor<'g>, Reason> {
    let known = c
        .input(position)
        .data()
        .and_then(super::super::elements::integers);
    if let (Some(known), Some(extent)) = (&known, extent.constant())
        && let Some(wrong) = known.iter().find(|i| !(-extent..extent).contains(*i))
    {
        return Err(Reason::new(format!("index {wrong} of {extent} elements")));
    }
    match known {
        Some(known) if known.iter().all(|i| *i >= 0) => {
            let indices = c.input(position).data().map(|d| constant(c.builder, d));
            indices.ok_or_else(|| Reason::new("it has no indices"))
        }
        Some(_) | None => Ok(from_beginning(c, c.tensor(position)?, extent)),
    }
}

fn gather<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", 0)?, own.len())?;
    let picked = indices(c, 1, &own[along])?;
    one(c.tensor(0)?.gather(along, picked, out_of_range(c)))
}

/// The entries of an axis, or of the flat tensor, where a condition holds that is known when the graph is built.
fn compress<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let condition = c.floats(1, "condition")?.unwrap_or_default();
    let (x, along) = match c.int("axis")? {
        Some(given) => (c.tensor(0)?, axis(given, own.len())?),
        None => (c.tensor(0)?.reshape([own.elements()]), 0),
    };
    let extent = x.ty().map_or(Dim::from(0), |ty| ty.shape[along].clone());
    let holds = condition.iter().enumerate().filter(|(_, x)| **x != 0.0);
    let places: Vec<i64> = holds.map(|(i, _)| i as i64).collect();
    match (places.last(), extent.constant()) {
        (Some(last), Some(extent)) if *last >= extent => {
            Err(Reason::new(format!("entry {last} of {extent}")))
        }
        (Some(_), None) => Err(Reason::new(format!("of a symbolic extent {extent}"))),
        (_, _) => one(pick(x, along, &places)),
    }
}

/// The coordinates of elements other than 0, `[axes, elements]`, of a tensor that is known when the graph is built.
fn non_zero<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let data = c.input(0).data().ok_or_else(|| c.unknown(0, "input"))?;
    let shape = data.shape().to_vec();
    if data.count() > MOST_FOLDED {
        return Err(Reason::new(format!("of {} elements", data.count())));
    }
    let values = numbers(data)?;
    let found: Vec<usize> = (0..values.len()).filter(|i| values[*i] != 0.0).collect();
    let mut coordinates = vec![0i64; shape.len() * found.len()];
    for (column, place) in found.iter().enumerate() {
        let mut rest = *place;
        for (axis, extent) in shape.iter().enumerate().rev() {
            coordinates[axis * found.len() + column] = (rest % extent) as i64;
            rest /= extent;
        }
    }
    one(Known::of_ints(vec![shape.len(), found.len()], coordinates))
}

fn gather_elements<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", 0)?, own.len())?;
    let at = c.shape(1)?;
    if at.len() != own.len() {
        return Err(Reason::new(format!("{own} at indices of shape {at}")));
    }
    let picked = within(c, c.tensor(1)?, &own[along]);
    // Along other axes the indices may end early.
    let mut x = c.tensor(0)?;
    for (axis, (have, want)) in own.iter().zip(at.iter()).enumerate() {
        if axis != along && have != want {
            x = x.slice_axis(axis, 0, want);
        }
    }
    one(x.take_along_axis(along, picked))
}

/// The row-major position of an element of `shape`, from one index tensor for each axis; all broadcast.
fn position<'g>(c: &Call<'_, 'g>, shape: &[Dim], at: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let mut sum: Option<Tensor<'g>> = None;
    for (extent, index) in shape.iter().zip(at) {
        sum = Some(match sum {
            None => *index,
            Some(sum) => sum.times(size(c, extent)).plus(*index),
        });
    }
    sum
}

/// The positions, within the first axes of a shape, that an index tensor with a last axis of coordinates names; the number of those axes.
fn positions<'g>(
    c: &Call<'_, 'g>,
    own: &Shape,
    at: Tensor<'g>,
    batch: usize,
) -> Result<(Tensor<'g>, usize), Reason> {
    let shape = at.ty().map(|ty| ty.shape).unwrap_or_default();
    let Some((last, outer)) = shape.split_last() else {
        return Err(Reason::new("indices without axes"));
    };
    let coordinates = last.constant().and_then(|n| usize::try_from(n).ok());
    let coordinates = coordinates.ok_or_else(|| Reason::new("a symbolic number of coordinates"))?;
    let indexed = batch + coordinates;
    if indexed == 0 || indexed > own.len() || batch > outer.len() {
        return Err(Reason::new(format!("{coordinates} coordinates into {own}")));
    }
    let outer = Shape::from(outer);
    let mut all: Vec<Tensor<'g>> = (0..batch).map(|a| iota(c.builder, &outer, a)).collect();
    for i in 0..coordinates {
        let from = Dim::from(i);
        let index = at.slice_axis(shape.len() - 1, &from, i + 1).reshape(&outer);
        all.push(within(c, index, &own[batch + i]));
    }
    let found = position(c, &own[..indexed], &all);
    found
        .map(|p| (p, indexed))
        .ok_or_else(|| Reason::new("it has no coordinates"))
}

/// The shape with its first axes joined into one.
fn joined_first(own: &Shape, count: usize) -> Shape {
    let (first, rest) = own.split_at(count);
    let mut shape = vec![Shape::from(first).elements()];
    shape.extend_from_slice(rest);
    shape.into()
}

fn gather_nd<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let batch = usize::try_from(c.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    if batch > own.len() {
        return Err(Reason::new(format!("batch_dims = {batch} of {own}")));
    }
    let (at, indexed) = positions(c, &own, c.tensor(1)?, batch)?;
    let flat = c.tensor(0)?.reshape(joined_first(&own, indexed));
    one(flat.gather(0, at, OutOfRange::Clamp))
}

fn scatter_nd<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let (at, indexed) = positions(c, &own, c.tensor(1)?, 0)?;
    let flat = c.tensor(0)?.reshape(joined_first(&own, indexed));
    let result = scatter(c, flat, at, c.tensor(2)?)?;
    one(result.reshape(own))
}

fn scatter_elements<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", 0)?, own.len())?;
    let at = c.shape(1)?;
    if at.len() != own.len() {
        return Err(Reason::new(format!("{own} at indices of shape {at}")));
    }
    let picked = within(c, c.tensor(1)?, &own[along]);
    let index = |a: usize| {
        if a == along {
            picked
        } else {
            iota(c.builder, &at, a)
        }
    };
    let all: Vec<Tensor<'g>> = (0..own.len()).map(index).collect();
    let place = position(c, &own, &all);
    let place = place
        .ok_or_else(|| Reason::new("of a scalar"))?
        .reshape([at.elements()]);
    let flat = c.tensor(0)?.reshape([own.elements()]);
    let result = scatter(c, flat, place, c.tensor(2)?.reshape([at.elements()]))?;
    one(result.reshape(own))
}

/// Updates joined into rows of `x`.
fn scatter<'g>(
    c: &Call<'_, 'g>,
    x: Tensor<'g>,
    at: Tensor<'g>,
    updates: Tensor<'g>,
) -> Result<Tensor<'g>, Reason> {
    // The places are in range: each index was looked at on its own axis.
    let put = |kind, x: Tensor<'g>, u| x.scatter(kind, 0, at, u, OutOfRange::Clamp);
    // What turns the order of numbers around.
    let turn = |x: Tensor<'g>| match x.ty().map(|ty| ty.dtype.class()) {
        Some(Class::Signed | Class::Unsigned | Class::Bool) => x.not(),
        Some(Class::Float) | None => x.neg(),
    };
    Ok(match c.text("reduction", "none")?.as_str() {
        "none" => put(ScatterKind::Set, x, updates),
        "add" => put(ScatterKind::Add, x, updates),
        "max" => put(ScatterKind::Max, x, updates),
        "min" => turn(put(ScatterKind::Max, turn(x), turn(updates))),
        "mul" => multiplied(c, x, at, updates),
        other => return Err(Reason::new(format!("reduction = `{other}`"))),
    })
}

/// Rows of `x` multiplied by updates, one after the other: a row may be named twice, and no scatter multiplies.
fn multiplied<'g>(
    c: &Call<'_, 'g>,
    x: Tensor<'g>,
    at: Tensor<'g>,
    updates: Tensor<'g>,
) -> Tensor<'g> {
    let (Some(own), Some(places)) = (x.ty(), at.ty()) else {
        return x;
    };
    let count = places.shape.elements();
    let mut rows = own.shape.to_vec();
    rows[0] = count.clone();
    let rows = updates.reshape(rows);
    let at = at.reshape([count]);
    let scanned = c
        .builder
        .scan(&ScanOptions::default(), &[x], &[at, rows], |it| {
            let (x, at, row) = (it.carry(0), it.entry(0), it.entry(1));
            let product = x.gather(0, at, OutOfRange::Clamp).times(row);
            let next = x.scatter(ScatterKind::Set, 0, at, product, OutOfRange::Clamp);
            Yield::new(&[next], &[])
        });
    scanned.carries[0]
}

fn one_hot<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", -1)?, own.len() + 1)?;
    let symbolic = c.input(1).dims().and_then(|d| d.first().cloned());
    let depth = match symbolic {
        Some(depth) => depth,
        // It may be a floating number.
        None => match c.floats(1, "depth")?.as_deref() {
            Some([depth]) => Dim::from(*depth as i64),
            Some(_) | None => return Err(Reason::new("its depth is not one number")),
        },
    };
    let depth = &depth;
    let picked = from_beginning(c, c.tensor(0)?, depth);
    let (mut narrow, mut wide) = (own.to_vec(), own.to_vec());
    narrow.insert(along, Dim::from(1));
    wide.insert(along, depth.clone());
    let hit = iota(c.builder, wide.clone(), along).eq(picked.reshape(narrow));
    let values = c.tensor(2)?;
    let value = |i: usize| {
        let value = values.slice_axis(0, i, i + 1);
        value.reshape(()).broadcast_to(wide.clone())
    };
    one(value(1).where_(hit, value(0)))
}

fn reverse_sequence<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let batch = axis(c.int_or("batch_axis", 1)?, own.len())?;
    let time = axis(c.int_or("time_axis", 0)?, own.len())?;
    let mut shape = vec![Dim::from(1); own.len()];
    shape[batch] = own[batch].clone();
    let length = c
        .tensor(1)?
        .convert(DType::I64)
        .reshape(shape)
        .broadcast_to(&own);
    let at = iota(c.builder, &own, time);
    let turned = length.minus(1.0).minus(at).where_(at.lt(length), at);
    one(c.tensor(0)?.take_along_axis(time, turned))
}

fn top_k<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", -1)?, own.len())?;
    let descending = c.int_or("largest", 1)? != 0;
    // Sorted is one of the orders that unsorted allows.
    c.attribute("sorted");
    let count = match c.int("k")? {
        Some(k) => Dim::from(k),
        None => {
            let k = c.dims(1, "k")?.unwrap_or_default();
            k.first()
                .cloned()
                .ok_or_else(|| Reason::new("it has no k"))?
        }
    };
    let x = c.tensor(0)?;
    let sort = Argsort {
        axis: along,
        descending,
        count,
    };
    let at = c.builder.push(sort, &[x]);
    Ok(vec![
        x.take_along_axis(along, at).into(),
        at.convert(DType::I64).into(),
    ])
}
