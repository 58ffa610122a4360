//! Metrics: what people look at while a model learns. They are graphs like losses, but nobody differentiates them.
//!
//! A metric over a data set is seldom the mean of those of its batches: there is no mean of two recalls. So a metric is two things: sums
//! over the examples of a batch, which the compiled step computes and anybody may add up, and a function of the sums of them all. The
//! result does not hang on how the data was cut into batches.

mod accuracy;
mod agreement;
mod area;
mod classes;
mod confusion;
mod regression;

pub use accuracy::{Accuracy, BinaryAccuracy, CategoricalAccuracy, TopKAccuracy};
pub use agreement::{Average, F1, Precision, Recall};
pub use area::{PrAuc, RocAuc};
pub use confusion::ConfusionMatrix;
pub use regression::{LossMetric, Perplexity, R2, RootMeanSquaredError};

use crate::weights::{count, spread};
use kiln_ir::Tensor;

/// Statistics of a batch, and the number that their sums make.
///
/// Where a metric is the mean over all examples, implement [`MeanMetric`] instead: each of those is a metric.
///
/// ```
/// use kiln_ir::Tensor;
/// use kiln_nn::Metric;
///
/// /// The mean of predictions over that of targets.
/// struct Bias;
///
/// impl Metric for Bias {
///     fn name(&self) -> &str {
///         "bias"
///     }
///
///     fn statistics<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>, weights: Option<Tensor<'g>>) -> Vec<Tensor<'g>> {
///         let weighted = |x: Tensor<'g>| weights.map_or(x, |weights| x * weights).sum();
///         vec![weighted(prediction), weighted(target)]
///     }
///
///     fn value(&self, sums: &[Vec<f64>]) -> f64 {
///         sums[0][0] / sums[1][0]
///     }
/// }
/// assert_eq!(Bias.value(&[vec![3.0], vec![2.0]]), 1.5);
/// ```
pub trait Metric {
    /// The name in a history and on a progress bar, such as `accuracy`.
    fn name(&self) -> &str;

    /// Sums over the examples of a batch, floating tensors of fixed shapes: what those of two batches add up to is those of both together.
    /// `weights`, of shape `[b]`, counts an example as so many; without them each counts as one.
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>>;

    /// The metric of all examples, from the sums of their statistics: the elements of each in row-major order. NaN where it has no
    /// value, as that of no examples.
    fn value(&self, sums: &[Vec<f64>]) -> f64;
}

/// A number for each example, whose mean over all examples is the metric.
pub trait MeanMetric {
    /// The name in a history and on a progress bar, such as `accuracy`.
    fn name(&self) -> &str;

    /// One value for each example, or for each position where examples are sequences.
    fn measure_each<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g>;

    /// The mean over the batch, a scalar.
    #[track_caller]
    fn measure<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.measure_each(prediction, target).mean()
    }
}

/// Statistics: the weighted sum of the values, and the sum of the weights.
impl<M: MeanMetric> Metric for M {
    fn name(&self) -> &str {
        MeanMetric::name(self)
    }

    #[track_caller]
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let each = self.measure_each(prediction, target);
        weighted_sums(MeanMetric::name(self), each, weights)
    }

    fn value(&self, sums: &[Vec<f64>]) -> f64 {
        mean_of_sums(sums)
    }
}

/// The weighted sum of `each`, and the sum of the weights.
#[track_caller]
fn weighted_sums<'g>(what: &str, each: Tensor<'g>, weights: Option<Tensor<'g>>) -> Vec<Tensor<'g>> {
    let Some(weights) = weights else {
        return vec![each.sum(), count(each)];
    };
    let weights = spread(what, weights, each);
    vec![(each * weights).sum(), weights.sum()]
}

/// The mean, of what [`weighted_sums`] summed.
fn mean_of_sums(sums: &[Vec<f64>]) -> f64 {
    scalar(sums, 0) / scalar(sums, 1)
}

/// The scalar statistic `index`; NaN where there is none.
fn scalar(sums: &[Vec<f64>], index: usize) -> f64 {
    let sum = sums.get(index).and_then(|sum| sum.first());
    sum.copied().unwrap_or(f64::NAN)
}

/// `share` of `whole`, and 0 of nothing.
fn share(share: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { share / whole }
}
