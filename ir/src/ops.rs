//! The op list, and the rules that every op must give.
//!
//! An op lives in one room, a file of `ops/`: its shape rule, vjp, reference evaluation, printing and parsing. To add one: write its
//! struct and its [`Rules`] in a room, and one word in the list below. The trait has no default methods, so that a forgotten rule does
//! not compile.

use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::{BindError, Bindings};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod accumulate;
mod compound;
mod constant;
mod contraction;
mod control;
mod custom;
mod indexing;
mod movement;
mod random;
mod reduction;
mod scalar;
mod source;
mod window;

pub use accumulate::accumulator;
pub(crate) use accumulate::field as accumulate_field;

pub(crate) use compound::first as first_result;
pub use compound::{Compound, Part};
pub use constant::{Constant, ConstantValue, Dense, DimSize, Element, Iota, Literal};
pub use contraction::{
    Conv, ConvAxes, ConvGroups, DataAxes, DataRole, Dot, KernelAxes, KernelRole, LabelError,
};
pub(crate) use control::DEEPEST as DEEPEST_REGION;
pub use control::{Cond, Pruned, Region, Save, Scan, While};
pub(crate) use custom::find as custom_op;
pub use custom::{
    Call, CallAttributes, CallError, CallTensor, CallVjp, CustomCall, CustomOp, RegisterError,
    register,
};
pub use indexing::{
    Argsort, DynamicSlice, DynamicUpdateSlice, Gather, OutOfRange, Scatter, ScatterKind, Sort,
};
pub use movement::{Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose};
pub use random::RngBits;
pub use reduction::{Arg, ArgKind, Cumulative, CumulativeKind, Reduce, ReduceKind};
pub(crate) use scalar::saturate;
pub use scalar::{
    Binary, Bitcast, Compare, Convert, Cost, Fma, Require, Select, StopGradient, Unary,
};
pub use source::Source;
pub use window::{
    ArgWindow, GatherWindow, ReduceWindow, ScatterWindow, WindowAxis, WindowKind, Windows,
};

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
    /// Of an op of several results, the cotangent of each result, `None` or missing where none flows; `cotangent` is the first of them and means nothing.
    pub cotangents: Vec<Option<Tensor<'g>>>,
    /// Which operands' cotangents are asked for; those of the others may be left out.
    pub wanted: Vec<bool>,
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
    /// The plain meaning, on concrete arrays that fit the shape rule. [`Op::eval`] calls it once it has checked that they do.
    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError>;
    /// What the text prints between braces.
    fn attributes(&self) -> Attributes;
}

/// What a reference evaluation sees besides its operands. Only [`Op::eval`] makes one, so who holds it knows that the operands fit the
/// op, as many and of the types that its shape rule accepts, and that the result can be allocated.
#[non_exhaustive]
pub struct EvalCx<'e> {
    /// The result's type.
    pub ty: &'e TensorType,
    /// The result's shape under the binding.
    pub shape: &'e [usize],
    /// The number of elements of the result.
    pub count: usize,
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

            /// One op of each name, and one of each kind where a name has kinds, in the order of the list: what tests walk.
            pub fn representatives() -> Vec<Op> {
                let mut all = Vec::new();
                $(all.extend($op::representatives().into_iter().map(Op::$op));)+
                all
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
    Fma,
    Convert,
    Bitcast,
    StopGradient,
    Require,
    Broadcast,
    Reshape,
    Transpose,
    Slice,
    Pad,
    Concat,
    Reverse,
    Reduce,
    Arg,
    Dot,
    Gather,
    Scatter,
    RngBits,
    Conv,
    ReduceWindow,
    ArgWindow,
    GatherWindow,
    ScatterWindow,
    Cumulative,
    Scan,
    While,
    Cond,
    Part,
    DynamicSlice,
    DynamicUpdateSlice,
    Sort,
    Argsort,
    CustomCall,
);

impl Op {
    /// The result on concrete operands, each given with its declared type: the interpreter's meaning of the op.
    ///
    /// Whatever the graph, this does not panic: operands that the shape rule refuses, a result type that is not the rule's, arrays
    /// that contradict their types under `bindings` and results too large to allocate are errors.
    pub fn eval(
        &self,
        operands: &[(&TensorType, &Array)],
        ty: &TensorType,
        bindings: &Bindings,
    ) -> Result<Array, EvalError> {
        let shape = self.fits(operands, ty, bindings)?;
        let cx = EvalCx {
            ty,
            shape: &shape,
            count: Array::room(ty.dtype, &shape)?,
            bindings,
        };
        let arrays: Vec<&Array> = operands.iter().map(|(_, array)| *array).collect();
        self.rules().eval(&arrays, &cx)
    }

    /// The extents of the result, where operands and type are those that the shape rule accepts.
    pub(crate) fn fits(
        &self,
        operands: &[(&TensorType, &Array)],
        ty: &TensorType,
        bindings: &Bindings,
    ) -> Result<Vec<usize>, EvalError> {
        let rules = self.rules();
        let types: Vec<&TensorType> = operands.iter().map(|(ty, _)| *ty).collect();
        let inferred = rules
            .infer(&types)
            .map_err(|refusal| EvalError::Invalid(refusal.message))?;
        if inferred != *ty {
            return Err(EvalError::Invalid(format!(
                "the result is declared as {ty}, but is {inferred}"
            )));
        }
        for (ty, array) in operands {
            if array.dtype() != ty.dtype || array.shape() != sizes(&ty.shape, bindings)? {
                return Err(EvalError::Invalid(format!(
                    "an operand is declared as {ty}, but is {} of shape {:?}",
                    array.dtype(),
                    array.shape()
                )));
            }
        }
        let shape = sizes(&ty.shape, bindings)?;
        Array::room(ty.dtype, &shape)?;
        Ok(shape)
    }
}

fn sizes(shape: &Shape, bindings: &Bindings) -> Result<Vec<usize>, BindError> {
    shape.iter().map(|d| d.eval_size(bindings)).collect()
}

/// The operand types, as many as the op takes; graphs read from a file may have any number.
fn exactly<'t, const N: usize>(
    op: &str,
    operands: &[&'t TensorType],
) -> Result<[&'t TensorType; N], Refusal> {
    operands.try_into().map_err(|_| {
        Refusal::new(
            Kind::Signature,
            format!("`{op}` takes {N} operands, not {}", operands.len()),
        )
    })
}

/// The evaluated operands, as many as the op takes.
fn arrays<'a, const N: usize>(operands: &[&'a Array]) -> Result<[&'a Array; N], EvalError> {
    operands
        .try_into()
        .map_err(|_| EvalError::Invalid(format!("{N} operands are needed, not {}", operands.len())))
}
