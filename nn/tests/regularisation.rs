//! What keeps weights small and models from learning examples by heart.

mod common;

use common::{Loop, close, floats};
use kiln_ir::{Array, Builder, DType, Init, grad};
use kiln_nn::{
    Context, Dense, GaussianNoise, Group, Layer, Loss, MeanSquaredError, Optimizer, Regularised,
    Sgd, SpatialDropout, StochasticDepth,
};

#[test]
fn penalties_are_of_weights_and_count_once() {
    let g = Builder::new("penalty");
    let w = g.param_of("w", DType::F64, [2, 1], Init::zeros());
    let b = g.param_of("b", DType::F64, [1], Init::zeros());
    let n = g.dim("n");
    let x = g.input("x", DType::F64, (n.clone(), 2));
    let y = g.input("y", DType::F64, (n.clone(), 1));
    let weights = g.input("weights", DType::F64, (n,));
    let prediction = x.dot(w) + b;
    let plain = MeanSquaredError;
    let both = Regularised::new(plain).l1(0.1).l2(0.01);
    let biases = Regularised::new(plain).l2(0.5).only(|name| name == "b");
    for (name, loss) in [("both", &both), ("biases", &biases)] {
        let base = Loss::mean(&plain, prediction, y);
        g.output(name, loss.mean(prediction, y) - base);
        let each = loss.per_example(prediction, y).mean();
        g.output(&format!("{name}_each"), each - base);
        let weighted = loss.weighted_mean(prediction, y, weights);
        let base = plain.weighted_mean(prediction, y, weights);
        g.output(&format!("{name}_weighted"), weighted - base);
    }
    let penalty = both.mean(prediction, y) - Loss::mean(&plain, prediction, y);
    g.output("gradient", grad(penalty, &[w])[0]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.set("w", floats(DType::F64, &[2, 1], &[3.0, -4.0]));
    run.set("b", floats(DType::F64, &[1], &[2.0]));
    let step = run.step(&[
        ("x", floats(DType::F64, &[2, 2], &[1.0, 2.0, 3.0, 4.0])),
        ("y", floats(DType::F64, &[2, 1], &[0.5, 0.25])),
        ("weights", floats(DType::F64, &[2], &[0.5, 3.0])),
    ]);
    for (name, expected) in [("both", 0.7 + 0.25), ("biases", 2.0)] {
        for how in ["", "_each", "_weighted"] {
            let found = step[&format!("{name}{how}")].floats().unwrap();
            close(found, &[expected], 1e-12);
        }
    }
    let gradient = step["gradient"].floats().unwrap();
    close(gradient, &[0.1 + 0.06, -0.1 - 0.08], 1e-12);
}

/// Units are columns: the first has a norm of 5, the second of 1.
#[test]
fn max_norm_scales_the_weights_of_long_units() {
    let g = Builder::new("constrained");
    let w = g.param_of("w", DType::F64, [2, 2], Init::zeros());
    let free = g.param_of("free", DType::F64, [2, 2], Init::Constant(9.0));
    let gradient = g.splat(DType::F64, [2, 2], 0.0);
    let group = Group::of(|name| name == "w").max_norm(2.0);
    let optimizer = Sgd::new(0.1).group(group);
    optimizer.step(&g, &[(w, gradient), (free, gradient)]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.set("w", floats(DType::F64, &[2, 2], &[3.0, 0.6, 4.0, 0.8]));
    run.step(&[]);
    close(&run.floats("w"), &[1.2, 0.6, 1.6, 0.8], 1e-12);
    close(&run.floats("free"), &[9.0; 4], 0.0);
    run.set("w", floats(DType::F64, &[2, 2], &[0.0; 4]));
    run.step(&[]);
    assert_eq!(run.floats("w"), [0.0; 4]);
}

/// A layer on ones of `shape`, in 50 steps.
fn drawn(layer: &dyn Layer, shape: [i64; 3], training: bool) -> Vec<Vec<f64>> {
    let g = Builder::new("noise");
    let x = g.splat(DType::F32, shape, 1.0);
    let cx = if training {
        Context::training(&g)
    } else {
        Context::inference(&g)
    };
    g.output("y", cx.layer("noise", layer, x));
    let mut run = Loop::new(g.finish().unwrap(), 7);
    let mut one = || run.step(&[])["y"].floats().unwrap().to_vec();
    (0..50).map(|_| one()).collect()
}

#[test]
fn features_and_examples_drop_as_a_whole() {
    let spatial = drawn(&SpatialDropout::new(0.25), [4, 3, 5], true);
    let depth = drawn(&StochasticDepth::new(0.25), [20, 1, 3], true);
    let kept = 1.0 / 0.75;
    let mut shares = [0.0; 2];
    for (step, x) in spatial.iter().enumerate() {
        for example in x.chunks(15) {
            assert!(example.iter().all(|v| *v == 0.0 || (v - kept).abs() < 1e-6));
            assert!(example[..5] == example[5..10] && example[..5] == example[10..]);
            shares[0] += example[..5].iter().filter(|v| **v == 0.0).count() as f64 / 1000.0;
        }
        assert!(step == 0 || *x != spatial[step - 1], "new in each step");
    }
    for x in &depth {
        for example in x.chunks(3) {
            assert!(example.iter().all(|v| *v == example[0]));
            shares[1] += f64::from(example[0] == 0.0) / 1000.0;
        }
    }
    for share in shares {
        // Five deviations of a share of 1000 draws.
        assert!((share - 0.25).abs() < 5.0 * 0.0137, "{share}");
    }
}

#[test]
fn noise_is_normal() {
    let all: Vec<f64> = drawn(&GaussianNoise::new(0.5), [20, 10, 10], true).concat();
    let n = all.len() as f64;
    let moment = |k: i32| all.iter().map(|x| ((x - 1.0) / 0.5).powi(k)).sum::<f64>() / n;
    // Of 100,000 draws: five deviations of each moment.
    for (k, expected, deviation) in [
        (1, 0.0, 1.0_f64),
        (2, 1.0, 2.0),
        (3, 0.0, 15.0),
        (4, 3.0, 96.0),
    ] {
        let off = (moment(k) - expected).abs();
        assert!(
            off < 5.0 * (deviation / n).sqrt(),
            "moment {k}: off by {off}"
        );
    }
}

#[test]
fn nothing_is_noisy_in_inference() {
    let layers: [&dyn Layer; 3] = [
        &SpatialDropout::new(0.5),
        &StochasticDepth::new(0.5),
        &GaussianNoise::new(0.5),
    ];
    for layer in layers {
        assert_eq!(drawn(layer, [2, 2, 2], false)[0], [1.0; 8]);
        assert_ne!(drawn(layer, [2, 2, 2], true)[0], [1.0; 8]);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let message = |build: &dyn for<'g> Fn(&'g Builder)| {
        let g = Builder::new("m");
        build(&g);
        g.finish().unwrap_err().0[0].to_string()
    };
    let layer = |layer: &'static (dyn Layer + Sync)| {
        message(&move |g: &Builder| {
            let x = g.input("x", DType::F32, (g.dim("b"), 2));
            Context::training(g).layer("l", layer, x);
        })
    };
    let text = layer(Box::leak(Box::new(GaussianNoise::new(-1.0))));
    assert!(text.contains("deviation -1"), "{text}");
    let text = layer(Box::leak(Box::new(StochasticDepth::new(1.0))));
    assert!(text.contains("rate of 1"), "{text}");
    let text = message(&|g: &Builder| {
        let x = g.input("x", DType::F32, [2]);
        Regularised::new(MeanSquaredError).l1(-1.0).mean(x, x);
    });
    assert!(text.contains("penalty on weights of -1"), "{text}");
}

/// A model of layers reaches its weights by name.
#[test]
fn a_layers_weights_are_chosen_by_name() {
    let g = Builder::new("model");
    let x = g.input("x", DType::F32, (g.dim("b"), 2));
    let y = Context::training(&g).layer("fc", &Dense::new(2).weight(Init::ones()), x);
    let loss = Regularised::new(MeanSquaredError)
        .l2(1.0)
        .only(|name| name == "fc/w");
    g.output("loss", loss.mean(y, y));
    let mut run = Loop::new(g.finish().unwrap(), 1);
    let zeros: Array = floats(DType::F32, &[1, 2], &[0.0; 2]);
    let step = run.step(&[("x", zeros)]);
    assert_eq!(step["loss"].floats().unwrap(), [4.0]);
}
