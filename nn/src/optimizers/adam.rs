//! Adam, and Adam with decoupled weight decay.

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
}

impl Optimizer for Adam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        if self.sane(builder) {
            self.descend(builder, pairs, None);
        }
    }
}

impl Adam {
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

    /// One step, in which params are first drawn to 0 by the decay.
    #[track_caller]
    fn descend<'g>(
        &self,
        builder: &'g Builder,
        pairs: &[(Tensor<'g>, Tensor<'g>)],
        decay: Option<Decay>,
    ) {
        let (beta1, beta2) = self.betas;
        let _scope = own_scope(builder, &self.name);
        let all = trained(pairs);
        let rate = learning_rate(builder, &all, self.rate);
        let before = builder.state("step", DType::I64, (), Init::zeros());
        let step = before + 1.0;
        builder.update(before, step);
        let Some(scalar) = rate.ty() else { return };
        let time = step.convert(scalar.dtype);
        let kept = decay.map(|decay| 1.0 - rate * decay.strength);
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
            let rank = one.param.ty().map_or(0, |ty| ty.rank());
            let param = match kept {
                Some(kept) if rank >= 2 || decay.is_some_and(|decay| decay.vectors) => {
                    one.param * kept.convert(one.dtype)
                }
                Some(_) | None => one.param,
            };
            builder.update(one.param, param - change);
        }
    }
}

/// How much weights are drawn to 0, and which.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decay {
    strength: f64,
    vectors: bool,
}

/// AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization" (ICLR 2019), algorithm 2, with the learning rate as the schedule
/// of the decay too, as PyTorch has it.
///
/// ```text
/// w := (1 - rate decay) w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// ```
///
/// Moments and states are those of [`Adam`], below `adamw`; the gradient knows nothing of the decay. Params with fewer than two axes, which
/// are biases and gains, do not decay unless [`AdamW::decay_vectors`] says so; tables of embeddings do.
///
/// ```
/// use kiln_ir::{Builder, DType, Init};
/// use kiln_nn::{AdamW, Optimizer};
///
/// let g = Builder::new("linear");
/// let x = g.input("x", DType::F32, (g.dim("b"), 1));
/// let w = g.param("w", (1, 1), Init::zeros());
/// AdamW::new(1e-3).weight_decay(0.1).betas(0.9, 0.99).minimize((x.dot(w) - 1.0).square().mean());
/// assert_eq!(g.finish().unwrap().updates().len(), 4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    adam: Adam,
    decay: Decay,
}

impl AdamW {
    /// AdamW at the learning rate `rate` with a decay of 0.01 and the other settings of [`Adam`].
    pub fn new(rate: f64) -> Self {
        Self {
            adam: Adam::new(rate).named("adamw"),
            decay: Decay {
                strength: 0.01,
                vectors: false,
            },
        }
    }

    /// How much of a weight, times the learning rate, a step takes away; 0 or more.
    pub fn weight_decay(mut self, strength: f64) -> Self {
        self.decay.strength = strength;
        self
    }

    /// Lets params with fewer than two axes decay too.
    pub fn decay_vectors(mut self) -> Self {
        self.decay.vectors = true;
        self
    }

    /// The decay of the first and of the second moment, each from 0 to less than 1.
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.adam = self.adam.betas(first, second);
        self
    }

    /// What is added to the root of the second moment, 0 or more.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.adam = self.adam.epsilon(epsilon);
        self
    }

    /// Another scope for the states than `adamw`: for a second optimizer in one graph.
    pub fn named(mut self, name: &str) -> Self {
        self.adam = self.adam.named(name);
        self
    }
}

impl Optimizer for AdamW {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let strength = self.decay.strength;
        let decays = strength.is_finite() && strength >= 0.0;
        let sane = self.adam.sane(builder)
            & in_range(builder, decays, "weight decay", strength, "at 0 or above");
        if sane {
            self.adam.descend(builder, pairs, Some(self.decay));
        }
    }
}

/// `1 - beta^time`; `ln 0` is minus infinity, which gives the 1 that it should.
#[track_caller]
fn one_less_power<'g>(time: Tensor<'g>, beta: f64) -> Tensor<'g> {
    (time * beta.ln()).expm1().neg()
}
