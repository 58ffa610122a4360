//! Kiln's graph IR: types, ops, text form, autodiff, interpreter and the `Program` contract.
//!
//! Everything above imports this crate; it imports nothing of Kiln. A graph is plain immutable data once it is finished.

mod dim;
mod dtype;
mod ids;
mod types;

pub use dim::{BindError, Bindings, Dim, DimParseError, Equation, Symbol, solve};
pub use dtype::{Class, DType, UnknownDType};
pub use ids::{Axis, BufferId, KernelId, NodeId};
pub use types::{Shape, TensorType};
