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
    best: Option<Snapshot>,
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
            best: None,
        }
    }

    /// How many epochs without an improvement are borne; 0 unless given.
    pub fn patience(mut self, epochs: usize) -> Self {
        self.patience = epochs;
        self
    }

    /// By how much a value must be better to count as an improvement; 0 unless given.
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.watch.set_min_delta(delta);
        self
    }

    /// Puts params and states back, when the training ends, to what they were after the best epoch of this call of `fit`.
    pub fn restore_best(mut self) -> Self {
        self.restores = true;
        self
    }
}

impl Callback for EarlyStopping {
    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let costs = self.watch.costs(moment.epochs())?;
        let (mut best, mut since) = (None, 0);
        for cost in costs {
            if self.watch.improves(best, cost) {
                (best, since) = (Some(cost), 0);
            } else {
                since += 1;
            }
        }
        if since == 0 && self.restores {
            self.best = Some(moment.trainer.snapshot()?);
        }
        Ok(if since > self.patience {
            let name = self.watch.name();
            Flow::Stop(format!("`{name}` has not improved for {since} epochs"))
        } else {
            Flow::Go
        })
    }

    fn train_end(&mut self, moment: &mut Moment<'_>) -> Result<(), TrainError> {
        match self.best.take() {
            Some(best) => moment.trainer.restore(&best),
            None => Ok(()),
        }
    }
}
