//! Operators that move elements, and those that make tensors of extents.

use super::super::call::{Call, Results, axes, axis, one};
use super::super::elements::Elements;
use super::super::error::Reason;
use super::super::value::{Known, constant, iota};
use super::elementwise::joined;
use super::{Operator, op};
use kiln_ir::{DType, Dim, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("Concat", 7, concat),
    op("Constant", 7, constant_node),
    op("ConstantOfShape", 9, constant_of_shape),
    op("DepthToSpace", 7, depth_to_space),
    op("Expand", 8, expand),
    op("EyeLike", 9, eye_like),
    op("Flatten", 7, flatten),
    op("Range", 11, range),
    op("Reshape", 7, reshape),
    op("Shape", 1, shape),
    op("Size", 1, |c| {
        one(Known::of_dims(vec![], vec![c.shape(0)?.elements()]))
    }),
    op("Slice", 7, slice),
    op("SpaceToDepth", 7, space_to_depth),
    op("Split", 7, split),
    op("Squeeze", 7, squeeze),
    op("Tile", 7, tile),
    op("Transpose", 1, transpose),
    op("Trilu", 14, trilu),
    op("Unsqueeze", 7, unsqueeze),
];

fn concat<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let along = c
        .int("axis")?
        .ok_or_else(|| Reason::new("attribute `axis` is missing"))?;
    let along = axis(along, c.ty(0)?.rank())?;
    one(c.builder.concat(&c.tensors()?, along))
}

fn constant_node<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    if c.node.attribute.len() != 1 {
        return Err(Reason::new("it needs one value"));
    }
    let data = if let Some(data) = c.data("value")? {
        data
    } else if let Some(x) = c.float("value_float")? {
        Elements::of_f32(vec![], &[x as f32])
    } else if let Some(x) = c.int("value_int")? {
        Elements::of_i64(vec![], &[x])
    } else if let Some(xs) = c.float_list("value_floats")? {
        let xs: Vec<f32> = xs.iter().map(|x| *x as f32).collect();
        Elements::of_f32(vec![xs.len()], &xs)
    } else if let Some(xs) = c.int_list("value_ints")? {
        Elements::of_i64(vec![xs.len()], &xs)
    } else {
        return Err(Reason::new(
            "its value is a string or a sparse tensor, which Kiln does not have",
        ));
    };
    one(Known::Data(data))
}

fn constant_of_shape<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let shape = target(c, 0)?;
    let value = match c.data("value")? {
        Some(data) if data.count() == 1 => data,
        Some(_) => return Err(Reason::new("its value is not one element")),
        None => Elements::of_f32(vec![1], &[0.0]),
    };
    one(constant(c.builder, &value).reshape(()).broadcast_to(shape))
}

/// The shape that an input of known extents spells.
pub(super) fn target(c: &Call<'_, '_>, position: usize) -> Result<Shape, Reason> {
    let dims = c.dims(position, "shape")?;
    let dims = dims.ok_or_else(|| Reason::new("it has no shape"))?;
    match dims.iter().find(|d| d.constant().is_some_and(|n| n < 0)) {
        Some(dim) => Err(Reason::new(format!("an axis of size {dim}"))),
        None => Ok(dims.into()),
    }
}

fn expand<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, own, wanted) = (c.tensor(0)?, c.shape(0)?, target(c, 1)?);
    let shape = joined(&own, &wanted);
    let shape =
        shape.ok_or_else(|| Reason::new(format!("{own} does not broadcast with {wanted}")))?;
    one(x.broadcast_to(shape))
}

fn shape<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let shape = c.shape(0)?;
    let rank = shape.len() as i64;
    let bound = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (bound(c.int_or("start", 0)?), bound(c.int_or("end", rank)?));
    let dims = shape.get(start..end).unwrap_or_default().to_vec();
    one(Known::of_dims(vec![dims.len()], dims))
}

fn reshape<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let keeps_zero = c.flag("allowzero")?;
    let wanted = c
        .dims(1, "shape")?
        .ok_or_else(|| Reason::new("it has no shape"))?;
    let mut dims = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (position, dim) in wanted.into_iter().enumerate() {
        dims.push(match dim.constant() {
            Some(0) if !keeps_zero => {
                let kept = own.get(position).cloned();
                kept.ok_or_else(|| Reason::new(format!("0 at axis {position} of {own:?}")))?
            }
            Some(-1) if rest.is_none() => {
                rest = Some(position);
                Dim::from(1)
            }
            Some(n) if n < 0 => return Err(Reason::new(format!("an axis of size {n}"))),
            Some(_) | None => dim,
        });
    }
    if let Some(position) = rest {
        let others = Shape::from(dims.as_slice()).elements();
        if others.constant() == Some(0) {
            return Err(Reason::new("-1 beside an axis of size 0"));
        }
        dims[position] = own.elements().floor_div(&others);
    }
    one(c.tensor(0)?.reshape(dims))
}

