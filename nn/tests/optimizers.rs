//! Optimizers, step by step, against the papers' formulas in plain f64.

mod common;

use common::{Loop, close, floats};
use kiln_ir::{Builder, DType, Graph, Init};
use kiln_nn::{
    AdaMax, Adadelta, Adafactor, Adagrad, Adam, AdamW, ClipByGlobalNorm, ClipByNorm, ClipByValue,
    Cosine, Exponential, Group, Lamb, Lion, NAdam, OneCycle, Optimizer, Piecewise, RAdam, RmsProp,
    Sam, Sgd, Warmup,
};

/// The loss `sum (w - c)^2 / 2 + sum w`, with gradient `w - c + 1`, of one param in a scope.
fn graph(dtype: DType, optimizer: &impl Optimizer) -> Graph {
    let g = Builder::new("descent");
    let w = {
        let _scope = g.scope("fc1");
        g.param_of("w", dtype, [3], Init::Constant(0.5))
    };
    let c = g.input("c", dtype, [3]);
    let loss = (w - c).square().sum() * 0.5 + w.sum();
    // An open scope does not move the optimizer's states.
    let _scope = g.scope("elsewhere");
    optimizer.minimize(loss);
    g.output("loss", loss);
    drop(_scope);
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

const TARGETS: [f64; 3] = [1.0, -2.0, 300.0];

fn gradient(w: &[f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|i| w[i] - TARGETS[i] + 1.0)
}

#[test]
fn sgd_with_and_without_momentum() {
    for momentum in [0.0, 0.9] {
        let optimizer = Sgd::new(0.1).momentum(momentum);
        let mut run = Loop::new(graph(DType::F64, &optimizer), 1);
        let (mut w, mut v) = ([0.5; 3], [0.0; 3]);
        for _ in 0..20 {
            run.step(&[("c", floats(DType::F64, &[3], &TARGETS))]);
            let g = gradient(&w);
            for i in 0..3 {
                v[i] = momentum * v[i] + g[i];
                w[i] -= 0.1 * v[i];
            }
            close(&run.floats("fc1/w"), &w, 1e-13);
            if momentum > 0.0 {
                close(&run.floats("sgd/velocity/fc1/w"), &v, 1e-13);
            }
        }
    }
}

#[test]
fn adam_is_algorithm_1_of_the_paper() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let (rate, beta1, beta2, epsilon) = (0.05, 0.8, 0.99, 1e-6);
        let optimizer = Adam::new(rate).betas(beta1, beta2).epsilon(epsilon);
        let mut run = Loop::new(graph(dtype, &optimizer), 1);
        let (mut w, mut m, mut v) = ([0.5_f64; 3], [0.0; 3], [0.0; 3]);
        for t in 1..=20 {
            run.step(&[("c", floats(dtype, &[3], &TARGETS))]);
            let g = gradient(&w);
            for i in 0..3 {
                m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
                v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
                let m_hat = m[i] / (1.0 - beta1.powi(t));
                let v_hat: f64 = v[i] / (1.0 - beta2.powi(t));
                w[i] -= rate * m_hat / (v_hat.sqrt() + epsilon);
            }
            close(&run.floats("fc1/w"), &w, tolerance);
            close(&run.floats("adam/m/fc1/w"), &m, tolerance);
            close(&run.floats("adam/v/fc1/w"), &v, tolerance);
            assert_eq!(run.ints("adam/step"), [i64::from(t)]);
        }
    }
}

/// The first step of Adam is the learning rate against the sign of the gradient, whatever its size: a check that uses no formula.
#[test]
fn adams_first_step_has_the_length_of_the_rate() {
    let mut run = Loop::new(graph(DType::F32, &Adam::new(1e-3)), 1);
    run.step(&[("c", floats(DType::F32, &[3], &TARGETS))]);
    close(&run.floats("fc1/w"), &[0.499, 0.499, 0.501], 1e-7);
}

#[test]
fn the_learning_rate_is_a_state_that_can_be_set() {
    let mut run = Loop::new(graph(DType::F64, &Sgd::new(0.1)), 1);
    let feed = [("c", floats(DType::F64, &[3], &TARGETS))];
    run.set("sgd/learning_rate", floats(DType::F64, &[], &[0.0]));
    run.step(&feed);
    assert_eq!(run.floats("fc1/w"), [0.5; 3]);
    run.set("sgd/learning_rate", floats(DType::F64, &[], &[1.0]));
    run.step(&feed);
    close(&run.floats("fc1/w"), &TARGETS.map(|c| c - 1.0), 1e-13);
}

