//! What can go wrong between a description and a trained model.

use super::not_finite::NotFinite;
use crate::checkpoint::CheckpointError;
use crate::compile::Error;
use crate::data::DataError;
use crate::epoch::HandOverError;
use kiln_interop::onnx::ExportError;
use kiln_ir::Diagnostics;
use kiln_runtime::memory::OutOfMemory;
use kiln_runtime::{ReadError, SessionError, SetError, StepError};
use std::path::PathBuf;

/// Why a model could not be trained, measured or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Something that a trainer needs was not given.
    #[error("{what} is missing: {help}")]
    Missing {
        /// What.
        what: &'static str,
        /// How to give it.
        help: &'static str,
    },
    /// A loss, metric or target for an output that the model does not have, or where it has to be said which is meant.
    #[error("{what} for output `{output}`, but the model has {known}")]
    Output {
        /// What was to be attached.
        what: &'static str,
        /// The output.
        output: String,
        /// The outputs there are.
        known: String,
    },
    /// Two metrics of one name, or one with the name of something else that is logged.
    #[error(
        "`{name}` is already the name of something in the logs; `.named(\"another\")` renames a metric"
    )]
    Metric {
        /// The name.
        name: String,
    },
    /// Params are to be frozen, and there are none such.
    #[error("no param has {what}; there are {known}")]
    Frozen {
        /// How they were to be found.
        what: String,
        /// The params there are.
        known: String,
    },
    /// A setting that is out of its range.
    #[error("{what} is {value}; it lies {wanted}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What was given.
        value: f64,
        /// The range.
        wanted: &'static str,
    },
    /// The same trainer is fed targets of two types.
    #[error("the target `{name}` was {before} in the data that came first, and is {now} now")]
    Target {
        /// The column.
        name: String,
        /// The type of a batch at first.
        before: String,
        /// The type of a batch now.
        now: String,
    },
    /// An epoch that was stopped is to go on with other data, or in batches of another size.
    #[error(
        "the {batches} batches that were done of this epoch had {before} examples, and have {now} now: go on with the same data and the same size of batches"
    )]
    OtherBatches {
        /// How many batches were done.
        batches: u64,
        /// The examples that they had.
        before: u64,
        /// The examples that as many have now.
        now: u64,
    },
    /// Mistakes in the graph of the model, each with its line.
    #[error(transparent)]
    Graph(#[from] Diagnostics),
    /// The graph could not be compiled.
    #[error(transparent)]
    Compile(#[from] Error),
    /// There is no room for the session, or no thread.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The data lacks a column, or batches cannot be made of it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A step was refused; params and states are as the batch before left them.
    #[error("batch {batch} of epoch {epoch} was refused: {source}")]
    Step {
        /// The epoch, from 1.
        epoch: u64,
        /// The batch, from 1.
        batch: u64,
        /// Why.
        source: Box<StepError>,
    },
    /// The loss is no number; params and states are as the batch before left them.
    #[error("{0}")]
    NotFinite(Box<NotFinite>),
    /// A result could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A state could not be set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Params do not fit from one graph of the model into another.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// A value that a callback was told to watch.
    #[error("there is no `{name}` to watch; there are {known}")]
    Unwatched {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A file of a callback could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder for checkpoints holds those of another run, which nobody could tell from those of this one later.
    #[error(
        "{} {why}: load it to go on from there, remove it, or save in another folder",
        path.display()
    )]
    Stale {
        /// The file.
        path: PathBuf,
        /// Why it is of another run.
        why: String,
    },
    /// A checkpoint could not be saved or loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model could not be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// There is no memory for a copy of the states.
    #[error("no memory for a copy of the states: {0}")]
    Memory(#[from] OutOfMemory),
    /// Ctrl-C cannot be listened to.
    #[error("cannot listen to Ctrl-C: {0}")]
    Interrupt(String),
    /// A callback of the user's own.
    #[error("{0}")]
    Callback(Box<dyn std::error::Error + Send + Sync>),
}

impl TrainError {
    /// Refuses a setting that is not allowed.
    pub(crate) fn check(
        what: &'static str,
        value: f64,
        allowed: bool,
        wanted: &'static str,
    ) -> Result<(), Self> {
        if allowed {
            return Ok(());
        }
        Err(Self::Setting {
            what,
            value,
            wanted,
        })
    }

    /// A file that could not be written.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
