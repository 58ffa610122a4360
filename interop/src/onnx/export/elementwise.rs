//! Operators on single elements.
//!
//! Most are ONNX's own. The others are made of them so that edge cases stay those of the IR: integers divide by 0 to -1, shifts by the width
//! give 0, floats convert to integers by saturation. What cannot be kept is said where it is.

use super::attribute;
use super::body::{Body, Out, Value};
use kiln_ir::ops::{Binary, Compare, Unary};
use kiln_ir::{Class, DType};

/// `inputs` are the operand, of any shape that broadcasts to the result's.
pub(super) fn unary(body: &mut Body<'_>, op: Unary, x: &Value) -> Value {
    match op {
        Unary::Neg => body.same("Neg", &[x]),
        Unary::Abs if x.dtype().class() == Class::Unsigned => x.clone(),
        Unary::Abs => body.same("Abs", &[x]),
        Unary::Sign => sign(body, x),
        Unary::Exp => body.same("Exp", &[x]),
        Unary::Expm1 => expm1(body, x),
        Unary::Log => body.same("Log", &[x]),
        Unary::Log1p => log1p(body, x),
        Unary::Sqrt => body.same("Sqrt", &[x]),
        Unary::Rsqrt => {
            let root = body.same("Sqrt", &[x]);
            body.same("Reciprocal", &[&root])
        }
        Unary::Recip => body.same("Reciprocal", &[x]),
        Unary::Sin => body.same("Sin", &[x]),
        Unary::Cos => body.same("Cos", &[x]),
        // There is no kernel of `Tan` for f64.
        Unary::Tan if x.dtype() == DType::F64 => {
            let (sin, cos) = (body.same("Sin", &[x]), body.same("Cos", &[x]));
            body.same("Div", &[&sin, &cos])
        }
        Unary::Tan => body.same("Tan", &[x]),
        Unary::Tanh => body.same("Tanh", &[x]),
        Unary::Logistic => body.same("Sigmoid", &[x]),
        Unary::Erf => body.same("Erf", &[x]),
        // Far right of 0 this is 0 where the true value is tiny.
        Unary::Erfc => {
            let (one, erf) = (body.number(x.dtype(), 1.0), body.same("Erf", &[x]));
            body.same("Sub", &[&one, &erf])
        }
        Unary::Floor => body.same("Floor", &[x]),
        Unary::Ceil => body.same("Ceil", &[x]),
        Unary::Round => body.same("Round", &[x]),
        Unary::Not if x.dtype() == DType::Bool => body.same("Not", &[x]),
        Unary::Not => body.same("BitwiseNot", &[x]),
        Unary::IsFinite => {
            let (nan, infinite) = (body.test("IsNaN", &[x]), body.test("IsInf", &[x]));
            let either = body.same("Or", &[&nan, &infinite]);
            body.same("Not", &[&either])
        }
    }
}

/// Of unsigned numbers ONNX's is 0 or 1 as well, but computed in a wider signed type it needs none of its bits to be a sign.
fn sign(body: &mut Body<'_>, x: &Value) -> Value {
    match x.dtype() {
        DType::U32 | DType::U64 => {
            let zero = body.integer(x.dtype(), 0);
            let equal = body.test("Equal", &[x, &zero]);
            let other = body.same("Not", &[&equal]);
            body.cast(&other, x.dtype())
        }
        DType::F32
        | DType::F64
        | DType::BF16
        | DType::F16
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::Bool => body.same("Sign", &[x]),
    }
}

/// Kahan's way, which is exact to some units in the last place around 0: `(u - 1) x / log u` with `u = exp x`. It ends where `u` is 1, and
/// far from 0 nothing is lost by `u - 1`.
fn expm1(body: &mut Body<'_>, x: &Value) -> Value {
    let (one, near) = (body.number(x.dtype(), 1.0), body.number(x.dtype(), 0.5));
    let u = body.same("Exp", &[x]);
    let difference = body.same("Sub", &[&u, &one]);
    let log = body.same("Log", &[&u]);
    let scaled = body.same("Mul", &[&difference, x]);
    let quotient = body.same("Div", &[&scaled, &log]);
    let size = body.same("Abs", &[x]);
    let is_near = body.test("Less", &[&size, &near]);
    let result = body.choose(&is_near, &quotient, &difference);
    let same = body.test("Equal", &[&u, &one]);
    body.choose(&same, x, &result)
}