#[test]
fn two_optimizers_train_two_parts_of_one_graph() {
    let g = Builder::new("two");
    let (a, b) = (
        g.param("a", [2], Init::ones()),
        g.param("b", [2], Init::ones()),
    );
    Sgd::new(0.5).named("left").minimize_over(a.sum(), &[a]);
    Adam::new(0.25)
        .named("right")
        .minimize_over((a * b).sum(), &[b]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.step(&[]);
    close(&run.floats("a"), &[0.5; 2], 1e-7);
    close(&run.floats("b"), &[0.75; 2], 1e-7);
    assert_eq!(
        run.names(),
        [
            "a",
            "b",
            "left/learning_rate",
            "right/learning_rate",
            "right/m/b",
            "right/step",
            "right/v/b"
        ]
    );
}

/// Algorithm 2 of Loshchilov and Hutter: the decay is the learning rate's, and the moments do not see it.
#[test]
fn adamw_decays_weights_apart_from_their_gradients() {
    for decay_vectors in [false, true] {
        let g = Builder::new("descent");
        let w = g.param_of("w", DType::F64, (1, 2), Init::Constant(0.5));
        let b = g.param_of("b", DType::F64, [2], Init::Constant(0.5));
        let loss = (w * 3.0).sum() + b.sum();
        let optimizer = AdamW::new(0.05)
            .weight_decay(0.4)
            .betas(0.8, 0.99)
            .epsilon(1e-6);
        let optimizer = if decay_vectors {
            optimizer.decay_vectors()
        } else {
            optimizer
        };
        optimizer.minimize(loss);
        let mut run = Loop::new(g.finish().unwrap(), 1);
        assert_eq!(run.names()[..2], ["adamw/learning_rate", "adamw/m/b"]);
        for (name, gradient, decays) in [("w", 3.0, true), ("b", 1.0, decay_vectors)] {
            let mut run = run.clone();
            let (mut x, mut m, mut v) = (0.5_f64, 0.0_f64, 0.0_f64);
            for t in 1..=20 {
                run.step(&[]);
                m = 0.8 * m + 0.2 * gradient;
                v = 0.99 * v + 0.01 * gradient * gradient;
                let (m_hat, v_hat) = (m / (1.0 - 0.8_f64.powi(t)), v / (1.0 - 0.99_f64.powi(t)));
                if decays {
                    x -= 0.05 * 0.4 * x;
                }
                x -= 0.05 * m_hat / (v_hat.sqrt() + 1e-6);
                close(&run.floats(name), &[x; 2], 1e-12);
            }
        }
        // The rate set between steps is that of the decay too.
        run.set("adamw/learning_rate", floats(DType::F64, &[], &[0.0]));
        run.step(&[]);
        assert_eq!(run.floats("w"), [0.5; 2]);
    }
}

#[test]
fn clipped_gradients_keep_their_direction_and_have_the_norm_of_the_limit() {
    for (limit, norm) in [(1.0, 1.0), (5.0, 5.0), (13.0, 13.0), (20.0, 13.0)] {
        let g = Builder::new("descent");
        let a = g.param_of("a", DType::F64, (1, 1), Init::zeros());
        let b = g.param("b", [2], Init::zeros());
        // Gradients of 5 and of (12, 0): a norm of 13.
        let weights = g.input("weights", DType::F32, [2]);
        let both = (b * weights).sum().convert(DType::F64) + (a * 5.0).sum();
        ClipByGlobalNorm::new(limit, Sgd::new(1.0)).minimize(both);
        let mut run = Loop::new(g.finish().unwrap(), 1);
        run.step(&[("weights", floats(DType::F32, &[2], &[12.0, 0.0]))]);
        close(&run.floats("a"), &[-5.0 * norm / 13.0], 1e-6);
        close(&run.floats("b"), &[-12.0 * norm / 13.0, 0.0], 1e-6);
    }
    // No gradient at all is nothing to divide by.
    let g = Builder::new("descent");
    let a = g.param_of("a", DType::F64, [2], Init::ones());
    ClipByGlobalNorm::new(1.0, Sgd::new(1.0)).minimize((a * 0.0).sum());
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.step(&[]);
    assert_eq!(run.floats("a"), [1.0; 2]);
}

/// Three gradients of 3, 0 and 6 are a mean of 3; between, nothing moves, counts or decays.
#[test]
fn accumulated_gradients_move_params_every_third_step() {
    let g = Builder::new("accumulated");
    let w = g.param_of("w", DType::F64, (1, 1), Init::ones());
    let gradient = g.input("gradient", DType::F64, (1, 1));
    let optimizer = Sgd::new(0.1)
        .momentum(0.5)
        .weight_decay(0.5)
        .schedule(Exponential::every(1, 0.5))
        .averaged(0.9)
        .accumulate(3);
    optimizer.step(&g, &[(w, gradient)]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    let names = [
        "sgd/accumulated",
        "sgd/accumulated/w",
        "sgd/average/w",
        "sgd/learning_rate",
        "sgd/step",
        "sgd/velocity/w",
        "w",
    ];
    assert_eq!(run.names(), names);
    let (mut w, mut velocity, mut rate) = (1.0, 0.0, 0.1);
    let mut average = 0.0;
    for round in 0..3 {
        for (number, gradient) in [3.0, 0.0, 6.0].into_iter().enumerate() {
            run.step(&[("gradient", floats(DType::F64, &[1, 1], &[gradient]))]);
            if number == 2 {
                velocity = velocity * 0.5 + 3.0;
                w = w * (1.0 - rate * 0.5) - rate * velocity;
                average = if round == 0 {
                    w
                } else {
                    average * 0.9 + w * 0.1
                };
                rate *= 0.5;
            }
            close(&run.floats("w"), &[w], 1e-13);
            close(&run.floats("sgd/velocity/w"), &[velocity], 1e-13);
            close(&run.floats("sgd/average/w"), &[average], 1e-13);
            let moved = i64::from(round + i32::from(number == 2));
            assert_eq!(run.ints("sgd/step"), [moved]);
        }
    }
}

/// The state is the rate before the schedule: halved between steps, all that follows is half as fast.
#[test]
fn a_rate_set_between_steps_goes_through_the_schedule() {
    let g = Builder::new("scheduled");
    let w = g.param_of("w", DType::F64, [1], Init::zeros());
    let gradient = g.splat(DType::F64, [1], -1.0);
    let schedule = Warmup::new(2, Exponential::every(1, 0.5));
    Sgd::new(1.0).schedule(schedule).step(&g, &[(w, gradient)]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    let mut moved = Vec::new();
    for step in 0..6 {
        if step == 4 {
            run.set("sgd/learning_rate", floats(DType::F64, &[], &[0.5]));
        }
        let before = run.floats("w")[0];
        run.step(&[]);
        moved.push(run.floats("w")[0] - before);
    }
    close(&moved, &[0.0, 0.5, 1.0, 0.5, 0.125, 0.0625], 1e-13);
}

/// A param in no group keeps the optimizer's settings, and one in two has those of the first.
#[test]
fn groups_change_rate_and_decay_of_their_params() {
    let g = Builder::new("groups");
    let param = |name| g.param_of(name, DType::F64, (1, 1), Init::ones());
    let (a, b, c) = (param("a"), param("b"), param("c"));
    let none = g.splat(DType::F64, (1, 1), 0.0);
    let one = g.splat(DType::F64, (1, 1), 1.0);
    let optimizer = Sgd::new(0.1)
        .weight_decay(0.5)
        .group(Group::of(|name| name == "a").weight_decay(0.0))
        .group(Group::of(|name| name != "c").rate(0.5));
    optimizer.step(&g, &[(a, none), (b, one), (c, none)]);
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.step(&[]);
    close(&run.floats("a"), &[1.0], 1e-15);
    close(&run.floats("b"), &[1.0 - 0.025 - 0.05], 1e-15);
    close(&run.floats("c"), &[0.95], 1e-15);
}

/// Gradients of zeros divide nothing by 0, in either type.
#[test]
fn gradients_of_zeros_leave_params_finite() {
    let optimizers: [&dyn Optimizer; 16] = [
        &Sgd::new(0.1).momentum(0.9).nesterov(),
        &Adagrad::new(0.1),
        &Adadelta::new(1.0),
        &RmsProp::new(0.1).centered(),
        &Adam::new(0.1).amsgrad(),
        &AdamW::new(0.1),
        &NAdam::new(0.1),
        &RAdam::new(0.1),
        &AdaMax::new(0.1),
        &Lion::new(0.1),
        &Lamb::new(0.1),
        &Adafactor::new(0.1),
        &ClipByNorm::new(1.0, Sgd::new(0.1)),
        &ClipByValue::new(1.0, Sgd::new(0.1)),
        &ClipByGlobalNorm::new(1.0, Sgd::new(0.1)),
        &Sgd::new(0.1).accumulate(2),
    ];
    for optimizer in optimizers {
        for dtype in [DType::F32, DType::F64] {
            let g = Builder::new("zeros");
            let w = g.param_of("w", dtype, [2, 3], Init::ones());
            let v = g.param_of("v", dtype, [3], Init::zeros());
            let k = g.param_of("k", dtype, [2, 2, 3], Init::ones());
            let pairs = [w, v, k].map(|param| {
                let zeros = g.splat(dtype, &param.ty().unwrap().shape, 0.0);
                (param, zeros)
            });
            optimizer.step(&g, &pairs);
            let mut run = Loop::new(g.finish().unwrap(), 1);
            for _ in 0..7 {
                run.step(&[]);
            }
            for name in ["w", "v", "k"] {
                let found = run.floats(name);
                assert!(found.iter().all(|x| x.is_finite()), "{found:?}");
            }
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let all: [(&dyn Optimizer, &str); 9] = [
        (
            &Sgd::new(0.1).accumulate(0),
            "accumulated steps of the optimizer is 0",
        ),
        (
            &Adam::new(0.1).averaged(1.0),
            "momentum of the average of the optimizer is 1",
        ),
        (
            &Adam::new(0.1).group(Group::of(|_| true).max_norm(0.0)),
            "largest norm of the group of the optimizer is 0",
        ),
        (&RmsProp::new(0.1).rho(-0.1), "rho of the optimizer is -0.1"),
        (
            &Adafactor::new(0.1).decay_power(0.0),
            "power of the decay of the optimizer is 0",
        ),
        (
            &ClipByValue::new(-1.0, Sgd::new(0.1)),
            "limit of the gradient of the optimizer is -1",
        ),
        (
            &Sgd::new(0.1).schedule(Cosine::over(0)),
            "number of steps of the schedule is 0",
        ),
        (
            &Sgd::new(0.1).schedule(Piecewise::new([(5, 0.1), (5, 0.2)])),
            "step of the schedule is 5",
        ),
        (
            &Sgd::new(0.1).schedule(OneCycle::over(10).rise(1.0)),
            "share of rising steps of the schedule is 1",
        ),
    ];
    for (optimizer, expected) in all {
        let g = Builder::new("refused");
        let w = g.param("w", [2], Init::ones());
        optimizer.minimize_from(kiln_ir::Location::caller(), w.sum(), &[w]);
        let message = g.finish().unwrap_err().0[0].to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn sam_takes_a_loss_and_not_gradients() {
    let refused = |optimizer: &dyn Optimizer| {
        let g = Builder::new("m");
        let w = g.param("w", [3], Init::ones());
        optimizer.minimize(w.square().sum());
        g.finish().unwrap_err().to_string()
    };
    let within = refused(&ClipByGlobalNorm::new(1.0, Sam::new(0.05, Sgd::new(0.1))));
    assert!(
        within.contains("put it around the other wrappers"),
        "{within}"
    );
    let zero = refused(&Sam::new(0.0, Sgd::new(0.1)));
    assert!(zero.contains("the distance of `Sam`"), "{zero}");
    // Where the gradient is zero, no direction is the worst.
    let g = Builder::new("m");
    let w = g.param("w", [3], Init::zeros());
    Sam::new(0.05, ClipByGlobalNorm::new(1.0, Sgd::new(0.1))).minimize(w.square().sum());
    let mut run = Loop::new(g.finish().unwrap(), 1);
    run.step(&[]);
    assert_eq!(run.floats("w"), [0.0; 3]);
}
