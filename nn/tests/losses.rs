//! Losses and activations against closed forms, and their gradients against central differences in f64.

mod common;

use common::{close, floats, ints, ops_between};
use kiln_ir::{Array, Builder, DType, Graph, Init, Tensor, eval, grad};
use kiln_nn::{
    Accuracy, CrossEntropy, Loss, MeanMetric, MeanSquaredError, SparseCrossEntropy, log_softmax,
    relu, softmax,
};

/// Logits of three examples and four classes, one row far beyond what `exp` can hold.
const LOGITS: [f64; 12] = [
    0.5, -1.0, 2.0, 0.1, 1000.0, 999.0, 998.5, -1000.0, -3.0, -3.0, -3.0, -3.0,
];
const LABELS: [i64; 3] = [2, 1, 0];

fn probabilities() -> Vec<f64> {
    let mut all = Vec::new();
    for row in LOGITS.chunks(4) {
        let top = row.iter().copied().fold(f64::MIN, f64::max);
        let e: Vec<f64> = row.iter().map(|z| (z - top).exp()).collect();
        let sum: f64 = e.iter().sum();
        all.extend(e.iter().map(|e| e / sum));
    }
    all
}

fn log_probabilities() -> Vec<f64> {
    let mut all = Vec::new();
    for row in LOGITS.chunks(4) {
        let top = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|z| (z - top).exp()).sum();
        all.extend(row.iter().map(|z| z - top - sum.ln()));
    }
    all
}

