//! Losses with their gradients, and metrics, against PyTorch, Keras and scikit-learn.

mod common;

use common::floats;
use common::reference::{PRECISIONS, near, numbers, read};
use kiln_ir::{Array, Builder, DType, Init, Shape, Tensor, Values, eval, grad};
use kiln_nn::{
    Accuracy, Average, BinaryAccuracy, BinaryCrossEntropy, BinaryFocal, CategoricalFocal,
    CategoricalHinge, ClassWeighted, ConfusionMatrix, CosineSimilarity, CrossEntropy, Ctc, F1,
    Hinge, Huber, KlDivergence, LogCosh, Loss, LossMetric, MeanAbsoluteError, MeanSquaredError,
    Metric, Perplexity, Poisson, PrAuc, Precision, R2, Recall, RocAuc, RootMeanSquaredError,
    SparseCrossEntropy, SquaredHinge, TopKAccuracy, ctc, triplet,
};
use serde_json::Value;

/// The examples of losses, and the classes.
const SHAPE: [i64; 2] = [7, 5];

/// A tensor of the file: `labels` are integers of one axis, others floats of `shape`.
fn array(all: &Value, group: &str, name: &str, dtype: DType, shape: &[usize]) -> Array {
    let values = numbers(all, &[group, name]);
    if name == "labels" {
        let labels: Vec<i64> = values.iter().map(|x| *x as i64).collect();
        return common::ints(DType::I32, &labels);
    }
    floats(dtype, shape, &values)
}

/// The outputs of a graph whose slots are tensors of `group`, called as there.
fn outputs(all: &Value, group: &str, dtype: DType, builder: Builder) -> Vec<Vec<f64>> {
    let graph = builder.finish().unwrap_or_else(|e| panic!("{e}"));
    let step = eval(&graph, |slot| {
        let shape = graph.node(slot.node).unwrap().ty.shape.constants().unwrap();
        Some(array(all, group, &slot.name, dtype, &shape))
    });
    let outputs = step.unwrap().outputs;
    outputs
        .iter()
        .map(|o| o.floats().unwrap().to_vec())
        .collect()
}

/// The target of that name.
fn target<'g>(g: &'g Builder, name: &str, dtype: DType) -> Tensor<'g> {
    match name {
        "labels" => g.input(name, DType::I32, [SHAPE[0]]),
        _ => g.input(name, dtype, SHAPE),
    }
}

#[test]
fn losses_and_their_gradients() {
    let all = read();
    let weights = numbers(&all, &["inputs", "class_weights"]);
    let losses: [(&str, &dyn Loss); 21] = [
        ("mean_squared_error", &MeanSquaredError),
        ("mean_absolute_error", &MeanAbsoluteError),
        ("huber", &Huber::new(1.5)),
        ("log_cosh", &LogCosh),
        ("binary", &BinaryCrossEntropy),
        ("binary_smoothed", &BinaryCrossEntropy.smoothed(0.2)),
        ("categorical", &CrossEntropy),
        ("categorical_smoothed", &CrossEntropy.smoothed(0.2)),
        ("sparse", &SparseCrossEntropy),
        ("sparse_smoothed", &SparseCrossEntropy.smoothed(0.2)),
        (
            "sparse_class_weights",
            &ClassWeighted::new(SparseCrossEntropy, weights),
        ),
        ("binary_focal", &BinaryFocal::new(1.7)),
        (
            "binary_focal_balanced",
            &BinaryFocal::new(2.0).balanced(0.3),
        ),
        (
            "categorical_focal",
            &CategoricalFocal::new(2.0).scaled(0.25),
        ),
        ("hinge", &Hinge),
        ("squared_hinge", &SquaredHinge),
        ("categorical_hinge", &CategoricalHinge),
        ("kl_divergence", &KlDivergence),
        ("poisson", &Poisson::new()),
        ("poisson_of_rates", &Poisson::of_rates()),
        ("cosine_similarity", &CosineSimilarity),
    ];
    assert_eq!(all["losses"].as_object().unwrap().len(), losses.len());
    for (name, loss) in losses {
        let case = &all["losses"][name];
        let (prediction, label) = (&case["prediction"], &case["target"]);
        let (prediction, label) = (prediction.as_str().unwrap(), label.as_str().unwrap());
        for (dtype, tolerance) in PRECISIONS {
            let g = Builder::new(name);
            let p = g.param_of(prediction, dtype, SHAPE, Init::zeros());
            let y = target(&g, label, dtype);
            let mean = loss.mean(p, y);
            g.output("each", loss.per_example(p, y));
            g.output("mean", mean);
            g.output("gradient", grad(mean, &[p])[0]);
            let found = outputs(&all, "inputs", dtype, g);
            let each = numbers(case, &["each"]);
            let mean = each.iter().sum::<f64>() / each.len() as f64;
            near(name, &found[0], &each, tolerance);
            near(name, &found[1], &[mean], tolerance);
            near(name, &found[2], &numbers(case, &["gradient"]), tolerance);
        }
    }
}

