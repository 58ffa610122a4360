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
///     fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
///         Some(sums[0][0] / sums[1][0])
///     }
/// }
/// assert_eq!(Bias.value(&[vec![3.0], vec![2.0]]), Some(1.5));
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
    /// value, as that of no examples. `None` where a metric is no number at all: its statistics are what people look at, as those of the
    /// [`ConfusionMatrix`], and no history shows it.
    fn value(&self, sums: &[Vec<f64>]) -> Option<f64>;

    /// The same metric under another name: for two of a kind, such as two averages of [`F1`].
    ///
    /// ```
    /// use kiln_nn::{Average, F1, Metric};
    ///
    /// assert_eq!(F1::of_classes(Average::Weighted).named("f1_weighted").name(), "f1_weighted");
    /// ```
    fn named(self, name: &str) -> Named<Self>
    where
        Self: Sized,
    {
        Named {
            name: name.to_owned(),
            metric: self,
        }
    }
}

/// A metric under another name: [`Metric::named`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<M> {
    name: String,
    metric: M,
}

impl<M: Metric> Metric for Named<M> {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        self.metric.statistics(prediction, target, weights)
    }

    fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
        self.metric.value(sums)
    }
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

    fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
        Some(mean_of_sums(sums))
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
