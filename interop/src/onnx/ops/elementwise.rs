//! Operators on single elements, with ONNX's broadcasting, which is NumPy's.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::Value;
use super::{Operator, op};
use kiln_ir::{Class, DType, Dim, Shape, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("Abs", 7, |c| unary(c, Tensor::abs)),
    op("Acos", 7, |c| unary(c, acos)),
    op("Acosh", 9, |c| unary(c, acosh)),
    op("Add", 7, |c| binary(c, Tensor::plus)),
    op("And", 7, |c| binary(c, Tensor::and)),
    op("Asin", 7, |c| unary(c, asin)),
    op("Asinh", 9, |c| unary(c, asinh)),
    op("Atan", 7, |c| unary(c, |x| x.atan2(1.0))),
    op("Atanh", 9, |c| unary(c, atanh)),
    op("BitShift", 11, bit_shift),
    op("BitwiseAnd", 18, |c| binary(c, Tensor::and)),
    op("BitwiseNot", 18, |c| unary(c, Tensor::not)),
    op("BitwiseOr", 18, |c| binary(c, Tensor::or)),
    op("BitwiseXor", 18, |c| binary(c, Tensor::xor)),
    op("Cast", 7, cast),
    op("CastLike", 15, cast_like),
    op("Ceil", 7, |c| unary(c, Tensor::ceil)),
    op("Celu", 12, celu),
    op("Clip", 7, clip),
    op("Cos", 7, |c| unary(c, Tensor::cos)),
    op("Cosh", 9, |c| unary(c, cosh)),
    op("Div", 7, divide),
    op("Dropout", 7, dropout),
    op("Elu", 7, elu),
    op("Equal", 7, |c| binary(c, Tensor::eq)),
    op("Erf", 9, |c| unary(c, Tensor::erf)),
    op("Exp", 7, |c| unary(c, Tensor::exp)),
    op("Floor", 7, |c| unary(c, Tensor::floor)),
    op("Gelu", 20, gelu),
    op("Greater", 7, |c| binary(c, Tensor::gt)),
    op("GreaterOrEqual", 12, |c| binary(c, Tensor::ge)),
    op("HardSigmoid", 7, hard_sigmoid),
    op("HardSwish", 14, |c| {
        unary(c, |x| x.times(hard(x, 1.0 / 6.0, 0.5)))
    }),
    op("Identity", 1, |c| Ok(vec![c.input(0).clone()])),
    op("IsInf", 10, is_inf),
    op("IsNaN", 9, |c| unary(c, |x| x.ne(x))),
    op("LeakyRelu", 7, leaky_relu),
    op("Less", 7, |c| binary(c, Tensor::lt)),
    op("LessOrEqual", 12, |c| binary(c, Tensor::le)),
    op("Log", 7, |c| unary(c, Tensor::log)),
    op("Max", 7, |c| folded(c, Tensor::maximum)),
    op("Mean", 7, mean),
    op("Min", 7, |c| folded(c, Tensor::minimum)),
    op("Mish", 18, |c| unary(c, |x| x.times(softplus(x).tanh()))),
    op("Mod", 10, modulo),
    op("Mul", 7, |c| binary(c, Tensor::times)),
    op("Neg", 7, |c| unary(c, Tensor::neg)),
    op("Not", 1, |c| unary(c, Tensor::not)),
    op("Or", 7, |c| binary(c, Tensor::or)),
    op("PRelu", 7, |c| {
        binary(c, |x, slope| x.times(slope).where_(x.lt(0.0), x))
    }),
    op("Pow", 7, power),
    op("Reciprocal", 7, |c| unary(c, Tensor::recip)),
    op("Relu", 7, |c| unary(c, |x| x.maximum(0.0))),
    op("Round", 11, |c| unary(c, Tensor::round)),
    op("Selu", 7, selu),
    op("Shrink", 9, shrink),
    op("Sigmoid", 7, |c| unary(c, Tensor::logistic)),
    op("Sign", 9, |c| unary(c, Tensor::sign)),
    op("Sin", 7, |c| unary(c, Tensor::sin)),
    op("Sinh", 9, |c| unary(c, sinh)),
    op("Softplus", 7, |c| unary(c, softplus)),
    op("Softsign", 7, |c| unary(c, |x| x.over(x.abs().plus(1.0)))),
    op("Sqrt", 7, |c| unary(c, Tensor::sqrt)),
    op("Sub", 7, |c| binary(c, Tensor::minus)),
    op("Sum", 7, |c| folded(c, Tensor::plus)),
    op("Swish", 24, swish),
    op("Tan", 7, |c| unary(c, Tensor::tan)),
    op("Tanh", 7, |c| unary(c, Tensor::tanh)),
    op("ThresholdedRelu", 10, thresholded_relu),
    op("Where", 9, select),
    op("Xor", 7, |c| binary(c, Tensor::xor)),
];

fn unary<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>) -> Tensor<'g>) -> Results<'g> {
    one(f(c.tensor(0)?))
}

fn binary<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Results<'g> {
    one(f(c.tensor(0)?, c.tensor(1)?))
}

