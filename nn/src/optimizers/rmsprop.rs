//! RMSProp.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
use kiln_ir::{Builder, Tensor};

/// RMSProp: Tieleman and Hinton, "Lecture 6.5: rmsprop" (Neural Networks for Machine Learning, 2012); centered and with momentum as in
/// Graves, "Generating sequences with recurrent neural networks" (2013), equations 38 to 45.
///
/// ```text
/// s := rho s + (1 - rho) g^2      u = g / (sqrt(s) + epsilon)      w := w - rate u
/// ```
///
/// Centered, `a := rho a + (1 - rho) g` and the root is of `s - a^2`. With momentum `v := momentum v + u` and `w := w - rate v`. The epsilon is
/// outside of the root, as in PyTorch; Keras has it inside. States: `rmsprop/learning_rate`, `rmsprop/squares/NAME`, and where needed
/// `rmsprop/mean/NAME` and `rmsprop/velocity/NAME`.
#[derive(Clone, Debug)]
pub struct RmsProp {
    settings: Settings,
    rho: f64,
    momentum: f64,
    epsilon: f64,
    centered: bool,
}

impl RmsProp {
    /// RMSProp at the learning rate `rate` with a rho of 0.9, no momentum and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("rmsprop", rate),
            rho: 0.9,
            momentum: 0.0,
            epsilon: 1e-8,
            centered: false,
        }
    }

    /// How much of the average of squares a step keeps, from 0 to less than 1.
    pub fn rho(mut self, rho: f64) -> Self {
        self.rho = rho;
        self
    }

    /// The share of the velocity that a step keeps, from 0 to less than 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// What is added to the root, 0 or more.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Divides by the deviation of gradients instead of their root mean square.
    pub fn centered(mut self) -> Self {
        self.centered = true;
        self
    }
}

common_settings!(RmsProp, settings);

impl Optimizer for RmsProp {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let rho = self.rho;
        let ranges = [
            ("rho", rho, Range::Share),
            ("momentum", self.momentum, Range::Share),
            ("epsilon", self.epsilon, Range::NotNegative),
        ];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        for one in &run.params {
            let Some(squares) = one.memory("squares") else {
                continue;
            };
            let next = squares * rho + one.gradient.square() * (1.0 - rho);
            run.update(squares, next);
            let mut variance = next;
            if self.centered
                && let Some(mean) = one.memory("mean")
            {
                let next_mean = mean * rho + one.gradient * (1.0 - rho);
                run.update(mean, next_mean);
                // Rounding may leave less than nothing.
                variance = (next - next_mean.square()).maximum(0.0);
            }
            let mut change = one.gradient / (variance.sqrt() + self.epsilon);
            if self.momentum > 0.0
                && let Some(velocity) = one.memory("velocity")
            {
                change = velocity * self.momentum + change;
                run.update(velocity, change);
            }
            run.descend(one, change * run.rate_of(one, run.rate));
        }
    }
}
