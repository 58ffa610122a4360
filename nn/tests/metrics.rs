//! Metrics: sums that do not hang on how data is cut, against numbers counted by hand; `reference.rs` compares with other libraries.

mod common;

use common::{close, floats, ints};
use kiln_ir::{Array, Builder, DType, Diagnostics, eval};
use kiln_nn::{
    Accuracy, Average, BinaryAccuracy, ConfusionMatrix, F1, Metric, PrAuc, Precision, R2, Recall,
    RocAuc, TopKAccuracy,
};

/// The sums of a metric's statistics over batches of examples, each of a prediction, a target and a weight.
fn sums(
    metric: &dyn Metric,
    rest: &[usize],
    labels: bool,
    batches: &[(&[f64], &[f64], &[f64])],
) -> Vec<Vec<f64>> {
    let g = Builder::new("metric");
    let shape = |batch: kiln_ir::Dim| -> kiln_ir::Shape {
        let rest = rest.iter().map(|n| kiln_ir::Dim::from(*n as i64));
        [batch].into_iter().chain(rest).collect()
    };
    let b = g.dim("b");
    let x = g.input("x", DType::F64, shape(b.clone()));
    let y = if labels {
        g.input("y", DType::I32, (b.clone(),))
    } else {
        g.input("y", DType::F64, shape(b.clone()))
    };
    let w = g.input("w", DType::F32, (b,));
    for (index, sum) in metric.statistics(x, y, Some(w)).into_iter().enumerate() {
        g.output(&index.to_string(), sum);
    }
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); graph.outputs().len()];
    for (x, y, w) in batches {
        let shape: Vec<usize> = [w.len()].into_iter().chain(rest.iter().copied()).collect();
        let step = eval(&graph, |slot| {
            Some(match (slot.name.as_str(), labels) {
                ("x", _) => floats(DType::F64, &shape, x),
                ("w", _) => floats(DType::F32, &[w.len()], w),
                (_, true) => {
                    let labels: Vec<i64> = y.iter().map(|y| *y as i64).collect();
                    ints(DType::I32, &labels)
                }
                (_, false) => floats(DType::F64, &shape, y),
            })
        })
        .unwrap();
        for (sum, output) in sums.iter_mut().zip(&step.outputs) {
            let output: &Array = output;
            let values = output.floats().unwrap();
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
        }
    }
    sums
}

/// Scores of six examples and three classes, of which the chosen are 0, 1, 2, 1, 0 (the first of equals) and 1.
const SCORES: [f64; 18] = [
    3.0, 1.0, 2.0, 0.0, 5.0, 1.0, -1.0, 0.0, 1.0, 0.5, 0.6, 0.1, 2.0, 2.0, 2.0, 0.0, 9.0, 8.0,
];
const LABELS: [f64; 6] = [0.0, 1.0, 1.0, 1.0, 2.0, 2.0];
const ONES: [f64; 6] = [1.0; 6];

fn of_classes(metric: &dyn Metric) -> f64 {
    let found = sums(metric, &[3], true, &[(&SCORES, &LABELS, &ONES)]);
    metric.value(&found).unwrap()
}

#[test]
fn classes_are_counted_as_by_hand() {
    let confusion = sums(&ConfusionMatrix, &[3], true, &[(&SCORES, &LABELS, &ONES)]);
    let expected = [[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]];
    assert_eq!(ConfusionMatrix::rows(&confusion), expected);
    assert_eq!(ConfusionMatrix.value(&confusion), None);
    close(&[of_classes(&Accuracy)], &[0.5], 1e-15);
    // Ranks of the labels: 0, 0, 1, 0, 2 (behind two equal ones) and 1.
    for (k, right) in [(1, 3.0), (2, 5.0), (3, 6.0)] {
        close(&[of_classes(&TopKAccuracy::new(k))], &[right / 6.0], 1e-15);
    }
    // Precisions of 1/2, 2/3 and 0; recalls of 1, 2/3 and 0; supports of 1, 3 and 2.
    let by = [Average::Micro, Average::Macro, Average::Weighted];
    let precision = by.map(|by| of_classes(&Precision::of_classes(by)));
    close(&precision, &[0.5, 7.0 / 18.0, 2.5 / 6.0], 1e-15);
    let recall = by.map(|by| of_classes(&Recall::of_classes(by)));
    close(&recall, &[0.5, 5.0 / 9.0, 0.5], 1e-15);
    let f1 = by.map(|by| of_classes(&F1::of_classes(by)));
    let each = [2.0 / 3.0, 2.0 / 3.0, 0.0];
    close(
        &f1,
        &[0.5, 4.0 / 9.0, (each[0] + 3.0 * each[1]) / 6.0],
        1e-15,
    );
}

