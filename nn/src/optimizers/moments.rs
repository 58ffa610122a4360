//! What Adam and its relatives share: two betas, an epsilon, and the moments of gradients that decay by them.

use super::Trained;
use super::settings::{Range, Run, Settings};
use kiln_ir::{Builder, Tensor};

/// The settings of an optimizer with a first and a second moment.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) settings: Settings,
    pub(super) betas: (f64, f64),
    pub(super) epsilon: f64,
}

impl Moments {
    /// Betas of 0.9 and 0.999.
    pub(super) fn new(name: &str, rate: f64, epsilon: f64) -> Self {
        Self {
            settings: Settings::new(name, rate),
            betas: (0.9, 0.999),
            epsilon,
        }
    }

    /// [`Settings::begin`] with the ranges of betas and epsilon.
    #[track_caller]
    pub(super) fn begin<'g>(
        &self,
        builder: &'g Builder,
        pairs: &[(Tensor<'g>, Tensor<'g>)],
    ) -> Option<Run<'g, '_>> {
        let ranges = [
            ("first beta", self.betas.0, Range::Share),
            ("second beta", self.betas.1, Range::Share),
            ("epsilon", self.epsilon, Range::NotNegative),
        ];
        self.settings.begin(builder, pairs, &ranges)
    }

    /// The moments of a param as this step leaves them, `m/NAME` of the gradients and `v/NAME` of their squares.
    #[track_caller]
    pub(super) fn advance<'g>(
        &self,
        run: &Run<'g, '_>,
        one: &Trained<'g>,
    ) -> Option<(Tensor<'g>, Tensor<'g>)> {
        let (beta1, beta2) = self.betas;
        let (m, v) = (one.memory("m")?, one.memory("v")?);
        let next_m = m * beta1 + one.gradient * (1.0 - beta1);
        let next_v = v * beta2 + one.gradient.square() * (1.0 - beta2);
        run.update(m, next_m);
        run.update(v, next_v);
        Some((next_m, next_v))
    }
}

/// `1 - beta^time`; `ln 0` is minus infinity, which gives the 1 that it should.
#[track_caller]
pub(super) fn one_less_power<'g>(time: Tensor<'g>, beta: f64) -> Tensor<'g> {
    (time * beta.ln()).expm1().neg()
}

/// The methods by which optimizers with moments are set, on the [`Moments`] in `$field`.
macro_rules! moment_settings {
    ($optimizer:ident, $($field:ident).+) => {
        impl $optimizer {
            /// The decay of the first and of the second moment, each from 0 to less than 1.
            pub fn betas(mut self, first: f64, second: f64) -> Self {
                self.$($field).+.betas = (first, second);
                self
            }

            /// What is added to the divisor, the root of the second moment in most, 0 or more.
            pub fn epsilon(mut self, epsilon: f64) -> Self {
                self.$($field).+.epsilon = epsilon;
                self
            }
        }

        crate::optimizers::settings::common_settings!($optimizer, $($field).+.settings);
    };
}
pub(super) use moment_settings;
