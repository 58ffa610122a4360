//! What the kinds of reductions fold with: their ops, and the numbers that partial results and results begin with.

use kiln_ir::ops::{Binary, Literal, ReduceKind};
use kiln_ir::{Class, DType};

/// The op that combines two partial results.
pub(crate) fn fold_op(kind: ReduceKind) -> Binary {
    match kind {
        ReduceKind::Sum => Binary::Add,
        ReduceKind::Prod => Binary::Mul,
        ReduceKind::Max => Binary::Max,
        ReduceKind::Min => Binary::Min,
        ReduceKind::Any => Binary::Or,
        ReduceKind::All => Binary::And,
    }
}

/// What a result begins with: the interpreter's identity, which is +0 for a floating sum.
pub(crate) fn start(dtype: DType, kind: ReduceKind) -> Literal {
    if kind == ReduceKind::Sum && dtype.is_float() {
        Literal::Float(0f64.to_bits())
    } else {
        identity(dtype, kind)
    }
}

/// What a partial result begins with, which leaves every number as it is.
pub(crate) fn identity(dtype: DType, kind: ReduceKind) -> Literal {
    if dtype.is_float() {
        let value = match kind {
            ReduceKind::Sum | ReduceKind::Any | ReduceKind::All => -0.0_f64,
            ReduceKind::Prod => 1.0,
            ReduceKind::Max => f64::NEG_INFINITY,
            ReduceKind::Min => f64::INFINITY,
        };
        return Literal::Float(value.to_bits());
    }
    let bits = 8 * dtype.size() as u32;
    let (least, largest) = match dtype.class() {
        Class::Unsigned => (0, (u64::MAX >> (64 - bits)).cast_signed()),
        Class::Signed => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        Class::Bool | Class::Float => (0, 1),
    };
    Literal::Int(match kind {
        ReduceKind::Sum | ReduceKind::Any => 0,
        ReduceKind::Prod => 1,
        ReduceKind::Max => least,
        ReduceKind::Min => largest,
        ReduceKind::All => 1,
    })
}
