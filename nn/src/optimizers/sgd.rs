//! Stochastic gradient descent.

use super::{Optimizer, in_range, learning_rate, own_scope, trained};
use kiln_ir::{Builder, Tensor};

/// `w := w - rate g`; with momentum `v := m v + g`, `w := w - rate v`.
///
/// The velocity is not scaled by the rate, as in Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
/// in deep learning" (ICML 2013) as PyTorch reads it, so a change of the rate acts at once. States: `sgd/learning_rate`, and
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
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    rate: f64,
    momentum: f64,
    name: String,
}

impl Sgd {
    /// Plain descent at the learning rate `rate`.
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            momentum: 0.0,
            name: "sgd".to_owned(),
        }
    }

    /// The share of the velocity that a step keeps, from 0 to less than 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Another scope for the states than `sgd`: for a second optimizer in one graph.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let Self { rate, momentum, .. } = *self;
        let sane = in_range(
            builder,
            rate.is_finite() && rate >= 0.0,
            "learning rate",
            rate,
            "at 0 or above",
        ) & in_range(
            builder,
            (0.0..1.0).contains(&momentum),
            "momentum",
            momentum,
            "from 0 to less than 1",
        );
        if !sane {
            return;
        }
        let _scope = own_scope(builder, &self.name);
        let all = trained(pairs);
        let rate = learning_rate(builder, &all, rate);
        for one in all {
            let mut direction = one.gradient;
            if momentum > 0.0
                && let Some(velocity) = one.memory("velocity")
            {
                direction = velocity * momentum + one.gradient;
                builder.update(velocity, direction);
            }
            let rate = rate.convert(one.dtype);
            builder.update(one.param, one.param - direction * rate);
        }
    }
}
