//! Convolutions, of floats and of integers.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::{Operator, op};
use kiln_ir::ops::WindowAxis;
use kiln_ir::{ConvOptions, DType, Dim, Layout, Padding, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("Conv", 7, |c| {
        let result = convolution(c, c.tensor(0)?, c.tensor(1)?)?;
        one(biased(result, c.optional(2)?))
    }),
    op("ConvInteger", 10, integers),
    op("ConvTranspose", 7, transposed),
];

/// How windows slide over the spatial axes of input 0.
pub(super) struct Spatial {
    pub(super) kernel: Vec<i64>,
    pub(super) axes: Vec<WindowAxis>,
}

/// One positive number for each spatial axis, from an attribute.
pub(super) fn each(c: &Call<'_, '_>, name: &'static str, count: usize) -> Result<Vec<i64>, Reason> {
    let given = c.int_list(name)?.unwrap_or_else(|| vec![1; count]);
    if given.len() != count || given.iter().any(|n| !(1..1 << 31).contains(n)) {
        return Err(Reason::new(format!(
            "{name} = {given:?} for {count} spatial axes"
        )));
    }
    Ok(given)
}

/// Padding of each spatial axis, (low, high), from the attribute `pads`.
pub(super) fn explicit(c: &Call<'_, '_>, count: usize) -> Result<Vec<(i64, i64)>, Reason> {
    let given = c.int_list("pads")?.unwrap_or_else(|| vec![0; 2 * count]);
    if given.len() != 2 * count || given.iter().any(|n| !(-(1 << 31)..1 << 31).contains(n)) {
        return Err(Reason::new(format!(
            "pads = {given:?} for {count} spatial axes"
        )));
    }
    Ok((0..count).map(|i| (given[i], given[i + count])).collect())
}

/// The windows of a kernel over spatial extents, as strides, dilations, `pads` and `auto_pad` say.
pub(super) fn spatial(
    c: &Call<'_, '_>,
    extents: &[Dim],
    kernel: Vec<i64>,
) -> Result<Spatial, Reason> {
    let count = extents.len();
    let (strides, dilations) = (each(c, "strides", count)?, each(c, "dilations", count)?);
    let pads = explicit(c, count)?;
    let auto = c.text("auto_pad", "NOTSET")?;
    let mut axes = Vec::with_capacity(count);
    for (i, extent) in extents.iter().enumerate() {
        let mut axis = WindowAxis {
            stride: strides[i],
            window_dilation: dilations[i],
            ..WindowAxis::default()
        };
        let same = axis.same_padding(extent, &Dim::from(kernel[i]));
        (axis.low, axis.high) = match auto.as_str() {
            "NOTSET" => (pads[i].0.into(), pads[i].1.into()),
            "VALID" => (Dim::from(0), Dim::from(0)),
            "SAME_UPPER" => same,
            "SAME_LOWER" if same.0.constant().is_some() => (same.1, same.0),
            "SAME_LOWER" => return Err(Reason::new("auto_pad = SAME_LOWER of a symbolic extent")),
            other => return Err(Reason::new(format!("auto_pad = `{other}`"))),
        };
        axes.push(axis);
    }
    Ok(Spatial { kernel, axes })
}

/// The extents of the spatial axes, which come behind batch and features.
pub(super) fn extents(c: &Call<'_, '_>) -> Result<Vec<Dim>, Reason> {
    let shape = c.shape(0)?;
    match shape.get(2..) {
        Some(extents) if !extents.is_empty() => Ok(extents.to_vec()),
        Some(_) | None => Err(Reason::new(format!(
            "of {shape}, which has no spatial axes"
        ))),
    }
}

/// The numbers of a kernel's spatial axes.
fn kernel_of(c: &Call<'_, '_>, weight: &Shape) -> Result<Vec<i64>, Reason> {
    let numbers: Option<Vec<i64>> = weight.iter().skip(2).map(Dim::constant).collect();
    let kernel = numbers.ok_or_else(|| Reason::new(format!("a kernel of shape {weight}")))?;
    match c.int_list("kernel_shape")? {
        Some(said) if said != kernel => Err(Reason::new(format!(
            "kernel_shape = {said:?}, but its kernel is of shape {weight}"
        ))),
        Some(_) | None => Ok(kernel),
    }
}

/// The convolution of `x` with `weight`, which have the shapes of inputs 0 and 1.
pub(super) fn convolution<'g>(
    c: &Call<'_, 'g>,
    x: Tensor<'g>,
    weight: Tensor<'g>,
) -> Result<Tensor<'g>, Reason> {
    let shape = weight.ty().map(|ty| ty.shape).unwrap_or_default();
    let extents = extents(c)?;
    if shape.len() != extents.len() + 2 {
        return Err(Reason::new(format!(
            "a kernel of shape {shape} for {}",
            c.ty(0)?
        )));
    }
    let windows = spatial(c, &extents, kernel_of(c, &shape)?)?;
    let axes = windows.axes.iter();
    let options = ConvOptions {
        stride: axes.clone().map(|a| a.stride).collect(),
        padding: Padding::Explicit(
            axes.clone()
                .map(|a| (a.low.clone(), a.high.clone()))
                .collect(),
        ),
        rhs_dilation: axes.map(|a| a.window_dilation).collect(),
        groups: c.int_or("group", 1)?,
        layout: Layout::ChannelsFirst,
        ..ConvOptions::default()
    };
    Ok(x.conv(weight, &options))
}

