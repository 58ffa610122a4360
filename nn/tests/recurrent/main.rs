//! Recurrent layers beside the formulas of their documentation, step by step in f64; masks, directions, dropout, gradients and mistakes.

#[path = "../common/mod.rs"]
mod common;
mod dropout;
mod formulas;
mod gradients;
mod mistakes;
mod models;

use common::{Loop, floats};
use kiln_ir::{Array, Builder, DType, Graph};
use kiln_nn::{Cell, Context, Given, Mode, Recurrent, Sequence};

const B: usize = 2;
const T: usize = 5;
const D: usize = 3;
const U: usize = 2;

/// Numbers between -1 and 1, without pattern.
fn numbers(count: usize, seed: f64) -> Vec<f64> {
    (0..count)
        .map(|i| ((i as f64 + 1.0) * 12.9898 + seed * 78.233).sin())
        .collect()
}

fn xs() -> Array {
    floats(DType::F64, &[B, T, D], &numbers(B * T * D, 1.0))
}

/// A graph of a layer under the name `layer`, with all its outputs and last states.
fn graph<C: Cell>(layer: &Recurrent<C>, mode: Mode, lengths: bool, initial: bool) -> Graph {
    let g = Builder::new("m");
    let (b, t) = (g.dim("b"), g.dim("t"));
    let x = g.input("x", DType::F64, (b.clone(), t, D as i64));
    let given = Given {
        lengths: lengths.then(|| g.input("lengths", DType::I32, [b.clone()])),
        initial: initial.then(|| {
            (0..layer.cell().states())
                .map(|i| g.input(&format!("s{i}"), DType::F64, (b.clone(), U as i64)))
                .collect()
        }),
        mask: None,
    };
    let outputs = Context::new(&g, mode).within("layer", "layer", |cx| {
        let Sequence { outputs, states } = layer.sequence(cx, x, &given);
        for (i, state) in states.iter().enumerate() {
            g.output(&format!("state{i}"), *state);
        }
        outputs
    });
    g.output("outputs", outputs);
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    kiln_ir::verify(&graph).unwrap();
    graph
}

/// The params of a layer, all different from 0.
fn with_params(graph: Graph) -> Loop {
    let mut run = Loop::new(graph, 7);
    let names: Vec<String> = run.names().iter().map(|n| (*n).to_owned()).collect();
    for (i, name) in names.iter().filter(|n| n.starts_with("layer/")).enumerate() {
        let shape = run.array(name).shape().to_vec();
        let values = numbers(shape.iter().product(), i as f64 + 3.0);
        run.set(name, floats(DType::F64, &shape, &values));
    }
    run
}
