//! Areas under curves: how well scores rank what is of a class above what is not, whatever the threshold.
//!
//! Both areas are read off `n` thresholds evenly spread over the probabilities, as in Keras, since sums over a batch are all that is kept.
//! The statistics are the weight of positives and of negatives above each threshold, the first of which lies below 0.

use super::Metric;
use super::classes::yes_or_no;
use crate::weights::spread;
use kiln_ir::ops::ReduceKind;
use kiln_ir::{Kind, Refusal, Shape, Tensor};

/// As many as Keras takes.
const THRESHOLDS: u32 = 200;

/// Scores in sums over thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thresholds {
    count: u32,
    probabilities: bool,
}

macro_rules! area {
    ($(#[$doc:meta])* $name:ident, $label:literal, $area:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            thresholds: Thresholds,
        }

        impl $name {
            /// The area for logits of any shape, and targets 0 or 1 of the same shape and of any type; at 200 thresholds.
            pub fn new() -> Self {
                Self { thresholds: Thresholds { count: THRESHOLDS, probabilities: false } }
            }

            /// Takes predictions as probabilities, from 0 to 1, instead of logits.
            pub fn of_probabilities(mut self) -> Self {
                self.thresholds.probabilities = true;
                self
            }

            /// The number of thresholds, 2 or more: work and precision go with it.
            pub fn thresholds(mut self, count: u32) -> Self {
                self.thresholds.count = count;
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl Metric for $name {
            fn name(&self) -> &str {
                $label
            }

            #[track_caller]
            fn statistics<'g>(
                &self,
                prediction: Tensor<'g>,
                target: Tensor<'g>,
                weights: Option<Tensor<'g>>,
            ) -> Vec<Tensor<'g>> {
                let above = self.thresholds.above($label, prediction, target, weights);
                above.unwrap_or_else(|| vec![prediction.builder().poison(); 2])
            }

            fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
                Some(match sums {
                    [positives, negatives] => $area(positives, negatives),
                    _ => f64::NAN,
                })
            }
        }
    };
}

area! {
    /// The area under the receiver operating characteristic, true positives over false positives: the probability that a positive example
    /// has a higher score than a negative one, of equal scores a half. NaN where either are missing.
    ///
    /// Trapezoids between thresholds count each pair between the same two thresholds as a half. So the error is at most half the
    /// probability that a pair falls between the same two, `sum p_k n_k / 2`: at most 0.25 % for scores that spread evenly over 200.
    RocAuc, "roc_auc", roc
}

area! {
    /// The area under the curve of precision over recall. NaN where no example is positive.
    ///
    /// Between two thresholds true and false positives are taken to grow together, as in Davis and Goadrich, "The relationship between
    /// precision-recall and ROC curves" (ICML 2006), section 4, and in Keras. scikit-learn's `average_precision_score` sums steps
    /// instead and lies a little lower or higher.
    PrAuc, "pr_auc", precision_recall
}

impl Thresholds {
    /// The weight of positives and of negatives above each threshold.
    #[track_caller]
    fn above<'g>(
        self,
        what: &str,
        scores: Tensor<'g>,
        targets: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Option<Vec<Tensor<'g>>> {
        let builder = scores.builder();
        if self.count < 2 {
            let message = format!("`{what}` at {} thresholds", self.count);
            let refusal = Refusal::new(Kind::Attribute, message).help("two or more make an area");
            builder.refuse(refusal, &[]);
            return None;
        }
        let positive = yes_or_no(what, scores, targets)?;
        let ty = scores.ty()?;
        let (mut positive, mut negative) = (positive, positive.neg() + 1.0);
        if let Some(weights) = weights {
            let weights = spread(what, weights, scores);
            (positive, negative) = (positive * weights, negative * weights);
        }
        let probability = if self.probabilities {
            scores
        } else {
            scores.logistic()
        };
        let last = f64::from(self.count - 1);
        let inner = (1..self.count - 1).map(|k| f64::from(k) / last);
        // All is above the first and nothing above the last.
        let all: Vec<f64> = [-1.0].into_iter().chain(inner).chain([2.0]).collect();
        let count = i64::from(self.count);
        let thresholds = builder.constant([count], &all).convert(ty.dtype);
        let elements = ty.shape.elements();
        let column = |x: Tensor<'g>| x.reshape(Shape::from([elements.clone(), 1.into()]));
        let above = column(probability).gt(thresholds);
        let sum = |weight: Tensor<'g>| {
            let both = Shape::from([elements.clone(), count.into()]);
            let each = column(weight).broadcast_to(both);
            each.where_(above, 0.0).reduce(ReduceKind::Sum, &[0])
        };
        Some(vec![sum(positive), sum(negative)])
    }
}

/// Trapezoids under the rates.
fn roc(positives: &[f64], negatives: &[f64]) -> f64 {
    let (Some(all_positive), Some(all_negative)) = (positives.first(), negatives.first()) else {
        return f64::NAN;
    };
    let pairs = positives.windows(2).zip(negatives.windows(2));
    let areas = pairs.map(|(p, n)| (p[0] + p[1]) / 2.0 * (n[0] - n[1]));
    areas.sum::<f64>() / (all_positive * all_negative)
}

/// Between two thresholds `tp = precision_slope (tp + fp) + intercept`, and the area is the integral of `tp / (tp + fp)` over `tp`.
fn precision_recall(positives: &[f64], negatives: &[f64]) -> f64 {
    let Some(all_positive) = positives.first() else {
        return f64::NAN;
    };
    let pairs = positives.windows(2).zip(negatives.windows(2));
    let areas = pairs.map(|(p, n)| {
        let (above, below) = (p[1] + n[1], p[0] + n[0]);
        let slope = super::share(p[0] - p[1], below - above);
        let intercept = p[1] - slope * above;
        let ratio = if above > 0.0 && below > 0.0 {
            below / above
        } else {
            1.0
        };
        slope * (p[0] - p[1] + intercept * ratio.ln())
    });
    areas.sum::<f64>() / all_positive
}
