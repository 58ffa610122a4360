//! Pools over spatial axes, which come behind batch and features.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::{Value, iota};
use super::conv::{Spatial, extents, spatial};
use super::indexing::size;
use super::reduce::{kept, mean, sum};
use super::{Operator, op};
use kiln_ir::ops::{WindowAxis, Windows};
use kiln_ir::{DType, Dim, OutOfRange, ReduceKind, ScatterKind, Shape, Tensor, WindowKind};

pub(super) const OPERATORS: &[Operator] = &[
    op("AveragePool", 7, average),
    op("GlobalAveragePool", 7, |c| global(c, mean)),
    op("GlobalLpPool", 7, global_lp),
    op("GlobalMaxPool", 7, |c| {
        global(c, |x, a| x.reduce(ReduceKind::Max, a))
    }),
    op("LpPool", 7, lp),
    op("MaxPool", 8, maximum),
    op("MaxUnpool", 9, unpool),
];

fn global<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>, &[usize]) -> Tensor<'g>) -> Results<'g> {
    let x = c.tensor(0)?;
    let over: Vec<usize> = (2..c.ty(0)?.rank()).collect();
    one(kept(x, f(x, &over), &over))
}

fn global_lp<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let p = c.int_or("p", 2)? as f64;
    global(c, |x, a| sum(x.abs().pow(p), a).pow(1.0 / p))
}

/// The windows over all axes, and the padding behind each spatial axis that `ceil_mode` alone makes.
struct Pool {
    windows: Windows,
    beyond: Vec<Dim>,
}

fn pool(c: &Call<'_, '_>) -> Result<Pool, Reason> {
    let extents = extents(c)?;
    let kernel = super::conv::each(c, "kernel_shape", extents.len())?;
    let Spatial { kernel, mut axes } = spatial(c, &extents, kernel)?;
    let mut beyond = vec![Dim::from(0); extents.len()];
    if c.flag("ceil_mode")? {
        for (i, axis) in axes.iter_mut().enumerate() {
            let span = (kernel[i] - 1) * axis.window_dilation + 1;
            beyond[i] = ceiling(&extents[i], span, axis.stride, &axis.low, &axis.high)?;
            axis.high = &axis.high + &beyond[i];
        }
    }
    let mut windows = Windows::of(&[1, 1]);
    windows.sizes.extend(kernel);
    windows.axes.extend(axes);
    Ok(Pool { windows, beyond })
}

/// No window is reduced at once that has more elements: compiled code has them one by one.
const MOST_AT_ONCE: i64 = 256;

/// The reduction of each window; of large ones over one axis after the other.
fn reduced<'g>(x: Tensor<'g>, kind: WindowKind, windows: Windows) -> Tensor<'g> {
    if windows.elements().is_some_and(|n| n <= MOST_AT_ONCE) {
        return x.reduce_window(kind, windows);
    }
    let axes = windows.sizes.into_iter().zip(windows.axes).enumerate();
    let slides = axes.filter(|(_, (size, axis))| *size != 1 || *axis != WindowAxis::default());
    let rank = x.ty().map_or(0, |ty| ty.rank());
    slides.fold(x, |x, (at, (size, axis))| {
        let mut single = Windows::of(&vec![1; rank]);
        single.sizes[at] = size;
        single.axes[at] = axis;
        x.reduce_window(kind, single)
    })
}

/// The padding that makes the number of positions round up. A window must begin before the padding behind.
fn ceiling(extent: &Dim, span: i64, stride: i64, low: &Dim, high: &Dim) -> Result<Dim, Reason> {
    let whole = &(extent + low) + high;
    let steps =
        (&(&whole - &Dim::from(span)) + &Dim::from(stride - 1)).floor_div(&Dim::from(stride));
    let begins_within = (high.constant()).is_some_and(|high| high <= span - stride);
    let last = match (steps.constant(), (extent + low).constant()) {
        _ if begins_within => steps,
        (Some(steps), Some(end)) if steps.saturating_mul(stride) >= end => Dim::from(steps - 1),
        (Some(_), Some(_)) => steps,
        (_, _) => {
            return Err(Reason::new(format!(
                "ceil_mode with its padding over {extent} elements"
            )));
        }
    };
    Ok(&(&(&last * &Dim::from(stride)) + &Dim::from(span)) - &whole)
}

