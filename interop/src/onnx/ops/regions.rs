//! Operators that sample images where boxes or offsets say: RoiAlign and DeformConv.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::conv::{biased, each, extents, spatial};
use super::indexing::size;
use super::sample::{Image, Outside, Span, Tap};
use super::{Operator, op};
use kiln_ir::{DType, Dim, ReduceKind, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("DeformConv", 19, deformed_convolution),
    op("RoiAlign", 10, roi_align),
];

/// Boxes `[boxes, 4]` of (left, top, right, bottom) in images `[batch, features, height, width]`, each cut into bins, in each of which a
/// grid of places is sampled and joined (He et al., "Mask R-CNN", 2017).
fn roi_align<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (own, ty, boxes) = (c.shape(0)?, c.ty(0)?, c.ty(1)?);
    let fits = boxes.rank() == 2 && boxes.shape[1].constant() == Some(4);
    if own.len() != 4 || !fits || c.ty(2)?.rank() != 1 || !ty.dtype.is_float() {
        return Err(Reason::new(format!("{boxes} in {ty}")));
    }
    let modern = c.version >= 16;
    let default = if modern {
        "half_pixel"
    } else {
        "output_half_pixel"
    };
    let half = match c.text("coordinate_transformation_mode", default)?.as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let what = format!("coordinate_transformation_mode = `{other}`");
            return Err(Reason::new(what));
        }
    };
    let grid = c.int_or("sampling_ratio", 0)?;
    if grid < 1 {
        return Err(Reason::new(
            "sampling_ratio = 0: how many places are sampled depends on the boxes",
        ));
    }
    let bins = [c.int_or("output_height", 1)?, c.int_or("output_width", 1)?];
    if bins
        .iter()
        .chain([&grid])
        .any(|n| !(1..1 << 16).contains(n))
    {
        return Err(Reason::new(format!("{bins:?} bins of {grid} places")));
    }
    let scale = c.float_or("spatial_scale", 1.0)?;
    let count = boxes.shape[0].clone();
    let [height, width] = bins.map(|b| Dim::from(b * grid));
    let places = Shape::from([count.clone(), height.clone(), width.clone()]);
    let rois = c.tensor(1)?.convert(ty.dtype).times(scale);
    let rois = rois.minus(if half { 0.5 } else { 0.0 });
    let side = |i: usize| rois.slice_axis(1, i, i + 1);
    let image = Image::new(c.tensor(0)?, &own, 1);
    let mut axes = Vec::with_capacity(2);
    let mut inside: Option<Tensor<'g>> = None;
    for (i, extent) in image.extents.iter().enumerate() {
        let (low, high) = (side(1 - i), side(3 - i));
        let mut length = high.minus(low);
        if !half {
            // Malformed boxes become one element large.
            length = length.maximum(1.0);
        }
        let number = iota(c.builder, [Dim::from(1), Dim::from(bins[i] * grid)], 1);
        let step = number.convert(ty.dtype).plus(0.5);
        let place = low.plus(step.times(length).times(1.0 / (bins[i] * grid) as f64));
        let mut dims = vec![count.clone(), Dim::from(1), Dim::from(1)];
        dims[1 + i] = Dim::from(bins[i] * grid);
        let place = place.reshape(dims);
        // A place up to one element outside is one at the border; farther ones are 0.
        let whole = size(c, extent).convert(ty.dtype);
        let near = place.ge(-1.0).and(place.le(whole));
        inside = Some(inside.map_or(near, |all| all.and(near)));
        let last = whole.minus(1.0);
        let place = place.maximum(0.0).minimum(last);
        let span = Span::new(c, extent, ty.dtype, true);
        axes.push(span.linear(place, Outside::Border));
    }
    let images = c.tensor(2)?.convert(DType::I64);
    let images = images.reshape([count.clone(), Dim::from(1), Dim::from(1)]);
    let corners = image.corners(c, images, &axes, &places);
    let weighted = corners
        .into_iter()
        .map(|(value, weight)| value.times(weight));
    let largest = match c.text("mode", "avg")?.as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    // The largest is that of the weighted corners, not of their sums: so ONNX's reference has it.
    let join = if largest {
        Tensor::maximum
    } else {
        Tensor::plus
    };
    let joined = weighted
        .reduce(join)
        .ok_or_else(|| Reason::new("of no axes"))?;
    let mut wide = places.to_vec();
    wide.push(own[1].clone());
    let mut dims = places.to_vec();
    dims.push(Dim::from(1));
    let joined = match inside {
        Some(inside) => {
            let inside = inside.broadcast_to(&places).reshape(dims);
            joined.where_(inside.broadcast_to(wide), 0.0)
        }
        None => joined,
    };
    let [rows, columns, side] = [bins[0], bins[1], grid].map(Dim::from);
    let split = [count, rows, side.clone(), columns, side, own[1].clone()];
    let split = joined.reshape(split);
    let pooled = if largest {
        split.reduce(ReduceKind::Max, &[2, 4])
    } else {
        let sum = split.reduce(ReduceKind::Sum, &[2, 4]);
        sum.times(1.0 / (grid * grid) as f64)
    };
    one(pooled.transpose(&[0, 3, 1, 2]))
}

