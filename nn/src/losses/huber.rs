//! Errors that are squares where small and magnitudes where large.

use super::Loss;
use super::elementwise::mean_of_elements;
use kiln_ir::{Kind, Refusal, Tensor};
use std::f64::consts::LN_2;

/// The mean of `d^2 / 2` where `|d| <= delta`, else `delta (|d| - delta / 2)`, with `d = prediction - target`: Huber, "Robust estimation of
/// a location parameter" (Annals of Mathematical Statistics 35, 1964). Tensors of one type and any shape whose first axis is the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Huber {
    delta: f64,
}

impl Huber {
    /// Squares up to an error of `delta`, which is above 0.
    pub fn new(delta: f64) -> Self {
        Self { delta }
    }
}

impl Default for Huber {
    /// A delta of 1.
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Loss for Huber {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        let delta = self.delta;
        if !(delta > 0.0 && delta.is_finite()) {
            let refusal = Refusal::new(Kind::Attribute, format!("`Huber` with a delta of {delta}"))
                .help("it lies above 0");
            return prediction.builder().refuse(refusal, &[]);
        }
        mean_of_elements("huber", prediction, target, |p, y| {
            let error = p - y;
            let magnitude = error.abs();
            let linear = (magnitude - delta / 2.0) * delta;
            (error.square() * 0.5).where_(magnitude.le(delta), linear)
        })
    }
}

/// The mean of `ln cosh(prediction - target)`: nearly `d^2 / 2` for small errors and `|d| - ln 2` for large ones, with the gradient
/// `tanh d`. It is computed as `|d| + ln(1 + e^(-2 |d|)) - ln 2`, which does not overflow. Tensors of one type and any shape whose first
/// axis is the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCosh;

impl Loss for LogCosh {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("log-cosh", prediction, target, |p, y| {
            let magnitude = (p - y).abs();
            magnitude + (magnitude * -2.0).exp().log1p() - LN_2
        })
    }
}
