//! What can be wrong with an ONNX file, and why a model cannot be imported.

use std::fmt;
use std::path::PathBuf;

/// A file that is no whole ONNX model or tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The system cannot open, map or read it.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no protobuf message of the kind, or not whole.
    #[error("{file} is not a whole ONNX {what}: {source}")]
    Protobuf {
        /// The file, or what the caller calls the bytes.
        file: String,
        /// `model`, `tensor` and so on.
        what: &'static str,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// It says things of itself that cannot be.
    #[error("{file} is not a whole ONNX file: {what}")]
    Malformed {
        /// The file, or what the caller calls the bytes.
        file: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

/// Why one node cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The IR cannot express it, or the importer does not.
    Unsupported(String),
    /// It depends on the value of an input, by position, that is not known when the graph is built.
    Unknown(usize, String),
}

impl Reason {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Reason::Unsupported(what.into())
    }
}

/// A node that cannot be imported, or an input or initializer where `operator` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The node's name, or that of its first output where it has none.
    pub node: String,
    /// The operator.
    pub operator: String,
    /// The operator's domain; `ai.onnx` is ONNX's own.
    pub domain: String,
    /// Why.
    pub reason: String,
    /// The value that would have to be known when the graph is built, where that is the reason. If it is an input of the model, give it in
    /// [`ImportOptions::fixed`](super::ImportOptions::fixed).
    pub unknown: Option<String>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.operator.is_empty() {
            return write!(f, "`{}`: {}", self.node, self.reason);
        }
        write!(
            f,
            "`{}` ({} of {}): {}",
            self.node, self.operator, self.domain, self.reason
        )
    }
}

/// Everything in a model that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ImportErrors(pub Vec<Unsupported>);

impl fmt::Display for ImportErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "a part of the model cannot be imported:")?,
            count => write!(f, "{count} parts of the model cannot be imported:")?,
        }
        for each in &self.0 {
            write!(f, "\n  {each}")?;
        }
        Ok(())
    }
}
