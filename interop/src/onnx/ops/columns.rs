//! Col2Im: the sum of windows put back where they were taken from.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::conv::{each, explicit};
use super::indexing::size;
use super::movement::target;
use super::{Operator, op};
use kiln_ir::{DType, Dim, OutOfRange, ScatterKind, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[op("Col2Im", 18, col2im)];

/// `[batch, features * window elements, positions]` becomes `[batch, features, spatial..]`; where windows overlap they are added, and what
/// falls in the padding is dropped.
fn col2im<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (own, ty) = (c.shape(0)?, c.ty(0)?);
    let extents = target(c, 1)?;
    let kernel = target(c, 2)?;
    let count = extents.len();
    let (strides, dilations) = (each(c, "strides", count)?, each(c, "dilations", count)?);
    let pads = explicit(c, count)?;
    if own.len() != 3 || kernel.len() != count || count == 0 {
        return Err(Reason::new(format!(
            "windows {kernel} of {ty} in an image {extents}"
        )));
    }
    let mut positions = Vec::with_capacity(count);
    for (i, extent) in extents.iter().enumerate() {
        let span = (&kernel[i] - &Dim::from(1)) * dilations[i] + 1;
        let whole = extent + &Dim::from(pads[i].0 + pads[i].1);
        positions.push((&whole - &span).floor_div(&Dim::from(strides[i])) + 1);
    }
    let taps = kernel.elements();
    let features = own[1].exact_div(&taps);
    let features = features.filter(|_| Shape::from(positions.as_slice()).elements() == own[2]);
    let features = features.ok_or_else(|| {
        Reason::new(format!(
            "{ty} for windows {kernel} at {positions:?} positions"
        ))
    })?;
    // Places of all elements of all windows, [window.., position..].
    let all: Shape = kernel.iter().chain(&positions).cloned().collect();
    let mut place = c.builder.splat(DType::I64, &all, 0.0);
    let mut inside: Option<Tensor<'g>> = None;
    for (i, extent) in extents.iter().enumerate() {
        let element = iota(c.builder, &all, i).times(dilations[i] as f64);
        let begin = iota(c.builder, &all, count + i).times(strides[i] as f64);
        let along = begin.plus(element).minus(pads[i].0 as f64);
        let within = along.ge(0.0).and(along.lt(size(c, extent)));
        inside = Some(inside.map_or(within, |all| all.and(within)));
        place = place.times(size(c, extent)).plus(along);
    }
    if let Some(inside) = inside {
        place = place.where_(inside, -1.0);
    }
    let rows = &own[0] * &features;
    let updates = c.tensor(0)?.reshape([rows.clone(), all.elements()]);
    let zeros = c.builder.splat(ty.dtype, [rows, extents.elements()], 0.0);
    let place = place.reshape([all.elements()]);
    let image = zeros.scatter(ScatterKind::Add, 1, place, updates, OutOfRange::Skip);
    let mut shape = vec![own[0].clone(), features];
    shape.extend_from_slice(&extents);
    one(image.reshape(shape))
}
