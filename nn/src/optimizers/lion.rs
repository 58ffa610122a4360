//! Lion.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
use kiln_ir::{Builder, Tensor};

/// Lion: Chen et al., "Symbolic discovery of optimization algorithms" (NeurIPS 2023), algorithm 2. One moment, and each weight moves by the
/// rate or not at all; the paper takes a third to a tenth of the rate of [`AdamW`](super::AdamW), and as many times its decay.
///
/// ```text
/// w := (1 - rate decay) w - rate sign(beta1 m + (1 - beta1) g)      m := beta2 m + (1 - beta2) g
/// ```
///
/// States: `lion/learning_rate` and `lion/m/NAME`.
#[derive(Clone, Debug)]
pub struct Lion {
    settings: Settings,
    betas: (f64, f64),
}

impl Lion {
    /// Lion at the learning rate `rate` with betas of 0.9 and 0.99 and no decay.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("lion", rate),
            betas: (0.9, 0.99),
        }
    }

    /// How much of the moment counts in a step, and how much of it is kept; each from 0 to less than 1.
    pub fn betas(mut self, step: f64, kept: f64) -> Self {
        self.betas = (step, kept);
        self
    }
}

common_settings!(Lion, settings);

impl Optimizer for Lion {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.betas;
        let ranges = [
            ("first beta", beta1, Range::Share),
            ("second beta", beta2, Range::Share),
        ];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        for one in &run.params {
            let Some(m) = one.memory("m") else { continue };
            let direction = (m * beta1 + one.gradient * (1.0 - beta1)).sign();
            run.update(m, m * beta2 + one.gradient * (1.0 - beta2));
            run.descend(one, direction * run.rate_of(one, run.rate));
        }
    }
}
