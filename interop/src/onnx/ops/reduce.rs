//! Reductions, running sums, and the softmax family.

use super::super::call::{Call, Results, axes, axis, one};
use super::super::error::Reason;
use super::super::value::iota;
use super::{Operator, op};
use kiln_ir::ops::DimSize;
use kiln_ir::{Class, CumulativeKind, DType, Dim, ReduceKind, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("ArgMax", 7, |c| arg(c, true)),
    op("ArgMin", 7, |c| arg(c, false)),
    op("CumSum", 11, cumulative_sum),
    op("Hardmax", 7, hardmax),
    op("LogSoftmax", 7, |c| softmax(c, true)),
    op("ReduceL1", 7, |c| reduce(c, 18, |x, a| sum(x.abs(), a))),
    op("ReduceL2", 7, |c| {
        reduce(c, 18, |x, a| sum(x.square(), a).sqrt())
    }),
    op("ReduceLogSum", 7, |c| reduce(c, 18, |x, a| sum(x, a).log())),
    op("ReduceLogSumExp", 7, |c| reduce(c, 18, log_sum_exp)),
    op("ReduceMax", 7, |c| {
        extreme(c, ReduceKind::Max, ReduceKind::Any)
    }),
    op("ReduceMean", 7, |c| reduce(c, 18, mean)),
    op("ReduceMin", 7, |c| {
        extreme(c, ReduceKind::Min, ReduceKind::All)
    }),
    op("ReduceProd", 7, |c| {
        reduce(c, 18, |x, a| x.reduce(ReduceKind::Prod, a))
    }),
    op("ReduceSum", 7, |c| reduce(c, 13, sum)),
    op("ReduceSumSquare", 7, |c| {
        reduce(c, 18, |x, a| sum(x.square(), a))
    }),
    op("Softmax", 7, |c| softmax(c, false)),
];

pub(super) fn sum<'g>(x: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    x.reduce(ReduceKind::Sum, axes)
}

/// The mean over axes, which disappear. Integers are summed and divided in f64, and truncated.
pub(super) fn mean<'g>(x: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    let Some(ty) = x.ty() else { return x };
    let within = if ty.dtype.is_float() {
        ty.dtype
    } else {
        DType::F64
    };
    let count: Dim = axes.iter().fold(Dim::from(1), |n, a| &n * &ty.shape[*a]);
    let count = x.builder().push(DimSize { dim: count }, &[]);
    sum(x.convert(within), axes)
        .over(count.convert(within))
        .convert(ty.dtype)
}

/// `m + ln(sum of e^(x - m))`; `m`, the maximum, is 0 where it is infinite, so that nothing becomes NaN. The result has axes of size 1.
fn log_sum_exp_kept<'g>(x: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    let most = kept(x, x.reduce(ReduceKind::Max, axes), axes);
    let finite = most.where_(most.is_finite(), 0.0).stop_gradient();
    let sums = kept(x, sum(x.minus(finite).exp(), axes), axes);
    sums.log().plus(finite)
}

fn log_sum_exp<'g>(x: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    let all = log_sum_exp_kept(x, axes);
    sum(all, axes)
}

/// `reduced` with axes of size 1 where `x` was reduced.
pub(super) fn kept<'g>(x: Tensor<'g>, reduced: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    let Some(ty) = x.ty() else { return x };
    let extents = ty.shape.iter().enumerate();
    let shape: Shape = extents
        .map(|(i, d)| {
            if axes.contains(&i) {
                Dim::from(1)
            } else {
                d.clone()
            }
        })
        .collect();
    reduced.reshape(shape)
}

/// A reduction whose axes became an input in a version; none means all, unless `noop_with_empty_axes`.
fn reduce<'g>(
    c: &Call<'_, 'g>,
    input_since: i64,
    f: impl Fn(Tensor<'g>, &[usize]) -> Tensor<'g>,
) -> Results<'g> {
    let keep = c.int_or("keepdims", 1)? != 0;
    let noop = c.flag("noop_with_empty_axes")?;
    let given = c.axes(1, input_since)?.unwrap_or_default();
    let x = c.tensor(0)?;
    let rank = c.ty(0)?.rank();
    let over = match given.as_slice() {
        [] if noop => return one(x),
        [] => (0..rank).collect(),
        given => axes(given, rank)?,
    };
    let reduced = f(x, &over);
    one(if keep {
        kept(x, reduced, &over)
    } else {
        reduced
    })
}

