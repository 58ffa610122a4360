//! Adam.

use super::{Optimizer, in_range, learning_rate, own_scope, trained};
use kiln_ir::{Builder, DType, Init, Tensor};

/// Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1, corrected for bias.
///
/// ```text
/// t := t + 1      m := beta1 m + (1 - beta1) g      v := beta2 v + (1 - beta2) g^2
/// w := w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// ```
///
/// What depends on `t` alone is computed once as scalars, and `1 - beta^t` as `-expm1(t ln beta)`: in f32 the first loses four digits
/// at `t = 1`, the second none. States: `adam/learning_rate`, `adam/step`, and `adam/m/NAME` and `adam/v/NAME`.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    rate: f64,
    betas: (f64, f64),
    epsilon: f64,
    name: String,
}

impl Adam {
    /// Adam at the learning rate `rate` with the paper's other settings: betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            name: "adam".to_owned(),
        }
    }

    /// The decay of the first and of the second moment, each from 0 to less than 1.
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.betas = (first, second);
        self
    }

    /// What is added to the root of the second moment, 0 or more.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Another scope for the states than `adam`: for a second optimizer in one graph.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Whether all settings are in range; those that are not are reported.
    #[track_caller]
    fn sane(&self, builder: &Builder) -> bool {
        let (first, second) = self.betas;
        let beta = |beta: f64| (0.0..1.0).contains(&beta);
        let positive = |x: f64| x.is_finite() && x >= 0.0;
        let mut sane = true;
        for (holds, setting, value, range) in [
            (
                positive(self.rate),
                "learning rate",
                self.rate,
                "at 0 or above",
            ),
            (beta(first), "first beta", first, "from 0 to less than 1"),
            (beta(second), "second beta", second, "from 0 to less than 1"),
            (
                positive(self.epsilon),
                "epsilon",
                self.epsilon,
                "at 0 or above",
            ),
        ] {
            sane &= in_range(builder, holds, setting, value, range);
        }
        sane
    }
}

impl Optimizer for Adam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        if !self.sane(builder) {
            return;
        }
        let (beta1, beta2) = self.betas;
        let _scope = own_scope(builder, &self.name);
        let all = trained(pairs);
        let rate = learning_rate(builder, &all, self.rate);
        let before = builder.state("step", DType::I64, (), Init::zeros());
        let step = before + 1.0;
        builder.update(before, step);
        let Some(scalar) = rate.ty() else { return };
        let time = step.convert(scalar.dtype);
        let rate = rate / one_less_power(time, beta1);
        let scale = one_less_power(time, beta2).rsqrt();
        for one in all {
            let (Some(m), Some(v)) = (one.memory("m"), one.memory("v")) else {
                continue;
            };
            let next_m = m * beta1 + one.gradient * (1.0 - beta1);
            let next_v = v * beta2 + one.gradient.square() * (1.0 - beta2);
            builder.update(m, next_m);
            builder.update(v, next_v);
            let deviation = next_v.sqrt() * scale.convert(one.dtype) + self.epsilon;
            let change = next_m * rate.convert(one.dtype) / deviation;
            builder.update(one.param, one.param - change);
        }
    }
}

/// `1 - beta^time`; `ln 0` is minus infinity, which gives the 1 that it should.
#[track_caller]
fn one_less_power<'g>(time: Tensor<'g>, beta: f64) -> Tensor<'g> {
    (time * beta.ln()).expm1().neg()
}
