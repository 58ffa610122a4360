//! Mistakes with layers, losses and optimizers: one message each, at the user's own line, with a way out.

use kiln_ir::{Builder, DType, Diagnostic, Init, Tensor};
use kiln_nn::{
    Accuracy, Adam, Context, CrossEntropy, Dense, Layer, Loss, MeanMetric, MeanSquaredError,
    Optimizer, Sequential, Sgd, SparseCrossEntropy, softmax,
};

/// The mistakes of a graph that has the input `x: f32[b, 100]`.
fn mistakes(build: impl for<'g> Fn(&'g Builder, Tensor<'g>)) -> Vec<Diagnostic> {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), 100));
    build(&g, x);
    g.finish().expect_err("the graph has a mistake").0
}

/// The only mistake: where it is, and its whole text.
#[track_caller]
fn only(line: u32, build: impl for<'g> Fn(&'g Builder, Tensor<'g>)) -> String {
    let found = mistakes(build);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        &*found[0].location.file, "nn/tests/diagnostics.rs",
        "{}",
        found[0]
    );
    assert_eq!(found[0].location.line, line, "{}", found[0]);
    found[0].to_string()
}

#[test]
fn a_model_applied_to_the_wrong_features() {
    let model = Sequential::new([784]).dense(10);
    let line = line!() + 2;
    let text = only(line, |g, x| {
        let y = model.apply(&Context::training(g), x);
        g.output("y", y.exp());
    });
    assert!(
        text.contains("the model takes inputs of type f32[b, 784], not f32[b, 100]"),
        "{text}"
    );
    assert!(
        text.contains("help: begin the model with `Sequential::new([100])`"),
        "{text}"
    );
}

#[test]
fn a_shared_dense_layer_with_other_features() {
    let dense = Dense::new(10);
    let line = line!() + 4;
    let text = only(line, |g, x| {
        let cx = Context::training(g);
        let y = cx.layer("fc1", &dense, x);
        cx.sharing().layer("fc1", &dense, y);
    });
    assert!(text.contains("`fc1/w` is shared as f32[10, 10]"), "{text}");
    assert!(text.contains("in \"fc1\""), "{text}");
    assert!(
        text.contains("f32[100, 10] from nn/tests/diagnostics.rs"),
        "{text}"
    );
}

#[test]
fn a_mistake_inside_a_sequential_points_to_the_line_of_the_layer() {
    let model = Sequential::new([100]).dense(10);
    let line = line!() + 1;
    let model = model.dropout(1.5);
    let model = model.dense(2);
    let text = only(line, |g, x| {
        model.apply(&Context::training(g), x);
    });
    assert!(text.contains("`dropout` at a rate of 1.5"), "{text}");
    assert!(text.contains("in \"dropout_1\""), "{text}");
}

#[test]
fn dense_of_symbolic_features_or_of_a_scalar() {
    for shape in [
        kiln_ir::Shape::from((1, kiln_ir::Dim::symbol("t"))),
        ().into(),
    ] {
        let line = line!() + 3;
        let text = only(line, |g, _| {
            let z = g.input("z", DType::F32, &shape);
            Context::training(g).layer("d", &Dense::new(3), z);
        });
        assert!(text.contains("a fixed number of features"), "{text}");
    }
}

#[test]
fn two_layers_of_one_name() {
    let line = line!() + 4;
    let text = only(line, |g, x| {
        let cx = Context::training(g);
        let x = cx.layer("fc", &Dense::new(100), x);
        cx.layer("fc", &Dense::new(100), x);
    });
    assert!(text.contains("`fc/w` is taken"), "{text}");
}

#[test]
fn targets_that_do_not_fit() {
    type Case = (
        DType,
        &'static [i64],
        for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
        &'static str,
    );
    let cases: [Case; 6] = [
        (
            DType::F32,
            &[8],
            |x, y| Loss::mean(&MeanSquaredError, x, y),
            "targets of shape [b, 100] fit",
        ),
        (
            DType::F32,
            &[8],
            |x, y| CrossEntropy.mean(x, y),
            "targets of shape [b, 100] fit",
        ),
        (
            DType::I32,
            &[8, 1],
            |x, y| SparseCrossEntropy.mean(x, y),
            "labels of shape [b] fit",
        ),
        (
            DType::F32,
            &[8],
            |x, y| SparseCrossEntropy.mean(x, y),
            "labels are the numbers of classes",
        ),
        (
            DType::I32,
            &[8, 1],
            |x, y| Accuracy.measure(x, y),
            "labels of shape [b] fit",
        ),
        (
            DType::I32,
            &[8],
            |_, y| softmax(y),
            "it takes floating tensors",
        ),
    ];
    for (dtype, shape, loss, help) in cases {
        let found = mistakes(|g, x| {
            loss(x, g.input("y", dtype, shape));
        });
        assert_eq!(found.len(), 1, "{found:?}");
        let text = found[0].to_string();
        assert!(text.contains(help), "{text}");
        assert!(text.contains("--> nn/tests/diagnostics.rs"), "{text}");
    }
}

#[test]
fn a_param_that_the_loss_does_not_reach() {
    let line = line!() + 4;
    let text = only(line, |g, x| {
        g.param("lost", [3], Init::zeros());
        let y = Context::training(g).layer("fc", &Dense::new(1), x);
        Adam::new(0.1).minimize(y.mean());
    });
    assert!(text.contains("no path ties `lost` to the loss"), "{text}");
}

#[test]
fn nothing_to_train_and_a_loss_that_is_no_scalar() {
    let line = line!() + 1;
    let text = only(line, |_, x| Sgd::new(0.1).minimize(x.mean()));
    assert!(text.contains("there is nothing to train"), "{text}");
    let line = line!() + 3;
    let text = only(line, |g, _| {
        let w = g.param("w", [3], Init::zeros());
        Sgd::new(0.1).minimize(w);
    });
    assert!(
        text.contains("the gradient of a loss of type f32[3]"),
        "{text}"
    );
}

#[test]
fn settings_out_of_range_are_reported_together() {
    let found = mistakes(|g, _| {
        let w = g.param("w", [3], Init::zeros());
        Sgd::new(-0.1).momentum(1.0).minimize(w.sum());
        Adam::new(f64::NAN)
            .betas(0.9, 1.0)
            .epsilon(-1.0)
            .minimize(w.sum());
    });
    let messages: Vec<&str> = found.iter().map(|d| d.refusal.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the learning rate of the optimizer is -0.1",
            "the momentum of the optimizer is 1",
            "the learning rate of the optimizer is NaN",
            "the second beta of the optimizer is 1",
            "the epsilon of the optimizer is -1",
        ]
    );
}

#[test]
fn an_optimizer_applied_twice() {
    let line = line!() + 4;
    let found = mistakes(|g, _| {
        let w = g.param("w", [3], Init::zeros());
        for _ in 0..2 {
            Sgd::new(0.1).minimize(w.sum());
        }
    });
    assert!(found.iter().all(|d| d.location.line == line), "{found:?}");
    assert!(
        found[0]
            .to_string()
            .contains("`sgd/learning_rate` is taken"),
        "{}",
        found[0]
    );
}
