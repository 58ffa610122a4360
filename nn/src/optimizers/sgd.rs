//! Stochastic gradient descent.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
use kiln_ir::{Builder, Tensor};

/// `w := w - rate g`; with momentum `v := m v + g`, `w := w - rate v`.
///
/// The velocity is not scaled by the rate, as in Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
/// in deep learning" (ICML 2013) as PyTorch reads it, so a change of the rate acts at once. With
/// [`Sgd::nesterov`] the direction is `m v + g` of the new `v`. States: `sgd/learning_rate`, and
/// `sgd/velocity/NAME` where there is momentum.
///
/// ```
/// use kiln_ir::{Builder, DType, Init};
/// use kiln_nn::{Optimizer, Sgd};
///
/// let g = Builder::new("linear");
/// let x = g.input("x", DType::F32, (g.dim("b"), 1));
/// let w = g.param("w", (1, 1), Init::zeros());
/// let loss = (x.dot(w) - 1.0).square().mean();
/// Sgd::new(0.1).momentum(0.9).minimize(loss);
/// let graph = g.finish().unwrap();
/// assert_eq!(graph.updates().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    settings: Settings,
    momentum: f64,
    nesterov: bool,
}

impl Sgd {
    /// Plain descent at the learning rate `rate`.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("sgd", rate),
            momentum: 0.0,
            nesterov: false,
        }
    }

    /// The share of the velocity that a step keeps, from 0 to less than 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Steps from where the velocity leads: Nesterov's momentum as Sutskever and others (2013) write it, around the point ahead.
    pub fn nesterov(mut self) -> Self {
        self.nesterov = true;
        self
    }
}

common_settings!(Sgd, settings);

impl Optimizer for Sgd {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let momentum = self.momentum;
        let ranges = [("momentum", momentum, Range::Share)];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        for one in &run.params {
            let mut direction = one.gradient;
            if momentum > 0.0
                && let Some(velocity) = one.memory("velocity")
            {
                let next = velocity * momentum + one.gradient;
                run.update(velocity, next);
                direction = if self.nesterov {
                    next * momentum + one.gradient
                } else {
                    next
                };
            }
            let rate = run.rate_of(one, run.rate);
            run.descend(one, direction * rate);
        }
    }
}
