//! Metrics of numbers: how far predictions are from targets, and losses that are looked at.

use super::{MeanMetric, Metric, mean_of_sums, scalar, weighted_sums};
use crate::losses::{Loss, MeanAbsoluteError, MeanSquaredError, SparseCrossEntropy, same_type};
use crate::weights::{size, spread};
use kiln_ir::ops::ReduceKind;
use kiln_ir::{DType, Tensor};

impl MeanMetric for MeanSquaredError {
    fn name(&self) -> &str {
        "mean_squared_error"
    }

    #[track_caller]
    fn measure_each<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        Loss::per_example(self, prediction, target)
    }

    #[track_caller]
    fn measure<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        Loss::mean(self, prediction, target)
    }
}

impl MeanMetric for MeanAbsoluteError {
    fn name(&self) -> &str {
        "mean_absolute_error"
    }

    #[track_caller]
    fn measure_each<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        Loss::per_example(self, prediction, target)
    }
}

/// Any loss as a metric: its mean over all examples.
///
/// ```
/// use kiln_nn::{CrossEntropy, LossMetric, Metric};
///
/// let metric = LossMetric::new("cross_entropy", CrossEntropy);
/// assert_eq!(Metric::name(&metric), "cross_entropy");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossMetric<L> {
    name: String,
    loss: L,
}

impl<L: Loss> LossMetric<L> {
    /// The mean of `loss`, called `name`.
    pub fn new(name: &str, loss: L) -> Self {
        Self {
            name: name.to_owned(),
            loss,
        }
    }
}

impl<L: Loss> MeanMetric for LossMetric<L> {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn measure_each<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.loss.per_example(prediction, target)
    }
}

/// Metrics that are a function of the mean of a loss over all examples.
macro_rules! of_mean_loss {
    ($(#[$doc:meta])* $name:ident, $label:literal, $loss:expr, $of:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

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
                weighted_sums($label, $loss.per_example(prediction, target), weights)
            }

            fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
                Some($of(mean_of_sums(sums)))
            }
        }
    };
}

of_mean_loss! {
    /// The root of the mean of `(prediction - target)^2` over all elements, in the units of the targets.
    RootMeanSquaredError, "root_mean_squared_error", MeanSquaredError, f64::sqrt
}

of_mean_loss! {
    /// `e` to the mean cross-entropy of logits `[.., n]` and integer labels `[..]`: among how many equally likely classes the model
    /// hesitates. A label outside the classes fails the step.
    Perplexity, "perplexity", SparseCrossEntropy, f64::exp
}

/// The coefficient of determination: `1 - sum (y - prediction)^2 / sum (y - mean y)^2`, the share of the targets' variance that was
/// predicted. 1 is perfect, 0 is what their mean reaches.
///
/// Predictions and targets are of one type with the batch first. Each further element is an output of its own, and the value is the mean
/// over the outputs, scikit-learn's `uniform_average`. An output whose targets are all the same counts as 1 where it was met, else as 0.
/// The sums are taken in f64, since the variance is a small difference of large numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct R2;

impl Metric for R2 {
    fn name(&self) -> &str {
        "r2"
    }

    #[track_caller]
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let batch = target.ty().and_then(|ty| ty.shape.first().cloned());
        let Some(batch) = batch.filter(|_| same_type("r2", prediction, target)) else {
            return vec![prediction.builder().poison(); 4];
        };
        let (p, y) = (prediction.convert(DType::F64), target.convert(DType::F64));
        let total = |x: Tensor<'g>| {
            let weighted = weights.map_or(x, |weights| x * spread("r2", weights, x));
            weighted.reduce(ReduceKind::Sum, &[0])
        };
        let count = match weights {
            Some(weights) => weights.convert(DType::F64).sum(),
            None => size(y, batch),
        };
        vec![count, total(y), total(y.square()), total((y - p).square())]
    }

    fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
        let [_, sum, squares, residuals] = sums else {
            return Some(f64::NAN);
        };
        let count = scalar(sums, 0);
        let outputs = sum.iter().zip(squares).zip(residuals);
        let each = outputs.map(|((sum, squares), residual)| {
            let variation = squares - sum * sum / count;
            // What is left of the squares by rounding is no variation.
            let constant = variation <= 1e-14 * squares;
            match (constant, *residual == 0.0) {
                (false, _) => 1.0 - residual / variation,
                (true, true) => 1.0,
                (true, false) => 0.0,
            }
        });
        Some(each.sum::<f64>() / sum.len() as f64)
    }
}
