//! Initial values of params and state, as numbers. Glorot and He are resolved to these in `kiln-nn`, where fans are known.
//!
//! An initialiser has one spelling, `uniform(-0.1, 0.1)`, which the text form and serde share: JSON has no spelling for infinities.

use crate::types::TensorType;
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
    /// Normal with a mean and a standard deviation, within two deviations of the mean: none lies beyond, so that all together have 0.8796
    /// times the deviation.
    TruncatedNormal {
        /// The mean.
        mean: f64,
        /// The standard deviation before the ends are cut off.
        deviation: f64,
    },
    /// A matrix with orthonormal columns, or rows where there are fewer of them, times the gain. All axes but the last count rows.
    ///
    /// Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (ICLR 2014),
    /// section 3: the factor Q of a matrix of normal draws. R's diagonal is positive, as Keras has it, so that all rotations and
    /// reflections are equally likely: Mezzadri, "How to generate random matrices from the classical compact groups" (2007).
    Orthogonal {
        /// What the matrix is multiplied by.
        gain: f64,
    },
    /// The gain where row and column are the same, 0 elsewhere: a matrix, square or not.
    Identity {
        /// What the matrix is multiplied by.
        gain: f64,
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

    /// Normal with mean 0 within two deviations.
    pub fn truncated_normal(deviation: f64) -> Self {
        Init::TruncatedNormal {
            mean: 0.0,
            deviation,
        }
    }

    /// A matrix with orthonormal columns or rows, times `gain`; 1 keeps the length of what it is multiplied with.
    pub fn orthogonal(gain: f64) -> Self {
        Init::Orthogonal { gain }
    }

    /// A matrix with ones where row and column are the same.
    pub fn identity() -> Self {
        Init::Identity { gain: 1.0 }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init::Constant(c) => write!(f, "constant({c:?})"),
            Init::Uniform { low, high } => write!(f, "uniform({low:?}, {high:?})"),
            Init::Normal { mean, deviation } => write!(f, "normal({mean:?}, {deviation:?})"),
            Init::TruncatedNormal { mean, deviation } => {
                write!(f, "truncated_normal({mean:?}, {deviation:?})")
            }
            Init::Orthogonal { gain } => write!(f, "orthogonal({gain:?})"),
            Init::Identity { gain } => write!(f, "identity({gain:?})"),
        }
    }
}

/// The text spells no initialiser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an initialiser such as constant(0.0), uniform(-0.1, 0.1), normal(0.0, 0.02), truncated_normal(0.0, 0.02), orthogonal(1.0) or identity(1.0), found `{0}`"
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
            ("truncated_normal", [mean, deviation]) => Ok(Init::TruncatedNormal {
                mean: *mean,
                deviation: *deviation,
            }),
            ("orthogonal", [gain]) => Ok(Init::Orthogonal { gain: *gain }),
            ("identity", [gain]) => Ok(Init::Identity { gain: *gain }),
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
    /// Why no tensor of type `ty` can start like this, if so: builder and verifier ask.
    pub(crate) fn trouble(&self, ty: &TensorType) -> Option<&'static str> {
        match self {
            Init::Constant(_) => None,
            Init::Uniform { low, high } => (!low.is_finite() || !high.is_finite() || low > high)
                .then_some("uniform needs two finite numbers in ascending order"),
            Init::Normal { mean, deviation } | Init::TruncatedNormal { mean, deviation } => {
                (!mean.is_finite() || !deviation.is_finite() || *deviation < 0.0)
                    .then_some("normal needs a finite mean and a deviation that is not negative")
            }
            Init::Orthogonal { gain } => (!gain.is_finite()
                || ty.rank() < 2
                || !ty.dtype.is_float())
            .then_some("orthogonal needs a finite gain and a floating tensor of two axes or more"),
            Init::Identity { gain } => (!gain.is_finite() || ty.rank() != 2)
                .then_some("identity needs a finite gain and a tensor of two axes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn initialisers_read_back() {
        for text in [
            "constant(-0.0)",
            "constant(inf)",
            "uniform(-0.087, 0.087)",
            "normal(0.0, 1e-300)",
            "truncated_normal(0.5, 0.02)",
            "orthogonal(1.4)",
            "identity(-1.0)",
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
        let ty = |dtype, shape: &[i64]| TensorType::new(dtype, shape);
        let trouble = |init: Init, ty: TensorType| init.trouble(&ty).is_some();
        assert!(trouble(Init::uniform(-1.0), ty(DType::F32, &[])));
        assert!(trouble(Init::normal(f64::NAN), ty(DType::F32, &[])));
        assert!(trouble(Init::orthogonal(1.0), ty(DType::F32, &[4])));
        assert!(trouble(Init::orthogonal(1.0), ty(DType::I32, &[4, 4])));
        assert!(trouble(
            Init::orthogonal(f64::INFINITY),
            ty(DType::F32, &[4, 4])
        ));
        assert!(!trouble(
            Init::orthogonal(1.0),
            ty(DType::F32, &[3, 3, 4, 4])
        ));
        assert!(trouble(Init::identity(), ty(DType::F32, &[2, 2, 2])));
        assert!(!trouble(Init::identity(), ty(DType::I32, &[2, 3])));
    }
}
