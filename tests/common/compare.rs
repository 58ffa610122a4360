//! When a result of machine code is right: bit for bit what other code for the same graph gives, and for each op what the interpreter
//! gives on the same operands, within the bounds of the design.

use kiln_ir::ops::{Binary, CumulativeKind, Op, ReduceKind, ScatterKind, Unary, WindowKind};
use kiln_ir::{Array, Bindings, DType, TensorType, Values};

/// The first place where two arrays differ, a NaN being a NaN.
pub fn bits_differ(a: &Array, b: &Array) -> Option<String> {
    if (a.dtype(), a.shape()) != (b.dtype(), b.shape()) {
        return Some(format!(
            "{}{:?} against {}{:?}",
            a.dtype(),
            a.shape(),
            b.dtype(),
            b.shape()
        ));
    }
    match (a.values(), b.values()) {
        (Values::Float(x), Values::Float(y)) => {
            let same = |x: &f64, y: &f64| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
            first(x, y, |x, y, _| same(x, y))
        }
        (Values::Int(x), Values::Int(y)) => first(x, y, |x, y, _| x == y),
        (Values::Float(_) | Values::Int(_), _) => Some("two families".into()),
    }
}

fn first<T: std::fmt::Debug>(
    x: &[T],
    y: &[T],
    same: impl Fn(&T, &T, usize) -> bool,
) -> Option<String> {
    let at = (0..x.len()).find(|i| !same(&x[*i], &y[*i], *i))?;
    let more = (0..x.len()).filter(|i| !same(&x[*i], &y[*i], *i)).count();
    Some(format!(
        "element {at}: {:?} against {:?} ({more} of {} differ)",
        x[at],
        y[at],
        x.len()
    ))
}

/// How far machine code may be from the interpreter.
enum Bound {
    /// Not at all.
    Exact,
    /// So many units in the last place.
    Ulps(u64),
    /// `count * epsilon` of a magnitude for each element.
    Sum { magnitude: Array, epsilon: f64 },
    /// A product of `count` elements, relative to itself, where no partial product leaves the type.
    Product { magnitude: Array, epsilon: f64 },
}

