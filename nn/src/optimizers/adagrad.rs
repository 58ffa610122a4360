//! Adagrad and Adadelta: rates that shrink with the gradients seen.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
use kiln_ir::{Builder, Tensor};

/// Adagrad: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (JMLR 12, 2011),
/// figure 1 for diagonal matrices.
///
/// ```text
/// s := s + g^2      w := w - rate g / (sqrt(s) + epsilon)
/// ```
///
/// As in PyTorch the sums begin at 0; Keras begins at 0.1 and has the epsilon inside the root. States: `adagrad/learning_rate` and
/// `adagrad/sum/NAME`.
#[derive(Clone, Debug)]
pub struct Adagrad {
    settings: Settings,
    epsilon: f64,
}

impl Adagrad {
    /// Adagrad at the learning rate `rate` with an epsilon of 1e-10.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("adagrad", rate),
            epsilon: 1e-10,
        }
    }

    /// What is added to the root of the sum, 0 or more.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

common_settings!(Adagrad, settings);

impl Optimizer for Adagrad {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let ranges = [("epsilon", self.epsilon, Range::NotNegative)];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        for one in &run.params {
            let Some(sum) = one.memory("sum") else {
                continue;
            };
            let next = sum + one.gradient.square();
            run.update(sum, next);
            let rate = run.rate_of(one, run.rate);
            run.descend(one, one.gradient * rate / (next.sqrt() + self.epsilon));
        }
    }
}

/// Adadelta: Zeiler, "ADADELTA: an adaptive learning rate method" (2012), algorithm 1.
///
/// ```text
/// s := rho s + (1 - rho) g^2      d = sqrt(a + epsilon) / sqrt(s + epsilon) g
/// a := rho a + (1 - rho) d^2      w := w - rate d
/// ```
///
/// The paper has a rate of 1, a rho of 0.95 and an epsilon of 1e-6. States: `adadelta/learning_rate`, and `adadelta/squares/NAME` and
/// `adadelta/changes/NAME`.
#[derive(Clone, Debug)]
pub struct Adadelta {
    settings: Settings,
    rho: f64,
    epsilon: f64,
}

impl Adadelta {
    /// Adadelta at the learning rate `rate` with the paper's other settings.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("adadelta", rate),
            rho: 0.95,
            epsilon: 1e-6,
        }
    }

    /// How much of the averages a step keeps, from 0 to less than 1.
    pub fn rho(mut self, rho: f64) -> Self {
        self.rho = rho;
        self
    }

    /// What is added below both roots, above 0: the first steps have its size.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

common_settings!(Adadelta, settings);

impl Optimizer for Adadelta {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (rho, epsilon) = (self.rho, self.epsilon);
        let ranges = [
            ("rho", rho, Range::Share),
            ("epsilon", epsilon, Range::Positive),
        ];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        for one in &run.params {
            let (Some(squares), Some(changes)) = (one.memory("squares"), one.memory("changes"))
            else {
                continue;
            };
            let next = squares * rho + one.gradient.square() * (1.0 - rho);
            let scale = (changes + epsilon).sqrt() / (next + epsilon).sqrt();
            let change = one.gradient * scale;
            run.update(squares, next);
            run.update(changes, changes * rho + change.square() * (1.0 - rho));
            run.descend(one, change * run.rate_of(one, run.rate));
        }
    }
}
