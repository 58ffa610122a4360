//! Rotary positions.

use kiln_ir::ops::{Broadcast, Iota};
use kiln_ir::{DType, Kind, Refusal, Tensor, TensorType};

/// `x: [b, t, heads, width]` turned by its positions: Su, Lu, Pan, Murtadha, Wen and Liu, "RoFormer: enhanced transformer with rotary
/// position embedding" (2021), equation 34. The product of a turned query and a turned key depends on the distance of their positions alone.
///
/// ```text
/// angle_i = position * base^(-2 i / width)                        for i from 0 to width / 2 - 1
/// y_i     = x_i cos(angle_i) - x_j sin(angle_i)
/// y_j     = x_j cos(angle_i) + x_i sin(angle_i)                   with j = i + width / 2
/// ```
///
/// Pairs are a half apart, as in GPT-NeoX and Llama (the paper pairs neighbours; the two differ by an order of the features, which weights
/// trained for one need brought into the other). The base of the paper is 10,000.
///
/// `positions` are integers, `[t]` for all examples or `[b, t]`. Angles are computed in f64, so positions far out lose no digits.
///
/// Refused: an `x` that is not floating or has another rank, a width that is symbolic or odd, positions of another shape, and a base that
/// is not above 0.
///
/// ```
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("rotary");
/// let q = g.input("q", DType::F32, (g.dim("b"), g.dim("t"), 4, 32));
/// let positions = g.input("positions", DType::I32, (g.dim("t"),));
/// let y = kiln_nn::rotary(q, positions, 10_000.0);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 4, 32]");
/// ```
#[track_caller]
pub fn rotary<'g>(x: Tensor<'g>, positions: Tensor<'g>, base: f64) -> Tensor<'g> {
    let builder = x.builder();
    let (Some(ty), Some(at)) = (x.ty(), positions.ty()) else {
        return builder.poison();
    };
    let width = match check(&ty, &at, base) {
        Ok(width) => width,
        Err(refusal) => return builder.refuse(refusal, &[x, positions]),
    };
    let along = axes_of(&at);
    let half = width / 2;
    let table = at.shape.iter().cloned().chain([half.into()]);
    let table = TensorType::new(DType::F64, table.collect::<kiln_ir::Shape>());
    let axis = table.rank() - 1;
    let spread = |x: Tensor<'g>, shape, axes| builder.push(Broadcast { shape, axes }, &[x]);
    let index = builder.push(
        Iota {
            ty: TensorType::new(DType::I32, [half]),
            axis: 0,
        },
        &[],
    );
    let frequency = (index.convert(DType::F64) * (-2.0 / width as f64 * base.ln())).exp();
    let position = positions.convert(DType::F64);
    let angle = spread(position, table.shape.clone(), (0..axis).collect())
        * spread(frequency, table.shape.clone(), vec![axis]);
    let mut halves = ty.shape.to_vec();
    halves[3] = half.into();
    let mut axes = along.to_vec();
    axes.push(3);
    let over = |t: Tensor<'g>| spread(t.convert(ty.dtype), halves.clone().into(), axes.clone());
    let (cos, sin) = (over(angle.cos()), over(angle.sin()));
    let part = |from: i64| x.slice_axis(3, from, from + half);
    let (first, second) = (part(0), part(half));
    (first * cos - second * sin).concat(second * cos + first * sin, 3)
}

/// The axes of `x` that the positions lie along.
fn axes_of(positions: &TensorType) -> &'static [usize] {
    match positions.rank() {
        1 => &[1],
        _ => &[0, 1],
    }
}

/// The width of a head, or what does not fit.
fn check(x: &TensorType, positions: &TensorType, base: f64) -> Result<i64, Refusal> {
    let width = match &*x.shape {
        [_, _, _, width] if x.dtype.is_float() => width.constant(),
        _ => None,
    };
    let Some(width) = width.filter(|width| width % 2 == 0) else {
        return Err(Refusal::new(Kind::Shape, format!("`rotary` of {x}"))
            .help("it takes floating tensors [b, t, heads, width] of a fixed, even width"));
    };
    if !(base > 0.0 && base.is_finite()) {
        let message = format!("`rotary` with a base of {base}");
        return Err(Refusal::new(Kind::Attribute, message).help("the base is a number above 0"));
    }
    let along = axes_of(positions).iter().map(|axis| &x.shape[*axis]);
    if !positions.dtype.is_integer() || !positions.shape.iter().eq(along) {
        let message = format!("`rotary` of {x} at positions {positions}");
        let (b, t) = (&x.shape[0], &x.shape[1]);
        let help = format!("integers of shape [{t}] fit, or [{b}, {t}]");
        return Err(Refusal::new(Kind::Shape, message).help(help));
    }
    Ok(width)
}

/// The positions `0, 1, ..` of the axis of time of `x: [b, t, ..]`.
#[track_caller]
pub(super) fn from_zero(x: Tensor<'_>) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    let ty = TensorType::new(DType::I32, &ty.shape[1..2]);
    x.builder().push(Iota { ty, axis: 0 }, &[])
}
