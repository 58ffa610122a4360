//! Horizontal launches: an optimizer's updates of many tensors are one launch, whatever their shapes, and not a bit of them moves.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, random};
use common::jit::{VARIANTS, Variant, executable, program, session, step};
use kiln_ir::program::{Launch, Program, Step, place};
use kiln_ir::{Bindings, Builder, DType, Dim, Graph, Init, Shape};
use kiln_nn::{Adam, Context, Layer, Loss, Optimizer, Sequential, SparseCrossEntropy};

const TENSORS: usize = 60;

/// The shape of a tensor: matrices and vectors of ten sizes, too small for a fork of their own and large enough for one.
fn shape(tensor: usize) -> Vec<usize> {
    let size = 70 + 61 * (tensor % 10);
    if tensor.is_multiple_of(3) {
        vec![size]
    } else {
        vec![size, 3 + tensor % 7]
    }
}

/// Adam on tensors whose gradients are fed.
fn adam() -> Graph {
    let g = Builder::new("adam");
    let count = g.state("step", DType::F32, (), Init::zeros());
    let next = count + 1.0;
    g.update(count, next);
    let correction = |beta: f64| -(next * beta.ln()).expm1();
    let rate = correction(0.999).sqrt() / correction(0.9) * 1e-3;
    for tensor in 0..TENSORS {
        let shape = || Shape::from(shape(tensor).into_iter().map(Dim::from).collect::<Vec<_>>());
        let slot = |kind: &str| format!("{kind}{tensor}");
        let gradient = g.input(&slot("g"), DType::F32, shape());
        let moment = |kind: &str| g.state(&slot(kind), DType::F32, shape(), Init::zeros());
        let (m, v) = (moment("m"), moment("v"));
        let w = g.param(&slot("w"), shape(), Init::uniform(0.5));
        let first = m * 0.9 + gradient * 0.1;
        let second = v * 0.999 + gradient * gradient * 0.001;
        g.update(m, first);
        g.update(v, second);
        g.update(w, w - rate * first / (second.sqrt() + 1e-8));
    }
    g.finish().expect("a graph")
}

fn launches(program: &Program) -> Vec<&[Launch]> {
    let mut launches = Vec::new();
    for step in &program.steps {
        if let Step::Kernel(parts) = step {
            launches.push(&parts[..]);
        }
    }
    launches
}

#[test]
fn adam_on_sixty_tensors_is_one_launch_of_one_function() {
    let graph = adam();
    let program = program(&graph);
    let parts: Vec<usize> = launches(&program).iter().map(|l| l.len()).collect();
    // The counter is read by all of them, and written when they have run.
    assert_eq!(parts, [TENSORS, 1]);
    let executable = executable(&graph, VARIANTS[1]).expect("it loads");
    assert_eq!(executable.functions(), 2);
}

#[test]
fn no_variant_and_no_thread_changes_a_bit() {
    let graph = adam();
    let mut numbers = Numbers::new(5);
    let gradients: Vec<Fed> = (0..TENSORS)
        .map(|t| {
            Fed::new(
                &random(&mut numbers, DType::F32, &shape(t), Kind::Plain),
                false,
            )
        })
        .collect();
    let mut expected = None;
    for Variant { optimize, fuse } in VARIANTS {
        let executable = executable(&graph, Variant { optimize, fuse }).expect("it loads");
        for threads in 1..4 {
            let mut session = session(&executable, threads);
            let results: Vec<_> = (0..3)
                .map(|_| step(&mut session, &gradients).expect("a step"))
                .collect();
            let expected = expected.get_or_insert_with(|| results.clone());
            for (found, expected) in results.iter().zip(expected.iter()) {
                for (a, b) in found.states.iter().zip(&expected.states) {
                    assert_eq!(bits_differ(a, b), None, "{optimize} {fuse} {threads}");
                }
            }
        }
    }
}

/// Updates of `tensors` params by products that are kept: each has two halves, which are no epilogue's business. `extra` elements of state
/// lie beside them.
fn halves(tensors: i64, extra: i64) -> Program {
    let g = Builder::new("halves");
    let (rows, columns) = (1024, 1280);
    g.state("idle", DType::F32, (extra,), Init::zeros());
    for tensor in 0..tensors {
        let input = |kind: &str, n: i64| g.input(&format!("{kind}{tensor}"), DType::F32, (16, n));
        let (x, y) = (input("x", rows), input("y", 2 * columns));
        let w = g.param(&format!("w{tensor}"), (rows, columns), Init::zeros());
        let gradient = x.transpose(&[1, 0]).dot(y);
        let half = |k: i64| {
            let [start, limit] = [k, k + 1].map(|k| Dim::from(k * columns));
            gradient.slice(&[0.into(), start], &[rows.into(), limit], &[1, 1])
        };
        g.update(w, w - half(0) * half(1));
    }
    program(&g.finish().expect("a graph"))
}

#[test]
fn gradients_wait_while_they_fit() {
    let parts =
        |program: &Program| -> Vec<usize> { launches(program).iter().map(|l| l.len()).collect() };
    // Ten megabytes each: three wait within 32 MB, and the fourth takes them along.
    let few = halves(8, 1);
    assert_eq!(parts(&few), [4, 4]);
    let placed = place(&few.buffers, &Bindings::new()).expect("constants");
    assert_eq!(placed.live_peak, 4 * 4 * 1024 * 2560);
    // With half a gigabyte of state, an eighth of it may wait.
    assert_eq!(parts(&halves(8, 128 << 20)), [7, 1]);
}

/// Eight products with the updates of the weights, the check of the labels, the loss with the counter, and one launch for the biases.
#[test]
fn the_biases_of_a_classifier_are_updated_in_one_launch() {
    let model = Sequential::new([784])
        .dense(512)
        .relu()
        .dense(512)
        .relu()
        .dense(10);
    let g = Builder::new("mlp");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 784));
    let y = g.input("y", DType::U8, (b,));
    let loss = SparseCrossEntropy.mean(model.apply(&Context::training(&g), x), y);
    g.output("loss", loss);
    Adam::new(1e-3).minimize(loss);
    let program = program(&g.finish().expect("a graph"));
    let products = program.steps.iter();
    let products = products.filter(|step| matches!(step, Step::Product(_)));
    let mut parts: Vec<usize> = launches(&program).iter().map(|l| l.len()).collect();
    parts.sort_unstable();
    assert_eq!((products.count(), parts), (8, vec![1, 1, 3]));
}

#[test]
fn two_thousand_updates_are_one_launch() {
    let g = Builder::new("many");
    for i in 0..2000 {
        let size = 16 + i % 20;
        let w = g.param(&format!("w{i}"), (size,), Init::uniform(0.1));
        let gradient = g.input(&format!("g{i}"), DType::F32, (size,));
        g.update(w, w - gradient * 0.1);
    }
    let graph = g.finish().expect("a graph");
    let executable = executable(&graph, VARIANTS[1]).expect("it loads");
    let parts: Vec<usize> = launches(executable.program())
        .iter()
        .map(|l| l.len())
        .collect();
    assert_eq!((parts, executable.functions()), (vec![2000], 1));
}
