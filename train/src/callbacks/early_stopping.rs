//! Ending a training that no longer improves.

use super::watch::Watch;
use super::{Callback, Flow, Moment};
use crate::trainer::{Snapshot, TrainError};

/// Ends the training where a value has not improved for some epochs.
///
/// The epochs are those of the run, those before a checkpoint was loaded among them.
#[derive(Debug)]
pub struct EarlyStopping {
    watch: Watch,
    patience: usize,
    restores: bool,
}

impl EarlyStopping {
    /// Watches a value that is better the lower it is, such as `val_loss`.
    pub fn lowest(name: &str) -> Self {
        Self::new(Watch::lowest(name))
    }

    /// Watches a value that is better the higher it is, such as `val_accuracy`.
    pub fn highest(name: &str) -> Self {
        Self::new(Watch::highest(name))
    }

    fn new(watch: Watch) -> Self {
        Self {
            watch,
            patience: 0,
            restores: false,
        }
    }

    /// After how many epochs in a row without an improvement the training ends, as in Keras; 0 unless given, which counts as 1.
    pub fn patience(mut self, epochs: usize) -> Self {
        self.patience = epochs;
        self
    }

    /// By how much a value must be better to count as an improvement; 0 unless given.
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.watch.set_min_delta(delta);
        self
    }

    /// Puts params and states back, when the training ends, to what they were after the best epoch of the run. Checkpoints hold a copy of
    /// them until then, so that a run that goes on ends as one that was not stopped.
    pub fn restore_best(mut self) -> Self {
        self.restores = true;
        self
    }

    /// For how many epochs there was no improvement.
    fn since(&self, moment: &Moment<'_>) -> usize {
        let (mut best, mut since) = (None, 0);
        for cost in self.watch.costs(moment.epochs()) {
            if self.watch.improves(best, cost) {
                (best, since) = (Some(cost), 0);
            } else {
                since += 1;
            }
        }
        since
    }

    /// What the trainer remembers the best epoch by.
    fn key(&self) -> String {
        format!("best {}", self.watch.name())
    }
}

impl Callback for EarlyStopping {
    fn train_begin(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        self.watch.check(moment)?;
        let key = self.key();
        if moment.epochs().is_empty() {
            moment.trainer.remembered.remove(&key);
            return Ok(Flow::Go);
        }
        let any = self
            .watch
            .costs(moment.epochs())
            .iter()
            .any(|cost| !cost.is_nan());
        match moment.trainer.remembered.get(&key) {
            Some(best) if best.is_empty() => {
                let best = moment.trainer.snapshot()?;
                moment.trainer.remembered.insert(key, best);
            }
            None if any && self.restores => {
                return Err(TrainError::Missing {
                    what: "the best epoch of the run that goes on",
                    help: "its checkpoint was saved without `restore_best`, so leave that out here too",
                });
            }
            Some(_) | None => {}
        }
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let since = self.since(moment);
        if since == 0 && self.restores {
            let best = moment.trainer.snapshot()?;
            moment.trainer.remembered.insert(self.key(), best);
        }
        Ok(if since >= self.patience.max(1) {
            let name = self.watch.name();
            let epochs = if since == 1 { "epoch" } else { "epochs" };
            Flow::Stop(format!("`{name}` has not improved for {since} {epochs}"))
        } else {
            Flow::Go
        })
    }

    fn train_end(&mut self, moment: &mut Moment<'_>) -> Result<(), TrainError> {
        let best = moment.trainer.remembered.remove(&self.key());
        let Some(best) = best.filter(|_| self.restores) else {
            return Ok(());
        };
        moment.trainer.restore(&best)?;
        // From here on the best epoch is what the trainer holds, and needs no copy.
        let none = Snapshot::default();
        moment.trainer.remembered.insert(self.key(), none);
        Ok(())
    }
}
