//! A progress bar with the running loss and metrics beside it.
//!
//! It draws to standard error, and to nothing at all where that is no terminal: a log file should
//! not fill with half-drawn lines. It computes no metric; it averages what it is told.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str =
    "{prefix} {bar:28.cyan/blue} {pos}/{len} {per_sec:.dim} {elapsed_precise:.dim} {msg}";

/// The progress of one epoch, or of anything that goes in steps.
///
/// ```
/// use kiln_train::progress::Progress;
///
/// let mut progress = Progress::new("epoch 1/5", 2);
/// progress.step(&[("loss", 1.0)]);
/// progress.step(&[("loss", 0.5)]);
/// assert_eq!(progress.finish(), "loss 0.7500");
/// ```
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    means: Vec<Mean>,
}

/// A value's running mean over the steps that reported it.
#[derive(Debug)]
struct Mean {
    name: String,
    sum: f64,
    count: u32,
}

impl Progress {
    /// A bar of `steps` steps under `label`, hidden where standard error is no terminal.
    pub fn new(label: &str, steps: u64) -> Self {
        // The target hides itself where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(label.to_owned());
        Self {
            bar,
            means: Vec::new(),
        }
    }

    /// One step done, with its values: the text shows the mean of each over the steps so far, in the
    /// order in which they were first reported.
    pub fn step(&mut self, values: &[(&str, f64)]) {
        for &(name, value) in values {
            match self.means.iter_mut().find(|mean| mean.name == name) {
                Some(mean) => {
                    mean.sum += value;
                    mean.count += 1;
                }
                None => self.means.push(Mean {
                    name: name.to_owned(),
                    sum: value,
                    count: 1,
                }),
            }
        }
        // Formatting costs more than a step of a small model, so it is left out where nobody looks.
        if !self.bar.is_hidden() {
            self.bar.set_message(self.text());
        }
        self.bar.inc(1);
    }

    /// The means so far, as `loss 0.1234  accuracy 0.9710`.
    pub fn text(&self) -> String {
        let means: Vec<String> = self
            .means
            .iter()
            .map(|mean| {
                let value = mean.sum / f64::from(mean.count);
                // Four decimals say nothing of a loss of 1e-6.
                let is_small = value != 0.0 && value.abs() < 1e-3;
                if is_small {
                    format!("{} {value:.3e}", mean.name)
                } else {
                    format!("{} {value:.4}", mean.name)
                }
            })
            .collect();
        means.join("  ")
    }

    /// Ends the bar, leaves it on the screen with what was reached, and gives that text.
    pub fn finish(self) -> String {
        let text = self.text();
        self.bar.abandon_with_message(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_the_mean_over_the_steps_that_reported_it() {
        let mut progress = Progress::new("epoch", 3);
        assert_eq!(progress.text(), "");
        progress.step(&[("loss", 1.0)]);
        progress.step(&[("loss", 2.0), ("accuracy", 0.5)]);
        progress.step(&[("loss", 6.0), ("accuracy", 1.0)]);
        assert_eq!(progress.finish(), "loss 3.0000  accuracy 0.7500");
    }

    #[test]
    fn small_and_odd_values_stay_readable() {
        let mut progress = Progress::new("epoch", 1);
        progress.step(&[("tiny", 1.25e-6), ("zero", 0.0), ("bad", f64::NAN)]);
        assert_eq!(progress.finish(), "tiny 1.250e-6  zero 0.0000  bad NaN");
    }
}
