//! Padding, by a number or by a tensor's own elements.

use super::super::call::{Call, Results, axes, one};
use super::super::error::Reason;
use super::super::value::constant;
use super::movement::{pick, target};
use super::{Operator, op};
use kiln_ir::{Dim, Tensor};

pub(super) const OPERATORS: &[Operator] = &[op("CenterCropPad", 18, center), op("Pad", 7, pad)];

fn pad<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let as_input = c.version >= 11;
    let pads = if as_input {
        c.dims(1, "pads")?
    } else {
        c.int_list("pads")?
            .map(|p| p.into_iter().map(Dim::from).collect())
    };
    let pads = pads.ok_or_else(|| Reason::new("it has no pads"))?;
    let along = match if as_input { c.ints(3, "axes")? } else { None } {
        Some(given) => axes(&given, own.len())?,
        None => (0..own.len()).collect(),
    };
    if pads.len() != 2 * along.len() {
        return Err(Reason::new(format!(
            "{} pads for {} axes",
            pads.len(),
            along.len()
        )));
    }
    let mut x = c.tensor(0)?;
    let mode = c.text("mode", "constant")?;
    let value = if !as_input {
        c.builder
            .splat(c.ty(0)?.dtype, (), c.float_or("value", 0.0)?)
    } else if let Some(data) = c.input(2).data() {
        constant(c.builder, data).reshape(())
    } else {
        match c.optional(2)? {
            Some(value) => value.reshape(()),
            None => c.builder.splat(c.ty(0)?.dtype, (), 0.0),
        }
    };
    for (i, axis) in along.iter().copied().enumerate() {
        let (low, high) = (&pads[i], &pads[i + along.len()]);
        x = pad_axis(x, axis, low, high, &mode, value)?;
    }
    one(x)
}

/// No axis is longer or becomes longer by its own elements, whose places are listed.
const MOST: i64 = 1 << 20;

/// The middle of each axis, or the axis in the middle of zeros: an odd element more is cut or padded behind.
fn center<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let wanted = target(c, 1)?;
    let along = match c.int_list("axes")? {
        Some(given) => axes(&given, own.len())?,
        None => (0..own.len()).collect(),
    };
    if wanted.len() != along.len() {
        return Err(Reason::new(format!(
            "a target {wanted} for {} axes",
            along.len()
        )));
    }
    let (zero, two) = (Dim::from(0), Dim::from(2));
    let mut x = c.tensor(0)?;
    let fill = c.builder.splat(c.ty(0)?.dtype, (), 0.0);
    for (axis, wanted) in along.into_iter().zip(wanted.iter()) {
        let have = &own[axis];
        let kept = have.minimum(wanted);
        let from = (have - &kept).floor_div(&two);
        x = x.slice_axis(axis, &from, &from + &kept);
        let missing = wanted - &kept;
        let low = missing.floor_div(&two);
        let (mut lows, mut highs) = (vec![zero.clone(); own.len()], vec![zero.clone(); own.len()]);
        (lows[axis], highs[axis]) = (low.clone(), &missing - &low);
        x = x.pad(fill, &lows, &highs, &vec![0; own.len()]);
    }
    one(x)
}

/// One axis padded; negative padding takes elements away.
fn pad_axis<'g>(
    x: Tensor<'g>,
    axis: usize,
    low: &Dim,
    high: &Dim,
    mode: &str,
    value: Tensor<'g>,
) -> Result<Tensor<'g>, Reason> {
    let Some(ty) = x.ty() else { return Ok(x) };
    let zero = Dim::from(0);
    let cut = |d: &Dim| {
        if d.constant().is_some_and(|n| n < 0) {
            -d
        } else {
            zero.clone()
        }
    };
    let (cut_low, cut_high) = (cut(low), cut(high));
    let x = if cut_low == zero && cut_high == zero {
        x
    } else {
        x.slice_axis(axis, &cut_low, &ty.shape[axis] - &cut_high)
    };
    let (low, high) = (low + &cut_low, high + &cut_high);
    if low == zero && high == zero {
        return Ok(x);
    }
    if mode == "constant" {
        let (mut lows, mut highs) = (vec![zero.clone(); ty.rank()], vec![zero; ty.rank()]);
        (lows[axis], highs[axis]) = (low, high);
        return Ok(x.pad(value, &lows, &highs, &vec![0; ty.rank()]));
    }
    let own = x.ty().map_or(Dim::from(1), |t| t.shape[axis].clone());
    let Some(size) = own.constant() else {
        return pad_symbolic(x, axis, &own, (&low, &high), mode);
    };
    let (Some(low), Some(high)) = (low.constant(), high.constant()) else {
        return Err(Reason::new(format!("mode `{mode}` by a symbolic number")));
    };
    if size < 1 || [size, low, high].iter().any(|n| *n > MOST) {
        return Err(Reason::new(format!(
            "mode `{mode}` of {size} elements by {low} and {high}"
        )));
    }
    let source = |i: i64| match mode {
        "edge" => Ok(i.clamp(0, size - 1)),
        "wrap" => Ok(i.rem_euclid(size)),
        "reflect" if size == 1 => Ok(0),
        "reflect" => {
            let at = i.rem_euclid(2 * (size - 1));
            Ok(if at < size { at } else { 2 * (size - 1) - at })
        }
        other => Err(Reason::new(format!("mode = `{other}`"))),
    };
    let places: Vec<i64> = (-low..size + high).map(source).collect::<Result<_, _>>()?;
    Ok(pick(x, axis, &places))
}

/// An axis of symbolic size `n` padded with its own elements, of which there must be enough.
fn pad_symbolic<'g>(
    x: Tensor<'g>,
    axis: usize,
    n: &Dim,
    (low, high): (&Dim, &Dim),
    mode: &str,
) -> Result<Tensor<'g>, Reason> {
    let one = Dim::from(1);
    let cut = |from: &Dim, to: &Dim| x.slice_axis(axis, from, to);
    let (before, behind) = match mode {
        "reflect" => {
            let last = n - &one;
            let before = cut(&one, &(low + &one)).reverse(&[axis]);
            (before, cut(&(&last - high), &last).reverse(&[axis]))
        }
        "wrap" => (cut(&(n - low), n), cut(&Dim::from(0), high)),
        "edge" => {
            let wide = |edge: Tensor<'g>, count: &Dim| {
                let mut shape = edge.ty().map(|ty| ty.shape.to_vec()).unwrap_or_default();
                if let Some(extent) = shape.get_mut(axis) {
                    *extent = count.clone();
                }
                edge.broadcast_to(shape)
            };
            let last = n - &one;
            (
                wide(cut(&Dim::from(0), &one), low),
                wide(cut(&last, n), high),
            )
        }
        other => return Err(Reason::new(format!("mode = `{other}`"))),
    };
    Ok(x.builder().concat(&[before, x, behind], axis))
}
