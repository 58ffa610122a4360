//! Kiln's graph IR: types, ops, text form, autodiff, interpreter and the `Program` contract.
//!
//! Everything above imports this crate; it imports nothing of Kiln. A graph is plain immutable data once it is finished.
//!
//! ```
//! use kiln_ir::{Builder, DType, Init, grad};
//!
//! let g = Builder::new("linear");
//! let b = g.dim("b");
//! let x = g.input("x", DType::F32, (b.clone(), 1));
//! let y = g.input("y", DType::F32, (b, 1));
//! let w = g.param("w", (1, 1), Init::zeros());
//! let loss = (x.dot(w) - y).square().mean();
//! let gradient = grad(loss, &[w])[0];
//! g.update(w, w - gradient * 0.1);
//! g.output("loss", loss);
//! let graph = g.finish().unwrap();
//! assert_eq!(graph.outputs().len(), 1);
//! ```

mod array;
mod attributes;
mod autodiff;
mod builder;
mod diagnostic;
mod dim;
mod dot;
mod dtype;
mod eval;
mod graph;
mod ids;
mod init;
pub mod ops;
mod orthogonal;
pub mod philox;
pub mod program;
mod provenance;
mod sampler;
mod serial;
mod substitute;
mod text;
mod types;
mod verify;

pub use array::{Array, EvalError, Values};
pub use attributes::{AttributeError, Attributes, Value};
pub use autodiff::grad;
pub use builder::{
    Builder, ConvOptions, Iteration, Layout, LocationGuard, Operand, Padding, PoolOptions,
    ScanOptions, Scanned, ScopeGuard, Tensor, UnknownLayout, Yield,
};
pub use diagnostic::{Diagnostic, Diagnostics, Kind, Refusal, error_text};
pub use dim::{BindError, Bindings, Dim, DimParseError, Equation, Expression, Symbol, solve};
pub use dot::{OperandEdge, OperandReference, Visited};
pub use dtype::{Class, DType, UnknownDType};
pub use eval::{Step, eval};
pub use graph::{Graph, Node, Output, Role, Slot, Update};
pub use ids::{Axis, BufferId, KernelId, NodeId};
pub use init::{Init, UnknownInit};
pub use ops::{
    Call, CallAttributes, CallVjp, CumulativeKind, CustomOp, Op, OutOfRange, ReduceKind,
    ScatterKind, WindowKind, register,
};
pub use provenance::{Location, Origin, Provenance};
pub use sampler::Sampler;
pub use serial::SerialError;
pub use substitute::substitute;
pub use text::{Labels, ParseError, ParseErrors, TextOptions};
pub use types::{Shape, TensorType};
pub use verify::{Invariant, Place, Violation, Violations, verify};
