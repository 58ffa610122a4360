//! Products that are large enough to be split into parts of bf16, in steps: the same bits however a graph is compiled and shared out, and as
//! close to exact sums as multiply-adds come.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, random};
use common::jit::{Results, VARIANTS, executable, inputs, session, step};
use kiln_compiler::{Options, program};
use kiln_ir::program::{ProductSummation, Program, Step};
use kiln_ir::{Array, Bindings, Builder, DType, Graph, Init, ScanOptions, Values, Yield, grad};

/// How many products of a program are split.
fn split(program: &Program) -> usize {
    let splits =
        |step: &&Step| matches!(step, Step::Product(p) if p.summation == ProductSummation::Split);
    program.steps.iter().filter(splits).count()
}

fn feeds(graph: &Graph, bindings: &Bindings, kind: Kind) -> Vec<(Array, Fed)> {
    let mut numbers = Numbers::new(11);
    let fed = inputs(graph).map(|slot| {
        let ty = &graph.node(slot.node).unwrap().ty;
        let shape = ty.shape.iter().map(|d| d.eval_size(bindings).unwrap());
        let array = random(&mut numbers, ty.dtype, &shape.collect::<Vec<_>>(), kind);
        let fed = Fed::new(&array, false);
        (array, fed)
    });
    fed.collect()
}

fn run(graph: &Graph, variant: usize, threads: usize, feeds: &[(Array, Fed)]) -> Results {
    let executable = executable(graph, VARIANTS[variant]).unwrap();
    let fed: Vec<Fed> = feeds
        .iter()
        .map(|(array, _)| Fed::new(array, false))
        .collect();
    step(&mut session(&executable, threads), &fed).unwrap()
}

/// Every way to compile, on several threads, for every number of rows.
fn check(graph: &Graph, bindings: &[Bindings]) {
    for bindings in bindings {
        for kind in [Kind::Plain, Kind::Odd] {
            let feeds = feeds(graph, bindings, kind);
            let expected = run(graph, 0, 1, &feeds);
            for (variant, threads) in [(0, 3), (1, 1), (1, 2), (1, 3), (2, 1), (3, 2)] {
                let found = run(graph, variant, threads, &feeds);
                let pairs = expected.outputs.iter().zip(&found.outputs);
                for (e, f) in pairs.chain(expected.states.iter().zip(&found.states)) {
                    if let Some(why) = bits_differ(e, f) {
                        let ways = VARIANTS[variant];
                        panic!(
                            "{} {bindings:?} {kind:?} {ways:?} on {threads} threads: {why}",
                            graph.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_perceptron_of_any_batch() {
    let g = Builder::new("perceptron");
    let x = g.input("x", DType::F32, (g.dim("b"), 96));
    let w1 = g.param("w1", (96, 200), Init::uniform(0.2));
    let w2 = g.param("w2", (70, 200), Init::uniform(0.2));
    let hidden = x.dot(w1).tanh();
    // The second weights lie transposed.
    let y = hidden.dot_general(w2, &[1], &[1], &[], &[]);
    let gradients = grad(y.square().sum(), &[x, w1, w2]);
    g.output("y", y);
    g.output("dx", gradients[0]);
    g.update(w1, w1 - gradients[1] * 1e-3);
    g.update(w2, w2 - gradients[2] * 1e-3);
    let graph = g.finish().unwrap();
    assert_eq!(split(&program(&graph, &Options::default()).unwrap()), 6);
    let off = Options {
        split_products: false,
        ..Options::default()
    };
    assert_eq!(split(&program(&graph, &off).unwrap()), 0);
    check(
        &graph,
        &[1, 31, 39, 64, 129, 300].map(|b| Bindings::from([("b", b)])),
    );
}

#[test]
fn a_loop_whose_weights_are_packed_once() {
    let g = Builder::new("recurrence");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let xs = g.input("xs", DType::F32, (t, b.clone(), 80));
    let u = g.param("u", (80, 80), Init::uniform(0.1));
    let zero = g.splat(DType::F32, (b, 80), 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let next = (it.entry(0) + it.carry(0).dot(u)).tanh();
        Yield::new(&[next], &[next])
    });
    let gradients = grad(scanned.stacked[0].square().sum(), &[u, xs]);
    g.output("last", scanned.carries[0]);
    g.output("dxs", gradients[1]);
    g.update(u, u - gradients[0] * 1e-3);
    let graph = g.finish().unwrap();
    assert_eq!(split(&program(&graph, &Options::default()).unwrap()), 3);
    let bindings = [[3, 60], [1, 64], [2, 130], [4, 5]];
    check(
        &graph,
        &bindings.map(|[t, b]| Bindings::from([("t", t), ("b", b)])),
    );
}

/// Against sums in f64: within the bound of a chain, `k eps sum |a b|`, and half of it on average at most.
#[test]
fn errors_are_those_of_f32() {
    let (m, n, k) = (90, 100, 700);
    let g = Builder::new("product");
    let a = g.input("a", DType::F32, (m, k));
    let b = g.input("b", DType::F32, (k, n));
    g.output("y", a.dot(b));
    let graph = g.finish().unwrap();
    let feeds = feeds(&graph, &Bindings::new(), Kind::Plain);
    let values = |array: &Array| match array.values() {
        Values::Float(values) => values.iter().map(|v| f64::from(*v as f32)).collect(),
        Values::Int(_) => Vec::new(),
    };
    let [a, b] = [0, 1].map(|index| values(&feeds[index].0));
    let found = values(&run(&graph, 1, 1, &feeds).outputs[0]);
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let mut squares = [0.0; 2];
    for row in 0..m {
        for col in 0..n {
            let terms = (0..k).map(|d| a[row * k + d] * b[d * n + col]);
            let exact: f64 = terms.clone().sum();
            let magnitude: f64 = terms.map(f64::abs).sum();
            let error = found[row * n + col] - exact;
            assert!(
                error.abs() <= k as f64 * f64::from(f32::EPSILON) * magnitude,
                "{row} {col}"
            );
            squares[0] += error.powi(2);
            squares[1] += exact.powi(2);
        }
    }
    // A sum of 700 terms in f32 is off by about sqrt(700) half units in the last place.
    assert!((squares[0] / squares[1]).sqrt() < 1e-6);
}
