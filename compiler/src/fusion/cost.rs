//! What it costs to compute a node again instead of keeping it.

use crate::kernel::Expr;
use kiln_ir::ops::{Binary, Op, Unary};

/// Whether a value may be computed again in a later sweep of its kernel rather than kept in a scratch row.
pub(crate) fn expr_is_cheap(expr: &Expr) -> bool {
    match expr {
        Expr::Unary(op, _) => is_cheap(&Op::Unary(*op)),
        Expr::Binary(op, ..) => is_cheap(&Op::Binary(*op)),
        Expr::Philox { .. } => false,
        Expr::Load { .. }
        | Expr::Const(_)
        | Expr::Index(_)
        | Expr::Compare(..)
        | Expr::Select(..)
        | Expr::Fma(..)
        | Expr::Convert(_)
        | Expr::Bitcast(_) => true,
    }
}

/// Whether an op may be computed again in each of its consumers: a few instructions for each element.
pub(super) fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Unary(unary) => match unary {
            Unary::Neg
            | Unary::Abs
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Not
            | Unary::IsFinite => true,
            Unary::Exp
            | Unary::Expm1
            | Unary::Log
            | Unary::Log1p
            | Unary::Sqrt
            | Unary::Rsqrt
            | Unary::Recip
            | Unary::Sin
            | Unary::Cos
            | Unary::Tan
            | Unary::Tanh
            | Unary::Logistic
            | Unary::Erf
            | Unary::Erfc => false,
        },
        Op::Binary(binary) => match binary {
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Max
            | Binary::Min
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::Shl
            | Binary::Shr => true,
            Binary::Div | Binary::Rem | Binary::Pow | Binary::Atan2 => false,
        },
        Op::Compare(_)
        | Op::Select(_)
        | Op::Fma(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Require(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::StopGradient(_)
        | Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::DynamicSlice(_) => true,
        Op::Source(_)
        | Op::Reduce(_)
        | Op::Arg(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::RngBits(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::ReduceWindow(_)
        | Op::ArgWindow(_)
        | Op::GatherWindow(_)
        | Op::ScatterWindow(_)
        | Op::Cumulative(_)
        | Op::Scan(_)
        | Op::While(_)
        | Op::Cond(_)
        | Op::Part(_)
        | Op::DynamicUpdateSlice(_)
        | Op::Sort(_)
        | Op::Argsort(_)
        | Op::CustomCall(_) => false,
    }
}