/// A convolution whose windows take their elements at fractional offsets, one for each element of a window at each position (Dai et al.,
/// "Deformable convolutional networks", 2017; with a mask, Zhu et al., 2018).
fn deformed_convolution<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (own, ty) = (c.shape(0)?, c.ty(0)?);
    let (weight, offsets) = (c.shape(1)?, c.shape(2)?);
    let extents = extents(c)?;
    let count = extents.len();
    let kernel: Option<Vec<i64>> = weight.iter().skip(2).map(Dim::constant).collect();
    let kernel = kernel.filter(|k| k.len() == count && offsets.len() == count + 2);
    let kernel = kernel
        .ok_or_else(|| Reason::new(format!("a kernel of shape {weight} at {offsets} in {ty}")))?;
    if c.int_list("kernel_shape")?.is_some_and(|k| k != kernel) {
        return Err(Reason::new(format!("a kernel of shape {weight}")));
    }
    let dilations = each(c, "dilations", count)?;
    let windows = spatial(c, &extents, kernel.clone())?;
    let groups = [c.int_or("group", 1)?, c.int_or("offset_group", 1)?];
    let [outer, within] = groups.map(Dim::from);
    let taps = kernel.iter().try_fold(1i64, |all, k| all.checked_mul(*k));
    let taps = taps.ok_or_else(|| Reason::new(format!("a kernel of shape {weight}")))?;
    let fits = groups.iter().all(|g| *g > 0)
        && own[1] == &weight[1] * &outer
        && offsets[1] == &within * &Dim::from(taps.saturating_mul(count as i64))
        && own[1].modulo(&within).constant() == Some(0)
        && weight[0].modulo(&outer).constant() == Some(0);
    if !fits {
        return Err(Reason::new(format!(
            "a kernel of shape {weight} at offsets of shape {offsets} in {ty}, in {outer} and {within} groups"
        )));
    }
    // Places are [batch, groups, kernel.., output..].
    let [batch, outputs] = [own[0].clone(), weight[0].clone()];
    let sizes: Vec<Dim> = kernel.iter().copied().map(Dim::from).collect();
    let head = [batch.clone(), within.clone()];
    let places: Shape = (head.iter().chain(&sizes).chain(&offsets[2..]).cloned()).collect();
    let mut dims = [&head[..], &sizes].concat();
    dims.push(Dim::from(count));
    dims.extend_from_slice(&offsets[2..]);
    let moved = c.tensor(2)?.convert(ty.dtype).reshape(dims);
    let image = Image::new(c.tensor(0)?, &own, groups[1]);
    let mut axes: Vec<Vec<Tap<'g>>> = Vec::with_capacity(count);
    for (i, extent) in image.extents.iter().enumerate() {
        let element = iota(c.builder, &places, 2 + i).times(dilations[i] as f64);
        let window = iota(c.builder, &places, 2 + count + i);
        let window = window.times(windows.axes[i].stride as f64);
        let begin = window.minus(size(c, &windows.axes[i].low));
        let offset = moved.slice_axis(2 + count, i, i + 1).reshape(&places);
        let place = begin.plus(element).convert(ty.dtype).plus(offset);
        let span = Span::new(c, extent, ty.dtype, true);
        axes.push(span.linear(place, Outside::Zero));
    }
    let batches = iota(c.builder, &places, 0).times(groups[1] as f64);
    let images = batches.plus(iota(c.builder, &places, 1));
    let mut sampled = image.sampled(c, images, &axes, &places);
    if let Some(mask) = c.optional(4)? {
        let mut narrow = places.to_vec();
        narrow.push(Dim::from(1));
        sampled = sampled.times(mask.convert(ty.dtype).reshape(narrow));
    }
    // [batch, groups of the offsets, taps, positions, features] becomes [batch, groups, features, taps, positions].
    let positions = Shape::from(&offsets[2..]).elements();
    let taps = Dim::from(taps);
    let features = own[1].floor_div(&within);
    let split = [
        batch.clone(),
        within,
        taps.clone(),
        positions.clone(),
        features,
    ];
    let columns = sampled.reshape(split).transpose(&[0, 1, 4, 2, 3]);
    let columns = columns.reshape([batch.clone(), outer.clone(), &weight[1] * &taps, positions]);
    let each = outputs.floor_div(&outer);
    let weights = c.tensor(1)?.reshape([outer, each, &weight[1] * &taps]);
    // [groups, outputs, batch, positions]
    let product = weights.dot_general(columns, &[2], &[2], &[0], &[1]);
    let mut shape = vec![batch, outputs];
    shape.extend_from_slice(&offsets[2..]);
    let product = product.transpose(&[2, 0, 1, 3]).reshape(shape);
    one(biased(product, c.optional(3)?))
}