fn flatten<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let given = c.int_or("axis", 1)?;
    let at = if given == own.len() as i64 {
        own.len()
    } else {
        axis(given, own.len())?
    };
    let (outer, inner) = own.split_at(at);
    let shape = [Shape::from(outer).elements(), Shape::from(inner).elements()];
    one(c.tensor(0)?.reshape(shape))
}

fn squeeze<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let one_sized = |d: &Dim| d.constant() == Some(1);
    let gone = match c.axes(1, 13)? {
        Some(given) => axes(&given, own.len())?,
        None => (0..own.len()).filter(|i| one_sized(&own[*i])).collect(),
    };
    if let Some(at) = gone.iter().find(|i| !one_sized(&own[**i])) {
        return Err(Reason::new(format!("axis {at} of {own} is not of size 1")));
    }
    let left = own.iter().enumerate().filter(|(i, _)| !gone.contains(i));
    let shape: Shape = left.map(|(_, d)| d.clone()).collect();
    one(c.tensor(0)?.reshape(shape))
}

fn unsqueeze<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let given = c
        .axes(1, 13)?
        .ok_or_else(|| Reason::new("it has no axes"))?;
    let rank = own.len() + given.len();
    let new = axes(&given, rank)?;
    let mut old = own.iter();
    let next = |i: usize| match new.contains(&i) {
        true => Some(Dim::from(1)),
        false => old.next().cloned(),
    };
    let shape: Option<Vec<Dim>> = (0..rank).map(next).collect();
    one(c.tensor(0)?.reshape(shape.unwrap_or_default()))
}

fn transpose<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let rank = c.ty(0)?.rank();
    let order = match c.int_list("perm")? {
        Some(given) => axes(&given, rank)?,
        None => (0..rank).rev().collect(),
    };
    one(c.tensor(0)?.transpose(&order))
}

fn split<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", 0)?, own.len())?;
    let given = if c.version >= 13 {
        c.dims(1, "split")?
    } else {
        c.int_list("split")?
            .map(|s| s.into_iter().map(Dim::from).collect())
    };
    let count = c
        .int("num_outputs")?
        .map_or(c.outputs(), |n| usize::try_from(n).unwrap_or(0));
    let sizes = match given {
        Some(sizes) => sizes,
        None if count == 0 || count > c.outputs() => {
            return Err(Reason::new(format!(
                "{count} parts for {} outputs",
                c.outputs()
            )));
        }
        None => {
            // All but the last are of one size.
            let each = (own[along].clone() + (count - 1)).floor_div(&Dim::from(count));
            let last = &own[along] - &(&each * &Dim::from(count - 1));
            let mut sizes = vec![each; count - 1];
            sizes.push(last);
            sizes
        }
    };
    let x = c.tensor(0)?;
    let mut from = Dim::from(0);
    let mut parts = Vec::with_capacity(sizes.len());
    for size in &sizes {
        let to = &from + size;
        parts.push(x.slice_axis(along, &from, &to).into());
        from = to;
    }
    if from != own[along] {
        return Err(Reason::new(format!(
            "the parts {sizes:?} are not {} together",
            own[along]
        )));
    }
    Ok(parts)
}

