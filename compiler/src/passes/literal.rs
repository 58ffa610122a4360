//! Constants as passes see them: one number for all elements.

use kiln_ir::ops::{Constant, ConstantValue, Literal, Op};
use kiln_ir::{DType, TensorType};

/// The number, where `op` is a constant whose elements are all that.
pub(super) fn as_splat(op: &Op) -> Option<Literal> {
    match op {
        Op::Constant(constant) => constant.as_splat(),
        _ => None,
    }
}

/// A constant whose elements are all `literal`, a number of its type.
pub(super) fn splat(ty: TensorType, literal: Literal) -> Op {
    Op::Constant(Constant {
        ty,
        value: ConstantValue::Splat(literal),
    })
}

/// The value of a floating literal.
pub(super) fn float(literal: Literal) -> Option<f64> {
    match literal {
        Literal::Float(bits) => Some(f64::from_bits(bits)),
        Literal::Int(_) => None,
    }
}

/// Whether `literal` is exactly the number `value`, with its sign where it is a floating zero.
pub(super) fn is(literal: Literal, value: i64) -> bool {
    match literal {
        Literal::Float(bits) => bits == (value as f64).to_bits(),
        Literal::Int(i) => i == value,
    }
}

/// Whether `x + literal` is `x` for every `x`: -0.0 for floats, since -0.0 + 0.0 is +0.0.
pub(super) fn is_additive_identity(literal: Literal) -> bool {
    match literal {
        Literal::Float(bits) => bits == (-0.0f64).to_bits(),
        Literal::Int(i) => i == 0,
    }
}

/// Whether all bits of an integer or truth value of type `dtype` are set.
pub(super) fn is_all_ones(dtype: DType, literal: Literal) -> bool {
    match (literal, dtype) {
        (Literal::Float(_), _) => false,
        (Literal::Int(i), DType::Bool) => i == 1,
        (Literal::Int(i), DType::U8) => i == 0xff,
        (Literal::Int(i), DType::U16) => i == 0xffff,
        (Literal::Int(i), DType::U32) => i == 0xffff_ffff,
        (Literal::Int(i), _) => i == -1,
    }
}
