//! Small models learn, in the interpreter.

mod common;

use common::{Loop, close, floats, ints};
use kiln_ir::{Builder, DType, Graph, Tensor};
use kiln_nn::{
    Accuracy, Activation, Adam, Context, Dense, Layer, Loss, MeanMetric, MeanSquaredError,
    Optimizer, Sequential, Sgd, SparseCrossEntropy,
};

fn regression() -> Graph {
    let model = Sequential::new([1]).dense(1);
    let g = Builder::new("regression");
    let x = g.input("x", DType::F32, (g.dim("b"), 1));
    let y = g.input("y", DType::F32, (g.dim("b"), 1));
    let loss = Loss::mean(&MeanSquaredError, model.apply(&Context::training(&g), x), y);
    g.output("loss", loss);
    Sgd::new(0.1).momentum(0.5).minimize(loss);
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// y = 2x + 1 on 36 points, in batches of 32 and a last one of 4.
#[test]
fn linear_regression_finds_slope_and_intercept() {
    let mut run = Loop::new(regression(), 7);
    let x: Vec<f64> = (0..36)
        .map(|i| f64::from((i * 7) % 36) / 17.5 - 1.0)
        .collect();
    let y: Vec<f64> = x.iter().map(|x| 2.0 * x + 1.0).collect();
    let mut loss = f64::INFINITY;
    for _ in 0..60 {
        for at in [0..32, 32..36] {
            let shape = [at.len(), 1];
            let outputs = run.step(&[
                ("x", floats(DType::F32, &shape, &x[at.clone()])),
                ("y", floats(DType::F32, &shape, &y[at])),
            ]);
            loss = outputs["loss"].floats().unwrap()[0];
        }
    }
    assert!(loss < 1e-8, "{loss}");
    close(&run.floats("dense_1/w"), &[2.0], 1e-4);
    close(&run.floats("dense_1/b"), &[1.0], 1e-4);
}

/// The problem that no linear model solves, as a plain struct of layers.
struct Xor {
    hidden: Dense,
    head: Dense,
}

impl Layer for Xor {
    fn kind(&self) -> &str {
        "xor"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let h = cx.layer("hidden", &self.hidden, x).tanh();
        cx.layer("head", &self.head, h)
    }
}

fn xor(model: &dyn Layer) {
    let g = Builder::new("xor");
    let x = g.input("x", DType::F32, (g.dim("b"), 2));
    let y = g.input("y", DType::I32, (g.dim("b"),));
    let logits = model.apply(&Context::training(&g), x);
    let loss = SparseCrossEntropy.mean(logits, y);
    g.output("loss", loss);
    g.output("accuracy", Accuracy.measure(logits, y));
    Adam::new(0.05).minimize(loss);
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let mut run = Loop::new(graph, 3);
    let feeds = [
        (
            "x",
            floats(
                DType::F32,
                &[4, 2],
                &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0],
            ),
        ),
        ("y", ints(DType::I32, &[0, 1, 1, 0])),
    ];
    let first = run.step(&feeds)["loss"].floats().unwrap()[0];
    assert!(first > 0.3, "{first}");
    for _ in 0..150 {
        run.step(&feeds);
    }
    let last = run.step(&feeds);
    assert!(last["loss"].floats().unwrap()[0] < 0.02, "{last:?}");
    assert_eq!(last["accuracy"].floats().unwrap(), [1.0]);
}

#[test]
fn a_plain_struct_of_layers_learns_xor() {
    xor(&Xor {
        hidden: Dense::new(8),
        head: Dense::new(2),
    });
}

#[test]
fn a_sequential_model_learns_xor() {
    let tanh = Activation::new("tanh", |x| x.tanh());
    xor(&Sequential::new([2]).dense(8).activation(tanh).dense(2));
}
