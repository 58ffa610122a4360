//! Losses, metrics and optimizers, compiled: steps of each give the same bits in every variant and on every number of threads, and what the
//! interpreter gives within rounding.

mod common;

use common::Numbers;
use common::data::{Kind, random};
use common::layer::check_steps;
use kiln_ir::{Array, Builder, DType, Init, Values, grad};
use kiln_nn::{
    Accuracy, AdaMax, Adadelta, Adafactor, Adagrad, Adam, AdamW, Average, BinaryAccuracy,
    BinaryCrossEntropy, BinaryFocal, CategoricalFocal, CategoricalHinge, ClassWeighted, ClipByNorm,
    ClipByValue, ConfusionMatrix, Cosine, CosineSimilarity, CrossEntropy, F1, Group, Hinge, Huber,
    KlDivergence, Lamb, Lion, LogCosh, Loss, MeanAbsoluteError, Metric, NAdam, OneCycle, Optimizer,
    Perplexity, Piecewise, Poisson, PrAuc, Precision, R2, RAdam, RmsProp, RocAuc,
    RootMeanSquaredError, Schedule, Sgd, SparseCrossEntropy, SquaredHinge, TopKAccuracy, Warmup,
    ctc,
};

/// Seven examples of ten classes: scores, targets of the same shape, labels and weights.
fn examples() -> [Array; 4] {
    let mut numbers = Numbers::new(6);
    let mut floats = |shape: &[usize]| random(&mut numbers, DType::F32, shape, Kind::Plain);
    let (scores, weights) = (floats(&[7, 10]), floats(&[7]));
    let targets = floats(&[7, 10]);
    let yes = targets
        .floats()
        .unwrap()
        .iter()
        .map(|x| f64::from(*x > 0.0));
    let targets = Array::new(DType::F32, vec![7, 10], Values::Float(yes.collect())).unwrap();
    let labels = Values::Int(vec![3, 0, 9, 1, 1, 5, 2]);
    let labels = Array::new(DType::U8, vec![7], labels).unwrap();
    let weights = weights.floats().unwrap().iter().map(|x| x.abs());
    let weights = Array::new(DType::F32, vec![7], Values::Float(weights.collect())).unwrap();
    [scores, targets, labels, weights]
}

#[test]
fn losses_with_their_gradients() {
    let dense: [&dyn Loss; 15] = [
        &MeanAbsoluteError,
        &Huber::new(0.7),
        &LogCosh,
        &BinaryCrossEntropy,
        &BinaryCrossEntropy.smoothed(0.1),
        &CrossEntropy.smoothed(0.1),
        &BinaryFocal::new(1.5).balanced(0.25),
        &CategoricalFocal::new(2.0),
        &Hinge,
        &SquaredHinge,
        &CategoricalHinge,
        &KlDivergence,
        &Poisson::new(),
        &Poisson::of_rates(),
        &CosineSimilarity,
    ];
    let classes: Vec<f64> = (1..=10).map(f64::from).collect();
    let sparse: [&dyn Loss; 2] = [
        &SparseCrossEntropy.smoothed(0.1),
        &ClassWeighted::new(SparseCrossEntropy, classes),
    ];
    let [scores, targets, labels, weights] = examples();
    let all = dense.iter().map(|loss| (loss, true));
    for (index, (loss, dense)) in all
        .chain(sparse.iter().map(|loss| (loss, false)))
        .enumerate()
    {
        let g = Builder::new("loss");
        let b = g.dim("b");
        let x = g.input("x", DType::F32, (b.clone(), 10));
        let (y, target) = if dense {
            (g.input("y", DType::F32, (b.clone(), 10)), &targets)
        } else {
            (g.input("y", DType::U8, (b.clone(),)), &labels)
        };
        let w = g.input("w", DType::F32, (b,));
        // Rates are above 0.
        let loss = loss.weighted_mean(x.square() + 0.1, y, w);
        g.output("loss", loss);
        g.output("dx", grad(loss, &[x])[0]);
        let inputs = [scores.clone(), target.clone(), weights.clone()];
        check_steps(&format!("loss {index}"), &g.finish().unwrap(), &inputs, 1);
    }
}

#[test]
fn connectionist_temporal_classification() {
    let mut numbers = Numbers::new(8);
    let logits = random(&mut numbers, DType::F32, &[3, 6, 5], Kind::Plain);
    let labels = Values::Int(vec![1, 2, 2, 3, 0, 0, 4, 1, 4]);
    let labels = Array::new(DType::U8, vec![3, 3], labels).unwrap();
    let counts = Array::new(DType::I32, vec![3], Values::Int(vec![6, 4, 5])).unwrap();
    let g = Builder::new("ctc");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), g.dim("t"), 5));
    let y = g.input("y", DType::U8, (b.clone(), 3));
    let each = ctc(x, y, Some(g.input("counts", DType::I32, (b,))));
    g.output("each", each);
    g.output("dx", grad(each.mean(), &[x])[0]);
    let inputs = [logits, labels, counts];
    check_steps("ctc", &g.finish().unwrap(), &inputs, 1);
}

