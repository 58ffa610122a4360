//! Relatives of Adam: AdaMax, NAdam and RAdam.

use super::Optimizer;
use super::moments::{Moments, moment_settings, one_less_power};
use kiln_ir::{Builder, DType, Init, Tensor};

/// AdaMax: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 2.
///
/// ```text
/// m := beta1 m + (1 - beta1) g      u := max(beta2 u, |g| + epsilon)      w := w - rate / (1 - beta1^t) * m / u
/// ```
///
/// The paper has no epsilon, which keeps a gradient of 0 from dividing by 0; it stands where PyTorch has it. States: `adamax/learning_rate`,
/// `adamax/step`, and `adamax/m/NAME` and `adamax/u/NAME`.
#[derive(Clone, Debug)]
pub struct AdaMax {
    moments: Moments,
}

impl AdaMax {
    /// AdaMax at the learning rate `rate` with betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            moments: Moments::new("adamax", rate, 1e-8),
        }
    }
}

moment_settings!(AdaMax, moments);

impl Optimizer for AdaMax {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.moments.betas;
        let Some(run) = self.moments.begin(builder, pairs) else {
            return;
        };
        let rate = run.rate / one_less_power(run.time(run.scalar), beta1);
        for one in &run.params {
            let (Some(m), Some(u)) = (one.memory("m"), one.memory("u")) else {
                continue;
            };
            let next_m = m * beta1 + one.gradient * (1.0 - beta1);
            let next_u = (u * beta2).maximum(one.gradient.abs() + self.moments.epsilon);
            run.update(m, next_m);
            run.update(u, next_u);
            run.descend(one, next_m * run.rate_of(one, rate) / next_u);
        }
    }
}

/// NAdam, Adam with Nesterov's momentum: Dozat, "Incorporating Nesterov momentum into Adam" (ICLR 2016 workshop), with the paper's schedule
/// of the momentum.
///
/// ```text
/// mu(t) = beta1 (1 - 0.96^(0.004 t) / 2)      p := p mu(t)
/// m := beta1 m + (1 - beta1) g      v := beta2 v + (1 - beta2) g^2
/// w := w - rate (mu(t+1) / (1 - p mu(t+1)) m + (1 - mu(t)) / (1 - p) g) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// ```
///
/// States: `nadam/learning_rate`, `nadam/step`, `nadam/product` (of the momenta, f64), and `nadam/m/NAME` and `nadam/v/NAME`.
#[derive(Clone, Debug)]
pub struct NAdam {
    moments: Moments,
}

impl NAdam {
    /// NAdam at the learning rate `rate` with betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            moments: Moments::new("nadam", rate, 1e-8),
        }
    }
}

moment_settings!(NAdam, moments);

impl Optimizer for NAdam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.moments.betas;
        let Some(run) = self.moments.begin(builder, pairs) else {
            return;
        };
        // Scalars of the step, in f64: they are differences of numbers near 1.
        let time = run.time(DType::F64);
        let product = builder.state("product", DType::F64, (), Init::ones());
        let momentum = |t: Tensor<'g>| ((t * (0.004 * 0.96_f64.ln())).exp() * -0.5 + 1.0) * beta1;
        let (now, next) = (momentum(time), momentum(time + 1.0));
        let next_product = product * now;
        run.update(product, next_product);
        let of_gradient = (1.0 - now) / (1.0 - next_product);
        let of_moment = next / (1.0 - next_product * next);
        let of_gradient = run.rate * of_gradient.convert(run.scalar);
        let of_moment = run.rate * of_moment.convert(run.scalar);
        let scale = one_less_power(time, beta2).rsqrt();
        for one in &run.params {
            let Some((m, v)) = self.moments.advance(&run, one) else {
                continue;
            };
            let deviation = v.sqrt() * scale.convert(one.dtype) + self.moments.epsilon;
            let direction =
                m * run.rate_of(one, of_moment) + one.gradient * run.rate_of(one, of_gradient);
            run.descend(one, direction / deviation);
        }
    }
}

/// RAdam, Adam that begins without its second moment: Liu et al., "On the variance of the adaptive learning rate and beyond" (ICLR 2020),
/// algorithm 2.
///
/// ```text
/// n = 2 / (1 - beta2) - 1      r = n - 2 t beta2^t / (1 - beta2^t)
/// w := w - rate m / (1 - beta1^t)                                                   where r <= 5, else
/// w := w - rate m / (1 - beta1^t) sqrt((r - 4) (r - 2) n / ((n - 4) (n - 2) r)) sqrt(1 - beta2^t) / (sqrt(v) + epsilon)
/// ```
///
/// The paper has a limit of 4; 5 is that of its code and of PyTorch. States: `radam/learning_rate`, `radam/step`, and `radam/m/NAME` and
/// `radam/v/NAME`.
#[derive(Clone, Debug)]
pub struct RAdam {
    moments: Moments,
}

impl RAdam {
    /// RAdam at the learning rate `rate` with betas of 0.9 and 0.999, and an epsilon of 1e-8.
    pub fn new(rate: f64) -> Self {
        Self {
            moments: Moments::new("radam", rate, 1e-8),
        }
    }
}

moment_settings!(RAdam, moments);

impl Optimizer for RAdam {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.moments.betas;
        let Some(run) = self.moments.begin(builder, pairs) else {
            return;
        };
        // Scalars of the step, in f64: `r` is a small difference of numbers near `n`.
        let time = run.time(DType::F64);
        let longest = 2.0 / (1.0 - beta2) - 1.0;
        let rest = one_less_power(time, beta2);
        let length = longest - time * 2.0 * (1.0 - rest) / rest;
        let rectified = length.gt(5.0);
        let safe = length.maximum(5.0);
        let ratio = (safe - 4.0) * (safe - 2.0) / safe;
        let correction = (ratio * rest * (longest / ((longest - 4.0) * (longest - 2.0)))).sqrt();
        let rate = run.rate / one_less_power(run.time(run.scalar), beta1);
        for one in &run.params {
            let Some((m, v)) = self.moments.advance(&run, one) else {
                continue;
            };
            let plain = m * run.rate_of(one, rate);
            let adapted = plain * correction.convert(one.dtype) / (v.sqrt() + self.moments.epsilon);
            run.descend(one, adapted.where_(rectified, plain));
        }
    }
}