fn slice<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let as_input = c.version >= 10;
    let list = |position: usize, name: &'static str| match as_input {
        true => c.dims(position, name),
        false => Ok(c
            .int_list(name)?
            .map(|v| v.into_iter().map(Dim::from).collect())),
    };
    let starts = list(1, "starts")?.ok_or_else(|| Reason::new("it has no starts"))?;
    let ends = list(2, "ends")?.ok_or_else(|| Reason::new("it has no ends"))?;
    let along = if as_input {
        c.ints(3, "axes")?
    } else {
        c.int_list("axes")?
    };
    let along = along.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let along = axes(&along, own.len())?;
    let steps = if as_input { c.ints(4, "steps")? } else { None };
    let steps = steps.unwrap_or_else(|| vec![1; along.len()]);
    if [starts.len(), ends.len(), steps.len()] != [along.len(); 3] {
        return Err(Reason::new(
            "starts, ends, axes and steps are not of one length",
        ));
    }
    let mut x = c.tensor(0)?;
    let (mut low, mut limit) = (vec![Dim::from(0); own.len()], own.to_vec());
    let mut stride = vec![1; own.len()];
    let mut reversed = Vec::new();
    for (i, axis) in along.iter().copied().enumerate() {
        let size = &own[axis];
        let (from, to, step) = (&starts[i], &ends[i], steps[i]);
        if step == 0 {
            return Err(Reason::new("a step of 0"));
        }
        if step > 0 {
            low[axis] = within(from, size);
            limit[axis] = within(to, size);
            if !(&limit[axis] - &low[axis]).is_sum_of_sizes() && low[axis].constant() != Some(0) {
                limit[axis] = limit[axis].maximum(&low[axis]);
            }
        } else {
            // Backwards from `from` down to above `to`: forwards in the reversed axis, from `size - 1 - from`.
            reversed.push(axis);
            let mirrored = |d: &Dim| match (d.constant(), size.constant()) {
                (Some(d), Some(n)) => {
                    let d = if d < 0 { d.saturating_add(n) } else { d };
                    Ok(Dim::from(n - 1 - d.clamp(-1, n - 1)))
                }
                (Some(d), None) if d < 0 && d > -(1 << 31) => Ok(Dim::from(-1 - d)),
                (Some(d), None) if d >= (1 << 31) - 1 => Ok(Dim::from(0)),
                (Some(d), None) if d <= -(1 << 31) + 1 => Ok(size.clone()),
                (_, _) => Err(Reason::new("a negative step from a symbolic place")),
            };
            low[axis] = mirrored(from)?;
            limit[axis] = mirrored(to)?.maximum(&low[axis]);
        }
        stride[axis] = step
            .checked_abs()
            .ok_or_else(|| Reason::new("a step out of range"))?;
    }
    if !reversed.is_empty() {
        x = x.reverse(&reversed);
    }
    one(x.slice(&low, &limit, &stride))
}

/// A bound of a slice as an index from 0 to the size: negative ones count from the end, larger ones are the end.
fn within(bound: &Dim, size: &Dim) -> Dim {
    let zero = Dim::from(0);
    match (bound.constant(), size.constant()) {
        (Some(b), Some(n)) => {
            Dim::from((if b < 0 { b.saturating_add(n) } else { b }).clamp(0, n.max(0)))
        }
        (Some(0), None) => zero,
        // What exporters write for the end; no axis has so many elements.
        (Some(b), None) if b >= 1_000_000_000 => size.clone(),
        (Some(b), None) if b < 0 => match size + &Dim::from(b) {
            place if place.is_sum_of_sizes() => place,
            place => place.maximum(&zero),
        },
        // Whichever is smaller, where that is sure without numbers.
        (_, _) if (size - bound).is_sum_of_sizes() => bound.clone(),
        (_, _) if (bound - size).is_sum_of_sizes() => size.clone(),
        (_, _) => bound.minimum(size),
    }
}

/// Entries of an axis at places that are known and in range.
pub(super) fn pick<'g>(x: Tensor<'g>, axis: usize, places: &[i64]) -> Tensor<'g> {
    let places = Elements::of_i64(vec![places.len()], places);
    let places = constant(x.builder(), &places);
    x.gather(axis, places, kiln_ir::OutOfRange::Clamp)
}

fn tile<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let repeats = c
        .dims(1, "repeats")?
        .ok_or_else(|| Reason::new("it has no repeats"))?;
    if repeats.len() != own.len() {
        return Err(Reason::new(format!("{} repeats of {own}", repeats.len())));
    }
    // Each axis becomes two, (repeat, element), of which the first is repeated.
    let one_dim = Dim::from(1);
    let doubled: Shape = own
        .iter()
        .flat_map(|d| [one_dim.clone(), d.clone()])
        .collect();
    let wide: Shape = own
        .iter()
        .zip(&repeats)
        .flat_map(|(d, r)| [r.clone(), d.clone()])
        .collect();
    let shape: Shape = own.iter().zip(&repeats).map(|(d, r)| d * r).collect();
    one(c
        .tensor(0)?
        .reshape(doubled)
        .broadcast_to(wide)
        .reshape(shape))
}

