//! LAMB.

use super::Optimizer;
use super::moments::{Moments, moment_settings, one_less_power};
use kiln_ir::{Builder, Tensor};

/// LAMB, Adam whose step of each tensor is as long as the tensor times the rate: You et al., "Large batch optimization for deep learning:
/// training BERT in 76 minutes" (ICLR 2020), algorithm 2 with the identity as scaling.
///
/// ```text
/// u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)      w := w - rate |w| / |u| u
/// ```
///
/// Where `|w|` or `|u|` is 0 their ratio counts as 1. The decay is decoupled, as for every optimizer here and in Keras; the paper adds
/// `decay w` to `u` first. States: `lamb/learning_rate`, `lamb/step`, and `lamb/m/NAME` and `lamb/v/NAME`.
#[derive(Clone, Debug)]
pub struct Lamb {
    moments: Moments,
}

impl Lamb {
    /// LAMB at the learning rate `rate` with betas of 0.9 and 0.999, and an epsilon of 1e-6.
    pub fn new(rate: f64) -> Self {
        Self {
            moments: Moments::new("lamb", rate, 1e-6),
        }
    }
}

moment_settings!(Lamb, moments);

impl Optimizer for Lamb {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let (beta1, beta2) = self.moments.betas;
        let Some(run) = self.moments.begin(builder, pairs) else {
            return;
        };
        let time = run.time(run.scalar);
        let first = one_less_power(time, beta1).recip();
        let second = one_less_power(time, beta2).rsqrt();
        for one in &run.params {
            let Some((m, v)) = self.moments.advance(&run, one) else {
                continue;
            };
            let deviation = v.sqrt() * second.convert(one.dtype) + self.moments.epsilon;
            let direction = m * first.convert(one.dtype) / deviation;
            let length = |x: Tensor<'g>| x.square().sum().sqrt();
            let (of_param, of_step) = (length(one.param), length(direction));
            let ratio = of_param / of_step;
            let both = of_param.gt(0.0).and(of_step.gt(0.0));
            let ratio = ratio.where_(both, 1.0);
            run.descend(one, direction * (run.rate_of(one, run.rate) * ratio));
        }
    }
}
