//! The op list, and the rules that every op must give.
//!
//! An op lives in one room, a file of `ops/`: its shape rule, vjp, reference evaluation, printing and parsing. To add one: write its
//! struct and its [`Rules`] in a room, and one word in the list below. The trait has no default methods, so that a forgotten rule does
//! not compile.

use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::Refusal;
use crate::dim::Bindings;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

mod constant;
mod contraction;
mod movement;
mod reduction;
mod scalar;
mod source;

pub use constant::{Constant, ConstantValue, Dense, DimSize, Element, Iota, Literal};
pub use contraction::Dot;
pub use movement::{Broadcast, Reshape, Slice, Transpose};
pub use reduction::{Reduce, ReduceKind};
pub use scalar::{Binary, Compare, Convert, Select, StopGradient, Unary};
pub use source::Source;

/// What an op may do besides computing its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may be shared, moved, recomputed or dropped.
    Pure,
    /// It may refuse its operands; it runs before the first state write and is never dropped.
    Fallible,
    /// It calls the host; it is never moved, shared or dropped.
    Host,
}

/// What a vjp rule sees.
pub struct Vjp<'g> {
    /// The operands of the node.
    pub operands: Vec<Tensor<'g>>,
    /// The node itself.
    pub result: Tensor<'g>,
    /// The cotangent of the result, of the result's type.
    pub cotangent: Tensor<'g>,
}

/// The rules of one op. No method has a default.
pub trait Rules {
    /// The name in text, messages and profiles.
    fn name(&self) -> &'static str;
    /// What it may do besides computing.
    fn effect(&self) -> Effect;
    /// The type of the result, or why the operands do not fit.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal>;
    /// The cotangent of each operand, `None` where none flows. Written in the public builder, so that it can be differentiated again.
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>>;
    /// The plain meaning, on concrete arrays that fit the shape rule.
    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError>;
    /// What the text prints between braces.
    fn attributes(&self) -> Attributes;
}

/// What a reference evaluation sees besides its operands.
pub struct EvalCx<'e> {
    /// The result's type.
    pub ty: &'e TensorType,
    /// The result's shape under the binding.
    pub shape: &'e [usize],
    /// The numbers of the symbols.
    pub bindings: &'e Bindings,
}

/// A room's parser: `None` where the name is not of the room. The type is the one written on the node's line.
type ParseOp<T> = fn(&str, &mut Attributes, &TensorType) -> Option<Result<T, AttributeError>>;

macro_rules! op_list {
    ($($op:ident),+ $(,)?) => {
        /// An operation with its attributes.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum Op { $($op($op)),+ }

        impl Op {
            /// The rules of the op.
            pub fn rules(&self) -> &dyn Rules {
                match self { $(Op::$op(op) => op),+ }
            }

            /// The op that the text names, with attributes taken out of `attributes`. `None` where no op has the name.
            pub fn parse(
                name: &str,
                attributes: &mut Attributes,
                ty: &TensorType,
            ) -> Option<Result<Op, AttributeError>> {
                $(
                    let parse: ParseOp<$op> = $op::parse;
                    if let Some(parsed) = parse(name, attributes, ty) {
                        return Some(parsed.map(Op::$op));
                    }
                )+
                None
            }
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op { Op::$op(op) }
        })+
    };
}

op_list!(
    Source,
    Constant,
    Iota,
    DimSize,
    Unary,
    Binary,
    Compare,
    Select,
    Convert,
    StopGradient,
    Broadcast,
    Reshape,
    Transpose,
    Slice,
    Reduce,
    Dot,
);