/// As [`expm1`]: `log u * x / (u - 1)` with `u = 1 + x`.
fn log1p(body: &mut Body<'_>, x: &Value) -> Value {
    let (one, near) = (body.number(x.dtype(), 1.0), body.number(x.dtype(), 0.5));
    let u = body.same("Add", &[x, &one]);
    let log = body.same("Log", &[&u]);
    let difference = body.same("Sub", &[&u, &one]);
    let scaled = body.same("Mul", &[&log, x]);
    let quotient = body.same("Div", &[&scaled, &difference]);
    let size = body.same("Abs", &[x]);
    let is_near = body.test("Less", &[&size, &near]);
    let result = body.choose(&is_near, &quotient, &log);
    let same = body.test("Equal", &[&u, &one]);
    body.choose(&same, x, &result)
}

pub(super) fn binary(body: &mut Body<'_>, op: Binary, x: &Value, y: &Value) -> Value {
    let is_float = x.dtype().is_float();
    let is_bool = x.dtype() == DType::Bool;
    match op {
        Binary::Add => body.same("Add", &[x, y]),
        Binary::Sub => body.same("Sub", &[x, y]),
        Binary::Mul => body.same("Mul", &[x, y]),
        Binary::Div if is_float => body.same("Div", &[x, y]),
        Binary::Div => divide(body, x, y),
        Binary::Rem if is_float => {
            let as_in_c = vec![attribute::int("fmod", 1)];
            body.same_with("Mod", &[x, y], as_in_c)
        }
        // By 0 the quotient is -1, and what is left is x.
        Binary::Rem => {
            let quotient = divide(body, x, y);
            let whole = body.same("Mul", &[&quotient, y]);
            body.same("Sub", &[x, &whole])
        }
        Binary::Pow => body.same("Pow", &[x, y]),
        Binary::Atan2 => atan2(body, x, y),
        Binary::Max => body.same("Max", &[x, y]),
        Binary::Min => body.same("Min", &[x, y]),
        Binary::And if is_bool => body.same("And", &[x, y]),
        Binary::Or if is_bool => body.same("Or", &[x, y]),
        Binary::Xor if is_bool => body.same("Xor", &[x, y]),
        Binary::And => body.same("BitwiseAnd", &[x, y]),
        Binary::Or => body.same("BitwiseOr", &[x, y]),
        Binary::Xor => body.same("BitwiseXor", &[x, y]),
        Binary::Shl => shift_left(body, x, y),
        Binary::Shr => shift_right(body, x, y),
    }
}

/// The quotient of integers, truncated; by 0 it is -1, and that of the least number by -1 the least number. A processor traps at either, so
/// neither is divided.
fn divide(body: &mut Body<'_>, x: &Value, y: &Value) -> Value {
    let dtype = x.dtype();
    let (zero, one) = (body.integer(dtype, 0), body.integer(dtype, 1));
    let ones = body.integer(dtype, -1);
    let by_zero = body.test("Equal", &[y, &zero]);
    let signed = dtype.class() == Class::Signed;
    let by_ones = signed.then(|| body.test("Equal", &[y, &ones]));
    let trap = match &by_ones {
        Some(by_ones) => body.same("Or", &[&by_zero, by_ones]),
        None => by_zero.clone(),
    };
    let safe = body.choose(&trap, &one, y);
    let mut quotient = body.same("Div", &[x, &safe]);
    if let Some(by_ones) = by_ones {
        let negative = body.same("Neg", &[x]);
        quotient = body.choose(&by_ones, &negative, &quotient);
    }
    body.choose(&by_zero, &ones, &quotient)
}

