//! Adam, and Adam with decoupled weight decay.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
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
    pub(super) settings: Settings,
    betas: (f64, f64),
    epsilon: f64,
    amsgrad: bool,
}

impl Adam {
    /// Adam at the learning rate `rate` with the paper's other settings: betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("adam", rate),
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            amsgrad: false,
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

    /// Divides by the root of the largest second moment so far, the state `largest/NAME`, so that rates never grow: Reddi, Kale and Kumar,
    /// "On the convergence of Adam and beyond" (ICLR 2018), algorithm 2.
    pub fn amsgrad(mut self) -> Self {
        self.amsgrad = true;
        self
    }
}

common_settings!(Adam, settings);

impl Optimizer for Adam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.betas;
        if !self
            .settings
            .sane(builder, &moment_ranges(self.betas, self.epsilon))
        {
            return;
        }
        let run = self.settings.begin(builder, pairs);
        let (_, step) = run.clock();
        let Some(scalar) = run.rate.ty() else { return };
        let time = step.convert(scalar.dtype);
        let kept = run.kept();
        let rate = run.rate / one_less_power(time, beta1);
        let scale = one_less_power(time, beta2).rsqrt();
        for one in &run.params {
            let (Some(m), Some(v)) = (one.memory("m"), one.memory("v")) else {
                continue;
            };
            let next_m = m * beta1 + one.gradient * (1.0 - beta1);
            let next_v = v * beta2 + one.gradient.square() * (1.0 - beta2);
            run.update(m, next_m);
            run.update(v, next_v);
            let mut divisor = next_v;
            if self.amsgrad
                && let Some(largest) = one.memory("largest")
            {
                divisor = largest.maximum(next_v);
                run.update(largest, divisor);
            }
            let deviation = divisor.sqrt() * scale.convert(one.dtype) + self.epsilon;
            let change = next_m * run.rate_of(one, rate) / deviation;
            run.descend(one, kept, change);
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

    /// See [`Adam::amsgrad`].
    pub fn amsgrad(mut self) -> Self {
        self.adam = self.adam.amsgrad();
        self
    }
}

common_settings!(AdamW, adam.settings);

impl Optimizer for AdamW {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        self.adam.step(builder, pairs);
    }
}

/// The ranges of two betas and an epsilon.
pub(super) fn moment_ranges(
    (first, second): (f64, f64),
    epsilon: f64,
) -> [(&'static str, f64, Range); 3] {
    [
        ("first beta", first, Range::Share),
        ("second beta", second, Range::Share),
        ("epsilon", epsilon, Range::NotNegative),
    ]
}

/// `1 - beta^time`; `ln 0` is minus infinity, which gives the 1 that it should.
#[track_caller]
pub(super) fn one_less_power<'g>(time: Tensor<'g>, beta: f64) -> Tensor<'g> {
    (time * beta.ln()).expm1().neg()
}
