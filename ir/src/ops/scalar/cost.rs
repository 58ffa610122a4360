//! What a scalar op costs, for those who weigh computing a value again against keeping it.

use super::{Binary, Unary};

/// What it costs to compute a scalar op, in line and in 128-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A polynomial: dozens of instructions for each element.
    Long,
    /// One instruction that takes as long for four lanes as it takes for sixteen.
    Slow,
    /// One instruction or few.
    Short,
}

impl Unary {
    /// What it costs.
    pub fn cost(self) -> Cost {
        match self {
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
        }
    }
}

impl Binary {
    /// What it costs.
    pub fn cost(self) -> Cost {
        match self {
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
        }
    }
}
