//! Running means of named values, each step weighted by its examples.
//!
//! The short last batch of an epoch counts for as many examples as it has, so the mean over an epoch is the mean over the data set
//! however it is cut into batches. What the values mean is the graph's business.

use crate::trainer::write_values;
use std::fmt;

/// The means of named values over the examples seen so far.
///
/// ```
/// use kiln_train::Means;
///
/// let mut means = Means::new(["loss", "accuracy"]);
/// means.add(3, [1.0, 0.5]);
/// means.add(1, [2.0, 1.0]);
/// assert_eq!(means.get("loss"), Some(1.25));
/// assert_eq!(means.to_string(), "loss 1.2500  accuracy 0.6250");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    entries: Vec<Entry>,
    examples: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    sum: f64,
}

impl Means {
    /// No example yet of values with these names.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let entry = |name: N| Entry {
            name: name.into(),
            sum: 0.0,
        };
        Self {
            entries: names.into_iter().map(entry).collect(),
            examples: 0,
        }
    }

    /// Counts the values of a batch, each the mean over its `examples`, in the order of the names.
    pub fn add(&mut self, examples: usize, values: impl IntoIterator<Item = f64>) {
        self.examples += examples as u64;
        for (entry, value) in self.entries.iter_mut().zip(values) {
            entry.sum += examples as f64 * value;
        }
    }

    /// How many examples were counted.
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// The mean of the value called `name`; `None` where there is none, or no example.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(n, _)| *n == name).map(|(_, mean)| mean)
    }

    /// Names and means in order; nothing before the first example.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        let seen = if self.examples == 0 {
            &[][..]
        } else {
            &self.entries
        };
        let mean = |entry: &'_ Entry| entry.sum / self.examples as f64;
        seen.iter().map(move |e| (e.name.as_str(), mean(e)))
    }
}

impl fmt::Display for Means {
    /// `loss 0.1234  accuracy 0.9710`; empty before the first example.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_values(f, self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_count_by_their_examples_and_nothing_is_shown_before_the_first() {
        let mut means = Means::new(["loss"]);
        assert_eq!((means.to_string().as_str(), means.get("loss")), ("", None));
        means.add(64, [0.5]);
        means.add(32, [2.0]);
        assert_eq!(means.get("loss"), Some(1.0));
        assert_eq!((means.get("accuracy"), means.examples()), (None, 96));
    }

    #[test]
    fn small_and_odd_values_stay_readable() {
        let mut means = Means::new(["tiny", "zero", "bad"]);
        means.add(2, [1.25e-6, 0.0, f64::NAN]);
        assert_eq!(means.to_string(), "tiny 1.250e-6  zero 0.0000  bad NaN");
    }
}
