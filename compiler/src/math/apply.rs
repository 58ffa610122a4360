//! The scalar ops on numbers, as kernels compute them: what constant folding uses, so that it folds to the very bits.
//!
//! Arithmetic is done in the element type itself, transcendental functions by the recipes, integers as the design defines their odd
//! cases. Nothing is known about bf16 and f16, whose rounding the kernels own. A NaN that is made here is the plain one: which NaN a NaN
//! is carries no meaning.

use super::{Host32, Host64};
use crate::emit::recipes;
use kiln_ir::ops::{Binary, Compare, Literal, Unary};
use kiln_ir::{Class, DType};

macro_rules! float_ops {
    ($float:ty, $machine:expr, $unary:ident, $binary:ident, $unary_recipe:path, $binary_recipe:path) => {
        /// The unary op as kernels compute it; `None` for ops whose operand or result is not of this type.
        pub fn $unary(op: Unary, x: $float) -> Option<$float> {
            match op {
                Unary::Neg => Some(-x),
                Unary::Abs => Some(x.abs()),
                Unary::Sign if x == 0.0 || x.is_nan() => Some(x),
                Unary::Sign => Some(x.signum()),
                Unary::Sqrt => Some(x.sqrt()),
                Unary::Floor => Some(x.floor()),
                Unary::Ceil => Some(x.ceil()),
                Unary::Round => Some(x.round_ties_even()),
                _ => $unary_recipe(&mut $machine, op, x),
            }
        }

        /// The binary op as kernels compute it; `None` for ops on integers.
        pub fn $binary(op: Binary, x: $float, y: $float) -> Option<$float> {
            match op {
                Binary::Add => Some(x + y),
                Binary::Sub => Some(x - y),
                Binary::Mul => Some(x * y),
                Binary::Div => Some(x / y),
                Binary::Rem => Some(x % y),
                // NaN wins, and +0 is above -0.
                Binary::Max | Binary::Min if x.is_nan() || y.is_nan() => Some(<$float>::NAN),
                Binary::Max if x == y => Some(if x.is_sign_negative() { y } else { x }),
                Binary::Min if x == y => Some(if x.is_sign_negative() { x } else { y }),
                Binary::Max => Some(if x < y { y } else { x }),
                Binary::Min => Some(if x < y { x } else { y }),
                _ => $binary_recipe(&mut $machine, op, x, y),
            }
        }
    };
}
float_ops!(
    f32,
    Host32,
    unary_f32,
    binary_f32,
    recipes::unary32,
    recipes::binary32
);
float_ops!(
    f64,
    Host64,
    unary_f64,
    binary_f64,
    recipes::unary64,
    recipes::binary64
);

/// The op on a number of type `dtype`; `None` where the type has no such op, or its arithmetic is not known here.
pub fn unary(op: Unary, dtype: DType, x: Literal) -> Option<Literal> {
    match (x, dtype) {
        (Literal::Float(x), DType::F32 | DType::F64) if op == Unary::IsFinite => {
            Some(Literal::Int(i64::from(f64::from_bits(x).is_finite())))
        }
        (Literal::Float(_), DType::F32) => unary_f32(op, f32_of(x)?).map(of_f32),
        (Literal::Float(x), DType::F64) => unary_f64(op, f64::from_bits(x)).map(of_f64),
        (Literal::Float(_), _) => None,
        (Literal::Int(x), _) => {
            let value = match op {
                Unary::Neg => x.wrapping_neg(),
                Unary::Abs if dtype.class() == Class::Unsigned => x,
                Unary::Abs => x.wrapping_abs(),
                Unary::Sign if dtype.class() == Class::Unsigned => i64::from(x != 0),
                Unary::Sign => x.signum(),
                Unary::Not if dtype == DType::Bool => i64::from(x == 0),
                Unary::Not => !x,
                _ => return None,
            };
            Some(Literal::Int(wrap(dtype, value)))
        }
    }
}

/// The op on two numbers of type `dtype`; `None` where the type has no such op, or its arithmetic is not known here.
pub fn binary(op: Binary, dtype: DType, x: Literal, y: Literal) -> Option<Literal> {
    match (x, y, dtype) {
        (Literal::Float(_), Literal::Float(_), DType::F32) => {
            binary_f32(op, f32_of(x)?, f32_of(y)?).map(of_f32)
        }
        (Literal::Float(x), Literal::Float(y), DType::F64) => {
            binary_f64(op, f64::from_bits(x), f64::from_bits(y)).map(of_f64)
        }
        (Literal::Int(x), Literal::Int(y), _) => {
            binary_int(op, dtype, x, y).map(|v| Literal::Int(wrap(dtype, v)))
        }
        (Literal::Float(_) | Literal::Int(_), _, _) => None,
    }
}

/// `x * y + z`, rounded once.
pub fn fma(dtype: DType, x: Literal, y: Literal, z: Literal) -> Option<Literal> {
    match (x, y, z, dtype) {
        (_, _, _, DType::F32) => Some(of_f32(f32_of(x)?.mul_add(f32_of(y)?, f32_of(z)?))),
        (Literal::Float(x), Literal::Float(y), Literal::Float(z), DType::F64) => {
            let [x, y, z] = [x, y, z].map(f64::from_bits);
            Some(of_f64(x.mul_add(y, z)))
        }
        _ => None,
    }
}

