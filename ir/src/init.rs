//! Initial values of params and state, as numbers. Glorot and He are resolved to these in `kiln-nn`, where fans are known.
//!
//! An initialiser has one spelling, `uniform(-0.1, 0.1)`, which the text form and serde share: JSON has no spelling for infinities.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How a param or a state tensor starts. Draws come from the Philox stream keyed by the session's seed and the slot's name.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// The text spells no initialiser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an initialiser such as constant(0.0), uniform(-0.1, 0.1) or normal(0.0, 0.02), found `{0}`"
)]
pub struct UnknownInit(String);

impl FromStr for Init {
    type Err = UnknownInit;

    fn from_str(text: &str) -> Result<Self, UnknownInit> {
        let unknown = || UnknownInit(text.chars().take(60).collect());
        let (name, rest) = text.trim().split_once('(').ok_or_else(unknown)?;
        let numbers = rest.strip_suffix(')').ok_or_else(unknown)?;
        let numbers: Option<Vec<f64>> = numbers
            .splitn(3, ',')
            .map(|n| n.trim().parse().ok())
            .collect();
        match (name.trim(), numbers.ok_or_else(unknown)?.as_slice()) {
            ("constant", [c]) => Ok(Init::Constant(*c)),
            ("uniform", [low, high]) => Ok(Init::Uniform {
                low: *low,
                high: *high,
            }),
            ("normal", [mean, deviation]) => Ok(Init::Normal {
                mean: *mean,
                deviation: *deviation,
            }),
            (_, _) => Err(unknown()),
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Init {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Init {
    /// Why no tensor can start like this, if so: the verifier asks.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        match self {
            Init::Constant(_) => None,
            Init::Uniform { low, high } => (!low.is_finite() || !high.is_finite() || low > high)
                .then_some("uniform needs two finite numbers in ascending order"),
            Init::Normal { mean, deviation } => {
                (!mean.is_finite() || !deviation.is_finite() || *deviation < 0.0)
                    .then_some("normal needs a finite mean and a deviation that is not negative")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initialisers_read_back() {
        for text in [
            "constant(-0.0)",
            "constant(inf)",
            "uniform(-0.087, 0.087)",
            "normal(0.0, 1e-300)",
        ] {
            assert_eq!(text.parse::<Init>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "constant",
            "constant(",
            "constant()",
            "normal(1.0)",
            "zeros(0.0)",
        ] {
            assert!(text.parse::<Init>().is_err(), "{text}");
        }
        assert!(Init::uniform(-1.0).trouble().is_some());
        assert!(Init::normal(f64::NAN).trouble().is_some());
    }
}
