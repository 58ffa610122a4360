//! Kiln's compiler: graph passes, fusion, memory planning and machine code.
//!
//! Each phase has its own type: `Graph` (tensors), groups (what is computed together), [`kernel::Kernel`] (loops over memory), machine
//! code, and the `Program` of `kiln-ir` (steps over buffers). The crate never runs a program and does not know the runtime.

pub mod driver;
mod error;
pub mod kernel;
pub mod math;
mod options;
pub mod passes;
mod stage;

pub use error::{CompileError, PassFailure, PassFault};
pub use options::{Options, OptionsError};
pub use stage::{Stage, UnknownStage};
