//! The cross-entropy of answers of yes or no, from logits.

use super::elementwise::mean_of_elements;
use super::{Loss, Smoothed};
use kiln_ir::Tensor;

/// The mean of `-y ln p - (1 - y) ln(1 - p)` with `p = logistic(z)`, for logits `z` and targets `y` from 0 to 1 of one type and any shape
/// whose first axis is the batch: several answers of an example are averaged.
///
/// It is computed as `max(z, 0) - z y + ln(1 + e^(-|z|))`: nothing overflows and no probability is rounded to 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BinaryCrossEntropy;

impl BinaryCrossEntropy {
    /// The loss for targets of `(1 - share) y + share / 2`: see [`Smoothed`].
    pub fn smoothed(self, share: f64) -> Smoothed<Self> {
        Smoothed::new(self, share)
    }
}

impl Loss for BinaryCrossEntropy {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "binary cross-entropy";
        mean_of_elements(what, logits, targets, binary_cross_entropy)
    }
}

/// The cross-entropy of each element. At 0 the maximum passes half its gradient and the magnitude none, which makes `1/2 - y` in all.
#[track_caller]
pub(super) fn binary_cross_entropy<'g>(logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
    logits.maximum(0.0) - logits * targets + logits.abs().neg().exp().log1p()
}
