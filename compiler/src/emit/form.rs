//! How four lanes of an element type lie in 128-bit registers.
//!
//! | element | registers | a lane holds |
//! |---|---|---|
//! | f32 | one F32X4 | the number |
//! | f64 | two F64X2 | the number |
//! | i64, u64 | two I64X2 | the number |
//! | i32, u32 | one I32X4 | the number |
//! | i8, i16, u8, u16 | one I32X4 | the number, sign- or zero-extended; arithmetic wraps it again |
//! | bool | one I32X4 | all ones or all zeros |

use cranelift_codegen::ir::types::{F32X4, F64X2, I32X4, I64X2};
use cranelift_codegen::ir::{Type, Value};
use kiln_ir::DType;
use kiln_ir::ops::Literal;

/// The registers of a group: lanes 0 to 3, or lanes 0, 1 and lanes 2, 3.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    One(Value),
    Two([Value; 2]),
}

impl Form {
    pub(super) fn registers(&self) -> &[Value] {
        match self {
            Form::One(value) => std::slice::from_ref(value),
            Form::Two(values) => values,
        }
    }

    /// The register of a one-register form; the first one otherwise.
    pub(super) fn one(self) -> Value {
        match self {
            Form::One(value) | Form::Two([value, _]) => value,
        }
    }

    /// The registers of a two-register form.
    pub(super) fn two(self) -> [Value; 2] {
        match self {
            Form::One(value) => [value, value],
            Form::Two(values) => values,
        }
    }

    pub(super) fn map(self, mut f: impl FnMut(Value) -> Value) -> Form {
        match self {
            Form::One(value) => Form::One(f(value)),
            Form::Two([low, high]) => {
                let low = f(low);
                Form::Two([low, f(high)])
            }
        }
    }

    /// Register by register; both forms have one shape.
    pub(super) fn zip(self, other: Form, mut f: impl FnMut(Value, Value) -> Value) -> Form {
        match (self, other) {
            (Form::One(a), b) => Form::One(f(a, b.one())),
            (Form::Two([a, b]), other) => {
                let [c, d] = other.two();
                let low = f(a, c);
                Form::Two([low, f(b, d)])
            }
        }
    }
}

/// Whether the lanes are 64 bits wide, so that a group takes two registers.
pub(super) fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::I64 | DType::U64)
}

/// The type of the registers; `None` for the types without lanes.
pub(super) fn register_type(dtype: DType) -> Option<Type> {
    match dtype {
        DType::F32 => Some(F32X4),
        DType::F64 => Some(F64X2),
        DType::I64 | DType::U64 => Some(I64X2),
        DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 | DType::U32 | DType::Bool => {
            Some(I32X4)
        }
        DType::BF16 | DType::F16 => None,
    }
}

/// The bits of one lane that holds a literal.
pub(super) fn lane_bits(dtype: DType, literal: Literal) -> u64 {
    let float = match literal {
        Literal::Float(bits) => f64::from_bits(bits),
        Literal::Int(i) => i as f64,
    };
    let int = match literal {
        Literal::Float(bits) => f64::from_bits(bits) as i64,
        Literal::Int(i) => i,
    };
    let word = |i: i32| u64::from(i.cast_unsigned());
    match dtype {
        DType::F32 | DType::BF16 | DType::F16 => u64::from((float as f32).to_bits()),
        DType::F64 => float.to_bits(),
        DType::I64 | DType::U64 => int.cast_unsigned(),
        DType::I8 => word(i32::from(int as i8)),
        DType::I16 => word(i32::from(int as i16)),
        DType::I32 | DType::U32 => word(int as i32),
        DType::U8 => u64::from(int as u8),
        DType::U16 => u64::from(int as u16),
        DType::Bool if int != 0 => u64::from(u32::MAX),
        DType::Bool => 0,
    }
}

/// Four lanes of 32 or two of 64 bits, as the bits of a register.
pub(super) fn splat_bits(dtype: DType, lane: u64) -> u128 {
    if is_wide(dtype) {
        u128::from(lane) * 0x1_0000_0000_0000_0001
    } else {
        u128::from(lane) * 0x1_0000_0001_0000_0001_0000_0001
    }
}
