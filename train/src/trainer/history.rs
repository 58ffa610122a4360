//! What the epochs of a training have come to.

use super::logs::Logs;
use crate::plot::{Figure, Panel, PlotError};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// An epoch: what it came to, and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: u64,
    /// How long it took with its validation, in seconds.
    pub seconds: f64,
    /// The losses and metrics of the data that was learned from, those of the validation with `val_` before their names, and
    /// `learning_rate`.
    pub logs: Logs,
}

/// The epochs of a training, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    epochs: Vec<Epoch>,
    stopped: Option<String>,
}

impl History {
    /// The epochs.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Why the training ended before its last epoch, if it did.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// The value called `name`, `NaN` for epochs that lack it: `history.get("val_loss")`.
    pub fn get(&self, name: &str) -> Vec<f64> {
        let values = self.epochs.iter().map(|epoch| epoch.logs.get(name));
        values.map(|value| value.unwrap_or(f64::NAN)).collect()
    }

    /// The value called `name` in the last epoch that has it.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.epochs
            .iter()
            .rev()
            .find_map(|epoch| epoch.logs.get(name))
    }

    /// The names of all values, in the order in which they first occur.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for (name, _) in self.epochs.iter().flat_map(|epoch| epoch.logs.iter()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A line for each epoch under a line of names, separated by commas; empty fields for what an epoch lacks.
    pub fn csv(&self) -> String {
        let names = self.names();
        let header = [&["epoch", "seconds"], names.as_slice()].concat();
        let mut text = format!("{}\n", header.join(","));
        for epoch in &self.epochs {
            // Writing to a `String` does not fail.
            let _ = write!(text, "{},{:.6}", epoch.number, epoch.seconds);
            for name in &names {
                match epoch.logs.get(name) {
                    Some(value) => {
                        let _ = write!(text, ",{value}");
                    }
                    None => text.push(','),
                }
            }
            text.push('\n');
        }
        text
    }

    /// The curves of all values, each beside that of its validation: a panel for the loss, and one for each metric.
    pub fn figure(&self) -> Figure {
        let names = self.names().into_iter();
        let own = names.filter(|name| !name.starts_with("val_") && *name != LEARNING_RATE);
        Figure::new(own.filter_map(|name| self.panel(name)).collect::<Vec<_>>())
    }

    /// The curve of one value beside that of its validation; `None` where neither has a finite point.
    pub fn panel(&self, name: &str) -> Option<Panel> {
        let curve = |key: &str| -> Vec<(f64, f64)> {
            let of = |epoch: &Epoch| Some((epoch.number as f64, epoch.logs.get(key)?));
            let points = self.epochs.iter().filter_map(of);
            points.filter(|(_, value)| value.is_finite()).collect()
        };
        let (training, validation) = (curve(name), curve(&format!("val_{name}")));
        let mut panel = Panel::new(name.to_owned()).axes("epoch", name);
        for (of, points) in [("training", &training), ("validation", &validation)] {
            if !points.is_empty() {
                panel = panel.line(of, points.clone());
            }
        }
        (!training.is_empty() || !validation.is_empty()).then_some(panel)
    }

    /// Writes the figure to a file, as [`Figure::write`] does.
    ///
    /// # Errors
    /// [`PlotError`]: no epoch yet, or a file that cannot be written.
    pub fn plot(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        self.figure().write(path.as_ref())
    }

    pub(super) fn push(&mut self, epoch: Epoch) {
        self.epochs.push(epoch);
    }

    pub(super) fn set_stopped(&mut self, why: Option<String>) {
        self.stopped = why;
    }
}

/// The name of the learning rate at the end of an epoch.
pub(super) const LEARNING_RATE: &str = "learning_rate";
