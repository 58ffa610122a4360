//! Metrics: what people look at while a model learns. They are graphs like losses, but nobody differentiates them.

use crate::labels::Classes;
use crate::last_axis::LastAxis;
use crate::losses::{Loss, MeanSquaredError};
use kiln_ir::{Dim, Tensor};

/// A number for each example, whose mean over all examples is the metric. Means of batches are weighted by their sizes.
pub trait Metric {
    /// The name in a history and on a progress bar, such as `accuracy`.
    fn name(&self) -> &str;

    /// One value for each example.
    fn measure_each<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g>;

    /// What is added up over batches: here the sum of the values and their number, or where `weights` hold one for each example, the
    /// weighted sum and the sum of the weights.
    #[track_caller]
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let each = self.measure_each(prediction, target);
        let Some(ty) = each.ty() else {
            return vec![each, each];
        };
        let Some(weights) = weights else {
            let count = kiln_ir::ops::DimSize {
                dim: ty.shape.elements(),
            };
            return vec![each.sum(), each.builder().push(count, &[])];
        };
        // One weight for an example, whatever axes lie behind it.
        let mut shape: Vec<Dim> = vec![1.into(); ty.rank()];
        if let Some((first, batch)) = shape.first_mut().zip(ty.shape.iter().next()) {
            *first = batch.clone();
        }
        let weights = weights.convert(ty.dtype).reshape(shape);
        let weights = weights.broadcast_to(&ty.shape);
        vec![(each * weights).sum(), weights.sum()]
    }

    /// The metric of all batches, from the sums of their statistics.
    fn value(&self, sums: &[Vec<f64>]) -> f64 {
        match sums {
            [sum, count] => sum.iter().sum::<f64>() / count.iter().sum::<f64>(),
            _ => f64::NAN,
        }
    }

    /// The mean over the batch, a scalar.
    #[track_caller]
    fn measure<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.measure_each(prediction, target).mean()
    }
}

/// The share of examples whose largest score, among `[.., n]` of any monotonous form (logits, probabilities), is that of the integer
/// label `[..]`. The first of equal scores counts as the largest, so a model that says the same of all classes is not always right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    #[track_caller]
    fn measure_each<'g>(&self, scores: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let Some(rows) = LastAxis::of("accuracy", scores) else {
            return scores.builder().poison();
        };
        let Some(classes) = Classes::of("accuracy", &rows, scores, labels) else {
            return scores.builder().poison();
        };
        let labels = classes.labels();
        let Some(label_ty) = labels.ty() else {
            return labels;
        };
        let best = scores.argmax(rows.axis()).convert(label_ty.dtype);
        best.eq(labels).convert(rows.ty().dtype)
    }
}

impl Metric for MeanSquaredError {
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
