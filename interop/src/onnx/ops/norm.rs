//! Normalisations.

use super::super::call::{Call, Results, axes, axis, one};
use super::super::error::Reason;
use super::reduce::{kept, mean, sum};
use super::{Operator, op};
use kiln_ir::ops::Windows;
use kiln_ir::{DType, Dim, ReduceKind, Tensor, WindowKind};

pub(super) const OPERATORS: &[Operator] = &[
    op("BatchNormalization", 7, batch),
    op("GroupNormalization", 18, group),
    op("InstanceNormalization", 7, instance),
    op("LRN", 7, local_response),
    op("LayerNormalization", 17, layer),
    op("LpNormalization", 7, lp),
    op("MeanVarianceNormalization", 9, mean_variance),
    op("RMSNormalization", 23, root_mean_square),
];

/// Mean and variance over axes, which keep size 1.
fn moments<'g>(x: Tensor<'g>, over: &[usize]) -> (Tensor<'g>, Tensor<'g>) {
    let average = kept(x, mean(x, over), over);
    let centred = x.minus(average);
    (average, kept(x, mean(centred.square(), over), over))
}

/// One number for each entry of axis 1, as a tensor that broadcasts against one of `rank` axes.
fn along_features<'g>(x: Tensor<'g>, rank: usize) -> Tensor<'g> {
    let count = x.ty().map_or(Dim::from(1), |ty| ty.shape.elements());
    let mut shape = vec![Dim::from(1); rank];
    if let Some(features) = shape.get_mut(1) {
        *features = count;
    }
    x.reshape(shape)
}

fn batch<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, rank) = (c.tensor(0)?, c.ty(0)?.rank());
    let dtype = c.ty(0)?.dtype;
    let epsilon = c.float_or("epsilon", 1e-5)?;
    let momentum = c.float_or("momentum", 0.9)?;
    if c.version < 9 && c.int_or("spatial", 1)? != 1 {
        return Err(Reason::new("spatial = 0"));
    }
    if rank < 2 {
        return Err(Reason::new(format!("of {}", c.ty(0)?)));
    }
    let feature = |i: usize| Ok::<_, Reason>(along_features(c.tensor(i)?, rank));
    let (scale, bias) = (feature(1)?, feature(2)?);
    let normalised = |average: Tensor<'g>, variance: Tensor<'g>| {
        let deviation = variance.plus(epsilon).sqrt();
        // One division a feature, not one an element.
        let wide = average.ty().map_or(dtype, |t| t.dtype);
        let centred = x.convert(wide).minus(average);
        let scaled = centred.times(scale.convert(wide).over(deviation));
        scaled.convert(dtype).plus(bias.convert(dtype))
    };
    if !c.flag("training_mode")? {
        return one(normalised(feature(3)?, feature(4)?));
    }
    let over: Vec<usize> = (0..rank).filter(|a| *a != 1).collect();
    let (average, variance) = moments(x, &over);
    let running = |old: usize, new: Tensor<'g>| {
        let old = c.tensor(old)?;
        let shape = old.ty().map(|ty| ty.shape).unwrap_or_default();
        let new = new.reshape(shape).times(1.0 - momentum);
        Ok::<_, Reason>(old.times(momentum).plus(new))
    };
    let (running_mean, running_var) = (running(3, average)?, running(4, variance)?);
    Ok(vec![
        normalised(average, variance).into(),
        running_mean.into(),
        running_var.into(),
    ])
}

fn instance<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, rank) = (c.tensor(0)?, c.ty(0)?.rank());
    let over: Vec<usize> = (2..rank).collect();
    let (average, variance) = moments(x, &over);
    let unit = x
        .minus(average)
        .over(variance.plus(c.float_or("epsilon", 1e-5)?).sqrt());
    let scale = along_features(c.tensor(1)?, rank);
    one(unit.times(scale).plus(along_features(c.tensor(2)?, rank)))
}

