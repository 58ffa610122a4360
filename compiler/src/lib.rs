//! Kiln's compiler: graph passes, fusion, memory planning and machine code.
//!
//! Each phase has its own type: `Graph` (tensors), [`fusion::Groups`] (what is computed together), [`kernel::Kernel`] (loops over memory),
//! machine code, and the `Program` of `kiln-ir` (steps over buffers). The crate never runs a program and does not know the runtime.

mod access;
mod compile;
pub mod driver;
pub mod emit;
mod error;
pub mod fusion;
mod inspect;
pub mod jit;
pub mod kernel;
mod likely;
mod lower;
pub mod math;
mod options;
pub mod passes;
mod plan;
mod stage;

pub use compile::{Compiled, Phase, compile, compile_in, program, stage_text};
pub use error::{CompileError, PassFailure, PassFault};
pub use inspect::{Inspection, KernelTexts, inspect};
pub use lower::LowerError;
pub use options::{FullWidth, Options, OptionsError, Order};
pub use stage::{Stage, UnknownStage};
