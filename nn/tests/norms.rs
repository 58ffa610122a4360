//! Normalisations beside plain loops; running statistics; gradients of first and second order against central differences.

mod common;

use common::{Loop, close, floats};
use kiln_ir::philox::Stream;
use kiln_ir::{Array, Builder, DType, Init, Layout, grad};
use kiln_nn::{
    BatchNorm, Context, GroupNorm, InstanceNorm, Layer, LayerNorm, Mode, RmsNorm, Sequential,
};

const SHAPE: [usize; 4] = [3, 2, 2, 4];

fn normal(name: &str, shape: &[usize], mean: f64) -> Array {
    let stream = Stream::new(3, name, 0);
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count as u64).map(|i| mean + stream.normal(i)).collect();
    floats(DType::F64, shape, &values)
}

/// A layer called `l` on an input of [`SHAPE`].
fn built(layer: &dyn Layer, mode: Mode) -> Loop {
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, SHAPE.map(|d| d as i64));
    g.output("y", Context::new(&g, mode).layer("l", layer, x));
    Loop::new(g.finish().unwrap(), 1)
}

/// Mean and variance of some numbers.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|v| (v - mean).powi(2));
    (mean, squares.sum::<f64>() / count)
}

/// Each element normalised with those of which `class(example, feature)` is equal.
fn normalised(x: &Array, epsilon: f64, class: impl Fn(usize, usize) -> usize) -> Vec<f64> {
    let values = x.floats().unwrap();
    // `usize::MAX` stands for the position itself.
    let of = |i: usize| match class(i / 16, i % 4) {
        usize::MAX => i / 4,
        class => class,
    };
    let one = |i: usize| {
        let same: Vec<f64> = (0..values.len())
            .filter(|j| of(*j) == of(i))
            .map(|j| values[j])
            .collect();
        let (mean, variance) = moments(&same);
        (values[i] - mean) / (variance + epsilon).sqrt()
    };
    (0..values.len()).map(one).collect()
}

#[test]
fn batches_groups_and_instances_are_normalised() {
    // A mean that is large beside the deviation.
    let x = normal("x", &SHAPE, 1e3);
    type Class = fn(usize, usize) -> usize;
    let cases: [(&dyn Layer, Class); 5] = [
        (&BatchNorm::new(), |_, feature| feature),
        (&GroupNorm::new(2), |example, feature| {
            2 * example + feature / 2
        }),
        (&GroupNorm::new(1), |example, _| example),
        (&InstanceNorm::new(), |example, feature| {
            4 * example + feature
        }),
        (&LayerNorm::new().epsilon(1e-3), |_, _| usize::MAX),
    ];
    for (layer, class) in cases {
        let mut run = built(layer, Mode::Training);
        let expected = normalised(&x, 1e-3, class);
        let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
        close(y.floats().unwrap(), &expected, 1e-9);
        run.set("l/gain", floats(DType::F64, &[4], &[1.0, 2.0, 3.0, 4.0]));
        run.set("l/b", floats(DType::F64, &[4], &[0.0, -1.0, 5.0, 0.5]));
        let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
        let scaled: Vec<f64> = (expected.iter().enumerate())
            .map(|(i, y)| y * (i % 4 + 1) as f64 + [0.0, -1.0, 5.0, 0.5][i % 4])
            .collect();
        close(y.floats().unwrap(), &scaled, 1e-9);
    }
}

/// Equation 4 of Zhang and Sennrich, row by row; and a layer norm without its bias.
#[test]
fn rows_are_divided_by_their_root_mean_square() {
    let x = normal("x", &SHAPE, 0.5);
    let mut run = built(&RmsNorm::new().epsilon(0.25), Mode::Training);
    assert_eq!(run.names(), ["l/gain"]);
    run.set("l/gain", floats(DType::F64, &[4], &[1.0, 2.0, 3.0, 4.0]));
    let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
    let rows = x.floats().unwrap().chunks(4);
    let expected: Vec<f64> = rows
        .flat_map(|row| {
            let squares: f64 = row.iter().map(|x| x * x).sum();
            let root = (squares / 4.0 + 0.25).sqrt();
            let scaled = row.iter().zip([1.0, 2.0, 3.0, 4.0]);
            scaled.map(|(x, gain)| gain * x / root).collect::<Vec<_>>()
        })
        .collect();
    close(y.floats().unwrap(), &expected, 1e-12);
    let run = built(&LayerNorm::new().without_bias(), Mode::Training);
    assert_eq!(run.names(), ["l/gain"]);
}

#[test]
fn running_statistics_follow_the_batches_and_inference_uses_them() {
    let layer = BatchNorm::new().momentum(0.75).epsilon(0.5);
    let mut training = built(&layer, Mode::Training);
    let mut expected = [(0.0, 1.0); 4];
    for name in ["first", "second"] {
        let x = normal(name, &SHAPE, 2.0);
        training.step(&[("x", x.clone())]);
        for (feature, (mean, variance)) in expected.iter_mut().enumerate() {
            let values = x.floats().unwrap().iter().skip(feature).step_by(4);
            let batch = moments(&values.copied().collect::<Vec<_>>());
            *mean = 0.75 * *mean + 0.25 * batch.0;
            *variance = 0.75 * *variance + 0.25 * batch.1;
        }
    }
    close(&training.floats("l/mean"), &expected.map(|e| e.0), 1e-12);
    close(
        &training.floats("l/variance"),
        &expected.map(|e| e.1),
        1e-12,
    );

    let mut inference = built(&layer, Mode::Inference);
    assert_eq!(inference.names(), training.names());
    for name in ["l/mean", "l/variance"] {
        inference.set(name, training.array(name).clone());
    }
    let x = normal("third", &SHAPE, 2.0);
    let y = inference.step(&[("x", x.clone())]).remove("y").unwrap();
    let plain: Vec<f64> = (x.floats().unwrap().iter().enumerate())
        .map(|(i, x)| (x - expected[i % 4].0) / (expected[i % 4].1 + 0.5).sqrt())
        .collect();
    close(y.floats().unwrap(), &plain, 1e-12);
    let means = inference.floats("l/mean");
    assert_eq!(means, training.floats("l/mean"), "inference moves nothing");
}

