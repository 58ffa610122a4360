//! Losses that are distances between distributions.

use super::elementwise::mean_of_elements;
use super::{Loss, same_type};
use crate::last_axis::LastAxis;
use kiln_ir::Tensor;

/// The divergence of Kullback and Leibler, `sum_k y_k (ln y_k - ln p_k)` with `p = softmax(z)`, for logits `z` and a target distribution
/// `[.., n]` of one type: Kullback and Leibler, "On information and sufficiency" (Annals of Mathematical Statistics 22, 1951).
///
/// A target of 0 adds nothing. It is the cross-entropy less the entropy of the targets, so both have one gradient by the logits. PyTorch
/// gives the same for `kl_div(log_softmax(z), y, reduction="batchmean")`; Keras takes probabilities and moves them away from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KlDivergence;

impl Loss for KlDivergence {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "kl divergence";
        let Some(rows) = LastAxis::of(what, logits) else {
            return logits.builder().poison();
        };
        if !same_type(what, logits, targets) {
            return logits.builder().poison();
        }
        let centred = rows.centred(logits);
        let log = centred - rows.spread(rows.sum(centred.exp()).log());
        // A logarithm of 1 instead of 0, so that neither value nor gradient is NaN.
        let own = targets.where_(targets.gt(0.0), 1.0).log();
        rows.sum(targets * (own - log))
    }
}

/// The mean of `rate - y ln rate`: what the logarithm of a Poisson distribution's probability of the count `y` lacks of a constant. For
/// predictions and targets of one type and any shape whose first axis is the batch.
///
/// [`Poisson::new`] takes the logarithm `z` of the rate as prediction, which is `e^z - y z` and the default of PyTorch's `PoissonNLLLoss`;
/// [`Poisson::of_rates`] the rate itself, to which 1e-7 is added in the logarithm as Keras does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poisson {
    rates: bool,
}

impl Poisson {
    /// Of logarithms of rates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of rates, which are above 0.
    pub fn of_rates() -> Self {
        Self { rates: true }
    }
}

impl Loss for Poisson {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        mean_of_elements("poisson", prediction, target, |p, y| {
            if self.rates {
                p - y * (p + 1e-7).log()
            } else {
                p.exp() - y * p
            }
        })
    }
}
