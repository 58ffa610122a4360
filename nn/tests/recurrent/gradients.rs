//! Gradients through loops, and what a loop holds.

use crate::common::{Loop, floats, ints};
use crate::numbers;
use kiln_ir::{Builder, DType, Graph, Op, Tensor, grad};
use kiln_nn::{Bidirectional, Cell, Context, Given, Gru, Lstm, Merge, Recurrent, SimpleRnn};

/// The gradient of every param and of the input, against central differences, through masks and both directions.
#[test]
fn gradients_are_central_differences() {
    fn losses<'g, L>(layer: &L, g: &'g Builder) -> Tensor<'g>
    where
        L: for<'a> Fn(&Context<'a>, Tensor<'a>, &Given<'a>) -> Tensor<'a>,
    {
        let x = g.param_of("x", DType::F64, (2, 5, 3), kiln_ir::Init::zeros());
        let lengths = Some(g.input("lengths", DType::I64, [2]));
        let given = Given {
            lengths,
            ..Given::default()
        };
        let y = Context::training(g).within("layer", "layer", |cx| layer(cx, x, &given));
        (y * (y + 0.3)).sum()
    }
    type Apply = Box<dyn for<'a> Fn(&Context<'a>, Tensor<'a>, &Given<'a>) -> Tensor<'a>>;
    fn all<C: Cell + Clone + 'static>(layer: Recurrent<C>) -> Apply {
        let layer = Bidirectional::new(layer).merge(Merge::Product);
        Box::new(move |cx, x, given| {
            let sequence = layer.sequence(cx, x, given);
            sequence.outputs + sequence.states[0].reshape((2, 1, 2))
        })
    }
    let layers: Vec<Apply> = vec![
        all(SimpleRnn::new(2)),
        all(Lstm::new(2).two_biases()),
        all(Gru::new(2)),
        all(Gru::new(2).reset_before()),
    ];
    for layer in layers {
        let g = Builder::new("m");
        let loss = losses(&layer, &g);
        let params = g.params();
        g.output("loss", loss);
        let names: Vec<String> = params
            .iter()
            .map(|p| g.slot_name(p.id().unwrap()).unwrap())
            .collect();
        for (name, gradient) in names.iter().zip(grad(loss, &params)) {
            g.output(name, gradient);
        }
        let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
        let mut run = Loop::new(graph, 1);
        for (i, name) in names.iter().enumerate() {
            let shape = run.array(name).shape().to_vec();
            let values = numbers(shape.iter().product(), i as f64);
            run.set(name, floats(DType::F64, &shape, &values));
        }
        let feeds = [("lengths", ints(DType::I64, &[5, 3]))];
        let exact = run.step(&feeds);
        for name in &names {
            let start = run.floats(name);
            let shape = run.array(name).shape().to_vec();
            for i in (0..start.len()).step_by(3) {
                let mut at = |delta: f64| {
                    let mut moved = start.clone();
                    moved[i] += delta;
                    run.set(name, floats(DType::F64, &shape, &moved));
                    run.step(&feeds)["loss"].floats().unwrap()[0]
                };
                let central = (at(1e-5) - at(-1e-5)) / 2e-5;
                let found = exact[name].floats().unwrap()[i];
                assert!(
                    (found - central).abs() < 1e-7 * (1.0 + central.abs()),
                    "{name}[{i}]: {found} but {central}"
                );
            }
            run.set(name, floats(DType::F64, &shape, &start));
        }
    }
}

/// The bodies of a training step: forward one product with the recurrent weight, backward one with its transpose. The weights' gradients are
/// products behind the loop.
#[test]
fn loops_hold_one_product_each() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 3));
    let layer = Lstm::new(4).return_sequences();
    let loss = Context::training(&g)
        .layer("lstm", &layer, x)
        .square()
        .sum();
    for gradient in grad(loss, &g.params()) {
        g.output(&format!("{}", g.next_ordinal()), gradient);
    }
    let graph = g.finish().unwrap();
    let dots = |graph: &Graph| {
        let nodes = graph.nodes();
        nodes.filter(|(_, n)| matches!(n.op, Op::Dot(_))).count()
    };
    let scans = graph.nodes().filter_map(|(_, n)| match &n.op {
        Op::Scan(scan) => Some(dots(&scan.body)),
        _ => None,
    });
    assert_eq!(scans.collect::<Vec<_>>(), [1, 1]);
    // Of the input, the gradients of both weights, and that of the input, which nothing reads.
    assert_eq!(dots(&graph), 4);
}