fn extreme<'g>(c: &Call<'_, 'g>, kind: ReduceKind, of_bools: ReduceKind) -> Results<'g> {
    let bools = c.ty(0)?.dtype.class() == Class::Bool;
    let kind = if bools { of_bools } else { kind };
    reduce(c, 18, |x, a| x.reduce(kind, a))
}

fn arg<'g>(c: &Call<'_, 'g>, largest: bool) -> Results<'g> {
    let ty = c.ty(0)?;
    let along = axis(c.int_or("axis", 0)?, ty.rank())?;
    let keep = c.int_or("keepdims", 1)? != 0;
    let last = c.flag("select_last_index")?;
    let x = c.tensor(0)?;
    let seen = if last { x.reverse(&[along]) } else { x };
    let found = if largest {
        seen.argmax(along)
    } else {
        seen.argmin(along)
    };
    let mut found = found.convert(DType::I64);
    if last {
        let size = c.builder.push(
            DimSize {
                dim: ty.shape[along].clone(),
            },
            &[],
        );
        found = size.convert(DType::I64).minus(1.0).minus(found);
    }
    one(if keep {
        kept(x, found, &[along])
    } else {
        found
    })
}

fn cumulative_sum<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let ty = c.ty(0)?;
    let (exclusive, reverse) = (c.flag("exclusive")?, c.flag("reverse")?);
    let given = c.ints(1, "axis")?.unwrap_or_default();
    let given = given.first().ok_or_else(|| Reason::new("it has no axis"))?;
    let along = axis(*given, ty.rank())?;
    let x = c.tensor(0)?;
    let sums = if reverse {
        x.cumulative_from_end(CumulativeKind::Sum, along)
    } else {
        x.cumulative(CumulativeKind::Sum, along)
    };
    if !exclusive {
        return one(sums);
    }
    // Moved by one along the axis: a zero comes in, the last sum falls out.
    let none = vec![Dim::from(0); ty.rank()];
    let mut by_one = none.clone();
    by_one[along] = Dim::from(1);
    let interior = vec![0; ty.rank()];
    let (low, high) = if reverse {
        (&none, &by_one)
    } else {
        (&by_one, &none)
    };
    let padded = sums.pad(0.0, low, high, &interior);
    let start = if reverse {
        by_one.clone()
    } else {
        none.clone()
    };
    let limit: Vec<Dim> = ty.shape.iter().zip(&start).map(|(d, s)| d + s).collect();
    one(padded.slice(&start, &limit, &vec![1; ty.rank()]))
}

/// The axes that a softmax runs over: one since version 13, all from one on before.
fn softmax_axes(c: &Call<'_, '_>) -> Result<Vec<usize>, Reason> {
    let rank = c.ty(0)?.rank();
    if c.version >= 13 {
        return Ok(vec![axis(c.int_or("axis", -1)?, rank)?]);
    }
    let first = axis(c.int_or("axis", 1)?, rank.max(1))?;
    Ok((first..rank).collect())
}

fn softmax<'g>(c: &Call<'_, 'g>, log: bool) -> Results<'g> {
    let over = softmax_axes(c)?;
    let x = c.tensor(0)?;
    one(if log {
        log_softmax(x, &over)
    } else {
        softmax_of(x, &over)
    })
}

pub(super) fn log_softmax<'g>(x: Tensor<'g>, over: &[usize]) -> Tensor<'g> {
    x.minus(log_sum_exp_kept(x, over))
}

pub(super) fn softmax_of<'g>(x: Tensor<'g>, over: &[usize]) -> Tensor<'g> {
    let most = kept(x, x.reduce(ReduceKind::Max, over), over).stop_gradient();
    let e = x.minus(most).exp();
    e.over(kept(x, sum(e, over), over))
}

/// 1 at the first of the largest elements, else 0.
fn hardmax<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let over = softmax_axes(c)?;
    let (x, ty) = (c.tensor(0)?, c.ty(0)?);
    // Before version 13 the axes count as one.
    let flat: Shape = match over.as_slice() {
        [_] => ty.shape.clone(),
        [first, ..] => {
            let mut dims = ty.shape[..*first].to_vec();
            dims.push(over.iter().fold(Dim::from(1), |n, a| &n * &ty.shape[*a]));
            dims.into()
        }
        [] => return Err(Reason::new("it runs over no axis")),
    };
    let along = over[0];
    let flat_x = x.reshape(flat.clone());
    let found = kept(flat_x, flat_x.argmax(along).convert(DType::I64), &[along]);
    let hit = iota(c.builder, flat, along).eq(found);
    one(hit.convert(ty.dtype).reshape(ty.shape))
}
