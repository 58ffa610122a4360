//! Cross-entropies of a softmax, from logits.
//!
//! Both take the unnormalised logits `z` and work on `s = z - max z`: with `lse = log sum exp s`, the loss of class `k` is
//! `lse - s_k`. Nothing overflows, no probability is rounded to 0 before its logarithm is taken, and autodiff arrives at
//! `softmax(z) - target`: the exponentials it needs are those of the forward sweep.

use super::{Loss, Smoothed, same_type};
use crate::labels::Classes;
use crate::last_axis::LastAxis;
use kiln_ir::Tensor;

/// The cross-entropy of logits `[.., n]` and integer labels `[..]` from 0 to `n - 1`, of any integer type.
///
/// A label outside the classes fails the step before it writes any state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SparseCrossEntropy;

impl SparseCrossEntropy {
    /// The loss for targets of which all classes get the same `share`: see [`Smoothed`].
    pub fn smoothed(self, share: f64) -> Smoothed<Self> {
        Smoothed::new(self, share)
    }
}

impl Loss for SparseCrossEntropy {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let what = "sparse cross-entropy";
        let Some(rows) = LastAxis::of(what, logits) else {
            return logits.builder().poison();
        };
        let Some(classes) = Classes::of(what, &rows, logits, labels) else {
            return logits.builder().poison();
        };
        let centred = rows.centred(logits);
        let normaliser = rows.sum(centred.exp()).log();
        let own = rows.sum(centred.where_(classes.one_hot(&rows), 0.0));
        let message = "a label is outside the classes of the logits";
        (normaliser - own).require(classes.in_range(&rows), message)
    }
}

/// The cross-entropy of logits `[.., n]` and a target distribution `[.., n]` over the classes, of the same type.
///
/// Targets need not sum to 1: the loss is `sum_k target_k (lse - s_k)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossEntropy;

impl CrossEntropy {
    /// The loss for targets of which all classes get the same `share`: see [`Smoothed`].
    pub fn smoothed(self, share: f64) -> Smoothed<Self> {
        Smoothed::new(self, share)
    }
}

impl Loss for CrossEntropy {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let Some(rows) = LastAxis::of("cross-entropy", logits) else {
            return logits.builder().poison();
        };
        if !same_type("cross-entropy", logits, targets) {
            return logits.builder().poison();
        }
        let centred = rows.centred(logits);
        let normaliser = rows.spread(rows.sum(centred.exp()).log());
        rows.sum(targets * (normaliser - centred))
    }
}
