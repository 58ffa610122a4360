//! What it costs to compute a node again instead of keeping it.

use crate::kernel::Expr;
use kiln_ir::ops::{Binary, Cost, Op};

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
        Op::Unary(unary) => unary.cost() == Cost::Short,
        // A remainder is a division of integers, and a call for floats.
        Op::Binary(binary) => binary.cost() == Cost::Short && *binary != Binary::Rem,
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
