//! Why a compilation ended without a result.

use crate::options::OptionsError;
use crate::passes::PassError;
use crate::stage::Stage;
use kiln_ir::Violations;
use std::path::PathBuf;

/// Why a compilation ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// An environment variable means nothing.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The graph that was given breaks invariants. Graphs from the builder or the parser never do.
    #[error("the graph `{graph}` is not valid:\n{violations}")]
    Invalid {
        /// The graph.
        graph: String,
        /// What does not hold.
        violations: Violations,
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
    #[error("its result is not valid:\n{0}")]
    Invalid(Violations),
    /// The graph that it returned has another signature.
    #[error("its result has another signature: {0}")]
    Signature(String),
}
