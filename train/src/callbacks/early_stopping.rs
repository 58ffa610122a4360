//! Ending a training that no longer improves.

use super::watch::Watch;
use super::{Callback, Flow, Moment};
use crate::trainer::{Epoch, TrainError};

/// Ends the training where a value has not improved for some epochs.
///
/// The epochs are those of the run, those before a checkpoint was loaded among them.
#[derive(Debug)]
pub struct EarlyStopping {
    watch: Watch,
    patience: usize,
    restores: bool,
    /// What the trainer remembers the best epoch by, while it does.
    copy: Option<String>,
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
            copy: None,
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

    /// What the best epoch is remembered by, if there is one, and how many epochs there were since. Whoever watches in another way has other
    /// best epochs, so all that decides which one it is stands in the name.
    fn best(&self, epochs: &[Epoch]) -> (Option<String>, usize) {
        let (mut best, mut number, mut since) = (None, None, 0);
        for (epoch, cost) in epochs.iter().zip(self.watch.costs(epochs)) {
            if self.watch.improves(best, cost) {
                (best, number, since) = (Some(cost), Some(epoch.number), 0);
            } else {
                since += 1;
            }
        }
        let name = number.map(|number| format!("epoch {number}, {}", self.watch));
        (name, since)
    }
}

impl Callback for EarlyStopping {
    fn train_begin(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        self.watch.check(moment)?;
        let (best, _) = self.best(moment.epochs());
        self.copy = best.filter(|_| self.restores);
        if let Some(name) = &self.copy {
            match moment.trainer.remembered.get(name) {
                Some(best) if best.is_empty() => {
                    let best = moment.trainer.snapshot()?;
                    moment.trainer.remembered.insert(name.clone(), best);
                }
                Some(_) => {}
                None => {
                    return Err(TrainError::Missing {
                        what: "the best epoch of the run that goes on",
                        help: "its checkpoint was saved without `restore_best` of this value and `min_delta`, so leave that out here too",
                    });
                }
            }
        }
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let (best, since) = self.best(moment.epochs());
        if since == 0
            && self.restores
            && let Some(best) = best
        {
            let copy = moment.trainer.snapshot()?;
            let remembered = &mut moment.trainer.remembered;
            remembered.insert(best.clone(), copy);
            if let Some(before) = self.copy.replace(best) {
                remembered.remove(&before);
            }
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
        match self.copy.take() {
            Some(best) => moment.trainer.come_back_to(&best),
            None => Ok(()),
        }
    }
}