/// One or more tensors, joined from the left.
fn folded<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Results<'g> {
    let all = c.tensors()?;
    let joined = all.into_iter().reduce(f);
    one(joined.ok_or_else(|| Reason::new("it has no inputs"))?)
}

fn mean<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let all = c.tensors()?;
    let count = all.len() as f64;
    let sum = all.into_iter().reduce(Tensor::plus);
    one(sum
        .ok_or_else(|| Reason::new("it has no inputs"))?
        .over(count))
}

/// `atan2(x, sqrt((1 - x) (1 + x)))`, the angle whose sine is `x`.
fn asin(x: Tensor<'_>) -> Tensor<'_> {
    x.atan2(unit_leg(x))
}

fn acos(x: Tensor<'_>) -> Tensor<'_> {
    unit_leg(x).atan2(x)
}

fn unit_leg(x: Tensor<'_>) -> Tensor<'_> {
    (1.0 - x).times(x.plus(1.0)).sqrt()
}

/// `sign(x) ln(1 + |x| + x^2 / (1 + sqrt(1 + x^2)))`, exact near 0.
fn asinh(x: Tensor<'_>) -> Tensor<'_> {
    let (a, square) = (x.abs(), x.square());
    let root = square.plus(1.0).sqrt().plus(1.0);
    a.plus(square.over(root)).log1p().times(x.sign())
}

fn acosh(x: Tensor<'_>) -> Tensor<'_> {
    let below = x.minus(1.0);
    below.plus(below.times(x.plus(1.0)).sqrt()).log1p()
}

fn atanh(x: Tensor<'_>) -> Tensor<'_> {
    x.log1p().minus(x.neg().log1p()).times(0.5)
}

fn sinh(x: Tensor<'_>) -> Tensor<'_> {
    x.expm1().minus(x.neg().expm1()).times(0.5)
}

fn cosh(x: Tensor<'_>) -> Tensor<'_> {
    x.exp().plus(x.neg().exp()).times(0.5)
}

/// `max(x, 0) + ln(1 + e^-|x|)`, which does not overflow.
pub(super) fn softplus(x: Tensor<'_>) -> Tensor<'_> {
    x.maximum(0.0).plus(x.abs().neg().exp().log1p())
}

/// `alpha x + beta`, cut to 0 to 1.
pub(super) fn hard(x: Tensor<'_>, alpha: f64, beta: f64) -> Tensor<'_> {
    x.times(alpha).plus(beta).maximum(0.0).minimum(1.0)
}

fn hard_sigmoid<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (alpha, beta) = (c.float_or("alpha", 0.2)?, c.float_or("beta", 0.5)?);
    unary(c, |x| hard(x, alpha, beta))
}

fn leaky_relu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 0.01)?;
    unary(c, |x| x.times(alpha).where_(x.lt(0.0), x))
}

/// `x` where it is positive, else `below` of its negative part, which no large `x` makes overflow.
pub(super) fn below_zero<'g>(
    x: Tensor<'g>,
    below: impl Fn(Tensor<'g>) -> Tensor<'g>,
) -> Tensor<'g> {
    x.where_(x.gt(0.0), below(x.minimum(0.0)))
}

fn elu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 1.0)?;
    unary(c, |x| below_zero(x, |n| n.expm1().times(alpha)))
}

fn celu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 1.0)?;
    unary(c, |x| below_zero(x, |n| n.over(alpha).expm1().times(alpha)))
}

fn selu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 1.673_263_192_176_818_8)?;
    let gamma = c.float_or("gamma", 1.050_701_022_148_132_3)?;
    unary(c, |x| {
        below_zero(x, |n| n.expm1().times(alpha)).times(gamma)
    })
}

fn gelu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let x = c.tensor(0)?;
    match c.text("approximate", "none")?.as_str() {
        "none" => {
            let root = std::f64::consts::FRAC_1_SQRT_2;
            one(x.times(0.5).times(x.times(root).erf().plus(1.0)))
        }
        "tanh" => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let inner = x.plus(x.square().times(x).times(0.044_715)).times(scale);
            one(x.times(0.5).times(inner.tanh().plus(1.0)))
        }
        other => Err(Reason::new(format!("approximate = `{other}`"))),
    }
}

fn swish<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 1.0)?;
    unary(c, |x| x.times(x.times(alpha).logistic()))
}

fn thresholded_relu<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let alpha = c.float_or("alpha", 1.0)?;
    unary(c, |x| x.where_(x.gt(alpha), 0.0))
}

fn shrink<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (lambda, bias) = (c.float_or("lambd", 0.5)?, c.float_or("bias", 0.0)?);
    unary(c, |x| {
        let above = x.minus(bias).where_(x.gt(lambda), 0.0);
        x.plus(bias).where_(x.lt(-lambda), above)
    })
}

fn class(x: Tensor<'_>) -> Class {
    // A poisoned tensor is of no class; whatever is made of it is poisoned too.
    x.ty().map_or(Class::Float, |ty| ty.dtype.class())
}