#[test]
fn metrics_with_weights() {
    let sparse: [&dyn Metric; 7] = [
        &Accuracy,
        &TopKAccuracy::new(3),
        &Precision::of_classes(Average::Macro),
        &F1::of_classes(Average::Weighted),
        &ConfusionMatrix,
        &Perplexity,
        &TopKAccuracy::new(1),
    ];
    let dense: [&dyn Metric; 6] = [
        &BinaryAccuracy::new(),
        &F1::binary(),
        &RocAuc::new(),
        &PrAuc::new().thresholds(37),
        &RootMeanSquaredError,
        &R2,
    ];
    let [scores, targets, labels, weights] = examples();
    let all = dense.iter().map(|metric| (metric, true));
    for (metric, dense) in all.chain(sparse.iter().map(|metric| (metric, false))) {
        let g = Builder::new("metric");
        let b = g.dim("b");
        let x = g.input("x", DType::F32, (b.clone(), 10));
        let (y, target) = if dense {
            (g.input("y", DType::F32, (b.clone(), 10)), &targets)
        } else {
            (g.input("y", DType::U8, (b.clone(),)), &labels)
        };
        let w = g.input("w", DType::F32, (b,));
        let sums = [
            metric.statistics(x, y, Some(w)),
            metric.statistics(x, y, None),
        ];
        for (index, sum) in sums.into_iter().flatten().enumerate() {
            g.output(&index.to_string(), sum);
        }
        let inputs = [scores.clone(), target.clone(), weights.clone()];
        check_steps(metric.name(), &g.finish().unwrap(), &inputs, 1);
    }
}

/// Five steps of a dense layer by `optimizer`.
fn check_optimizer(what: &str, optimizer: &dyn Optimizer) {
    let [scores, targets, ..] = examples();
    let g = Builder::new("steps");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 10));
    let y = g.input("y", DType::F32, (b, 10));
    let w = g.param("w", (10, 10), Init::uniform(0.3));
    let bias = g.param("b", [10], Init::zeros());
    let loss = BinaryCrossEntropy.mean(x.dot(w) + bias, y);
    g.output("loss", loss);
    optimizer.minimize_from(kiln_ir::Location::caller(), loss, &[w, bias]);
    check_steps(what, &g.finish().unwrap(), &[scores, targets], 5);
}

#[test]
fn optimizers() {
    let all: [(&str, &dyn Optimizer); 18] = [
        ("sgd", &Sgd::new(0.1).momentum(0.9).nesterov()),
        ("adagrad", &Adagrad::new(0.1)),
        ("adadelta", &Adadelta::new(1.0)),
        ("rmsprop", &RmsProp::new(0.01).centered().momentum(0.5)),
        ("adam", &Adam::new(0.01).amsgrad()),
        ("adamw", &AdamW::new(0.01).decay_vectors()),
        ("nadam", &NAdam::new(0.01)),
        ("radam", &RAdam::new(0.01)),
        ("adamax", &AdaMax::new(0.01)),
        ("lion", &Lion::new(0.01)),
        ("lamb", &Lamb::new(0.01)),
        ("adafactor", &Adafactor::new(0.01)),
        ("norm", &ClipByNorm::new(0.01, Sgd::new(0.1))),
        ("value", &ClipByValue::new(0.01, Sgd::new(0.1))),
        ("accumulated", &AdamW::new(0.01).accumulate(2)),
        ("averaged", &Adam::new(0.01).averaged(0.9)),
        (
            "group",
            &Adam::new(0.01).group(Group::of(|name| name == "w").rate(0.1).weight_decay(0.1)),
        ),
        (
            "max norm",
            &Sgd::new(0.1).group(Group::of(|_| true).max_norm(0.5)),
        ),
    ];
    for (name, optimizer) in all {
        check_optimizer(name, optimizer);
    }
}

#[test]
fn schedules() {
    fn check(what: &str, schedule: impl Schedule + 'static) {
        check_optimizer(what, &Adam::new(0.01).schedule(schedule));
    }
    check("cosine", Cosine::over(3).warmup(1));
    check("restarts", Cosine::over(2).restarts(1.5, 0.5));
    check("cycle", OneCycle::over(5).rise(0.5));
    check("piecewise", Warmup::new(1, Piecewise::new([(2, 0.5)])));
}
