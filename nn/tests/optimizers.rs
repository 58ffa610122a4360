//! Optimizers, step by step, against the papers' formulas in plain f64.

mod common;

use common::{Loop, close, floats};
use kiln_ir::{Builder, DType, Graph, Init};
use kiln_nn::{Adam, AdamW, ClipByGlobalNorm, Optimizer, Sgd};

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
