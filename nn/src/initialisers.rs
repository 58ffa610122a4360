//! Initialisers that know the fans of a weight: Glorot's, He's and LeCun's, resolved to the numbers of [`kiln_ir::Init`].
//!
//! An [`Init`] is an initialiser too, one that does not look at the fans, so `Init::zeros()`, `Init::ones()`, `Init::Constant(0.1)`,
//! `Init::uniform(0.05)`, `Init::normal(0.02)`, `Init::truncated_normal(0.02)`, `Init::orthogonal(1.0)` and `Init::identity()` stand
//! wherever these do. The drawing itself is `kiln_ir::Sampler`'s.

use kiln_ir::{Init, Shape};

/// How many numbers flow into one output of a weight and how many outputs one number flows into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fans {
    /// The inputs of one output.
    pub input: f64,
    /// The outputs of one input.
    pub output: f64,
}

impl Fans {
    /// The fans of a weight of `shape`: the last axis counts outputs, the one before it inputs, and those before are the window of a
    /// convolution, which both are multiplied with. A vector has its size as both fans. A symbolic extent counts as 1.
    ///
    /// ```
    /// use kiln_ir::Shape;
    /// use kiln_nn::initialisers::Fans;
    ///
    /// assert_eq!(Fans::of(&Shape::from([784, 512])), Fans { input: 784.0, output: 512.0 });
    /// assert_eq!(Fans::of(&Shape::from([3, 3, 16, 32])), Fans { input: 144.0, output: 288.0 });
    /// ```
    pub fn of(shape: &Shape) -> Self {
        let sizes: Vec<f64> = shape
            .iter()
            .map(|d| d.constant().map_or(1.0, |c| c as f64))
            .collect();
        match sizes.as_slice() {
            [] => Self {
                input: 1.0,
                output: 1.0,
            },
            [size] => Self {
                input: *size,
                output: *size,
            },
            [window @ .., input, output] => {
                let window: f64 = window.iter().product();
                Self {
                    input: window * input,
                    output: window * output,
                }
            }
        }
    }
}

/// A rule for the start of a weight.
pub trait Initialiser {
    /// The numbers for a weight with these fans.
    fn resolve(&self, fans: Fans) -> Init;
}

impl Initialiser for Init {
    fn resolve(&self, _: Fans) -> Init {
        *self
    }
}

/// Uniform on `[-a, a)` with `a = sqrt(6 / (input + output))`, of variance `2 / (input + output)`: activations and gradients keep their
/// scale through linear and tanh layers. Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks"
/// (AISTATS 2010), equation 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlorotUniform;

impl Initialiser for GlorotUniform {
    fn resolve(&self, fans: Fans) -> Init {
        Init::uniform((6.0 / at_least_one(fans.input + fans.output)).sqrt())
    }
}

/// Normal of variance `2 / (input + output)`; Glorot and Bengio (2010), equation 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlorotNormal;

impl Initialiser for GlorotNormal {
    fn resolve(&self, fans: Fans) -> Init {
        Init::normal((2.0 / at_least_one(fans.input + fans.output)).sqrt())
    }
}

/// Uniform on `[-a, a)` with `a = sqrt(6 / input)`, of variance `2 / input`: activations keep their scale through relu layers. He, Zhang,
/// Ren and Sun, "Delving Deep into Rectifiers" (ICCV 2015), section 2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeUniform;

impl Initialiser for HeUniform {
    fn resolve(&self, fans: Fans) -> Init {
        Init::uniform((6.0 / at_least_one(fans.input)).sqrt())
    }
}

/// Normal of variance `2 / input`; He, Zhang, Ren and Sun (2015), equation 10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeNormal;

impl Initialiser for HeNormal {
    fn resolve(&self, fans: Fans) -> Init {
        Init::normal((2.0 / at_least_one(fans.input)).sqrt())
    }
}

/// Uniform on `[-a, a)` with `a = sqrt(3 / input)`, of variance `1 / input`: for selu layers. LeCun, Bottou, Orr and Müller, "Efficient
/// BackProp" (1998), section 4.6; Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks" (NIPS 2017).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeCunUniform;

impl Initialiser for LeCunUniform {
    fn resolve(&self, fans: Fans) -> Init {
        Init::uniform((3.0 / at_least_one(fans.input)).sqrt())
    }
}

