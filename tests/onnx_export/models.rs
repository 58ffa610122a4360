//! Models as they are deployed, and as they learn.

use super::common::Numbers;
use super::common::data::{Kind, random};
use super::trip::Trip;
use kiln::nn::{Conv2d, Mode, Padding};
use kiln::train::graphs::prediction;
use kiln::{
    Builder, Context, DType, Dim, Graph, Layer, Loss, Sequential, SparseCrossEntropy, TensorType,
    grad,
};
use kiln_ir::{Array, Role, Slot, Values};

#[allow(dead_code)]
#[path = "../../examples/models/char_lstm.rs"]
mod char_lstm;
#[path = "../../examples/models/gpt.rs"]
mod gpt;

const CLASSES: usize = 10;

/// Small weights, and positive ones where they are variances.
fn weights(numbers: &mut Numbers) -> impl FnMut(&Slot, &TensorType) -> Array {
    |slot, ty| {
        let shape = ty.shape.constants().expect("numbers");
        let drawn = random(numbers, ty.dtype, &shape, Kind::Plain);
        let Values::Float(values) = drawn.values() else {
            return drawn;
        };
        let is_state = matches!(slot.role, Role::State(_));
        let small = |x: &f64| {
            if is_state {
                x.abs() / 4.0 + 0.1
            } else {
                x / 8.0
            }
        };
        let values = Values::Float(values.iter().map(small).collect());
        Array::new(ty.dtype, shape, values).expect("an array")
    }
}

fn check(name: &str, graph: Graph, sizes: &[&[(&str, i64)]]) {
    let mut numbers = Numbers::new(11);
    let trip = Trip::with(name, graph, weights(&mut numbers));
    let mut trip = trip.unwrap_or_else(|why| panic!("{name}: {why}"));
    for sizes in sizes {
        let mut bindings = kiln_ir::Bindings::new();
        for (symbol, size) in *sizes {
            bindings.insert(kiln_ir::Symbol::new(symbol), *size);
        }
        let run = trip.run_on(|_, ty| {
            let shape = ty.shape.iter().map(|d| d.eval_size(&bindings));
            let shape: Vec<usize> = shape.collect::<Result<_, _>>().expect("sizes");
            if ty.dtype.is_float() {
                return random(&mut numbers, ty.dtype, &shape, Kind::Plain);
            }
            // Classes and tokens.
            let count = shape.iter().product();
            let drawn = (0..count).map(|_| numbers.below(CLASSES) as i64).collect();
            Array::new(ty.dtype, shape, Values::Int(drawn)).expect("an array")
        });
        assert_eq!(run, Ok(true), "{name}");
    }
}

fn mlp() -> Sequential {
    Sequential::new([12])
        .dense(16)
        .relu()
        .dropout(0.5)
        .dense(8)
        .relu()
        .dense(CLASSES as i64)
}

fn cnn() -> Sequential {
    Sequential::new([9, 8, 2])
        .layer(Conv2d::new(6, 3).padding(Padding::Same))
        .batch_norm()
        .relu()
        .max_pool2d(2)
        .layer(Conv2d::new(4, 3).stride(2).padding(Padding::Same))
        .relu()
        .avg_pool2d(2)
        .flatten()
        .dense(CLASSES as i64)
}

/// The loss of a batch and all gradients, with dropout.
fn gradients(model: &Sequential) -> Graph {
    let g = Builder::new("gradients");
    let input = model.input_type(DType::F32);
    let x = g.input("x", DType::F32, &input.shape);
    let y = g.input("y", DType::U8, (g.dim("b"),));
    let logits = model.apply(&Context::new(&g, Mode::Training), x);
    let loss = SparseCrossEntropy.mean(logits, y);
    let params = g.params();
    for (param, gradient) in params.iter().zip(grad(loss, &params)) {
        let name = param.id().and_then(|id| g.slot_name(id)).expect("a param");
        g.output(&format!("grad/{name}"), gradient);
    }
    g.output("loss", loss);
    g.finish().expect("a graph")
}

#[test]
fn a_perceptron_predicts_and_learns() {
    let model = mlp();
    let graph = prediction(&model, &model.input_type(DType::F32)).expect("a graph");
    check("model-mlp", graph, &[&[("b", 1)], &[("b", 7)]]);
    check("model-mlp_gradients", gradients(&model), &[&[("b", 5)]]);
}

#[test]
fn a_convnet_predicts_and_learns() {
    let model = cnn();
    let graph = prediction(&model, &model.input_type(DType::F32)).expect("a graph");
    check("model-cnn", graph, &[&[("b", 1)], &[("b", 4)]]);
    check("model-cnn_gradients", gradients(&model), &[&[("b", 5)]]);
}

#[test]
fn an_lstm_and_a_transformer_predict() {
    let tokens = TensorType::new(DType::U32, (Dim::symbol("b"), Dim::symbol("t")));
    let lstm = char_lstm::CharLstm {
        vocabulary: CLASSES as i64,
        features: 6,
        units: 8,
    };
    let gpt = gpt::Gpt {
        vocabulary: CLASSES as i64,
        context: 16,
        layers: 2,
        heads: 2,
        width: 16,
        bias: true,
    };
    let models: [(&str, &dyn Layer); 2] = [("model-lstm", &lstm), ("model-gpt", &gpt)];
    for (name, model) in models {
        let graph = prediction(model, &tokens).expect("a graph");
        check(
            name,
            graph,
            &[&[("b", 2), ("t", 5)], &[("b", 1), ("t", 12)]],
        );
    }
}

#[test]
fn a_value_may_be_two_outputs() {
    let g = Builder::new("twice");
    let x = g.input("x", DType::F32, (g.dim("b"), 3));
    let y = x.tanh();
    g.output("first", y);
    g.output("second", y);
    g.output("input", x);
    g.output("again", x);
    let graph = g.finish().expect("a graph");
    check("model-twice", graph, &[&[("b", 2)]]);
}
