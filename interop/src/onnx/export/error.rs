//! Why a graph cannot be exported.

use kiln_ir::{TensorType, Violations};
use std::fmt;
use std::path::PathBuf;

/// A node that has no form in ONNX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexported {
    /// The node as the text form of the graph calls it, or a slot or output by its name.
    pub node: String,
    /// The op; `input`, `param`, `state` or `output` where it is none.
    pub op: String,
    /// The type of its result.
    pub ty: TensorType,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Unexported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            op,
            ty,
            reason,
        } = self;
        write!(f, "`{node}` ({op}: {ty}): {reason}")
    }
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// All nodes, slots and outputs that ONNX cannot express, and params and states without a value.
    #[error("{} of `{graph}` cannot be exported:{}", .nodes.len(), listed(.nodes))]
    Unexported {
        /// The graph.
        graph: String,
        /// What cannot be exported, in the order of the graph.
        nodes: Vec<Unexported>,
    },
    /// A graph that is none: one that no builder and no reader gives.
    #[error(transparent)]
    Invalid(#[from] Violations),
    /// An output that is asked for and that the graph does not have.
    #[error("`{graph}` has no output `{name}`; its outputs are {}", .outputs.join(", "))]
    NoOutput {
        /// The graph.
        graph: String,
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        outputs: Vec<String>,
    },
    /// A protobuf message has at most 2^31 - 1 bytes.
    #[error("the model has {0} bytes, and an ONNX file at most 2147483647")]
    TooLarge(usize),
    /// The system cannot write the file, which is as it was.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn listed(nodes: &[Unexported]) -> String {
    nodes.iter().map(|node| format!("\n  {node}")).collect()
}