/// With a bias for each feature.
pub(super) fn biased<'g>(x: Tensor<'g>, bias: Option<Tensor<'g>>) -> Tensor<'g> {
    let (Some(bias), Some(ty)) = (bias, x.ty()) else {
        return x;
    };
    let mut shape = vec![Dim::from(1); ty.rank()];
    if let (Some(features), Some(count)) = (shape.get_mut(1), ty.shape.get(1)) {
        *features = count.clone();
    }
    x.plus(bias.reshape(shape))
}

/// Integers of 8 bits, less their zero points, in i32.
fn integers<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let less = |position: usize, zero: usize| -> Result<Tensor<'g>, Reason> {
        let x = c.tensor(position)?.convert(DType::I32);
        let Some(zero) = c.optional(zero)? else {
            return Ok(x);
        };
        Ok(x.minus(per_output(zero, c.ty(position)?.rank()).convert(DType::I32)))
    };
    one(convolution(c, less(0, 2)?, less(1, 3)?)?)
}

/// A number, or one for each entry of axis 0, as a tensor that broadcasts against one of `rank` axes.
pub(super) fn per_output<'g>(x: Tensor<'g>, rank: usize) -> Tensor<'g> {
    let count = x.ty().map_or(Dim::from(1), |ty| ty.shape.elements());
    if count.constant() == Some(1) {
        return x.reshape(());
    }
    let mut shape = vec![Dim::from(1); rank];
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    x.reshape(shape)
}

/// A convolution with the kernel reversed over an operand with holes.
fn transposed<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, weight) = (c.tensor(0)?, c.tensor(1)?);
    let shape = c.shape(1)?;
    let extents = extents(c)?;
    let count = extents.len();
    if shape.len() != count + 2 {
        return Err(Reason::new(format!(
            "a kernel of shape {shape} for {}",
            c.ty(0)?
        )));
    }
    let kernel = kernel_of(c, &shape)?;
    let (strides, dilations) = (each(c, "strides", count)?, each(c, "dilations", count)?);
    let groups = c.int_or("group", 1)?;
    let extra = c
        .int_list("output_padding")?
        .unwrap_or_else(|| vec![0; count]);
    let wanted = c.int_list("output_shape")?;
    let auto = c.text("auto_pad", "NOTSET")?;
    let mut pads = explicit(c, count)?;
    if extra.len() != count || groups < 1 {
        return Err(Reason::new(format!(
            "output_padding = {extra:?} for {count} spatial axes"
        )));
    }
    let span = |i: usize| kernel[i].saturating_sub(1).saturating_mul(dilations[i]);
    for i in 0..count {
        let total = match (&wanted, auto.as_str()) {
            (None, "NOTSET") => continue,
            (None, "VALID") => {
                pads[i] = (0, 0);
                continue;
            }
            (None, "SAME_UPPER" | "SAME_LOWER") => span(i) + 1 + extra[i] - strides[i],
            (Some(wanted), _) => {
                // The last spatial entries, should batch and features be said too.
                let at = wanted.len().checked_sub(count - i);
                let size = extents[i].constant().zip(at.and_then(|at| wanted.get(at)));
                let (size, wanted) = size.ok_or_else(|| {
                    Reason::new(format!("output_shape = {wanted:?} of extents {extents:?}"))
                })?;
                let whole = size.saturating_sub(1).saturating_mul(strides[i]);
                whole
                    .saturating_add(span(i) + 1 + extra[i])
                    .saturating_sub(*wanted)
            }
            (None, other) => return Err(Reason::new(format!("auto_pad = `{other}`"))),
        };
        let (less, more) = (total.div_euclid(2), total - total.div_euclid(2));
        pads[i] = if auto == "SAME_UPPER" {
            (less, more)
        } else {
            (more, less)
        };
    }
    let padding = (0..count).map(|i| {
        let low = span(i).saturating_sub(pads[i].0);
        let high = span(i).saturating_sub(pads[i].1).saturating_add(extra[i]);
        (Dim::from(low), Dim::from(high))
    });
    // [groups * inputs, outputs, ..] becomes [groups * outputs, inputs, ..].
    let (inputs, outputs) = (shape[0].floor_div(&Dim::from(groups)), shape[1].clone());
    let rest = &shape[2..];
    let with = |first: &[Dim]| Shape::from([first, rest].concat());
    let split = with(&[Dim::from(groups), inputs.clone(), outputs.clone()]);
    let mut order: Vec<usize> = (0..split.len()).collect();
    order.swap(1, 2);
    let turned = weight.reshape(split).transpose(&order);
    let turned = turned.reshape(with(&[&outputs * &Dim::from(groups), inputs]));
    let options = ConvOptions {
        padding: Padding::Explicit(padding.collect()),
        lhs_dilation: strides.clone(),
        rhs_dilation: dilations.clone(),
        groups,
        layout: Layout::ChannelsFirst,
        reverse: true,
        ..ConvOptions::default()
    };
    one(biased(x.conv(turned, &options), c.optional(2)?))
}
