//! kiln-runtime: executes a compiled program; memory, threads and matrix products.
//!
//! It depends on `kiln-ir` and never on the compiler, so an application that ships a compiled trainer carries no
//! code generator. It prints nothing, reads no environment variable and keeps no globals.
//!
//! An [`Executable`] is a verified program with its code. A [`Session`] holds params, state and memory, and runs steps on borrowed
//! [`Feed`]s; a step gives [`Outputs`], which are read before the next one.

mod binding;
pub mod convolution;
mod element;
mod errors;
mod executable;
mod execute;
mod feed;
mod form;
mod initial;
mod layout;
pub mod machine;
pub mod memory;
mod outputs;
mod plan;
pub mod pool;
pub mod product;
mod profile;
mod report;
mod session;
mod share;
mod store;
mod view;

pub use binding::{FeedMismatch, Mismatch};
pub use element::{Element, Fed};
pub use errors::{OverLimit, SessionError, SetError, StepError};
pub use executable::{Executable, LoadError};
pub use feed::{Feed, FeedError, ToFeed};
pub use outputs::{OutputKey, Outputs};
pub use plan::{ConvolutionProblem, PlanError};
pub use profile::{Entry, Profile};
pub use report::{Bytes, MemoryReport};
pub use session::{Session, SessionOptions};
pub use view::{ReadError, TensorView};
