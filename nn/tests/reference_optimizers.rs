//! The first 20 steps of every optimizer, and schedules, against PyTorch and Keras.

mod common;

use common::reference::{PRECISIONS, near, numbers, read};
use common::{Loop, close, floats};
use kiln_ir::{Builder, DType, Init};
use kiln_nn::{
    AdaMax, Adadelta, Adafactor, Adagrad, Adam, AdamW, ClipByGlobalNorm, ClipByNorm, ClipByValue,
    Cosine, Exponential, Group, Lamb, Lion, NAdam, OneCycle, Optimizer, Piecewise, Polynomial,
    RAdam, RmsProp, Sam, Schedule, Sgd, average_of,
};
use serde_json::Value;

const STEPS: usize = 20;

/// The values of `slots` after each step of w [2, 3] and b [3] with the gradients of the file.
fn run(all: &Value, optimizer: &dyn Optimizer, dtype: DType, slots: [&str; 2]) -> Vec<f64> {
    let g = Builder::new("steps");
    let w = g.param_of("w", dtype, [2, 3], Init::zeros());
    let b = g.param_of("b", dtype, [3], Init::zeros());
    let (dw, db) = (g.input("dw", dtype, [2, 3]), g.input("db", dtype, [3]));
    optimizer.step(&g, &[(w, dw), (b, db)]);
    let mut run = Loop::new(g.finish().unwrap_or_else(|e| panic!("{e}")), 1);
    let start = numbers(all, &["start"]);
    run.set("w", floats(dtype, &[2, 3], &start[..6]));
    run.set("b", floats(dtype, &[3], &start[6..]));
    let gradients = numbers(all, &["gradients"]);
    let mut after = Vec::new();
    for gradient in gradients.chunks(9) {
        run.step(&[
            ("dw", floats(dtype, &[2, 3], &gradient[..6])),
            ("db", floats(dtype, &[3], &gradient[6..])),
        ]);
        after.extend(slots.iter().flat_map(|slot| run.floats(slot)));
    }
    assert_eq!(after.len(), STEPS * 9);
    after
}

#[test]
fn the_first_steps_of_every_optimizer() {
    let all = read();
    let sgd = || Sgd::new(0.05);
    let optimizers: [(&str, &dyn Optimizer); 21] = [
        ("sgd", &sgd()),
        ("sgd_momentum", &sgd().momentum(0.9)),
        ("sgd_nesterov", &sgd().momentum(0.9).nesterov()),
        ("adagrad", &Adagrad::new(0.05)),
        ("adadelta", &Adadelta::new(1.0)),
        ("rmsprop", &RmsProp::new(0.01)),
        (
            "rmsprop_centered",
            &RmsProp::new(0.01).centered().momentum(0.8),
        ),
        ("adam", &Adam::new(0.01)),
        ("adam_amsgrad", &Adam::new(0.01).amsgrad()),
        ("adamw", &AdamW::new(0.01).weight_decay(0.1).decay_vectors()),
        (
            "adamw_groups",
            &AdamW::new(0.01)
                .weight_decay(0.1)
                .group(Group::of(|name| name == "b").rate(3.0).weight_decay(0.0)),
        ),
        ("nadam", &NAdam::new(0.01)),
        ("radam", &RAdam::new(0.01)),
        ("adamax", &AdaMax::new(0.01)),
        ("adafactor", &Adafactor::new(0.01)),
        ("lion", &Lion::new(0.01)),
        ("lamb", &Lamb::new(0.01)),
        ("clip_norm", &ClipByNorm::new(0.7, sgd())),
        ("clip_value", &ClipByValue::new(0.4, sgd())),
        ("clip_global_norm", &ClipByGlobalNorm::new(0.7, sgd())),
        ("accumulated", &Adam::new(0.01).accumulate(3)),
    ];
    // The average is the one more.
    let known = all["optimizers"].as_object().unwrap().len();
    assert_eq!(known, optimizers.len() + 1);
    let start = numbers(&all, &["start"]);
    for (name, optimizer) in optimizers {
        for (dtype, tolerance) in PRECISIONS {
            let found = run(&all, optimizer, dtype, ["w", "b"]);
            let expected = numbers(&all, &["optimizers", name]);
            for (found, expected) in found.chunks(9).zip(expected.chunks(9)) {
                near(name, &found[..6], &expected[..6], tolerance);
                near(name, &found[6..], &expected[6..], tolerance);
                // Steps are short beside the params, so that these would hide an epsilon; f32 has no more digits than to compare these.
                if dtype == DType::F64 {
                    let moved = |after: &[f64]| -> Vec<f64> {
                        after.iter().zip(&start).map(|(a, s)| a - s).collect()
                    };
                    near(name, &moved(found), &moved(expected), 1e-6);
                }
            }
        }
    }
}

