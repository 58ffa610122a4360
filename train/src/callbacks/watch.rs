//! Whether a watched value still improves.

use super::Moment;
use crate::trainer::{Epoch, TrainError};
use std::fmt;

/// A value of each epoch, and which direction is better.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watch {
    name: String,
    rises: bool,
    min_delta: f64,
}

impl Watch {
    pub(super) fn lowest(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rises: false,
            min_delta: 0.0,
        }
    }

    pub(super) fn highest(name: &str) -> Self {
        Self {
            rises: true,
            ..Self::lowest(name)
        }
    }

    pub(super) fn set_min_delta(&mut self, min_delta: f64) {
        self.min_delta = min_delta;
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Refuses a value that the logs will not have, and a difference that is none.
    pub(super) fn check(&self, moment: &Moment<'_>) -> Result<(), TrainError> {
        let delta = self.min_delta;
        let allowed = delta.is_finite() && delta >= 0.0;
        TrainError::check("`min_delta`", delta, allowed, "at 0 or above")?;
        if moment.names().contains(&self.name) {
            return Ok(());
        }
        let known = moment.names().iter().map(|name| format!("`{name}`"));
        let known: Vec<String> = known.collect();
        Err(TrainError::Unwatched {
            name: self.name.clone(),
            known: known.join(", "),
        })
    }

    /// The value of each epoch, so that smaller is better; NaN for one that lacks it.
    pub(super) fn costs(&self, epochs: &[Epoch]) -> Vec<f64> {
        let cost = |epoch: &Epoch| {
            let value = epoch.logs.get(&self.name).unwrap_or(f64::NAN);
            if self.rises { -value } else { value }
        };
        epochs.iter().map(cost).collect()
    }

    /// Whether a cost is so much better than the best before that it counts. Nothing is better than `NaN`, and everything than none.
    pub(super) fn improves(&self, best: Option<f64>, cost: f64) -> bool {
        match best {
            Some(best) => cost < best - self.min_delta,
            None => !cost.is_nan(),
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            rises,
            min_delta,
        } = self;
        let direction = if *rises { "highest" } else { "lowest" };
        write!(f, "{direction} `{name}` by {min_delta}")
    }
}
