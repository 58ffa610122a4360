//! Compound ops: those of several results. Control ops and custom calls are.
//!
//! The node of a compound op stands for all of its results, and a [`Part`] node for each one that is used. So every other node still has one
//! result, one type and one value.

use super::Op;
use crate::array::{Array, EvalError};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Bindings;
use crate::types::TensorType;

use super::control::Region;

mod part;

pub use part::Part;

/// What a compound op gives besides the rules of every op.
pub trait Compound {
    /// The types of all results, or why the operands do not fit.
    fn results(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, Refusal>;
    /// All results on concrete operands that fit.
    fn eval_all(&self, operands: &[&Array], bindings: &Bindings) -> Result<Vec<Array>, EvalError>;
    /// The regions, in the order of the text; none of a custom call.
    fn regions(&self) -> Vec<&Region>;
    /// The same op around other regions, as many and in the same order.
    fn with_regions(&self, regions: Vec<Region>) -> Op;
}

impl Op {
    /// The further rules of an op of several results.
    pub fn as_compound(&self) -> Option<&dyn Compound> {
        match self {
            Op::Scan(scan) => Some(scan),
            Op::While(repeat) => Some(repeat),
            Op::Cond(cond) => Some(cond),
            Op::CustomCall(call) => Some(call),
            Op::Source(_)
            | Op::Constant(_)
            | Op::Iota(_)
            | Op::DimSize(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
            | Op::StopGradient(_)
            | Op::Require(_)
            | Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reverse(_)
            | Op::Reduce(_)
            | Op::Arg(_)
            | Op::Dot(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::RngBits(_)
            | Op::Conv(_)
            | Op::ReduceWindow(_)
            | Op::ArgWindow(_)
            | Op::GatherWindow(_)
            | Op::ScatterWindow(_)
            | Op::Cumulative(_)
            | Op::Part(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Sort(_)
            | Op::Argsort(_) => None,
        }
    }
}

/// The type of the first of all results.
pub(crate) fn first(results: Vec<TensorType>) -> Result<TensorType, Refusal> {
    let none = || Refusal::new(Kind::Signature, "an op of several results without any");
    results.into_iter().next().ok_or_else(none)
}

/// The first of all results.
pub(super) fn first_value(results: Vec<Array>) -> Result<Array, EvalError> {
    let none = || EvalError::Invalid("an op of several results without any".into());
    results.into_iter().next().ok_or_else(none)
}