#[test]
fn triplets_and_weighted_means() {
    let all = read();
    for (dtype, tolerance) in PRECISIONS {
        let g = Builder::new("triplet");
        let anchor = g.param_of("logits", dtype, SHAPE, Init::zeros());
        let [positive, negative] = ["values", "rates"].map(|name| g.input(name, dtype, SHAPE));
        let each = triplet(anchor, positive, negative, 1.0);
        g.output("each", each);
        g.output("gradient", grad(each.mean(), &[anchor])[0]);
        let found = outputs(&all, "inputs", dtype, g);
        for (found, name) in found.iter().zip(["each", "gradient"]) {
            near(name, found, &numbers(&all, &["triplet", name]), tolerance);
        }

        let g = Builder::new("weighted");
        let z = g.param_of("logits", dtype, SHAPE, Init::zeros());
        let (y, w) = (
            target(&g, "labels", dtype),
            g.input("weights", dtype, [SHAPE[0]]),
        );
        let mean = SparseCrossEntropy.weighted_mean(z, y, w);
        g.output("value", mean);
        g.output("gradient", grad(mean, &[z])[0]);
        let found = outputs(&all, "inputs", dtype, g);
        for (found, name) in found.iter().zip(["value", "gradient"]) {
            let expected = numbers(&all, &["weighted_mean", name]);
            near(name, found, &expected, tolerance);
        }
    }
}

/// The metric of all 60 examples, and its sums.
fn measured(
    all: &Value,
    metric: &dyn Metric,
    (prediction, label): (&str, &str),
    weighted: bool,
    dtype: DType,
) -> (f64, Vec<Vec<f64>>) {
    let g = Builder::new("metric");
    let input = |name: &str| {
        let shape: Shape = match name {
            "labels" => return g.input(name, DType::I32, [60]),
            "scores" => [60, 4].into(),
            "values" | "predictions" => [60, 2].into(),
            _ => [60].into(),
        };
        g.input(name, dtype, shape)
    };
    let (p, y) = (input(prediction), input(label));
    let sums = metric.statistics(p, y, weighted.then(|| input("weights")));
    for (index, sum) in sums.into_iter().enumerate() {
        g.output(&index.to_string(), sum);
    }
    let sums = outputs(all, "metric_inputs", dtype, g);
    (metric.value(&sums).unwrap_or(f64::NAN), sums)
}

#[test]
fn metrics_plain_and_weighted() {
    let all = read();
    let classes = ("scores", "labels");
    let binary = ("logits", "binary");
    let numeric = ("predictions", "values");
    let by = [Average::Micro, Average::Macro, Average::Weighted];
    let [p1, p2, p3] = by.map(Precision::of_classes);
    let [r1, r2, r3] = by.map(Recall::of_classes);
    let [f1, f2, f3] = by.map(F1::of_classes);
    let metrics: [(&str, &dyn Metric, (&str, &str)); 23] = [
        ("accuracy", &Accuracy, classes),
        ("top_2", &TopKAccuracy::new(2), classes),
        ("binary_accuracy", &BinaryAccuracy::new(), binary),
        ("mean_squared_error", &MeanSquaredError, numeric),
        ("mean_absolute_error", &MeanAbsoluteError, numeric),
        ("root_mean_squared_error", &RootMeanSquaredError, numeric),
        ("r2", &R2, numeric),
        (
            "log_loss",
            &LossMetric::new("log_loss", SparseCrossEntropy),
            classes,
        ),
        ("perplexity", &Perplexity, classes),
        ("precision", &Precision::binary(), binary),
        ("precision_micro", &p1, classes),
        ("precision_macro", &p2, classes),
        ("precision_weighted", &p3, classes),
        ("recall", &Recall::binary(), binary),
        ("recall_micro", &r1, classes),
        ("recall_macro", &r2, classes),
        ("recall_weighted", &r3, classes),
        ("f1", &F1::binary(), binary),
        ("f1_micro", &f1, classes),
        ("f1_macro", &f2, classes),
        ("f1_weighted", &f3, classes),
        ("roc_auc", &RocAuc::new(), binary),
        ("pr_auc", &PrAuc::new(), binary),
    ];
    for (group, weighted) in [("plain", false), ("weighted", true)] {
        // The exact area is the one more that has no metric of its own.
        let known = all["metrics"][group].as_object().unwrap().len();
        assert_eq!(known, metrics.len() + 1);
        for (dtype, tolerance) in PRECISIONS {
            for (name, metric, pair) in metrics {
                let (found, _) = measured(&all, metric, pair, weighted, dtype);
                let expected = numbers(&all, &["metrics", group, name]);
                near(name, &[found], &expected, tolerance);
            }
            let (_, sums) = measured(&all, &ConfusionMatrix, classes, weighted, dtype);
            let expected = numbers(&all, &["confusion", group]);
            near("confusion", &sums[0], &expected, tolerance);
        }
    }
}