fn range<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let dtype = c.ty(0)?.dtype;
    let number = |position: usize, what: &str| -> Result<f64, Reason> {
        let numbers = c.floats(position, what)?.unwrap_or_default();
        numbers
            .first()
            .copied()
            .ok_or_else(|| Reason::new(format!("it has no {what}")))
    };
    if let (Some(start), Some(limit), Some(delta)) =
        (c.input(0).dims(), c.input(1).dims(), c.input(2).dims())
        && let ([start], [limit], [delta]) = (start.as_slice(), limit.as_slice(), delta.as_slice())
        && let (Some(start), Some(1)) = (start.constant(), delta.constant())
        && limit.constant().is_none()
    {
        let count = limit - &Dim::from(start);
        let numbers = iota(c.builder, [count], 0).plus(start as f64);
        return one(numbers.convert(dtype));
    }
    let (start, limit, delta) = (
        number(0, "start")?,
        number(1, "limit")?,
        number(2, "delta")?,
    );
    let count = ((limit - start) / delta).ceil().max(0.0);
    if count.is_nan() || count >= 1e9 {
        return Err(Reason::new(format!("a range of {count} elements")));
    }
    let within = if dtype.is_float() {
        DType::F64
    } else {
        DType::I64
    };
    let numbers = iota(c.builder, [Dim::from(count as i64)], 0).convert(within);
    one(numbers.times(delta).plus(start).convert(dtype))
}

fn eye_like<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let dtype = c.dtype("dtype")?.unwrap_or(ty.dtype);
    let k = c.int_or("k", 0)?;
    if ty.rank() != 2 {
        return Err(Reason::new(format!("of {ty}, which is no matrix")));
    }
    let (row, column) = (iota(c.builder, &ty.shape, 0), iota(c.builder, &ty.shape, 1));
    one(row.plus(k as f64).eq(column).convert(dtype))
}

fn trilu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let upper = c.int_or("upper", 1)? != 0;
    let k = c
        .ints(1, "k")?
        .and_then(|k| k.first().copied())
        .unwrap_or(0);
    let Some(row_axis) = ty.rank().checked_sub(2) else {
        return Err(Reason::new(format!("of {ty}, which is no matrix")));
    };
    let row = iota(c.builder, &ty.shape, row_axis).plus(k as f64);
    let column = iota(c.builder, &ty.shape, row_axis + 1);
    let keep = if upper {
        column.ge(row)
    } else {
        column.le(row)
    };
    let zeros = c.builder.splat(ty.dtype, ty.shape, 0.0);
    one(c.tensor(0)?.where_(keep, zeros))
}

/// Batch, channels, height and width, and the block's size.
fn blocks(c: &Call<'_, '_>) -> Result<([Dim; 4], Dim), Reason> {
    let shape = c.shape(0)?;
    let size = c.int_or("blocksize", 0)?;
    match shape.to_vec().try_into() {
        Ok(dims) if size > 0 => Ok((dims, Dim::from(size))),
        Ok(_) | Err(_) => Err(Reason::new(format!("of {shape} in blocks of {size}"))),
    }
}

fn depth_to_space<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ([n, d, h, w], b) = blocks(c)?;
    let depth = d.floor_div(&(&b * &b));
    let x = c.tensor(0)?;
    let spread = match c.text("mode", "DCR")?.as_str() {
        "DCR" => x
            .reshape([
                n.clone(),
                b.clone(),
                b.clone(),
                depth.clone(),
                h.clone(),
                w.clone(),
            ])
            .transpose(&[0, 3, 4, 1, 5, 2]),
        "CRD" => x
            .reshape([
                n.clone(),
                depth.clone(),
                b.clone(),
                b.clone(),
                h.clone(),
                w.clone(),
            ])
            .transpose(&[0, 1, 4, 2, 5, 3]),
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    one(spread.reshape([n, depth, &h * &b, &w * &b]))
}

fn space_to_depth<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ([n, d, h, w], b) = blocks(c)?;
    let (rows, columns) = (h.floor_div(&b), w.floor_div(&b));
    let blocks = [
        n.clone(),
        d.clone(),
        rows.clone(),
        b.clone(),
        columns.clone(),
        b.clone(),
    ];
    let spread = c.tensor(0)?.reshape(blocks).transpose(&[0, 3, 5, 1, 2, 4]);
    one(spread.reshape([n, &(&d * &b) * &b, rows, columns]))
}