#[test]
fn features_on_axis_one_and_on_the_last_give_the_same_numbers() {
    let layers = |layout: Layout| -> [Box<dyn Layer>; 3] {
        [
            Box::new(BatchNorm::new().layout(layout)),
            Box::new(GroupNorm::new(2).layout(layout)),
            Box::new(InstanceNorm::new().layout(layout)),
        ]
    };
    let (lasts, firsts) = (layers(Layout::ChannelsLast), layers(Layout::ChannelsFirst));
    for (last, first) in lasts.iter().zip(&firsts) {
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, SHAPE.map(|d| d as i64));
        let cx = Context::training(&g);
        g.output("last", cx.layer("last", &**last, x));
        let moved = cx.layer("first", &**first, x.transpose(&[0, 3, 1, 2]));
        g.output("first", moved.transpose(&[0, 2, 3, 1]));
        let outputs = Loop::new(g.finish().unwrap(), 1).step(&[("x", normal("x", &SHAPE, 0.0))]);
        close(
            outputs["last"].floats().unwrap(),
            outputs["first"].floats().unwrap(),
            1e-12,
        );
    }
}

/// The estimate of the mean that is a constant to differentiation must not be seen in any order of it.
#[test]
fn gradients_of_first_and_second_order_are_those_of_differences() {
    for layer in [
        &BatchNorm::new() as &dyn Layer,
        &GroupNorm::new(2),
        &InstanceNorm::new(),
        &LayerNorm::new(),
        &RmsNorm::new(),
    ] {
        let g = Builder::new("m");
        let x = g.param_of("x", DType::F64, SHAPE.map(|d| d as i64), Init::normal(1.0));
        let cx = Context::training(&g);
        let y = cx.layer("l", layer, x);
        let of = |name: &str| g.input(name, DType::F64, SHAPE.map(|d| d as i64));
        let (weights, direction) = (of("weights"), of("direction"));
        // Not linear in y, so that the second order sees the loss too.
        let first = (y.square() * weights + y * weights).sum();
        let gain = g.find("l/gain").unwrap();
        let gradients = grad(first, &[x, gain]);
        let second = (gradients[0] * direction).sum();
        g.output("first", first);
        g.output("second", second);
        g.output("first by x", gradients[0]);
        g.output("first by gain", gradients[1]);
        g.output("second by x", grad(second, &[x])[0]);
        let mut run = Loop::new(g.finish().unwrap(), 8);
        let feeds = [
            ("weights", normal("weights", &SHAPE, 0.0)),
            ("direction", normal("direction", &SHAPE, 0.0)),
        ];
        let found = run.step(&feeds);
        for (value, slot) in [("first", "x"), ("first", "l/gain"), ("second", "x")] {
            let start = run.array(slot).clone();
            let mut at = |i: usize, by: f64| {
                let mut moved = start.floats().unwrap().to_vec();
                moved[i] += by;
                run.set(slot, floats(DType::F64, start.shape(), &moved));
                run.step(&feeds)[value].floats().unwrap()[0]
            };
            let count = start.floats().unwrap().len();
            let differences: Vec<f64> = (0..count)
                .map(|i| (at(i, 1e-5) - at(i, -1e-5)) / 2e-5)
                .collect();
            run.set(slot, start);
            let short = slot.trim_start_matches("l/");
            let analytic = found[&format!("{value} by {short}")].floats().unwrap();
            close(analytic, &differences, 1e-6);
        }
    }
}

#[test]
fn a_shared_normalisation_has_one_state_that_follows_the_first() {
    let g = Builder::new("siamese");
    let (l, r) = (
        g.input("l", DType::F64, [2, 1]),
        g.input("r", DType::F64, [2, 1]),
    );
    let norm = BatchNorm::new().momentum(0.0);
    let cx = Context::training(&g);
    g.output("l", cx.layer("norm", &norm, l));
    g.output("r", cx.sharing().layer("norm", &norm, r));
    let graph = g.finish().unwrap();
    assert_eq!(graph.updates().len(), 2);
    let mut run = Loop::new(graph, 0);
    let pair = |low: f64, high: f64| floats(DType::F64, &[2, 1], &[low, high]);
    let outputs = run.step(&[("l", pair(1.0, 3.0)), ("r", pair(10.0, 30.0))]);
    assert_eq!(run.floats("norm/mean"), [2.0]);
    assert_eq!(run.floats("norm/variance"), [1.0]);
    let shared = 10.0 / (100.0_f64 + 1e-3).sqrt();
    close(outputs["r"].floats().unwrap(), &[-shared, shared], 1e-12);
}

/// Dense features are normalised too, and the batch may be symbolic.
#[test]
fn normalisation_of_rows() {
    let model = Sequential::new([6]).dense(4).batch_norm().relu();
    let summary = model.summary().unwrap();
    assert_eq!(summary.rows[1].output.to_string(), "f32[b, 4]");
    assert_eq!(summary.rows[1].parameters.constant(), Some(8));
}