/// At many thresholds the area is that of scikit-learn, which sorts all scores; at 200 it is off by no more than its doc says.
#[test]
fn more_thresholds_come_nearer_to_the_exact_area() {
    let all = read();
    let pair = ("logits", "binary");
    for (group, weighted) in [("plain", false), ("weighted", true)] {
        let exact = numbers(&all, &["metrics", group, "exact_roc_auc"])[0];
        let fine = RocAuc::new().thresholds(5000);
        let (found, _) = measured(&all, &fine, pair, weighted, DType::F64);
        near("fine", &[found], &[exact], 1e-12);
        let (found, sums) = measured(&all, &RocAuc::new(), pair, weighted, DType::F64);
        let shares = |sums: &[f64]| -> Vec<f64> {
            sums.windows(2).map(|s| (s[0] - s[1]) / sums[0]).collect()
        };
        let (positives, negatives) = (shares(&sums[0]), shares(&sums[1]));
        let same: f64 = positives.iter().zip(&negatives).map(|(p, n)| p * n).sum();
        assert!((found - exact).abs() <= same / 2.0 + 1e-12);
    }
}

/// Truth values are targets as good as numbers.
#[test]
fn targets_of_yes_or_no_may_be_bool() {
    let g = Builder::new("bool");
    let z = g.input("z", DType::F32, [2]);
    let y = g.input("y", DType::Bool, [2]);
    let sums = BinaryAccuracy::new().statistics(z, y, None);
    g.output("right", sums[0]);
    let graph = g.finish().unwrap();
    let step = eval(&graph, |slot| {
        Some(match slot.name.as_str() {
            "z" => floats(DType::F32, &[2], &[1.0, 2.0]),
            _ => Array::new(DType::Bool, vec![2], Values::Int(vec![1, 0])).unwrap(),
        })
    });
    assert_eq!(step.unwrap().outputs[0].floats().unwrap(), [1.0]);
}

/// Three sequences of up to six frames, with counts of frames and without.
#[test]
fn connectionist_temporal_classification() {
    let all = read();
    let frames = numbers(&all, &["ctc", "frames"]);
    // PyTorch has time first.
    let mut logits = vec![0.0; frames.len()];
    for (t, b) in (0..6).flat_map(|t| (0..3).map(move |b| (t, b))) {
        let (from, to) = ((t * 3 + b) * 5, (b * 6 + t) * 5);
        logits[to..to + 5].copy_from_slice(&frames[from..from + 5]);
    }
    let integers = |name: &str, shape: &[usize]| {
        let values = numbers(&all, &["ctc", name]);
        let values = values.iter().map(|x| *x as i64).collect();
        Array::new(DType::I32, shape.to_vec(), Values::Int(values)).unwrap()
    };
    for (dtype, tolerance) in PRECISIONS {
        let g = Builder::new("ctc");
        let z = g.param_of("z", dtype, [3, 6, 5], Init::zeros());
        let labels = g.input("labels", DType::I32, [3, 3]);
        let counts = g.input("counts", DType::I32, [3]);
        let each = ctc(z, labels, Some(counts));
        g.output("each", each);
        g.output("gradient", grad(each.mean(), &[z])[0]);
        g.output("whole", Ctc.per_example(z, labels));
        let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
        let step = |labels: Array| {
            eval(&graph, |slot| {
                Some(match slot.name.as_str() {
                    "z" => floats(dtype, &[3, 6, 5], &logits),
                    "labels" => labels.clone(),
                    _ => integers("frame_counts", &[3]),
                })
            })
        };
        let found = step(integers("labels", &[3, 3])).unwrap().outputs;
        let found: Vec<&[f64]> = found.iter().map(|o| o.floats().unwrap()).collect();
        let expected = numbers(&all, &["ctc", "each"]);
        near("each", found[0], &expected, tolerance);
        // The first sequence has all its frames.
        near("whole", &found[2][..1], &expected[..1], tolerance);
        let expected = numbers(&all, &["ctc", "gradient"]);
        let mut turned = vec![0.0; expected.len()];
        for (t, b) in (0..6).flat_map(|t| (0..3).map(move |b| (t, b))) {
            let (from, to) = ((t * 3 + b) * 5, (b * 6 + t) * 5);
            turned[to..to + 5].copy_from_slice(&expected[from..from + 5]);
        }
        near("gradient", found[1], &turned, tolerance);

        // Three equal labels need five frames, of which the second example has four.
        let labels = |second: i64| {
            let values = Values::Int(vec![1, 2, 2, second, second, second, 4, 1, 4]);
            Array::new(DType::I32, vec![3, 3], values).unwrap()
        };
        let found = step(labels(3)).unwrap().outputs;
        assert_eq!(found[0].floats().unwrap()[1], f64::INFINITY);
        let gradient = found[1].floats().unwrap();
        assert!(gradient[30..60].iter().all(|x| *x == 0.0), "{gradient:?}");
        assert!(gradient.iter().all(|x| x.is_finite()));
        assert!(step(labels(5)).is_err(), "there is no class 5");
    }
}
