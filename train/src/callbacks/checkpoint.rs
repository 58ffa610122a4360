//! Checkpoints of the epochs that are worth keeping.

use super::watch::Watch;
use super::{Callback, Flow, Moment};
use crate::trainer::TrainError;
use std::path::{Path, PathBuf};

const PREFIX: &str = "epoch-";
const SUFFIX: &str = ".safetensors";

/// Saves the trainer after epochs, as `epoch-0007.safetensors` in a folder: after each n-th, or after those in which a value was best.
///
/// Which epochs are the best is read from the history, so that a run that was stopped keeps the same files as one that was not.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    every: u64,
    watch: Option<Watch>,
    keep: Option<usize>,
}

impl Checkpoint {
    /// After each epoch.
    pub fn every_epoch(folder: impl Into<PathBuf>) -> Self {
        Self::every(1, folder)
    }

    /// After each `epochs`-th epoch, and 0 counts as 1.
    pub fn every(epochs: u64, folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            every: epochs.max(1),
            watch: None,
            keep: None,
        }
    }

    /// After an epoch in which a value is lower than ever before in the run. Only the best file stays, unless [`keep`](Self::keep) says
    /// otherwise.
    pub fn lowest(name: &str, folder: impl Into<PathBuf>) -> Self {
        Self::best(Watch::lowest(name), folder.into())
    }

    /// After an epoch in which a value is higher than ever before in the run.
    pub fn highest(name: &str, folder: impl Into<PathBuf>) -> Self {
        Self::best(Watch::highest(name), folder.into())
    }

    fn best(watch: Watch, folder: PathBuf) -> Self {
        Self {
            folder,
            every: 1,
            watch: Some(watch),
            keep: Some(1),
        }
    }

    /// How many files stay: the best ones where a value is watched, else the latest.
    pub fn keep(mut self, files: usize) -> Self {
        self.keep = Some(files.max(1));
        self
    }

    /// The checkpoint of the latest epoch in a folder; `None` where there is none, or no folder.
    ///
    /// # Errors
    /// Those of the system, but for a folder that does not exist.
    pub fn latest(folder: impl AsRef<Path>) -> std::io::Result<Option<PathBuf>> {
        let found = checkpoints(folder.as_ref())?;
        Ok(found.into_iter().max().map(|(_, path)| path))
    }

    /// The epochs whose files stay, of those from 1 to `now`.
    fn kept(&self, moment: &Moment<'_>, now: u64) -> Result<Vec<u64>, TrainError> {
        let epochs = moment.epochs();
        let mut ranked: Vec<u64> = match &self.watch {
            None => {
                let due = (1..=now).filter(|epoch| epoch.is_multiple_of(self.every));
                due.rev().collect()
            }
            Some(watch) => {
                let costs = watch.costs(epochs)?;
                let numbered = epochs.iter().map(|epoch| epoch.number).zip(costs);
                let mut ranked: Vec<(u64, f64)> =
                    numbered.filter(|(_, cost)| !cost.is_nan()).collect();
                // Of equal epochs the earlier one stays.
                ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
                ranked.into_iter().map(|(epoch, _)| epoch).collect()
            }
        };
        ranked.truncate(self.keep.unwrap_or(usize::MAX));
        Ok(ranked)
    }
}

impl Callback for Checkpoint {
    fn saves(&self) -> bool {
        true
    }

    fn train_begin(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        std::fs::create_dir_all(&self.folder).map_err(TrainError::write(&self.folder))?;
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let now = moment.trainer.position().epoch;
        let kept = self.kept(moment, now)?;
        if kept.contains(&now) {
            let path = self.folder.join(format!("{PREFIX}{now:04}{SUFFIX}"));
            moment.trainer.save(&path)?;
            // Only once the new one is there do old ones go.
            let found = checkpoints(&self.folder).map_err(TrainError::write(&self.folder))?;
            for (epoch, path) in found {
                if self.keep.is_some() && epoch < now && !kept.contains(&epoch) {
                    std::fs::remove_file(&path).map_err(TrainError::write(path))?;
                }
            }
        }
        Ok(Flow::Go)
    }
}

/// The checkpoints in a folder, with their epochs.
fn checkpoints(folder: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        if let Some(Ok(epoch)) = number.map(str::parse) {
            found.push((epoch, path));
        }
    }
    Ok(found)
}