/// Normal of variance `1 / input`; LeCun, Bottou, Orr and Müller (1998), equation 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeCunNormal;

impl Initialiser for LeCunNormal {
    fn resolve(&self, fans: Fans) -> Init {
        Init::normal((1.0 / at_least_one(fans.input)).sqrt())
    }
}

/// Which fan the variance of a weight is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanMode {
    /// The inputs of one output: activations keep their scale.
    Input,
    /// The outputs of one input: gradients keep theirs.
    Output,
    /// The mean of both.
    Average,
}

/// How a weight is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly between two bounds.
    Uniform,
    /// Normally.
    Normal,
    /// Normally within two deviations, which are wider so that the variance is what was asked for. Keras's `GlorotNormal`, `HeNormal` and
    /// `LecunNormal` are such.
    Truncated,
}

/// Variance `scale / fan`, of which the initialisers with names are cases: He's is that of scale 2 and [`FanMode::Input`].
///
/// ```
/// use kiln_ir::Init;
/// use kiln_nn::initialisers::{Distribution, FanMode, Fans, HeUniform, Initialiser, VarianceScaling};
///
/// let he = VarianceScaling { scale: 2.0, mode: FanMode::Input, distribution: Distribution::Uniform };
/// let fans = Fans { input: 64.0, output: 32.0 };
/// assert_eq!(he.resolve(fans), HeUniform.resolve(fans));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VarianceScaling {
    /// What is divided by the fan, 0 or more.
    pub scale: f64,
    /// The fan.
    pub mode: FanMode,
    /// The distribution.
    pub distribution: Distribution,
}

impl Initialiser for VarianceScaling {
    fn resolve(&self, fans: Fans) -> Init {
        let fan = match self.mode {
            FanMode::Input => fans.input,
            FanMode::Output => fans.output,
            FanMode::Average => (fans.input + fans.output) / 2.0,
        };
        let variance = self.scale / at_least_one(fan);
        match self.distribution {
            Distribution::Uniform => Init::uniform((3.0 * variance).sqrt()),
            Distribution::Normal => Init::normal(variance.sqrt()),
            Distribution::Truncated => Init::truncated_normal(variance.sqrt() / WITHIN_TWO),
        }
    }
}

/// The deviation of a normal draw of deviation 1 that lies within two.
const WITHIN_TWO: f64 = 0.879_625_661_034_239_8;

/// A weight without elements has fans of 0; any finite bound does for it.
fn at_least_one(fan: f64) -> f64 {
    fan.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variance of a uniform distribution on `[-a, a)` is a^2 / 3.
    #[test]
    fn variances_are_those_of_the_papers() {
        let fans = Fans {
            input: 30.0,
            output: 20.0,
        };
        let variance = |rule: &dyn Initialiser| match rule.resolve(fans) {
            Init::Uniform { low, high } => (high - low).powi(2) / 12.0,
            Init::Normal { deviation, .. } => deviation * deviation,
            Init::TruncatedNormal { deviation, .. } => (deviation * WITHIN_TWO).powi(2),
            other => panic!("{other}"),
        };
        let scaling = |mode, distribution| VarianceScaling {
            scale: 3.0,
            mode,
            distribution,
        };
        for (rule, expected) in [
            (&GlorotUniform as &dyn Initialiser, 0.04),
            (&GlorotNormal, 0.04),
            (&HeUniform, 2.0 / 30.0),
            (&HeNormal, 2.0 / 30.0),
            (&Init::normal(0.5), 0.25),
            (&LeCunUniform, 1.0 / 30.0),
            (&LeCunNormal, 1.0 / 30.0),
            (
                &scaling(FanMode::Output, Distribution::Truncated),
                3.0 / 20.0,
            ),
            (&scaling(FanMode::Average, Distribution::Normal), 3.0 / 25.0),
            (&scaling(FanMode::Input, Distribution::Uniform), 3.0 / 30.0),
        ] {
            assert!((variance(rule) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn fans_of_nothing_stay_finite() {
        let none = Fans::of(&Shape::from([0, 0]));
        assert_eq!(GlorotUniform.resolve(none), Init::uniform(6f64.sqrt()));
        assert_eq!(HeNormal.resolve(none), Init::normal(2f64.sqrt()));
    }
}
