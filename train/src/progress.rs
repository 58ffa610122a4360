//! A progress bar with the running loss and metrics beside it.
//!
//! It draws to standard error, and to nothing at all where that is no terminal: a log file should
//! not fill with half-drawn lines. It computes nothing; it shows the means that it is handed.

use crate::means::Means;
use crate::trainer::Logs;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, Instant};

const TEMPLATE: &str = "{prefix} {bar:28.cyan/blue} {pos}/{len} {per_sec:.dim} {eta:.dim} {msg}";

/// The progress of one epoch, or of anything that goes in steps.
///
/// ```
/// use kiln_train::{Means, progress::Progress};
///
/// let mut means = Means::new(["loss"]);
/// let progress = Progress::new("epoch 1/5", 2);
/// for loss in [1.0, 0.5] {
///     means.add(32, [loss]);
///     progress.step(&means);
/// }
/// progress.finish();
/// ```
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    drawn: Cell<Instant>,
}

/// The least time between two drawings of a bar.
const BETWEEN: Duration = Duration::from_millis(60);

impl Progress {
    /// A bar of `steps` steps under `label`, hidden where standard error is no terminal.
    pub fn new(label: &str, steps: u64) -> Self {
        // The target hides itself where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(label.to_owned());
        let drawn = Cell::new(Instant::now());
        Self { bar, drawn }
    }

    /// One step done, and the means so far.
    pub fn step(&self, means: &Means) {
        // Formatting costs more than a step of a small model, so it is left out where nobody looks.
        if !self.bar.is_hidden() {
            self.bar.set_message(means.to_string());
        }
        self.bar.inc(1);
    }

    /// Whether the bar would be drawn anew: something looks at it, and the last time was a while ago. Asked for each step, so it is cheap.
    pub(crate) fn is_due(&self) -> bool {
        !self.bar.is_hidden() && self.drawn.get().elapsed() >= BETWEEN
    }

    /// `steps` steps done, and the values so far.
    pub(crate) fn show(&self, steps: u64, logs: &Logs) {
        self.drawn.set(Instant::now());
        self.bar.set_message(logs.to_string());
        self.bar.set_position(steps);
    }

    /// Takes the bar away and leaves a line with its label, also where there was no bar.
    pub(crate) fn finish_line(self, text: &str) {
        let label = self.bar.prefix();
        self.bar.finish_and_clear();
        // Where standard error is closed, nobody wanted to read.
        let _ = writeln!(std::io::stderr(), "{label}  {text}");
    }

    /// Ends the bar and leaves it on the screen with what was reached.
    pub fn finish(self) {
        self.bar.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_where_nothing_is_drawn() {
        let mut means = Means::new(["loss"]);
        let progress = Progress::new("epoch", 3);
        for loss in [3.0, 2.0] {
            means.add(1, [loss]);
            progress.step(&means);
        }
        assert_eq!(progress.bar.position(), 2);
        assert!(!progress.bar.is_finished());
        let bar = progress.bar.clone();
        progress.finish();
        assert!(bar.is_finished());
    }
}