/// The quotient; ONNX truncates integers towards 0, as Kiln does.
fn divide<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    binary(c, Tensor::over)
}

/// Integers take the sign of the divisor, as Python; `fmod` that of the dividend, as C.
fn modulo<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let like_c = c.flag("fmod")?;
    binary(c, |x, y| match class(x) {
        Class::Float => x.rem(y),
        Class::Signed if !like_c => {
            let rest = x.rem(y);
            let wrong = rest.ne(0.0).and(rest.lt(0.0).xor(y.lt(0.0)));
            rest.plus(y).where_(wrong, rest)
        }
        Class::Signed | Class::Unsigned | Class::Bool => x.rem(y),
    })
}

/// The result has the type of the base. Integers go through f64, as there is no integer power.
fn power<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (x, y) = (c.tensor(0)?, c.tensor(1)?);
    let dtype = c.ty(0)?.dtype;
    let within = match class(x) {
        Class::Float if class(y) == Class::Float && c.ty(1)?.dtype.size() > dtype.size() => {
            c.ty(1)?.dtype
        }
        Class::Float => dtype,
        Class::Signed | Class::Unsigned | Class::Bool => DType::F64,
    };
    one(x.convert(within).pow(y.convert(within)).convert(dtype))
}

fn bit_shift<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    match c.text("direction", "")?.as_str() {
        "LEFT" => binary(c, Tensor::shl),
        "RIGHT" => binary(c, Tensor::shr),
        other => Err(Reason::new(format!("direction = `{other}`"))),
    }
}

fn cast<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let to = c.dtype("to")?;
    let to = to.ok_or_else(|| Reason::new("attribute `to` is missing"))?;
    // Both speak of types that Kiln does not have.
    c.attribute("saturate");
    c.attribute("round_mode");
    one(c.tensor(0)?.convert(to))
}

fn cast_like<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    c.attribute("saturate");
    c.attribute("round_mode");
    one(c.tensor(0)?.convert(c.ty(1)?.dtype))
}

fn clip<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let mut x = c.tensor(0)?;
    if c.version < 11 {
        if let Some(least) = c.float("min")? {
            x = x.maximum(least);
        }
        if let Some(most) = c.float("max")? {
            x = x.minimum(most);
        }
        return one(x);
    }
    if let Some(least) = bound(c, 1)? {
        x = x.maximum(least);
    }
    if let Some(most) = bound(c, 2)? {
        x = x.minimum(most);
    }
    one(x)
}

/// A bound that stays a number where it is known: a floating initializer here is no param.
fn bound<'g>(c: &Call<'_, 'g>, position: usize) -> Result<Option<Tensor<'g>>, Reason> {
    match c.input(position).data() {
        Some(data) => Ok(Some(super::super::value::constant(c.builder, data))),
        None => c.optional(position),
    }
}

fn is_inf<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let positive = c.int_or("detect_positive", 1)? != 0;
    let negative = c.int_or("detect_negative", 1)? != 0;
    let x = c.tensor(0)?;
    one(match (positive, negative) {
        (true, true) => x.abs().eq(f64::INFINITY),
        (true, false) => x.eq(f64::INFINITY),
        (false, true) => x.eq(f64::NEG_INFINITY),
        (false, false) => x.ne(x).and(x.eq(x)),
    })
}

fn select<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (condition, yes, no) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let shapes = [c.shape(0)?, c.shape(1)?, c.shape(2)?];
    let shape = shapes
        .iter()
        .try_fold(Shape::scalar(), |all, s| joined(&all, s));
    let shape =
        shape.ok_or_else(|| Reason::new(format!("the shapes {shapes:?} do not broadcast")))?;
    one(yes
        .broadcast_to(&shape)
        .where_(condition.broadcast_to(&shape), no.broadcast_to(&shape)))
}

/// Outside of training it is the identity, and its mask is true. In training it draws random numbers.
fn dropout<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    c.attribute("seed");
    c.attribute("ratio");
    if c.version >= 12 {
        let training = c.floats(2, "training_mode")?.unwrap_or_default();
        let ratio = c.floats(1, "ratio")?.unwrap_or(vec![0.5]);
        if training.first().is_some_and(|t| *t != 0.0) && ratio.first() != Some(&0.0) {
            return Err(Reason::new(
                "it is in training mode, where it draws random numbers that no seed of ONNX fixes",
            ));
        }
    }
    let ty = c.ty(0)?;
    let mask = c.builder.splat(DType::Bool, ty.shape, 1.0);
    Ok(vec![c.input(0).clone(), Value::Tensor(mask)])
}

/// The shape that both broadcast to; `None` where they do not.
pub(super) fn joined(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1);
    let at = |shape: &Shape, i: usize| {
        let missing = rank - shape.len();
        i.checked_sub(missing)
            .map_or(one.clone(), |i| shape[i].clone())
    };
    let joined = (0..rank).map(|i| match (at(a, i), at(b, i)) {
        (x, y) if x == y || y == one => Some(x),
        (x, y) if x == one => Some(y),
        (_, _) => None,
    });
    joined.collect()
}