/// The comparison of two numbers of type `dtype`. Floats of every type compare by value.
pub fn compare(op: Compare, dtype: DType, x: Literal, y: Literal) -> Option<bool> {
    fn holds<T: PartialOrd>(op: Compare, x: T, y: T) -> bool {
        match op {
            Compare::Eq => x == y,
            Compare::Ne => x != y,
            Compare::Lt => x < y,
            Compare::Le => x <= y,
            Compare::Gt => x > y,
            Compare::Ge => x >= y,
        }
    }
    match (x, y) {
        (Literal::Float(x), Literal::Float(y)) => {
            Some(holds(op, f64::from_bits(x), f64::from_bits(y)))
        }
        (Literal::Int(x), Literal::Int(y)) if dtype == DType::U64 => {
            Some(holds(op, x.cast_unsigned(), y.cast_unsigned()))
        }
        (Literal::Int(x), Literal::Int(y)) => Some(holds(op, x, y)),
        (Literal::Float(_) | Literal::Int(_), _) => None,
    }
}

/// The number converted from one type to another; `None` where a rounding to bf16 or f16 would be needed.
pub fn convert(from: DType, to: DType, x: Literal) -> Option<Literal> {
    match (x, to) {
        _ if from == to => Some(x),
        (Literal::Float(x), DType::F32) => Some(of_f32(f64::from_bits(x) as f32)),
        (Literal::Float(x), DType::F64) => Some(of_f64(f64::from_bits(x))),
        (Literal::Int(x), DType::F32) if from == DType::U64 => {
            Some(of_f32(x.cast_unsigned() as f32))
        }
        (Literal::Int(x), DType::F32) => Some(of_f32(x as f32)),
        (Literal::Int(x), DType::F64) if from == DType::U64 => {
            Some(of_f64(x.cast_unsigned() as f64))
        }
        (Literal::Int(x), DType::F64) => Some(of_f64(x as f64)),
        (_, DType::BF16 | DType::F16) => None,
        (Literal::Float(x), _) => Some(Literal::Int(saturate(to, f64::from_bits(x)))),
        (Literal::Int(x), _) => Some(Literal::Int(wrap(to, x))),
    }
}

/// The bits of the number as another type of the same size; `None` for bf16, f16 and NaN, whose bits are not kept in literals.
pub fn bitcast(from: DType, to: DType, x: Literal) -> Option<Literal> {
    if from.size() != to.size() || from == DType::Bool || to == DType::Bool {
        return None;
    }
    let bits = match (x, from) {
        (Literal::Float(x), _) if f64::from_bits(x).is_nan() => return None,
        (Literal::Float(_), DType::F32) => i64::from(f32_of(x)?.to_bits()),
        (Literal::Float(x), DType::F64) => x.cast_signed(),
        (Literal::Float(_), _) => return None,
        (Literal::Int(x), _) => x,
    };
    match to {
        DType::F32 => Some(of_f32(f32::from_bits(bits as u32))),
        DType::F64 => Some(of_f64(f64::from_bits(bits.cast_unsigned()))),
        DType::BF16 | DType::F16 => None,
        _ => Some(Literal::Int(wrap(to, bits))),
    }
}

/// `value` wrapped to an integer type, in the form of a literal: u64 as its bit pattern, `bool` as 0 or 1.
pub fn wrap(dtype: DType, value: i64) -> i64 {
    match dtype {
        DType::I8 => i64::from(value as i8),
        DType::I16 => i64::from(value as i16),
        DType::I32 => i64::from(value as i32),
        DType::U8 => i64::from(value as u8),
        DType::U16 => i64::from(value as u16),
        DType::U32 => i64::from(value as u32),
        DType::Bool => i64::from(value != 0),
        _ => value,
    }
}

/// Before it is wrapped to the type. `x / 0` is all ones, `x rem 0` is `x`, and a shift by the width or more gives 0 or the sign.
fn binary_int(op: Binary, dtype: DType, x: i64, y: i64) -> Option<i64> {
    let wide = dtype == DType::U64;
    let less = if wide {
        x.cast_unsigned() < y.cast_unsigned()
    } else {
        x < y
    };
    // The amount of a shift is read as unsigned, so a negative one is large.
    let amount = u32::try_from(y)
        .ok()
        .filter(|y| (*y as usize) < 8 * dtype.size());
    Some(match op {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div if y == 0 => -1,
        Binary::Div if wide => (x.cast_unsigned() / y.cast_unsigned()).cast_signed(),
        Binary::Div => x.wrapping_div(y),
        Binary::Rem if y == 0 => x,
        Binary::Rem if wide => (x.cast_unsigned() % y.cast_unsigned()).cast_signed(),
        Binary::Rem => x.wrapping_rem(y),
        Binary::Max => {
            if less {
                y
            } else {
                x
            }
        }
        Binary::Min => {
            if less {
                x
            } else {
                y
            }
        }
        Binary::And => x & y,
        Binary::Or => x | y,
        Binary::Xor => x ^ y,
        Binary::Shl => amount.map_or(0, |y| x << y),
        Binary::Shr => match amount {
            Some(y) if wide => (x.cast_unsigned() >> y).cast_signed(),
            Some(y) => x >> y,
            None if wide => 0,
            None => x >> 63,
        },
        Binary::Pow | Binary::Atan2 => return None,
    })
}

/// Toward zero, saturating, NaN to 0; to `bool`, whether it is not 0.
fn saturate(to: DType, x: f64) -> i64 {
    match to {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::U64 => (x as u64).cast_signed(),
        DType::Bool => i64::from(x != 0.0),
        _ => x as i64,
    }
}

/// Literals of f32 hold f32 values, so the conversion is exact.
fn f32_of(x: Literal) -> Option<f32> {
    match x {
        Literal::Float(bits) => Some(f64::from_bits(bits) as f32),
        Literal::Int(_) => None,
    }
}

fn of_f32(x: f32) -> Literal {
    of_f64(f64::from(x))
}

fn of_f64(x: f64) -> Literal {
    Literal::Float(if x.is_nan() { f64::NAN } else { x }.to_bits())
}