/// The loss of a param `z: f64[3, 4]`, whose outputs are the loss and its gradient.
fn differentiated(loss: impl for<'g> Fn(&'g Builder, Tensor<'g>) -> Tensor<'g>) -> Graph {
    let g = Builder::new("loss");
    let z = g.param_of("z", DType::F64, [3, 4], Init::zeros());
    let loss = loss(&g, z);
    g.output("loss", loss);
    g.output("dz", grad(loss, &[z])[0]);
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn run(graph: &Graph, z: &[f64], target: &Array) -> (f64, Vec<f64>) {
    let step = eval(graph, |slot| {
        Some(if slot.name == "z" {
            floats(DType::F64, &[3, 4], z)
        } else {
            target.clone()
        })
    })
    .unwrap();
    let gradient = step.outputs[1].floats().unwrap().to_vec();
    (step.outputs[0].floats().unwrap()[0], gradient)
}

fn check_gradient(graph: &Graph, target: &Array) {
    let z: Vec<f64> = (0..12).map(|i| f64::sin(1.7 * f64::from(i))).collect();
    let (_, exact) = run(graph, &z, target);
    for i in 0..z.len() {
        let at = |delta: f64| {
            let mut moved = z.clone();
            moved[i] += delta;
            run(graph, &moved, target).0
        };
        let central = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!(
            (central - exact[i]).abs() < 1e-9,
            "[{i}]: {} but {central}",
            exact[i]
        );
    }
}

#[test]
fn sparse_cross_entropy_is_the_closed_form_for_every_label_type() {
    let expected: f64 = -LABELS
        .iter()
        .enumerate()
        .map(|(i, l)| log_probabilities()[4 * i + *l as usize])
        .sum::<f64>()
        / 3.0;
    let mut gradient = probabilities();
    for (i, label) in LABELS.iter().enumerate() {
        gradient[4 * i + *label as usize] -= 1.0;
    }
    for slot in &mut gradient {
        *slot /= 3.0;
    }
    for dtype in [DType::U8, DType::I32, DType::I64, DType::U64] {
        let graph = differentiated(|g, z| SparseCrossEntropy.mean(z, g.input("y", dtype, [3])));
        let target = ints(dtype, &LABELS);
        let (loss, found) = run(&graph, &LOGITS, &target);
        close(&[loss], &[expected], 1e-14);
        close(&found, &gradient, 1e-15);
        check_gradient(&graph, &target);
    }
}

/// `softmax - one_hot` without a second softmax: the exponentials are those of the forward sweep.
#[test]
fn the_gradient_of_sparse_cross_entropy_is_a_handful_of_ops() {
    let graph = differentiated(|g, z| SparseCrossEntropy.mean(z, g.input("y", DType::U8, [3])));
    let ops = ops_between(&graph, "dz", "loss");
    assert!(!ops.contains(&"exp") && !ops.contains(&"reduce"), "{ops:?}");
    assert!(ops.len() <= 12, "{ops:?}");
}

#[test]
fn a_label_outside_the_classes_fails_the_step() {
    let graph = differentiated(|g, z| SparseCrossEntropy.mean(z, g.input("y", DType::I32, [3])));
    for label in [4, -1] {
        let found = eval(&graph, |slot| {
            Some(match slot.name.as_str() {
                "z" => floats(DType::F64, &[3, 4], &LOGITS),
                _ => ints(DType::I32, &[0, label, 3]),
            })
        });
        let message = found.unwrap_err().to_string();
        assert!(
            message.contains("a label is outside the classes"),
            "{message}"
        );
    }
}

#[test]
fn cross_entropy_takes_any_distribution() {
    let graph = differentiated(|g, z| CrossEntropy.mean(z, g.input("y", DType::F64, [3, 4])));
    // The second target does not sum to 1.
    let targets = [0.1, 0.2, 0.3, 0.4, 0.5, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let target = floats(DType::F64, &[3, 4], &targets);
    let (loss, gradient) = run(&graph, &LOGITS, &target);
    let dot: f64 = targets
        .iter()
        .zip(log_probabilities())
        .map(|(t, l)| t * l)
        .sum();
    close(&[loss], &[-dot / 3.0], 1e-14);
    let mass: Vec<f64> = targets.chunks(4).map(|row| row.iter().sum()).collect();
    let expected: Vec<f64> = (0..12)
        .map(|i| (probabilities()[i] * mass[i / 4] - targets[i]) / 3.0)
        .collect();
    close(&gradient, &expected, 1e-14);
    check_gradient(&graph, &target);
}

#[test]
fn mean_squared_error_and_its_examples() {
    let graph = differentiated(|g, z| {
        let y = g.input("y", DType::F64, [3, 4]);
        g.output("each", Loss::per_example(&MeanSquaredError, z, y).mean());
        Loss::mean(&MeanSquaredError, z, y)
    });
    let target = floats(DType::F64, &[3, 4], &[1.0; 12]);
    let step = eval(&graph, |slot| {
        Some(match slot.name.as_str() {
            "z" => floats(DType::F64, &[3, 4], &LOGITS),
            _ => target.clone(),
        })
    })
    .unwrap();
    let expected = LOGITS.iter().map(|z| (z - 1.0).powi(2)).sum::<f64>() / 12.0;
    let gradient: Vec<f64> = LOGITS.iter().map(|z| (z - 1.0) / 6.0).collect();
    close(step.outputs[0].floats().unwrap(), &[expected], 1e-14);
    close(step.outputs[1].floats().unwrap(), &[expected], 1e-14);
    close(step.outputs[2].floats().unwrap(), &gradient, 1e-14);
}

#[test]
fn softmax_log_softmax_and_relu() {
    let g = Builder::new("activations");
    let z = g.input("z", DType::F64, [3, 4]);
    g.output("softmax", softmax(z));
    g.output("log_softmax", log_softmax(z));
    g.output("relu", relu(z));
    let graph = g.finish().unwrap();
    let step = eval(&graph, |_| Some(floats(DType::F64, &[3, 4], &LOGITS))).unwrap();
    close(step.outputs[0].floats().unwrap(), &probabilities(), 1e-15);
    close(
        step.outputs[1].floats().unwrap(),
        &log_probabilities(),
        1e-15,
    );
    let expected = LOGITS.map(|z| z.max(0.0));
    assert_eq!(step.outputs[2].floats().unwrap(), expected);
}

#[test]
fn gradients_of_softmax_and_log_softmax() {
    let target = floats(
        DType::F64,
        &[3, 4],
        &[0.3, -1.0, 0.2, 2.0, 0.7, 0.0, 1.0, 0.4, 0.9, -0.2, 3.0, 0.1],
    );
    for function in [softmax, log_softmax] {
        let graph = differentiated(|g, z| (function(z) * g.input("y", DType::F64, [3, 4])).sum());
        check_gradient(&graph, &target);
    }
}

/// relu passes nothing at 0 itself, and keeps NaN.
#[test]
fn relu_at_zero_and_at_nan() {
    let graph = differentiated(|_, z| relu(z).sum());
    let mut z = [1.0; 12];
    (z[0], z[1]) = (0.0, -1.0);
    let (_, gradient) = run(&graph, &z, &ints(DType::I32, &[]));
    assert_eq!(gradient[..3], [0.0, 0.0, 1.0]);
    z[5] = f64::NAN;
    assert!(run(&graph, &z, &ints(DType::I32, &[])).0.is_nan());
}

#[test]
fn accuracy_counts_the_first_of_equal_scores() {
    let g = Builder::new("accuracy");
    let b = g.dim("b");
    let z = g.input("z", DType::F32, (b.clone(), 4));
    let y = g.input("y", DType::U8, (b,));
    g.output("accuracy", Accuracy.measure(z, y));
    let graph = g.finish().unwrap();
    // Right, wrong (1 is best only second), and right by the first of four equal scores.
    let step = eval(&graph, |slot| {
        Some(match slot.name.as_str() {
            "z" => floats(DType::F32, &[3, 4], &LOGITS),
            _ => ints(DType::U8, &LABELS),
        })
    })
    .unwrap();
    close(step.outputs[0].floats().unwrap(), &[2.0 / 3.0], 1e-7);
}