/// The angle of (y, x), by the arc tangent of the quotient, turned by half a circle left of the axis. Two infinite operands give NaN.
fn atan2(body: &mut Body<'_>, y: &Value, x: &Value) -> Value {
    let dtype = x.dtype();
    let zero = body.number(dtype, 0.0);
    // Either zero counts by its sign, which is that of its reciprocal.
    let is_negative = |body: &mut Body<'_>, v: &Value| {
        let reciprocal = body.same("Reciprocal", &[v]);
        let (below, beneath) = (
            body.test("Less", &[v, &zero]),
            body.test("Less", &[&reciprocal, &zero]),
        );
        body.same("Or", &[&below, &beneath])
    };
    let (left, lower) = (is_negative(body, x), is_negative(body, y));
    let quotient = body.same("Div", &[y, x]);
    let angle = body.same("Atan", &[&quotient]);
    let zeros = [x, y].map(|v| body.test("Equal", &[v, &zero]));
    let nothing = body.same("And", &[&zeros[0], &zeros[1]]);
    let angle = body.choose(&nothing, y, &angle);
    let (half, back) = (
        body.number(dtype, std::f64::consts::PI),
        body.number(dtype, -std::f64::consts::PI),
    );
    let turn = body.choose(&lower, &back, &half);
    // Of two zeros the quotient's sign is lost, and the turn is the whole angle.
    let turned = body.same("Add", &[&angle, &turn]);
    body.choose(&left, &turned, &angle)
}

/// The unsigned type of the same width.
fn unsigned(dtype: DType) -> DType {
    match dtype {
        DType::I8 => DType::U8,
        DType::I16 => DType::U16,
        DType::I32 => DType::U32,
        DType::I64 => DType::U64,
        DType::F32
        | DType::F64
        | DType::BF16
        | DType::F16
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => dtype,
    }
}

/// The signed type of the same width.
pub(super) fn as_signed(dtype: DType) -> DType {
    match dtype {
        DType::U8 => DType::I8,
        DType::U16 => DType::I16,
        DType::U32 => DType::I32,
        DType::U64 => DType::I64,
        DType::F32
        | DType::F64
        | DType::BF16
        | DType::F16
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::Bool => dtype,
    }
}

/// Bits moved within an unsigned type; by the width or more, 0.
fn shift(body: &mut Body<'_>, x: &Value, y: &Value, direction: &str) -> Value {
    let dtype = x.dtype();
    let width = body.integer(dtype, 8 * dtype.size() as i64);
    let zero = body.integer(dtype, 0);
    let inside = body.test("Less", &[y, &width]);
    let amount = body.choose(&inside, y, &zero);
    let way = vec![attribute::text("direction", direction)];
    let shifted = body.same_with("BitShift", &[x, &amount], way);
    body.choose(&inside, &shifted, &zero)
}

fn shift_left(body: &mut Body<'_>, x: &Value, y: &Value) -> Value {
    let bits = unsigned(x.dtype());
    let (cast, amount) = (body.cast(x, bits), body.cast(y, bits));
    let shifted = shift(body, &cast, &amount, "LEFT");
    body.cast(&shifted, x.dtype())
}

/// Of a negative number the complement is shifted, and the complement of that is the floor of the quotient.
fn shift_right(body: &mut Body<'_>, x: &Value, y: &Value) -> Value {
    let bits = unsigned(x.dtype());
    if bits == x.dtype() {
        return shift(body, x, y, "RIGHT");
    }
    let zero = body.integer(x.dtype(), 0);
    let negative = body.test("Less", &[x, &zero]);
    let complement = body.same("BitwiseNot", &[x]);
    let size = body.choose(&negative, &complement, x);
    let (cast, amount) = (body.cast(&size, bits), body.cast(y, bits));
    let shifted = shift(body, &cast, &amount, "RIGHT");
    let shifted = body.cast(&shifted, x.dtype());
    let complement = body.same("BitwiseNot", &[&shifted]);
    body.choose(&negative, &complement, &shifted)
}