/// Features in groups. Scale and bias are one a group up to version 20, and one a feature since.
fn group<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    let groups = c.int_or("num_groups", 0)?;
    if ty.rank() < 2 || groups < 1 {
        return Err(Reason::new(format!("{groups} groups of {ty}")));
    }
    c.attribute("stash_type");
    let features = ty.shape[1].clone();
    let each = features.floor_div(&Dim::from(groups));
    let mut shape = vec![ty.shape[0].clone(), Dim::from(groups), each.clone()];
    shape.extend_from_slice(&ty.shape[2..]);
    let rank = shape.len();
    let grouped = x.reshape(shape);
    let over: Vec<usize> = (2..rank).collect();
    let (average, variance) = moments(grouped, &over);
    let unit = grouped
        .minus(average)
        .over(variance.plus(c.float_or("epsilon", 1e-5)?).sqrt());
    if c.version < 21 {
        let scale = along_features(c.tensor(1)?, rank);
        let result = unit.times(scale).plus(along_features(c.tensor(2)?, rank));
        return one(result.reshape(ty.shape));
    }
    let unit = unit.reshape(&ty.shape);
    let scale = along_features(c.tensor(1)?, ty.rank());
    one(unit
        .times(scale)
        .plus(along_features(c.tensor(2)?, ty.rank())))
}

/// In f32 at least, as `stash_type` says.
fn layer<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let first = axis(c.int_or("axis", -1)?, ty.rank())?;
    let x = stashed(c)?;
    let over: Vec<usize> = (first..ty.rank()).collect();
    let (average, variance) = moments(x, &over);
    let inverse = variance.plus(c.float_or("epsilon", 1e-5)?).sqrt().recip();
    let unit = x.minus(average).times(inverse).convert(ty.dtype);
    let mut result = unit.times(c.tensor(1)?);
    if let Some(bias) = c.optional(2)? {
        result = result.plus(bias);
    }
    Ok(vec![result.into(), average.into(), inverse.into()])
}

fn root_mean_square<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let first = axis(c.int_or("axis", -1)?, ty.rank())?;
    let x = stashed(c)?;
    let over: Vec<usize> = (first..ty.rank()).collect();
    let square = kept(x, mean(x.square(), &over), &over);
    let unit = x.over(square.plus(c.float_or("epsilon", 1e-5)?).sqrt());
    one(unit.convert(ty.dtype).times(c.tensor(1)?))
}

/// Input 0 in the type in which its moments are computed.
fn stashed<'g>(c: &Call<'_, 'g>) -> Result<Tensor<'g>, Reason> {
    let dtype = c.dtype("stash_type")?.unwrap_or(DType::F32);
    let own = c.ty(0)?.dtype;
    let wider = if own.size() >= dtype.size() {
        own
    } else {
        dtype
    };
    Ok(c.tensor(0)?.convert(wider))
}

fn mean_variance<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, rank) = (c.tensor(0)?, c.ty(0)?.rank());
    let given = c.int_list("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let over = axes(&given, rank)?;
    let (average, variance) = moments(x, &over);
    one(x.minus(average).over(variance.sqrt().plus(1e-9)))
}

fn lp<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, rank) = (c.tensor(0)?, c.ty(0)?.rank());
    let along = axis(c.int_or("axis", -1)?, rank)?;
    let norm = match c.int_or("p", 2)? {
        1 => kept(x, sum(x.abs(), &[along]), &[along]),
        2 => kept(x, x.square().reduce(ReduceKind::Sum, &[along]), &[along]).sqrt(),
        p => return Err(Reason::new(format!("p = {p}"))),
    };
    one(x.over(norm).where_(norm.ne(0.0), 0.0))
}

/// `x / (bias + alpha / size * sum of squares of the neighbouring features)^beta`, Krizhevsky et al. 2012.
fn local_response<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    let size = c.int_or("size", 0)?;
    if size < 1 || ty.rank() < 2 {
        return Err(Reason::new(format!("{size} features of {ty}")));
    }
    let mut windows = Windows::of(&vec![1; ty.rank()]);
    windows.sizes[1] = size;
    windows.axes[1].low = Dim::from((size - 1) / 2);
    windows.axes[1].high = Dim::from(size - 1 - (size - 1) / 2);
    let near = x.square().reduce_window(WindowKind::Sum, windows);
    let scale = c.float_or("alpha", 1e-4)? / size as f64;
    let base = near.times(scale).plus(c.float_or("bias", 1.0)?);
    one(x.over(base.pow(c.float_or("beta", 0.75)?)))
}
