//! Where a node comes from: the user's source line, the scope stack, and what made it.

use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A line of the user's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The file as the compiler was given it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Location {
    /// The line that called into Kiln; every function on the way is `#[track_caller]`.
    #[track_caller]
    pub fn caller() -> Self {
        let at = std::panic::Location::caller();
        Self {
            file: at.file().into(),
            line: at.line(),
            column: at.column(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What appended a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// The user's call.
    User,
    /// The vjp rule of a node of the same graph.
    Vjp(NodeId),
    /// A compiler pass, by name.
    Pass(Arc<str>),
}

/// Where a node comes from. It plays no part in the meaning of the graph nor in its hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Provenance {
    /// The user's line.
    pub location: Location,
    /// The scopes that were open, joined by `/`: `encoder/fc1`; empty at the top.
    pub scope: Arc<str>,
    /// What appended the node.
    pub origin: Origin,
}

impl Provenance {
    /// The user's line and scope, for people: `model.rs:12:15 in "encoder/fc1"`.
    pub fn place(&self) -> String {
        match &*self.scope {
            "" => self.location.to_string(),
            scope => format!("{} in \"{scope}\"", self.location),
        }
    }
}