fn average<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    let counts_padding = c.flag("count_include_pad")?;
    let Pool { windows, beyond } = pool(c)?;
    let summed = reduced(x, WindowKind::Sum, windows.clone());
    // How many elements a window meets depends on its place alone. What `ceil_mode` adds never counts.
    let mut counted = windows;
    let mut shape = vec![Dim::from(1); 2];
    for (i, extent) in ty.shape.iter().skip(2).enumerate() {
        let axis = &mut counted.axes[i + 2];
        if counts_padding {
            let own = &axis.high - &beyond[i];
            shape.push(&(extent + &axis.low) + &own);
            (axis.low, axis.high) = (Dim::from(0), beyond[i].clone());
        } else {
            shape.push(extent.clone());
        }
    }
    let ones = c.builder.splat(ty.dtype, shape, 1.0);
    one(summed.over(reduced(ones, WindowKind::Sum, counted)))
}

fn lp<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let p = c.int_or("p", 2)? as f64;
    let Pool { windows, .. } = pool(c)?;
    let powers = c.tensor(0)?.abs().pow(p);
    one(reduced(powers, WindowKind::Sum, windows).pow(1.0 / p))
}

fn maximum<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    let columns_first = c.flag("storage_order")?;
    let Pool { windows, .. } = pool(c)?;
    let largest = reduced(x, WindowKind::Max, windows.clone());
    if c.outputs() < 2 {
        return one(largest);
    }
    let mut within = x.argmax_window(windows.clone()).convert(DType::I64);
    let places = within.ty().map(|t| t.shape).unwrap_or_default();
    let rank = ty.rank();
    // The place along each axis, from the last: the position of the window, and the element within it.
    let mut along = Vec::with_capacity(rank);
    for axis in (0..rank).rev() {
        let (count, slide) = (windows.sizes[axis] as f64, &windows.axes[axis]);
        let element = within.rem(count);
        within = within.over(count);
        let begin = iota(c.builder, &places, axis).times(slide.stride as f64);
        let begin = begin.minus(size(c, &slide.low));
        along.push(begin.plus(element.times(slide.window_dilation as f64)));
    }
    along.reverse();
    let mut order: Vec<usize> = (0..rank).collect();
    if columns_first {
        order[2..].reverse();
    }
    let mut index: Option<Tensor<'g>> = None;
    for axis in order {
        index = Some(match index {
            None => along[axis],
            Some(index) => index.times(size(c, &ty.shape[axis])).plus(along[axis]),
        });
    }
    let index = index.map_or(Value::Absent, Value::Tensor);
    Ok(vec![largest.into(), index])
}

/// Puts elements where a max pool found them, in zeros.
fn unpool<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, own) = (c.tensor(0)?, c.shape(0)?);
    let extents = extents(c)?;
    let kernel = super::conv::each(c, "kernel_shape", extents.len())?;
    let Spatial { kernel, axes } = spatial(c, &extents, kernel)?;
    let mut natural = own[..2].to_vec();
    for (i, axis) in axes.iter().enumerate() {
        let whole = (extents[i].clone() - 1) * axis.stride + kernel[i];
        natural.push(&(&whole - &axis.low) - &axis.high);
    }
    let natural = Shape::from(natural);
    let shape = match c.dims(2, "output_shape")? {
        Some(dims) => dims.into(),
        None => natural.clone(),
    };
    // Indices count in the pooled tensor's own shape; a larger output is the same rows, further apart.
    let flat = Shape::from([own.elements()]);
    let mut at = c.tensor(1)?.convert(DType::I64).reshape(&flat);
    if shape != natural {
        let mut rest = at;
        let mut moved = c.builder.splat(DType::I64, &flat, 0.0);
        let mut stride = Dim::from(1);
        for (have, want) in natural.iter().zip(shape.iter()).rev() {
            let place = rest.rem(size(c, have));
            rest = rest.over(size(c, have));
            moved = moved.plus(place.times(size(c, &stride)));
            stride = &stride * want;
        }
        at = moved;
    }
    let zeros = c.builder.splat(c.ty(0)?.dtype, [shape.elements()], 0.0);
    let put = zeros.scatter(ScatterKind::Set, 0, at, x.reshape(&flat), OutOfRange::Skip);
    one(put.reshape(shape))
}
