//! Checkpoints of the epochs that are worth keeping.

use super::watch::Watch;
use super::{Callback, Flow, Moment};
use crate::checkpoint::{CheckpointError, position_of};
use crate::trainer::{Position, TrainError, can_write};
use kiln_interop::FileError;
use std::path::{Path, PathBuf};

const PREFIX: &str = "epoch-";
const SUFFIX: &str = ".safetensors";
const INTERRUPTED: &str = "interrupted.safetensors";

/// Saves the trainer after epochs, as `epoch-0007.safetensors` in a folder: after each n-th, or after those in which a value was best.
///
/// Which epochs are the best is read from the history, so that a run that was stopped keeps the same files as one that was not. A folder is
/// for one run: a training does not begin where a file is of another run, or of epochs that this one has not done.
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

    /// The file in a folder that [`Fit::save_on_ctrl_c`](crate::Fit::save_on_ctrl_c) is best given, where [`latest`](Self::latest) looks for it.
    pub fn interrupted(folder: impl AsRef<Path>) -> PathBuf {
        folder.as_ref().join(INTERRUPTED)
    }

    /// The checkpoint in a folder with which a run has come the furthest, that of its last epoch or the [interrupted](Self::interrupted) one;
    /// `None` where there is neither, or no folder.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`]: a folder that cannot be read, and an interrupted checkpoint that is none.
    ///
    /// ```no_run
    /// # fn example(mut trainer: kiln_train::Trainer, data: kiln_train::data::Dataset) -> Result<(), kiln_train::TrainError> {
    /// use kiln_train::{Fit, callbacks::Checkpoint};
    ///
    /// if let Some(path) = Checkpoint::latest("runs/a")? {
    ///     trainer.load(path)?;
    /// }
    /// let saves = Checkpoint::every_epoch("runs/a").keep(2);
    /// let fit = Fit::until(20).callback(saves).save_on_ctrl_c(Checkpoint::interrupted("runs/a"));
    /// trainer.fit(&data, fit)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn latest(folder: impl AsRef<Path>) -> Result<Option<PathBuf>, TrainError> {
        let folder = folder.as_ref();
        let found = checkpoints(folder).map_err(|source| {
            let path = folder.to_owned();
            CheckpointError::File(FileError::Io { path, source })
        })?;
        let last = found.into_iter().max();
        let interrupted = Self::interrupted(folder);
        if !interrupted.exists() {
            return Ok(last.map(|(_, path)| path));
        }
        let reached = position_of(&interrupted)?;
        Ok(match last {
            Some((epoch, path)) if Position { epoch, batch: 0 } > reached => Some(path),
            Some(_) | None => Some(interrupted),
        })
    }

    fn path(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{epoch:04}{SUFFIX}"))
    }

    /// The epochs whose files stay, of those from 1 to `now`.
    fn kept(&self, moment: &Moment<'_>, now: u64) -> Vec<u64> {
        let epochs = moment.epochs();
        let mut ranked: Vec<u64> = match &self.watch {
            None => {
                let due = (1..=now).filter(|epoch| epoch.is_multiple_of(self.every));
                due.rev().collect()
            }
            Some(watch) => {
                let costs = watch.costs(epochs);
                let numbered = epochs.iter().map(|epoch| epoch.number).zip(costs);
                let mut ranked: Vec<(u64, f64)> =
                    numbered.filter(|(_, cost)| !cost.is_nan()).collect();
                // Of equal epochs the earlier one stays.
                ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
                ranked.into_iter().map(|(epoch, _)| epoch).collect()
            }
        };
        ranked.truncate(self.keep.unwrap_or(usize::MAX));
        ranked
    }
}

impl Callback for Checkpoint {
    fn saves(&self) -> bool {
        true
    }

    fn train_begin(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        if let Some(watch) = &self.watch {
            watch.check(moment)?;
        }
        can_write(&self.path(moment.trainer.position().epoch + 1))?;
        let found = checkpoints(&self.folder).map_err(TrainError::write(&self.folder))?;
        let interrupted = Self::interrupted(&self.folder);
        let interrupted = interrupted.exists().then_some(interrupted);
        let found = found.into_iter().map(|(_, path)| path).chain(interrupted);
        for path in found {
            if let Some(why) = moment.trainer.is_foreign(&path) {
                return Err(TrainError::Stale { path, why });
            }
        }
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let now = moment.trainer.position().epoch;
        let kept = self.kept(moment, now);
        if kept.contains(&now) {
            moment.trainer.save(self.path(now))?;
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
