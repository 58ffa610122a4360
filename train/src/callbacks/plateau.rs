//! A learning rate that falls where nothing improves.

use super::watch::Watch;
use super::{Callback, Flow, Moment};
use crate::trainer::TrainError;

/// Multiplies the learning rate where a value has not improved for some epochs.
///
/// The epochs are those of the run, those before a checkpoint was loaded among them. A schedule multiplies the rate that is left.
#[derive(Debug)]
pub struct ReduceLrOnPlateau {
    watch: Watch,
    factor: f64,
    patience: usize,
    cooldown: usize,
    least: f64,
}

impl ReduceLrOnPlateau {
    /// Watches a value that is better the lower it is, such as `val_loss`.
    pub fn lowest(name: &str) -> Self {
        Self::new(Watch::lowest(name))
    }

    /// Watches a value that is better the higher it is, such as `val_accuracy`.
    pub fn highest(name: &str) -> Self {
        Self::new(Watch::highest(name))
    }

    /// The settings of Keras.
    fn new(mut watch: Watch) -> Self {
        watch.set_min_delta(1e-4);
        Self {
            watch,
            factor: 0.1,
            patience: 10,
            cooldown: 0,
            least: 0.0,
        }
    }

    /// What the rate is multiplied by, below 1; 0.1 unless given.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// How many epochs without an improvement are borne; 10 unless given.
    pub fn patience(mut self, epochs: usize) -> Self {
        self.patience = epochs;
        self
    }

    /// How many epochs after a change are not counted; 0 unless given.
    pub fn cooldown(mut self, epochs: usize) -> Self {
        self.cooldown = epochs;
        self
    }

    /// By how much a value must be better to count as an improvement; 1e-4 unless given.
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.watch.set_min_delta(delta);
        self
    }

    /// The rate does not fall below this; 0 unless given.
    pub fn least(mut self, rate: f64) -> Self {
        self.least = rate;
        self
    }

    /// Whether the last of these epochs is one too many.
    fn is_due(&self, costs: &[f64]) -> bool {
        let (mut best, mut since, mut cooling, mut due) = (None, 0, 0, false);
        for cost in costs {
            due = false;
            if cooling > 0 {
                cooling -= 1;
                since = 0;
            }
            if self.watch.improves(best, *cost) {
                (best, since) = (Some(*cost), 0);
            } else if cooling == 0 {
                since += 1;
                if since >= self.patience {
                    (since, cooling, due) = (0, self.cooldown, true);
                }
            }
        }
        due
    }
}

impl Callback for ReduceLrOnPlateau {
    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        if self.is_due(&self.watch.costs(moment.epochs())?) {
            for (name, rate) in moment.trainer.learning_rates() {
                let reduced = (rate * self.factor).max(self.least.min(rate));
                moment.trainer.set_learning_rate_of(&name, reduced)?;
            }
        }
        Ok(Flow::Go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_after_each_stretch_without_improvement_and_rests_then() {
        let plateau = ReduceLrOnPlateau::lowest("loss").patience(2).min_delta(0.1);
        let due = |costs: &[f64]| -> Vec<bool> {
            (1..=costs.len())
                .map(|n| plateau.is_due(&costs[..n]))
                .collect()
        };
        assert_eq!(
            due(&[1.0, 0.95, 0.99, 0.5, 0.5, 0.45, 0.45, 0.41]),
            [false, false, true, false, false, true, false, true]
        );
        let resting = ReduceLrOnPlateau::lowest("loss").patience(1).cooldown(2);
        let due: Vec<bool> = (1..=6).map(|n| resting.is_due(&[1.0; 6][..n])).collect();
        assert_eq!(due, [false, true, false, true, false, true]);
    }
}