#[test]
fn steps_by_the_gradient_of_the_worst_weights_nearby() {
    let all = read();
    let optimizers: [(&str, &dyn Optimizer); 2] = [
        ("sgd", &Sam::new(0.5, Sgd::new(0.05).momentum(0.9))),
        ("adam", &Sam::new(0.05, Adam::new(0.01))),
    ];
    let start = numbers(&all, &["start"]);
    for (name, optimizer) in optimizers {
        for (dtype, tolerance) in PRECISIONS {
            let g = Builder::new("flat");
            let w = g.param_of("w", dtype, [2, 3], Init::zeros());
            let b = g.param_of("b", dtype, [3], Init::zeros());
            let (x, y) = (g.input("x", dtype, [5, 2]), g.input("y", dtype, [5, 3]));
            optimizer.minimize(((x.dot(w) + b).tanh() - y).square().mean());
            let mut run = Loop::new(g.finish().unwrap_or_else(|e| panic!("{e}")), 1);
            run.set("w", floats(dtype, &[2, 3], &start[..6]));
            run.set("b", floats(dtype, &[3], &start[6..]));
            let data = ["x", "y"].map(|name| numbers(&all, &["sam", name]));
            let mut after = Vec::new();
            for _ in 0..STEPS {
                let (x, y) = (
                    floats(dtype, &[5, 2], &data[0]),
                    floats(dtype, &[5, 3], &data[1]),
                );
                run.step(&[("x", x), ("y", y)]);
                after.extend(["w", "b"].iter().flat_map(|slot| run.floats(slot)));
            }
            near(name, &after, &numbers(&all, &["sam", name]), tolerance);
        }
    }
}

#[test]
fn averages_of_weights() {
    let all = read();
    for (dtype, tolerance) in PRECISIONS {
        let optimizer = Sgd::new(0.05).averaged(0.9);
        let names = ["w", "b"].map(|param| average_of("sgd", param));
        let found = run(&all, &optimizer, dtype, [&names[0], &names[1]]);
        let expected = numbers(&all, &["optimizers", "averaged"]);
        near("averaged", &found, &expected, tolerance);
    }
}

/// The rates of Sgd at a rate of 0.1 with `schedule`, seen in a param with a gradient of -1.
fn rates(schedule: impl Schedule + 'static, dtype: DType, steps: usize) -> Vec<f64> {
    let g = Builder::new("rates");
    let w = g.param_of("w", dtype, [1], Init::zeros());
    let gradient = g.splat(dtype, [1], -1.0);
    let before = w;
    g.output("before", before);
    Sgd::new(0.1).schedule(schedule).step(&g, &[(w, gradient)]);
    let mut run = Loop::new(g.finish().unwrap_or_else(|e| panic!("{e}")), 1);
    let mut rates = Vec::new();
    for _ in 0..steps {
        run.step(&[]);
        rates.push(run.floats("w")[0]);
        run.set("w", floats(dtype, &[1], &[0.0]));
    }
    rates
}

#[test]
fn schedules() {
    let all = read();
    let known = all["schedules"].as_object().unwrap();
    assert_eq!(known.len(), 8);
    for (dtype, tolerance) in PRECISIONS {
        let check = |name: &str, found: &dyn Fn(usize) -> Vec<f64>| {
            let expected = numbers(&all, &["schedules", name]);
            near(name, &found(expected.len()), &expected, tolerance);
        };
        check("exponential", &|n| {
            rates(Exponential::every(10, 0.5), dtype, n)
        });
        check("staircase", &|n| {
            rates(Exponential::every(10, 0.5).at_once(), dtype, n)
        });
        // Keras's boundaries are the last steps of their pieces.
        check("piecewise", &|n| {
            rates(Piecewise::new([(11, 0.3), (31, 0.1)]), dtype, n)
        });
        check("polynomial", &|n| {
            rates(Polynomial::over(40).power(2.0).down_to(0.1), dtype, n)
        });
        check("cosine", &|n| {
            rates(Cosine::over(40).down_to(0.1), dtype, n)
        });
        check("cosine_warmup", &|n| {
            rates(Cosine::over(40).warmup(10), dtype, n)
        });
        check("cosine_restarts", &|n| {
            rates(Cosine::over(10).restarts(2.0, 0.8), dtype, n)
        });
        check("one_cycle", &|n| rates(OneCycle::over(n as u64), dtype, n));
    }
    // Periods of one length restart at each of them.
    let found = rates(Cosine::over(4).restarts(1.0, 0.5), DType::F64, 9);
    let fall = [1.0, 0.853_553_390_593_273_7, 0.5, 0.146_446_609_406_726_3];
    let mut expected: Vec<f64> = (0..8).map(|i| 0.1 * fall[i % 4]).collect();
    expected[4..].iter_mut().for_each(|rate| *rate *= 0.5);
    expected.push(0.025);
    close(&found, &expected, 1e-12);
}
