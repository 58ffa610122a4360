//! Adam, and Adam with decoupled weight decay.

use super::Optimizer;
use super::moments::{Moments, moment_settings, one_less_power};
use kiln_ir::{Builder, Tensor};

/// Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1, corrected for bias.
///
/// ```text
/// t := t + 1      m := beta1 m + (1 - beta1) g      v := beta2 v + (1 - beta2) g^2
/// w := w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// ```
///
/// What depends on `t` alone is computed once as scalars, and `1 - beta^t` as `-expm1(t ln beta)`: in f32 the first loses four digits
/// at `t = 1`, the second none. With [`Adam::amsgrad`], `v` in the last line is the largest so far, corrected for bias as in PyTorch. States: `adam/learning_rate`, `adam/step`, and `adam/m/NAME` and `adam/v/NAME`.
#[derive(Clone, Debug)]
pub struct Adam {
    moments: Moments,
    amsgrad: bool,
}

impl Adam {
    /// Adam at the learning rate `rate` with the paper's other settings: betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            moments: Moments::new("adam", rate, 1e-8),
            amsgrad: false,
        }
    }

    /// Divides by the root of the largest second moment so far, the state `largest/NAME`, so that rates never grow: Reddi, Kale and Kumar,
    /// "On the convergence of Adam and beyond" (ICLR 2018), algorithm 2.
    pub fn amsgrad(mut self) -> Self {
        self.amsgrad = true;
        self
    }
}

moment_settings!(Adam, moments);

impl Optimizer for Adam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.moments.betas;
        let Some(run) = self.moments.begin(builder, pairs) else {
            return;
        };
        let time = run.time(run.scalar);
        let rate = run.rate / one_less_power(time, beta1);
        let scale = one_less_power(time, beta2).rsqrt();
        for one in &run.params {
            let Some((m, v)) = self.moments.advance(&run, one) else {
                continue;
            };
            let mut divisor = v;
            if self.amsgrad
                && let Some(largest) = one.memory("largest")
            {
                divisor = largest.maximum(v);
                run.update(largest, divisor);
            }
            let deviation = divisor.sqrt() * scale.convert(one.dtype) + self.moments.epsilon;
            let change = m * run.rate_of(one, rate) / deviation;
            run.descend(one, change);
        }
    }
}

/// AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization" (ICLR 2019), algorithm 2, with the learning rate as the schedule
/// of the decay too, as PyTorch has it.
///
/// ```text
/// w := (1 - rate decay) w - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// ```
///
/// It is [`Adam`] with a decay of 0.01 unless [`AdamW::weight_decay`] says otherwise, and states below `adamw`. Params with fewer than two
/// axes do not decay by default; tables of embeddings do.
///
/// ```
/// use kiln_ir::{Builder, DType, Init};
/// use kiln_nn::schedules::Cosine;
/// use kiln_nn::{AdamW, Optimizer};
///
/// let g = Builder::new("linear");
/// let x = g.input("x", DType::F32, (g.dim("b"), 1));
/// let w = g.param("w", (1, 1), Init::zeros());
/// let optimizer = AdamW::new(1e-3).weight_decay(0.1).betas(0.9, 0.99).schedule(Cosine::over(1000));
/// optimizer.minimize((x.dot(w) - 1.0).square().mean());
/// assert_eq!(g.finish().unwrap().updates().len(), 4);
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    adam: Adam,
}

impl AdamW {
    /// AdamW at the learning rate `rate` with a decay of 0.01 and the other settings of [`Adam`].
    pub fn new(rate: f64) -> Self {
        let adam = Adam::new(rate).named("adamw").weight_decay(0.01);
        Self { adam }
    }

    /// See [`Adam::amsgrad`].
    pub fn amsgrad(mut self) -> Self {
        self.adam = self.adam.amsgrad();
        self
    }
}

moment_settings!(AdamW, adam.moments);

impl Optimizer for AdamW {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        self.adam.step(builder, pairs);
    }
}
