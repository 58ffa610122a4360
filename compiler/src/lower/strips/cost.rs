//! Which functions are worth a call for a strip.

use crate::kernel::{Expr, Function};
use kiln_ir::ops::{Binary, Unary};

/// What a function costs in line, in 128-bit registers.
pub(super) enum Cost {
    /// Dozens of instructions.
    Long,
    /// One that takes as long for four lanes as it takes for sixteen.
    Slow,
    /// One or few.
    Short,
}

/// The cost of a function.
pub(super) fn cost(function: Function) -> Cost {
    match function {
        Function::Unary(op) => match op {
            Unary::Exp
            | Unary::Expm1
            | Unary::Log
            | Unary::Log1p
            | Unary::Sin
            | Unary::Cos
            | Unary::Tan
            | Unary::Tanh
            | Unary::Logistic
            | Unary::Erf
            | Unary::Erfc => Cost::Long,
            Unary::Sqrt | Unary::Rsqrt | Unary::Recip => Cost::Slow,
            Unary::Neg
            | Unary::Abs
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Not
            | Unary::IsFinite => Cost::Short,
        },
        Function::Binary(op) => match op {
            Binary::Pow | Binary::Atan2 => Cost::Long,
            Binary::Div => Cost::Slow,
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Rem
            | Binary::Max
            | Binary::Min
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::Shl
            | Binary::Shr => Cost::Short,
        },
    }
}

/// The function that an expression is.
pub(super) fn function_of(expr: &Expr) -> Option<Function> {
    match expr {
        Expr::Unary(op, _) => Some(Function::Unary(*op)),
        Expr::Binary(op, ..) => Some(Function::Binary(*op)),
        Expr::Load { .. }
        | Expr::Const(_)
        | Expr::Index(_)
        | Expr::Compare(..)
        | Expr::Select(..)
        | Expr::Fma(..)
        | Expr::Convert(_)
        | Expr::Bitcast(_)
        | Expr::Philox { .. } => None,
    }
}