fn bound(
    op: &Op,
    operands: &[(&TensorType, &Array)],
    ty: &TensorType,
    bindings: &Bindings,
) -> Bound {
    let float = ty.dtype.is_float();
    // The interpreter's own f64 functions are not correctly rounded.
    let ulps = |f32_bound| {
        Bound::Ulps(match ty.dtype {
            DType::F64 => 4,
            _ => f32_bound,
        })
    };
    let epsilon = |accumulate: DType| match accumulate {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    let absolute = |count: usize, op: &Op, accumulate: DType| {
        let arrays: Vec<Array> = operands.iter().map(|(_, a)| magnitude(a)).collect();
        let pairs: Vec<(&TensorType, &Array)> =
            operands.iter().map(|(t, _)| *t).zip(&arrays).collect();
        let magnitude = op.eval(&pairs, ty, bindings).expect("magnitudes");
        (magnitude, (count as f64 + 1.0) * epsilon(accumulate))
    };
    match op {
        Op::Unary(unary) if float => match unary {
            Unary::Neg
            | Unary::Abs
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Sqrt
            | Unary::Not
            | Unary::IsFinite => Bound::Exact,
            Unary::Logistic | Unary::Tan => ulps(2),
            Unary::Recip
            | Unary::Exp
            | Unary::Expm1
            | Unary::Log
            | Unary::Log1p
            | Unary::Rsqrt
            | Unary::Sin
            | Unary::Cos
            | Unary::Tanh
            | Unary::Erf
            | Unary::Erfc => ulps(1),
        },
        Op::Binary(Binary::Pow | Binary::Atan2) => ulps(2),
        Op::Reduce(reduce) if float => {
            let accumulate = reduce.accumulator(ty.dtype);
            let from = operands[0].1.shape();
            let count: usize = reduce.axes.iter().map(|a| from[*a]).product();
            match reduce.kind {
                ReduceKind::Sum => {
                    let (magnitude, epsilon) = absolute(count, op, accumulate);
                    Bound::Sum { magnitude, epsilon }
                }
                ReduceKind::Prod => {
                    let (magnitude, epsilon) = absolute(count, op, accumulate);
                    Bound::Product { magnitude, epsilon }
                }
                ReduceKind::Max | ReduceKind::Min | ReduceKind::Any | ReduceKind::All => {
                    Bound::Exact
                }
            }
        }
        Op::Dot(dot) if float => {
            let from = operands[0].1.shape();
            let count: usize = dot.contract.0.iter().map(|a| from[*a]).product();
            let (magnitude, epsilon) = absolute(count, op, dot.accumulator(ty.dtype));
            Bound::Sum { magnitude, epsilon }
        }
        Op::Cumulative(cumulative) if float => {
            let count = operands[0].1.shape()[cumulative.axis];
            let accumulate = cumulative.accumulator(ty.dtype);
            let (magnitude, epsilon) = absolute(count, op, accumulate);
            match cumulative.kind {
                CumulativeKind::Sum => Bound::Sum { magnitude, epsilon },
                CumulativeKind::Prod => Bound::Product { magnitude, epsilon },
                CumulativeKind::Max => Bound::Exact,
            }
        }
        Op::Conv(conv) if float => {
            let from = operands[1].1.shape();
            let count = conv
                .axes
                .rhs
                .spatial
                .iter()
                .map(|a| from[*a])
                .product::<usize>()
                * from[conv.axes.rhs.input];
            let (magnitude, epsilon) = absolute(count, op, conv.accumulator(ty.dtype));
            Bound::Sum { magnitude, epsilon }
        }
        Op::ReduceWindow(reduce) if float && reduce.kind == WindowKind::Sum => {
            let count = reduce.windows.elements().expect("a window") as usize;
            let (magnitude, epsilon) = absolute(count, op, reduce.accumulator(ty.dtype));
            Bound::Sum { magnitude, epsilon }
        }
        Op::ScatterWindow(scatter) if float => {
            let count = scatter.windows.elements().expect("a window") as usize;
            let (magnitude, epsilon) = absolute(count, op, ty.dtype);
            Bound::Sum { magnitude, epsilon }
        }
        Op::Scatter(scatter) if float && scatter.kind == ScatterKind::Add => {
            let count = operands[1].1.shape().iter().product();
            let (magnitude, epsilon) = absolute(count, op, ty.dtype);
            Bound::Sum { magnitude, epsilon }
        }
        _ => Bound::Exact,
    }
}

fn magnitude(array: &Array) -> Array {
    let values = match array.values() {
        Values::Float(v) => Values::Float(v.iter().map(|x| x.abs()).collect()),
        Values::Int(v) => Values::Int(v.clone()),
    };
    Array::new(array.dtype(), array.shape().to_vec(), values).expect("an array")
}

/// What is wrong with `computed` as the result of an op on these operands, if anything.
pub fn op_differs(
    op: &Op,
    operands: &[(&TensorType, &Array)],
    ty: &TensorType,
    bindings: &Bindings,
    computed: &Array,
) -> Option<String> {
    let wanted = match op.eval(operands, ty, bindings) {
        Ok(wanted) => wanted,
        Err(error) => return Some(format!("the interpreter refuses: {error}")),
    };
    let (Values::Float(x), Values::Float(y)) = (computed.values(), wanted.values()) else {
        return bits_differ(computed, &wanted);
    };
    if (computed.dtype(), computed.shape()) != (wanted.dtype(), wanted.shape()) {
        return bits_differ(computed, &wanted);
    }
    let dtype = ty.dtype;
    match bound(op, operands, ty, bindings) {
        Bound::Exact => bits_differ(computed, &wanted),
        Bound::Ulps(most) => first(x, y, |x, y, _| distance(dtype, *x, *y) <= most),
        Bound::Sum { magnitude, epsilon } => {
            let m = magnitude.floats().expect("floats");
            // Each rounding may also lose half of the smallest number there is.
            let least = epsilon
                * if dtype == DType::F64 {
                    f64::MIN_POSITIVE
                } else {
                    f64::from(f32::MIN_POSITIVE)
                };
            first(x, y, |x, y, i| {
                near(dtype, *x, *y, m[i], (epsilon * m[i]).max(least))
            })
        }
        Bound::Product { magnitude, epsilon } => {
            let m = magnitude.floats().expect("floats");
            let (largest, least) = extremes(operands[0].1, dtype);
            let safe = largest && least;
            first(x, y, |x, y, i| {
                !safe || near(dtype, *x, *y, m[i], epsilon * m[i])
            })
        }
    }
}

/// Whether no partial product overflows, and whether none underflows.
fn extremes(array: &Array, dtype: DType) -> (bool, bool) {
    let v = array.floats().expect("floats");
    let large: f64 = v.iter().map(|x| x.abs().max(1.0).log2()).sum();
    let small: f64 = v
        .iter()
        .filter(|x| **x != 0.0)
        .map(|x| x.abs().min(1.0).log2())
        .sum();
    let (most, least) = if dtype == DType::F64 {
        (1000.0, -1000.0)
    } else {
        (120.0, -120.0)
    };
    (large < most, small > least)
}

fn near(dtype: DType, x: f64, y: f64, magnitude: f64, tolerance: f64) -> bool {
    let largest = if dtype == DType::F64 {
        f64::MAX
    } else {
        f64::from(f32::MAX)
    };
    if x.is_nan() && y.is_nan() || x == y {
        return true;
    }
    // Finite elements whose sum may leave the type on the way: the order decides.
    let finite = magnitude.is_finite();
    if finite && magnitude > largest / 4.0 || magnitude == f64::INFINITY && overflowed(y) {
        return true;
    }
    (x - y).abs() <= tolerance || distance(dtype, x, y) <= 1
}

/// Whether a reference that is no finite number may come from finite elements; then nothing is known of the other order.
fn overflowed(reference: f64) -> bool {
    !reference.is_nan()
}

/// The distance in units in the last place; 0 for two NaN and for zeros of any sign.
pub fn distance(dtype: DType, x: f64, y: f64) -> u64 {
    if x.is_nan() || y.is_nan() {
        return if x.is_nan() && y.is_nan() {
            0
        } else {
            u64::MAX
        };
    }
    let order = |x: f64| -> i128 {
        let (magnitude, negative) = if dtype == DType::F64 {
            (x.abs().to_bits(), x.is_sign_negative())
        } else {
            let x = x as f32;
            (u64::from(x.abs().to_bits()), x.is_sign_negative())
        };
        let magnitude = i128::from(magnitude);
        if negative { -magnitude } else { magnitude }
    };
    u64::try_from((order(x) - order(y)).abs()).unwrap_or(u64::MAX)
}
