//! Why a compilation ended without a result.

use crate::emit::EmitError;
use crate::lower::LowerError;
use crate::options::OptionsError;
use crate::passes::PassError;
use crate::stage::Stage;
use kiln_ir::DType;
use std::path::PathBuf;

/// Why a compilation ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// An environment variable means nothing.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The graph that was given breaks invariants. Graphs from the builder or the parser never do.
    #[error("the graph `{graph}` is not valid: {violations}")]
    Invalid {
        /// The graph.
        graph: String,
        /// What does not hold.
        violations: String,
    },
    /// A pass failed, or what it returned does not hold; a defect of the compiler.
    #[error(transparent)]
    Pass(#[from] Box<PassFailure>),
    /// No pass has the name.
    #[error("there is no pass `{name}`; the passes are {known}")]
    UnknownPass {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A pass that reorders sums stands behind the point from which results must be equal bit for bit.
    #[error(
        "the pass `{pass}` reorders sums, so it must stand before the equality point of the pipeline"
    )]
    Pipeline {
        /// The pass.
        pass: String,
    },
    /// A dump could not be written.
    #[error("the {stage} dump could not be written to {}: {error}", path.display())]
    Dump {
        /// What was dumped.
        stage: Stage,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A node that no kernel can express; a defect of the compiler.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// An element type for which there is no machine code.
    #[error(
        "`{op}` at {provenance} computes with {dtype}, for which there is no machine code yet; keep the whole graph in f32 or f64"
    )]
    ElementType {
        /// The op.
        op: &'static str,
        /// The element type.
        dtype: DType,
        /// The user's line, and the scope.
        provenance: String,
    },
    /// A window that is too large to be unrolled into machine code.
    #[error(
        "`{op}` at {provenance} slides a window of {elements} elements, and machine code is made for at most {most}: reduce over one axis after the other, or over whole axes with `reduce`"
    )]
    Window {
        /// The op.
        op: &'static str,
        /// The elements of the window.
        elements: i64,
        /// How many are unrolled.
        most: i64,
        /// The user's line, and the scope.
        provenance: String,
    },
    /// No machine code could be made.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The planned program breaks an invariant; a defect of the compiler.
    #[error("the program of `{graph}` is not valid: {violations}")]
    Program {
        /// The graph.
        graph: String,
        /// What does not hold.
        violations: String,
    },
    /// The compilation was asked to end here; it is no mistake.
    #[error("the compilation stopped behind the stage {0}, as it was asked to")]
    Stopped(Stage),
}

/// A pass that failed, with what is needed to see it fail again.
#[derive(Debug, thiserror::Error)]
#[error("the pass `{pass}` failed on the graph `{graph}`: {cause}\n  = {}", self.replay())]
pub struct PassFailure {
    /// The pass.
    pub pass: String,
    /// The graph's name.
    pub graph: String,
    /// What went wrong.
    #[source]
    pub cause: PassFault,
    /// The file that holds the graph that the pass was given, or why there is none.
    pub input: Result<PathBuf, String>,
}

impl PassFailure {
    /// How to run the pass alone on the same input.
    pub fn replay(&self) -> String {
        match &self.input {
            Ok(path) => format!(
                "its input is in {}; `kiln_compiler::driver::run_pass({:?}, ..)` on it replays the failure",
                path.display(),
                self.pass
            ),
            Err(why) => format!("its input could not be written: {why}"),
        }
    }
}

/// How a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum PassFault {
    /// The pass said so itself.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph that it returned breaks invariants.
    #[error("its result is not valid: {0}")]
    Invalid(String),
    /// The graph that it returned has another signature.
    #[error("its result has another signature: {0}")]
    Signature(String),
}
