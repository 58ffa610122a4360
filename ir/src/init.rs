//! Initial values of params and state, as numbers. Glorot and He are resolved to these in `kiln-nn`, where fans are known.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a param or a state tensor starts. Draws come from the Philox stream keyed by the session's seed and the slot's name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// Every element is the number.
    Constant(f64),
    /// Uniform on `[low, high)`.
    Uniform {
        /// The least value.
        low: f64,
        /// The bound above all values.
        high: f64,
    },
    /// Normal with a mean and a standard deviation.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        deviation: f64,
    },
}

impl Init {
    /// All zeros.
    pub fn zeros() -> Self {
        Init::Constant(0.0)
    }

    /// All ones.
    pub fn ones() -> Self {
        Init::Constant(1.0)
    }

    /// Uniform on `[-bound, bound)`.
    pub fn uniform(bound: f64) -> Self {
        Init::Uniform {
            low: -bound,
            high: bound,
        }
    }

    /// Normal with mean 0.
    pub fn normal(deviation: f64) -> Self {
        Init::Normal {
            mean: 0.0,
            deviation,
        }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init::Constant(c) => write!(f, "constant({c:?})"),
            Init::Uniform { low, high } => write!(f, "uniform({low:?}, {high:?})"),
            Init::Normal { mean, deviation } => write!(f, "normal({mean:?}, {deviation:?})"),
        }
    }
}
