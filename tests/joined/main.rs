//! Concatenations that are stored part by part, what loops keep for gradients joined, results of loops over what they scan, and the loops of
//! elements behind all that: the same bits in every variant, in every width and on every number of threads, and what the interpreter gives.

#[path = "../common/mod.rs"]
mod common;

mod accesses;
mod behind;
mod concatenations;
mod entries;
mod gradients;
mod numbers;
mod stacks;

use common::Numbers;
use common::compare::bits_differ;
use common::custom::register_all;
use common::data::{Fed, Kind, random};
use common::jit::{
    Results, VARIANTS, executable, inputs, program, residents, session, states, step,
};
use common::layer;
use kiln_compiler::{FullWidth, Options, Stage, compile, stage_text};
use kiln_ir::ops::{CumulativeKind, Iota, OutOfRange};
use kiln_ir::program::{Home, Program};
use kiln_ir::{
    Array, Bindings, Builder, DType, Dim, Graph, Init, ReduceKind, ScanOptions, Shape, Symbol,
    Tensor, TensorType, Values, Yield, eval, grad,
};
use kiln_nn::{Bidirectional, Context, Gru, Layer, Lstm, Sequential, SimpleRnn};
use kiln_runtime::Executable;

/// A graph compiled in every way.
struct Compiled<'g> {
    graph: &'g Graph,
    ways: Vec<(String, Executable)>,
}

impl<'g> Compiled<'g> {
    fn new(graph: &'g Graph) -> Self {
        let variants = VARIANTS.map(|v| {
            let executable = executable(graph, v).unwrap_or_else(|e| panic!("{}: {e}", graph.name));
            (format!("{v:?}"), executable)
        });
        let options = Options {
            full_width: FullWidth::Never,
            ..Options::default()
        };
        let narrow = compile(graph, &options).expect("it compiles");
        // SAFETY: program and code come from one compilation.
        let narrow = unsafe { Executable::new(narrow.program, Box::new(narrow.code)) };
        let narrow = ("narrow".to_owned(), narrow.expect("it loads"));
        let ways = variants.into_iter().chain([narrow]).collect();
        Self { graph, ways }
    }

    /// Two steps in every way at these sizes, compared with each other, and the first with the interpreter.
    fn check(&self, sizes: &[(&str, i64)], kind: Kind) {
        let (graph, name) = (self.graph, &self.graph.name);
        let mut bindings = Bindings::new();
        for (symbol, size) in sizes {
            bindings.insert(Symbol::new(symbol), *size);
        }
        let mut numbers = Numbers::new(11);
        let mut draw = |slot: &kiln_ir::Slot| {
            let ty = &graph.node(slot.node).unwrap().ty;
            let shape = ty.shape.iter().map(|d| d.eval_size(&bindings).unwrap());
            random(&mut numbers, ty.dtype, &shape.collect::<Vec<_>>(), kind)
        };
        let fed: Vec<Array> = inputs(graph).map(&mut draw).collect();
        let feeds: Vec<Fed> = fed.iter().map(|a| Fed::new(a, true)).collect();
        let mut first: Option<(Results, Vec<Array>)> = None;
        for (way, executable) in &self.ways {
            for threads in [1, 3] {
                let mut session = session(executable, threads);
                let before = states(&session);
                for _ in 0..2 {
                    let found =
                        step(&mut session, &feeds).unwrap_or_else(|e| panic!("{name}: {e}"));
                    if first.is_none() {
                        first = Some((found.clone(), before.clone()));
                    }
                    let (wanted, _) = first.as_ref().unwrap();
                    for (at, (a, b)) in found.outputs.iter().zip(&wanted.outputs).enumerate() {
                        let output = &graph.outputs()[at].name;
                        if let Some(why) = bits_differ(a, b) {
                            panic!(
                                "{name} {way} on {threads} threads at {sizes:?}: `{output}`: {why}"
                            );
                        }
                    }
                }
            }
        }
        let (found, before) = first.unwrap();
        let (mut fed, mut before) = (fed.into_iter(), before.into_iter());
        let resident: Vec<&str> = residents(graph).map(|s| s.name.as_str()).collect();
        let expected = eval(graph, |slot| match resident.contains(&slot.name.as_str()) {
            true => before.next(),
            false => fed.next(),
        });
        let expected = expected.unwrap_or_else(|e| panic!("{name}: {e}"));
        for (at, (a, b)) in found.outputs.iter().zip(&expected.outputs).enumerate() {
            near(
                &format!("{name} at {sizes:?}: `{}`", graph.outputs()[at].name),
                a,
                b,
            );
        }
    }
}

/// Compiles a graph in every way and compares at each of some sizes.
fn check(graph: &Graph, sizes: &[&[(&str, i64)]]) {
    let compiled = Compiled::new(graph);
    for sizes in sizes {
        compiled.check(sizes, Kind::Plain);
    }
}

/// Whether floats agree to 1e-4 of the norm, or of what losses are sums of, and all else exactly.
fn near(what: &str, a: &Array, b: &Array) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let (Values::Float(x), Values::Float(y)) = (a.values(), b.values()) else {
        return assert_eq!(bits_differ(a, b), None, "{what}");
    };
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
    let differ = x.iter().zip(y).filter(|(a, b)| a != b);
    let difference = norm(&mut differ.map(|(a, b)| a - b));
    let size = norm(&mut y.iter().copied());
    assert!(
        difference <= 1e-4 * size + 1e-4,
        "{what}: {difference} of {size}"
    );
}

fn shape_of(tensor: Tensor<'_>) -> Shape {
    tensor.ty().unwrap().shape
}

/// A value for each row, over its columns.
fn spread<'g>(rows: Tensor<'g>, like: Tensor<'g>) -> Tensor<'g> {
    let shape = shape_of(like);
    let mut column = shape.to_vec();
    *column.last_mut().unwrap() = Dim::from(1);
    rows.reshape(column).broadcast_to(shape)
}

/// One of so many equal parts along the last axis.
fn part<'g>(x: Tensor<'g>, which: i64, of: i64) -> Tensor<'g> {
    let shape = shape_of(x);
    let axis = shape.len() - 1;
    let size = shape[axis].constant().unwrap() / of;
    x.slice_axis(axis, which * size, (which + 1) * size)
}

fn parts<'g>(x: Tensor<'g>, of: i64) -> Vec<Tensor<'g>> {
    (0..of).map(|which| part(x, which, of)).collect()
}

/// The seeds of random graphs: more of them, and others, where the environment says how many.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("JOINED_SEEDS").ok();
    match count.and_then(|count| count.parse::<u64>().ok()) {
        Some(count) => 1000..1000 + count,
        None => 0..25,
    }
}
