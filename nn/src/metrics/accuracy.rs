//! Accuracies: the share of examples that were decided rightly.

use super::MeanMetric;
use super::classes::yes_or_no;
use crate::labels::Classes;
use crate::last_axis::LastAxis;
use crate::losses::same_type;
use kiln_ir::ops::Iota;
use kiln_ir::{DType, Kind, Refusal, Tensor, TensorType};

/// The share of examples whose largest score, among `[.., n]` of any monotonous form (logits, probabilities), is that of the integer
/// label `[..]`. The first of equal scores counts as the largest, so a model that says the same of all classes is not always right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy;

impl MeanMetric for Accuracy {
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

/// [`Accuracy`] for targets that are distributions over the classes, `[.., n]` of the scores' type: the share of examples whose largest
/// score stands where the largest target does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CategoricalAccuracy;

impl MeanMetric for CategoricalAccuracy {
    fn name(&self) -> &str {
        "categorical_accuracy"
    }

    #[track_caller]
    fn measure_each<'g>(&self, scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "categorical accuracy";
        let Some(rows) = LastAxis::of(what, scores) else {
            return scores.builder().poison();
        };
        if !same_type(what, scores, targets) {
            return scores.builder().poison();
        }
        let right = scores.argmax(rows.axis()).eq(targets.argmax(rows.axis()));
        right.convert(rows.ty().dtype)
    }
}

/// The share of scores that lie above a threshold just where the target is 1: scores of any shape, and targets 0 or 1 of the same shape
/// and of any type.
///
/// The threshold is 0, that of logits, as the losses of Kiln take them; [`BinaryAccuracy::threshold`] sets 0.5 for probabilities, which is
/// the default of Keras.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BinaryAccuracy {
    threshold: f64,
}

impl BinaryAccuracy {
    /// The accuracy of logits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The score above which the answer is yes.
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }
}

impl MeanMetric for BinaryAccuracy {
    fn name(&self) -> &str {
        "binary_accuracy"
    }

    #[track_caller]
    fn measure_each<'g>(&self, scores: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "binary accuracy";
        let (Some(targets), Some(ty)) = (yes_or_no(what, scores, targets), scores.ty()) else {
            return scores.builder().poison();
        };
        let said = scores.gt(self.threshold).convert(ty.dtype);
        said.eq(targets).convert(ty.dtype)
    }
}

/// The share of examples whose label, `[..]` of any integer type, has one of the `count` largest scores among `[.., n]`.
///
/// Of equal scores the first are the largest, as in [`Accuracy`] and unlike TensorFlow's `in_top_k`, which lets all of them in. A label
/// whose score is NaN, or that is no class, is not among the largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKAccuracy {
    count: u32,
    name: String,
}

impl TopKAccuracy {
    /// The share of labels among the `count` largest scores. It is called `top_5_accuracy` where `count` is 5.
    pub fn new(count: u32) -> Self {
        Self {
            count,
            name: format!("top_{count}_accuracy"),
        }
    }
}

impl MeanMetric for TopKAccuracy {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn measure_each<'g>(&self, scores: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let what = self.name.as_str();
        if self.count == 0 {
            let refusal = Refusal::new(Kind::Attribute, "a `TopKAccuracy` of the 0 largest scores")
                .help("at least the largest one counts");
            return scores.builder().refuse(refusal, &[]);
        }
        let Some(rows) = LastAxis::of(what, scores) else {
            return scores.builder().poison();
        };
        let Some(classes) = Classes::of(what, &rows, scores, labels) else {
            return scores.builder().poison();
        };
        let Some(label_ty) = classes.labels().ty() else {
            return scores.builder().poison();
        };
        let index = Iota {
            ty: TensorType::new(label_ty.dtype, &rows.ty().shape),
            axis: rows.axis(),
        };
        let index = scores.builder().push(index, &[]);
        let own = rows.spread(rows.sum(scores.where_(classes.one_hot(&rows), 0.0)));
        // What does not beat the label's own score; nothing compares with NaN, so that everything beats it.
        let behind = scores
            .lt(own)
            .or(scores.eq(own).and(index.ge(rows.spread(classes.labels()))));
        let beaten_by = behind
            .not()
            .convert(DType::I32)
            .reduce(kiln_ir::ops::ReduceKind::Sum, &[rows.axis()]);
        let among = beaten_by
            .lt(f64::from(self.count))
            .and(classes.in_range(&rows));
        among.convert(rows.ty().dtype)
    }
}
