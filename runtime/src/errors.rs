//! What can be wrong with opening a session, with a step, and with setting a state. Each leaves everything as it was.

use crate::binding::{FeedMismatch, Mismatch};
use crate::memory::{OutOfMemory, ViewError};
use crate::plan::PlanError;
use crate::report::{Bytes, MemoryReport};
use crate::view::ReadError;
use kiln_ir::{BindError, Bindings, TensorType};
use std::fmt;

/// More memory than the session was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// The most that is allowed, in bytes.
    pub limit: usize,
    /// What is needed.
    pub needed: MemoryReport,
    /// The binding that needs it; empty where no symbol matters.
    pub bindings: Bindings,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbols: Vec<String> = self
            .bindings
            .iter()
            .map(|(symbol, value)| format!("{symbol} = {value}"))
            .collect();
        if !symbols.is_empty() {
            write!(f, "with {}, ", symbols.join(", "))?;
        }
        write!(
            f,
            "the session needs {}; the limit is {}",
            self.needed,
            Bytes(self.limit)
        )
    }
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The extents of a param or state have no value, or are out of range.
    #[error(
        "the {role} `{name}`, {ty}, lives as long as the session, so its extents must be bound in the session's options: {source}"
    )]
    Unbound {
        /// "param" or "state".
        role: &'static str,
        /// The param or state.
        name: String,
        /// Its type.
        ty: TensorType,
        /// What is missing.
        source: Box<BindError>,
    },
    /// A symbol of the options that the program does not have.
    #[error("the program has no dim `{symbol}` to bind; it has {known}")]
    UnknownSymbol {
        /// The symbol.
        symbol: String,
        /// Those that it has.
        known: String,
    },
    /// More memory than the limit, before any step.
    #[error("{0}")]
    OverLimit(Box<OverLimit>),
    /// The machine has no more memory.
    #[error("no memory for params and state: {0}")]
    Memory(#[from] OutOfMemory),
    /// The program's params and state do not lie as they should, which is a bug.
    #[error("params and state do not fit where the layout put them: {0}")]
    Layout(#[from] ViewError),
    /// The system would not start a thread.
    #[error("cannot start the session's threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// Why a step was refused. The session is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A feed that does not fit its input.
    #[error(transparent)]
    Feed(#[from] FeedMismatch),
    /// Sizes that contradict each other, are not bound, or leave a buffer.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// More memory than the limit.
    #[error("{0}")]
    OverLimit(Box<OverLimit>),
    /// The machine has no more memory.
    #[error("no memory for the step: {0}")]
    Memory(#[from] OutOfMemory),
    /// A guard of the graph did not hold.
    #[error("{message} ({location}); no param or state has changed")]
    Guard {
        /// What is wrong.
        message: String,
        /// The user's line and scope.
        location: String,
    },
    /// A custom op failed, or its code panicked.
    #[error("custom op `{op}`: {message} ({location}); no param or state has changed")]
    Call {
        /// The op.
        op: String,
        /// Its own words.
        message: String,
        /// The user's line and scope.
        location: String,
    },
}

/// Why a param or state could not be set. It is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No param or state of this name.
    #[error(transparent)]
    Name(ReadError),
    /// Another type or shape, or a number of elements that is not that of the shape.
    #[error(transparent)]
    Feed(#[from] FeedMismatch),
    /// Another extent than the session's.
    #[error("{mismatch}; in this session its shape is {expected:?}")]
    Shape {
        /// The types.
        mismatch: Mismatch,
        /// The shape that it has.
        expected: Vec<usize>,
    },
}
