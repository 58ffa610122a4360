//! The history as a file that other programs read.

use super::{Callback, Flow, Moment};
use crate::trainer::{TrainError, can_write};
use kiln_interop::replace_file;
use std::io::Write;
use std::path::PathBuf;

/// Writes [`History::csv`](crate::History::csv) to a file after each epoch, whole or not at all.
#[derive(Debug)]
pub struct CsvLog {
    path: PathBuf,
}

impl CsvLog {
    /// A log at `path`, which is replaced after the first epoch. Its folder is made if it is not there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Callback for CsvLog {
    fn train_begin(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        can_write(&self.path)?;
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let text = moment.trainer.history().csv();
        replace_file(&self.path, |file| file.write_all(text.as_bytes()))
            .map_err(TrainError::write(&self.path))?;
        Ok(Flow::Go)
    }
}