pub(super) fn compare(body: &mut Body<'_>, op: Compare, x: &Value, y: &Value) -> Value {
    // The order of truth values is that of 0 and 1.
    let by_order = !matches!(op, Compare::Eq | Compare::Ne);
    let (x, y) = match (x.dtype() == DType::Bool, by_order) {
        (true, true) => (body.cast(x, DType::I32), body.cast(y, DType::I32)),
        (true | false, _) => (x.clone(), y.clone()),
    };
    let operator = match op {
        Compare::Eq | Compare::Ne => "Equal",
        Compare::Lt => "Less",
        Compare::Le => "LessOrEqual",
        Compare::Gt => "Greater",
        Compare::Ge => "GreaterOrEqual",
    };
    let holds = body.test(operator, &[&x, &y]);
    match op {
        Compare::Ne => body.same("Not", &[&holds]),
        Compare::Eq | Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge => holds,
    }
}

/// `x * y + z`, rounded once for f32 and narrower types, whose products are exact in f64; twice for f64.
pub(super) fn fma(body: &mut Body<'_>, x: &Value, y: &Value, z: &Value) -> Value {
    let wide: Vec<Value> = [x, y, z].map(|v| body.cast(v, DType::F64)).to_vec();
    let product = body.same("Mul", &[&wide[0], &wide[1]]);
    let sum = body.same("Add", &[&product, &wide[2]]);
    round_to(body, &sum, x.dtype())
}

/// A float of another width; f64 goes to the halves by f32, as in the IR.
pub(super) fn round_to(body: &mut Body<'_>, x: &Value, to: DType) -> Value {
    let halves = matches!(to, DType::F16 | DType::BF16);
    let x = if halves {
        body.cast(x, DType::F32)
    } else {
        x.clone()
    };
    body.cast(&x, to)
}

/// Another element type with the same value where it has one: floats are truncated to integers and saturate, NaN becomes 0.
pub(super) fn convert(body: &mut Body<'_>, x: &Value, to: DType) -> Value {
    let from = x.dtype();
    match (from.is_float(), to.class()) {
        (_, Class::Float) => round_to(body, x, to),
        (false, Class::Signed | Class::Unsigned | Class::Bool) | (true, Class::Bool) => {
            body.cast(x, to)
        }
        (true, Class::Signed | Class::Unsigned) => saturate(body, x, to),
    }
}

fn saturate(body: &mut Body<'_>, x: &Value, to: DType) -> Value {
    let bits = 8 * to.size() as i32;
    let signed = to.class() == Class::Signed;
    // The least number, and the first one above the largest: powers of two.
    let (low, beyond) = match signed {
        true => (-2f64.powi(bits - 1), 2f64.powi(bits - 1)),
        false => (0.0, 2f64.powi(bits)),
    };
    let largest = match signed {
        true => i64::MAX >> (64 - bits),
        false => (u64::MAX >> (64 - bits)).cast_signed(),
    };
    let x = body.cast(x, DType::F64);
    let nan = body.test("IsNaN", &[&x]);
    let (zero, low_limit) = (body.number(DType::F64, 0.0), body.number(DType::F64, low));
    let beyond = body.number(DType::F64, beyond);
    let over = body.test("GreaterOrEqual", &[&x, &beyond]);
    let refused = body.same("Or", &[&nan, &over]);
    let safe = body.choose(&refused, &zero, &x);
    let safe = body.same("Max", &[&safe, &low_limit]);
    let cast = body.cast(&safe, to);
    let largest = body.integer(to, largest);
    body.choose(&over, &largest, &cast)
}

/// The same bits as another type. Integers only: before version 26 of its operators ONNX has nothing that reads the bits of a float.
pub(super) fn bitcast(body: &mut Body<'_>, x: &Value, to: DType) -> Out {
    if x.dtype() == to {
        return Ok(x.clone());
    }
    match (x.dtype().is_float(), to.is_float()) {
        (false, false) => Ok(body.cast(x, to)),
        (true | false, _) => Err(format!(
            "ONNX cannot read the bits of {} as {to}; only integers have such casts",
            x.dtype()
        )),
    }
}
