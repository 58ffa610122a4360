//! Named numbers, in the order in which people see them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Named numbers in order: the loss, then the metrics.
///
/// ```
/// use kiln_train::Logs;
///
/// let mut logs = Logs::new();
/// logs.set("loss", 0.25);
/// logs.set("accuracy", 0.5);
/// assert_eq!(logs.get("accuracy"), Some(0.5));
/// assert_eq!(logs.to_string(), "loss 0.2500  accuracy 0.5000");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logs {
    entries: Vec<(String, f64)>,
}

impl Logs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    /// Sets the value called `name`, behind the others where it is new.
    pub fn set(&mut self, name: &str, value: f64) {
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }
}

impl fmt::Display for Logs {
    /// `loss 0.1234  accuracy 0.9710`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_values(f, self.iter())
    }
}

/// Names and values in a row.
pub(crate) fn write_values<'n>(
    f: &mut fmt::Formatter<'_>,
    values: impl Iterator<Item = (&'n str, f64)>,
) -> fmt::Result {
    for (i, (name, value)) in values.enumerate() {
        let gap = if i == 0 { "" } else { "  " };
        // Four decimals say nothing of a loss of 1e-6.
        if value != 0.0 && value.abs() < 1e-3 {
            write!(f, "{gap}{name} {value:.3e}")?;
        } else {
            write!(f, "{gap}{name} {value:.4}")?;
        }
    }
    Ok(())
}