/// A weight of 2 is the example twice, a weight of 0 leaves it out, and a cut into batches changes nothing.
#[test]
fn weights_count_examples_and_batches_add_up() {
    let (scores, labels) = (&SCORES, &LABELS);
    let twice = [&SCORES[..], &SCORES[3..6]].concat();
    let twice_labels = [&LABELS[..], &LABELS[1..2]].concat();
    let all: [&dyn Metric; 6] = [
        &Accuracy,
        &ConfusionMatrix,
        &TopKAccuracy::new(2),
        &Precision::of_classes(Average::Macro),
        &Recall::of_classes(Average::Weighted),
        &F1::of_classes(Average::Micro),
    ];
    for metric in all {
        let weighted = [1.0, 2.0, 1.0, 1.0, 1.0, 0.0];
        let cut = [
            (&scores[..6], &labels[..2], &weighted[..2]),
            (&scores[6..6], &labels[2..2], &weighted[2..2]),
            (&scores[6..], &labels[2..], &weighted[2..]),
        ];
        let cut = sums(metric, &[3], true, &cut);
        let mut ones = [1.0; 7];
        ones[5] = 0.0;
        let whole = sums(metric, &[3], true, &[(&twice, &twice_labels, &ones)]);
        for (cut, whole) in cut.iter().zip(&whole) {
            close(cut, whole, 1e-14);
        }
    }
}

#[test]
fn a_score_of_nan_is_never_among_the_largest() {
    let scores = [f64::NAN, 1.0, 2.0];
    for k in [1, 2] {
        let metric = TopKAccuracy::new(k);
        let found = sums(&metric, &[3], true, &[(&scores, &[0.0], &[1.0])]);
        assert_eq!(metric.value(&found), Some(0.0));
    }
}

#[test]
fn answers_of_yes_or_no_have_thresholds() {
    let logits = [2.0, -1.0, 0.5, -3.0, 0.0];
    let targets = [1.0, 1.0, 0.0, 0.0, 1.0];
    let value = |metric: &dyn Metric| {
        let found = sums(metric, &[], false, &[(&logits, &targets, &ONES[..5])]);
        metric.value(&found).unwrap()
    };
    close(&[value(&BinaryAccuracy::new())], &[0.4], 1e-15);
    let lower = BinaryAccuracy::new().threshold(-2.0);
    close(&[value(&lower)], &[0.8], 1e-15);
    close(&[value(&Precision::binary())], &[0.5], 1e-15);
    close(&[value(&Recall::binary())], &[1.0 / 3.0], 1e-15);
    close(&[value(&F1::binary())], &[0.4], 1e-15);
    close(&[value(&Recall::above(-2.0))], &[1.0], 1e-15);
    // Nothing lies above 5: no precision is 0, as in scikit-learn.
    assert_eq!(value(&Precision::above(5.0)), 0.0);
}

#[test]
fn areas_count_the_pairs_in_order() {
    let logits = [2.0, -1.0, 0.5, -3.0, 0.0];
    let targets = [1.0, 1.0, 0.0, 0.0, 1.0];
    // Of the six pairs of a positive and a negative four are in order.
    let roc = RocAuc::new();
    let found = sums(&roc, &[], false, &[(&logits, &targets, &ONES[..5])]);
    close(&[roc.value(&found).unwrap()], &[4.0 / 6.0], 1e-12);
    // All of one score: half the pairs, and the share of positives.
    let same = [0.3; 5];
    let found = sums(&roc, &[], false, &[(&same, &targets, &ONES[..5])]);
    close(&[roc.value(&found).unwrap()], &[0.5], 1e-12);
    let pr = PrAuc::new();
    let found = sums(&pr, &[], false, &[(&same, &targets, &ONES[..5])]);
    close(&[pr.value(&found).unwrap()], &[0.6], 1e-12);
    let none = [vec![0.0; 200], vec![1.0; 200]];
    assert!(roc.value(&none).unwrap().is_nan() && pr.value(&none).unwrap().is_nan());
}

#[test]
fn r2_has_one_value_for_each_output() {
    // The second output has targets of one value, missed.
    let prediction = [1.0, 0.0, 2.0, 5.0, 2.0, 5.0];
    let target = [1.0, 5.0, 2.0, 5.0, 3.0, 5.0];
    let found = sums(&R2, &[2], false, &[(&prediction, &target, &ONES[..3])]);
    close(&[R2.value(&found).unwrap()], &[(0.5 + 0.0) / 2.0], 1e-14);
}

#[test]
fn statistics_that_do_not_fit_are_refused_with_what_would() {
    let refused = |metric: &dyn Metric, shape: &[i64], target: (DType, &[i64]), weights: &[i64]| {
        let g = Builder::new("metric");
        let x = g.input("x", DType::F32, shape);
        let y = g.input("y", target.0, target.1);
        let w = g.input("w", DType::F32, weights);
        let all = metric.statistics(x, y, Some(w));
        assert!(all.iter().any(|sum| sum.id().is_none()));
        let Diagnostics(all) = g.finish().unwrap_err();
        all[0].to_string()
    };
    let message = refused(&Accuracy, &[4, 3], (DType::I32, &[4]), &[3]);
    assert!(message.contains("with weights f32[3]"), "{message}");
    let message = refused(&RocAuc::new(), &[4, 1], (DType::I32, &[4]), &[4]);
    assert!(message.contains("targets of shape [4, 1] fit"), "{message}");
    let message = refused(&R2, &[4], (DType::F32, &[5]), &[4]);
    assert!(message.contains("`r2`"), "{message}");
    let message = refused(&TopKAccuracy::new(0), &[4, 3], (DType::I32, &[4]), &[4]);
    assert!(message.contains("0 largest"), "{message}");
    let one = RocAuc::new().thresholds(1);
    let message = refused(&one, &[4], (DType::F32, &[4]), &[4]);
    assert!(message.contains("at 1 thresholds"), "{message}");
}
