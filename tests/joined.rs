//! Concatenations that are stored part by part, what loops keep for gradients joined, results of loops over what they scan, and the loops of
//! elements behind all that: the same bits in every variant, in every width and on every number of threads, and what the interpreter gives.

mod common;

use common::Numbers;
use common::compare::bits_differ;
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

// Concatenations.

/// Concatenations of what is computed, of sources, of one part several times and of each other, beside other readers of their parts.
fn concatenations(dtype: DType, rows: Dim, columns: Dim, axis: usize) -> Graph {
    let g = Builder::new(&format!(
        "concatenations of {dtype}[{rows}, {columns}] along {axis}"
    ));
    let shape = [rows, columns];
    let (x, y) = (
        g.input("x", dtype, shape.clone()),
        g.input("y", dtype, shape),
    );
    let [p, q, r] = match dtype {
        DType::Bool => [x.and(y), x.or(y), y.not()],
        DType::I32 => [x * y, x + y, x - 3.0],
        _ => [
            x * y,
            (x + y).tanh(),
            x - spread(x.reduce(ReduceKind::Sum, &[1]), x),
        ],
    };
    let all = g.concat(&[p, q, x, p, r], axis);
    g.output("all", all);
    g.output("q", q);
    g.output("again", g.concat(&[all, all], axis));
    g.output(
        "other",
        g.concat(
            &[g.concat(&[p, q], 1 - axis), g.concat(&[r, p], 1 - axis)],
            axis,
        ),
    );
    if dtype != DType::Bool {
        g.output("rows", p.reduce(ReduceKind::Sum, &[1]));
        g.output("columns", q.reduce(ReduceKind::Max, &[0]));
        g.output("sum of all", all.reduce(ReduceKind::Sum, &[axis]));
    }
    g.output("turned", g.concat(&[q.reverse(&[1]), p], axis));
    g.finish().unwrap()
}

#[test]
fn parts_of_every_length() {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::Bool] {
        for axis in [0, 1] {
            let graph = concatenations(dtype, Dim::symbol("b"), Dim::symbol("n"), axis);
            let compiled = Compiled::new(&graph);
            for n in (1..=19).chain([31, 32, 33, 48, 63, 64, 65, 70]) {
                compiled.check(&[("b", 1 + n % 4), ("n", n)], Kind::Plain);
            }
            compiled.check(&[("b", 0), ("n", 5)], Kind::Plain);
        }
    }
    for (b, n) in [(1, 16), (3, 17), (5, 40), (16, 1), (2, 70)] {
        for axis in [0, 1] {
            let graph = concatenations(DType::F32, Dim::from(b), Dim::from(n), axis);
            check(&graph, &[&[]]);
        }
    }
}

#[test]
fn parts_in_the_middle_and_behind_products() {
    for axis in [0, 1, 2] {
        let g = Builder::new(&format!("middle along {axis}"));
        let b = g.dim("b");
        let x = g.input("x", DType::F32, (b.clone(), 5, 20));
        let w = g.param("w", (20, 20), Init::uniform(0.5));
        let y = x.dot(w).tanh();
        let z = x * y;
        g.output("all", g.concat(&[y, z, y], axis));
        g.output(
            "turned",
            g.concat(&[y.transpose(&[0, 1, 2]), z + 1.0], axis)
                .reduce(ReduceKind::Sum, &[2]),
        );
        g.output(
            "over rows",
            g.concat(&[z, spread(z.reduce(ReduceKind::Max, &[2]), z)], axis),
        );
        let graph = g.finish().unwrap();
        check(&graph, &[&[("b", 1)], &[("b", 2)], &[("b", 33)]]);
    }
}

#[test]
fn parts_in_a_row() {
    let g = Builder::new("vectors");
    let n = g.dim("n");
    let (x, y) = (
        g.input("x", DType::F32, (n.clone(),)),
        g.input("y", DType::F32, (n,)),
    );
    g.output("all", g.concat(&[x * y, x + y, x], 0));
    g.output("sum", (x * y).sum());
    g.output(
        "scaled",
        g.concat(&[x * y.sum().broadcast_to(shape_of(x)), y.exp()], 0),
    );
    let graph = g.finish().unwrap();
    let compiled = Compiled::new(&graph);
    for n in [0, 1, 2, 15, 16, 17, 100, 4097] {
        compiled.check(&[("n", n)], Kind::Plain);
    }
}

/// Maps, reductions, products and concatenations of one another.
fn random_map(seed: u64) -> Graph {
    let mut numbers = Numbers::new(seed);
    let g = Builder::new(&format!("random map {seed}"));
    let columns = numbers.pick(&[1, 5, 16, 17, 32, 40]);
    let rows = match numbers.below(3) {
        0 => Dim::from(numbers.pick(&[1, 3, 16, 20])),
        _ => g.dim("b"),
    };
    let shape = [rows.clone(), Dim::from(columns)];
    let (x, y) = (
        g.input("x", DType::F32, shape.clone()),
        g.input("y", DType::F32, shape),
    );
    let w = g.param("w", (columns, columns), Init::uniform(0.5));
    let mut narrow = vec![x, y];
    // Two tensors behind one another along each axis.
    let mut joined: [Vec<Tensor<'_>>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..6 + numbers.below(14) {
        let (a, b) = (numbers.pick(&narrow), numbers.pick(&narrow));
        let axis = numbers.below(2);
        let half = if axis == 0 {
            rows.clone()
        } else {
            Dim::from(columns)
        };
        let wide = joined[axis].clone();
        match numbers.below(14) {
            0 => narrow.push(a * b),
            1 => narrow.push(a.tanh()),
            2 => narrow.push(a - b * 0.5),
            3 => narrow.push(spread(a.reduce(ReduceKind::Sum, &[1]), b) * 0.1),
            4 => narrow.push(a.reduce(ReduceKind::Max, &[0]).broadcast_to(shape_of(b)) - b),
            5 => narrow.push(a.dot(w)),
            6 => narrow.push((a - a.sum().broadcast_to(shape_of(a)) * 0.01).sin()),
            7..=9 => joined[axis].push(g.concat(&[a, b], axis)),
            _ if wide.is_empty() => {}
            10 => joined[axis].push(numbers.pick(&wide) * numbers.pick(&wide)),
            11 => joined[axis].push(numbers.pick(&wide).reverse(&[numbers.below(2)])),
            12 => joined[axis].push(numbers.pick(&wide).sin()),
            _ => {
                let start = if numbers.one_in(2) {
                    half.clone()
                } else {
                    Dim::from(0)
                };
                let end = &start + &half;
                narrow.push(numbers.pick(&wide).slice_axis(axis, start, end));
            }
        }
    }
    let all = narrow.iter().chain(joined.iter().flatten());
    let mut loss = x.mean() + w.mean();
    for (at, tensor) in all.enumerate() {
        match numbers.below(6) {
            0 => g.output(&format!("whole{at}"), *tensor),
            1 => g.output(&format!("rows{at}"), tensor.reduce(ReduceKind::Sum, &[1])),
            2 => g.output(
                &format!("columns{at}"),
                tensor.reduce(ReduceKind::Max, &[0]),
            ),
            3 => loss = loss + tensor.sin().mean(),
            _ => {}
        }
    }
    if let Some(last) = joined.iter().flatten().last() {
        g.output("joined", *last);
    }
    if numbers.one_in(2) {
        for (name, gradient) in ["dx", "dw"].iter().zip(grad(loss, &[x, w])) {
            g.output(name, gradient);
        }
    }
    g.output("loss", loss);
    g.finish().unwrap()
}

/// The seeds of random graphs: more of them, and others, where the environment says how many.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("JOINED_SEEDS").ok();
    match count.and_then(|count| count.parse::<u64>().ok()) {
        Some(count) => 1000..1000 + count,
        None => 0..25,
    }
}

#[test]
fn random_maps() {
    for seed in seeds() {
        let graph = random_map(seed);
        check(&graph, &[&[("b", 1)], &[("b", 5)], &[("b", 130)]]);
    }
}

// Loops that write over what they scan.

/// How many arguments of kernels are entries that the same call names twice.
fn in_place(program: &Program) -> usize {
    let entry = |id: &kiln_ir::BufferId| matches!(program.buffers[id.index()].home, Home::Slice(_));
    let calls = program.steps.iter().flat_map(|step| step.calls());
    let twice = calls.map(|call| {
        let arguments = &call.arguments;
        let seen = |at: usize| arguments[..at].contains(&arguments[at]);
        (0..arguments.len())
            .filter(|at| entry(&arguments[*at]) && seen(*at))
            .count()
    });
    twice.sum()
}

/// A body: from an entry and a carry to what is stacked.
type Body = for<'b> fn(&'b Builder, Tensor<'b>, Tensor<'b>) -> Vec<Tensor<'b>>;

/// Bodies on entries of `[b, 80]` and carries of `[b, 20]`.
const BODIES: &[(&str, Body)] = &[
    ("map", |_, x, _| vec![x * 2.0 + 1.0]),
    ("strips", |_, x, _| vec![x.tanh() * x]),
    ("copy", |_, x, _| vec![x]),
    ("twice", |_, x, _| vec![x * 2.0, x * 3.0]),
    ("twice the same", |_, x, _| vec![x * 2.0, x * 2.0]),
    ("back to front", |_, x, _| vec![x.reverse(&[1])]),
    ("rows reversed", |_, x, _| vec![x.reverse(&[0]) + x]),
    ("gates", |g, x, c| {
        let p = parts(x, 4);
        vec![g.concat(&[p[0].logistic(), p[1].tanh(), p[2] * c, p[3] + 1.0], 1)]
    }),
    ("gates of each other", |g, x, c| {
        let p = parts(x, 4);
        vec![g.concat(&[p[0] * p[3], p[1] * p[0], p[2] * c, p[3] + p[1]], 1)]
    }),
    ("gates exchanged", |g, x, _| {
        let p = parts(x, 4);
        vec![g.concat(&[p[3] + 1.0, p[2] + 2.0, p[1] + 3.0, p[0] + 4.0], 1)]
    }),
    ("gates exchanged in strips", |g, x, _| {
        let p = parts(x, 4);
        vec![g.concat(&[p[3].tanh(), p[2].exp(), p[1].tanh(), p[0].logistic()], 1)]
    }),
    ("strips of each other", |g, x, _| {
        let p = parts(x, 4);
        let t = p[0].tanh();
        vec![g.concat(&[t * p[1], p[1].tanh() * p[0], t + p[3].exp(), p[3]], 1)]
    }),
    ("rows around their sum", |g, x, _| {
        let p = parts(x, 4);
        let sum = spread(x.reduce(ReduceKind::Sum, &[1]), p[0]);
        vec![g.concat(&[p[0] * sum, p[1], p[2] - sum, p[3]], 1)]
    }),
    ("parts around each other's sums", |g, x, _| {
        let p = parts(x, 4);
        let sum = |i: usize| spread(p[i].reduce(ReduceKind::Sum, &[1]), p[0]);
        vec![g.concat(
            &[p[0] * sum(3), p[1] * sum(0), p[2] - sum(1), p[3] * sum(2)],
            1,
        )]
    }),
    ("softmax", |_, x, _| {
        let e = (x - spread(x.reduce(ReduceKind::Max, &[1]), x)).exp();
        vec![e / spread(e.reduce(ReduceKind::Sum, &[1]), e)]
    }),
    ("sums of columns", |_, x, _| {
        vec![x - x.reduce(ReduceKind::Sum, &[0]).broadcast_to_rows(x)]
    }),
    ("cumulative", |_, x, _| {
        vec![x.cumulative(CumulativeKind::Sum, 1)]
    }),
    ("sorted", |_, x, _| vec![x.sort(1, false)]),
    ("gathered", |g, x, _| {
        let ty = TensorType::new(DType::I32, [Dim::from(80)]);
        let at = g.push(Iota { ty, axis: 0 }, &[]) * -1.0 + 79.0;
        vec![x.gather(1, at, OutOfRange::Clamp)]
    }),
    ("read again", |_, x, _| {
        let y = x * 2.0;
        let sum = spread(y.reduce(ReduceKind::Sum, &[1]), x);
        vec![y, x * sum]
    }),
    ("products", |g, x, _| {
        let w = g.splat(DType::F32, (80, 80), 0.01);
        let y = x.dot(w);
        vec![y + x, x.dot(w).tanh()]
    }),
    ("product of the result", |g, x, c| {
        let y = x * 2.0;
        let w = g.splat(DType::F32, (20, 80), 0.1);
        vec![y, c.dot(w) + x, y.dot_general(y, &[1], &[1], &[], &[])]
    }),
    ("shifted", |g, x, _| {
        let zero = g.splat(DType::F32, (), 0.0);
        let low = [Dim::from(0), Dim::from(1)];
        let rest = x.slice_axis(1, 0, 79);
        vec![rest.pad(zero, &low, &[Dim::from(0), Dim::from(0)], &[0, 0]) + x]
    }),
    ("in halves", |g, x, _| {
        let p = parts(x, 2);
        vec![g.concat(&[p[0] * p[1], p[0] - p[1]], 1)]
    }),
    ("halves behind halves", |g, x, _| {
        let p = parts(x, 2);
        let y = g.concat(&[p[0] * p[1], p[0] - p[1]], 1);
        let q = parts(y.tanh(), 2);
        vec![g.concat(&[q[1] * p[1], q[0] - q[1]], 1)]
    }),
];

/// A tensor for each column, over all rows.
trait Rows<'g> {
    fn broadcast_to_rows(self, like: Tensor<'g>) -> Tensor<'g>;
}

impl<'g> Rows<'g> for Tensor<'g> {
    fn broadcast_to_rows(self, like: Tensor<'g>) -> Tensor<'g> {
        let mut row = shape_of(like).to_vec();
        row[0] = Dim::from(1);
        self.reshape(row).broadcast_to(shape_of(like))
    }
}

/// Who else reads what is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// The body, as a captured tensor.
    Captured,
    /// The body, as a captured view.
    View,
    /// The loop scans it twice.
    Twice,
    /// Who comes after the loop.
    Behind,
}

/// A loop over a computed tensor, with a carry or without.
fn over_entries(body: Body, columns: i64, carries: bool, reverse: bool, beside: Beside) -> Graph {
    let g = Builder::new(&format!(
        "loop with carries {carries}, reversed {reverse}, beside {beside:?}"
    ));
    let (t, b) = (g.dim("t"), g.dim("b"));
    let x = g.input("x", DType::F32, (t.clone(), b.clone(), columns));
    let h = g.input("h", DType::F32, (b.clone(), columns / 4));
    let xs = x * 0.5 + 0.25;
    let options = ScanOptions {
        reverse,
        ..ScanOptions::default()
    };
    let first: &[Tensor<'_>] = if carries { &[h] } else { &[] };
    let scanned = match beside {
        Beside::Twice => vec![xs, xs],
        _ => vec![xs],
    };
    let flat = xs.reshape((&(&t * &b) * &Dim::from(columns),));
    let done = g.scan(&options, first, &scanned, |it| {
        let entry = it.entry(0);
        let carry = if carries {
            it.carry(0)
        } else {
            part(entry, 2, 4)
        };
        let other = match beside {
            Beside::Nobody | Beside::Behind => None,
            Beside::Captured => Some((xs * entry.sum().broadcast_to(shape_of(xs))).sum()),
            Beside::View => Some((flat * entry.sum().broadcast_to(shape_of(flat))).sum()),
            Beside::Twice => Some(it.entry(1).sum()),
        };
        let mut stacked = body(it.builder(), entry, carry);
        if let Some(other) = other {
            stacked = stacked
                .iter()
                .map(|s| *s + other.broadcast_to(shape_of(*s)))
                .collect();
        }
        // Backwards the carry comes behind what is stacked, so that the entry is read no more.
        let from = if reverse { stacked[0] } else { entry };
        let next = (carry * 0.5 + part(from, 0, 4)).tanh();
        let next: &[Tensor<'_>] = if carries { &[next] } else { &[] };
        Yield::new(next, &stacked)
    });
    for (at, stacked) in done.stacked.iter().enumerate() {
        // The result itself is not the output, which has memory of its own.
        g.output(&format!("stacked{at}"), stacked.reverse(&[0]) * 1.5);
    }
    for carry in &done.carries {
        g.output("last", *carry);
    }
    if beside == Beside::Behind {
        g.output("xs", xs.reverse(&[1]));
    }
    g.finish().unwrap()
}

#[test]
fn results_over_entries() {
    let mut taken = Vec::new();
    for (name, body) in BODIES {
        for (carries, reverse) in [(true, false), (true, true), (false, true)] {
            let mut graph = over_entries(*body, 80, carries, reverse, Beside::Nobody);
            graph.name = format!("{name}: {}", graph.name);
            if in_place(&program(&graph)) > 0 {
                taken.push((*name, carries, reverse));
            }
            check(
                &graph,
                &[
                    &[("t", 1), ("b", 1)],
                    &[("t", 9), ("b", 3)],
                    &[("t", 0), ("b", 2)],
                ],
            );
        }
    }
    for name in ["map", "strips", "gates", "gates of each other", "in halves"] {
        for carries in [true, false] {
            assert!(
                taken.contains(&(name, carries, true)),
                "{name} {carries}: {taken:?}"
            );
        }
    }
    for name in [
        "back to front",
        "rows reversed",
        "sorted",
        "gathered",
        "shifted",
    ] {
        assert!(taken.iter().all(|(n, ..)| *n != name), "{name}: {taken:?}");
    }
}

#[test]
fn entries_that_others_read() {
    use Beside::{Behind, Captured, Twice, View};
    for beside in [Captured, View, Twice, Behind] {
        for (carries, reverse) in [(true, true), (false, false)] {
            let graph = over_entries(BODIES[0].1, 80, carries, reverse, beside);
            assert_eq!(in_place(&program(&graph)), 0, "{graph}");
            check(&graph, &[&[("t", 9), ("b", 3)], &[("t", 0), ("b", 1)]]);
        }
    }
}

#[test]
fn loops_one_behind_the_other_and_within() {
    let g = Builder::new("loops");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let x = g.input("x", DType::F32, (t, b.clone(), 24));
    let h = g.input("h", DType::F32, (b, 24));
    let options = ScanOptions::default();
    let back = ScanOptions {
        reverse: true,
        ..ScanOptions::default()
    };
    // The carries that the first loop keeps have an entry more than the tensor, and the second loop writes over them.
    let first = g.scan(&options, &[h], &[x * 2.0], |it| {
        let next = (it.carry(0) * 0.5 + it.entry(0)).tanh();
        Yield::new(&[next], &[it.carry(0), it.entry(0) + next])
    });
    let second = g.scan(
        &back,
        &[first.carries[0]],
        &[first.stacked[0], first.stacked[1]],
        |it| {
            let next = it.carry(0) * 0.5 + it.entry(1);
            let inner = it
                .builder()
                .scan(&options, &[], &[it.entry(0) * 3.0], |it| {
                    Yield::new(&[], &[it.entry(0) + 1.0])
                });
            Yield::new(&[next], &[inner.stacked[0], it.entry(1) * 2.0])
        },
    );
    let third = g.scan(
        &options,
        &[second.carries[0]],
        &[second.stacked[0], second.stacked[1]],
        |it| {
            let next = it.carry(0) - it.entry(1);
            Yield::new(&[next], &[it.entry(0) * 2.0, it.carry(0)])
        },
    );
    g.output("kept", third.stacked[1].reverse(&[0]));
    g.output("all", third.stacked[0].reverse(&[0]));
    g.output("last", third.carries[0]);
    let graph = g.finish().unwrap();
    check(
        &graph,
        &[
            &[("t", 1), ("b", 1)],
            &[("t", 6), ("b", 3)],
            &[("t", 0), ("b", 2)],
        ],
    );
}

#[test]
fn entries_of_other_types() {
    for dtype in [DType::I32, DType::F64, DType::Bool] {
        let g = Builder::new(&format!("entries of {dtype}"));
        let (t, b) = (g.dim("t"), g.dim("b"));
        let x = g.input("x", dtype, (t, b, 48));
        let xs = x.reverse(&[2]);
        let done = g.scan(&ScanOptions::default(), &[], &[xs], |it| {
            let p = parts(it.entry(0), 3);
            let q: [Tensor<'_>; 3] = match dtype {
                DType::Bool => [p[0].and(p[1]), p[1].or(p[2]), p[2].not()],
                _ => [p[0] * p[1], p[1] + p[2], p[2] - 1.0],
            };
            let joined = it.builder().concat(&q, 1);
            Yield::new(&[], &[joined, it.entry(0)])
        });
        g.output("joined", done.stacked[0].reverse(&[2]));
        g.output("entries", done.stacked[1].reverse(&[2]));
        let graph = g.finish().unwrap();
        check(&graph, &[&[("t", 1), ("b", 1)], &[("t", 20), ("b", 3)]]);
    }
}

/// Strips of transcendental functions are shorter than these parts.
#[test]
fn entries_longer_than_strips() {
    for (name, body) in BODIES {
        let anywhere = [
            "gate",
            "strip",
            "rows around",
            "parts around",
            "softmax",
            "halves",
        ];
        if anywhere.iter().any(|word| name.contains(word)) {
            let mut graph = over_entries(*body, 4 * 1100, true, true, Beside::Nobody);
            graph.name = format!("{name}: {}", graph.name);
            check(&graph, &[&[("t", 2), ("b", 2)]]);
        }
    }
}

/// A loop over two computed tensors with a body of random ops on parts of its entries, and perhaps its gradients.
fn random_loop(seed: u64) -> Graph {
    let mut numbers = Numbers::new(seed);
    let g = Builder::new(&format!("random loop {seed}"));
    let units = numbers.pick(&[1, 4, 16, 17, 20, 33]);
    let (t, b) = (
        g.dim("t"),
        match numbers.below(3) {
            0 => Dim::from(numbers.pick(&[1, 2, 3])),
            _ => g.dim("b"),
        },
    );
    let wide = [t, b.clone(), Dim::from(4 * units)];
    let (x, y) = (
        g.input("x", DType::F32, wide.clone()),
        g.input("y", DType::F32, wide),
    );
    let h = g.input("h", DType::F32, (b, units));
    let w = g.param("w", (units, 4 * units), Init::uniform(0.3));
    let options = ScanOptions {
        reverse: numbers.one_in(2),
        ..ScanOptions::default()
    };
    let carries: &[Tensor<'_>] = if numbers.one_in(4) { &[] } else { &[h] };
    let captured = h.sin();
    let scanned = [x * 0.5, y.tanh()];
    let done = g.scan(&options, carries, &scanned[..1 + numbers.below(2)], |it| {
        let mut narrow = vec![captured];
        narrow.extend(it.carries());
        let mut whole: Vec<Tensor<'_>> = it.entries().to_vec();
        let initial = narrow[narrow.len() - 1];
        whole.push(it.entry(0) + initial.dot(w));
        for entry in it.entries() {
            narrow.extend(parts(*entry, 4));
        }
        for _ in 0..3 + numbers.below(10) {
            let (a, b) = (numbers.pick(&narrow), numbers.pick(&narrow));
            let (p, q) = (numbers.pick(&whole), numbers.pick(&whole));
            match numbers.below(12) {
                0 => narrow.push(a * b),
                1 => narrow.push(a.tanh()),
                2 => narrow.push(a - b * 0.5),
                3 => narrow.push(spread(a.reduce(ReduceKind::Max, &[1]), b) * 0.5),
                4 => narrow.push(a.where_(a.lt(b), b)),
                5 => narrow.push(part(p, numbers.below(4) as i64, 4)),
                6 | 7 => {
                    let four = [a, b, numbers.pick(&narrow), numbers.pick(&narrow)];
                    whole.push(it.builder().concat(&four, 1));
                }
                8 => whole.push(p * q),
                9 => whole.push(p.logistic() - q),
                10 => whole.push(p.reverse(&[numbers.below(2)])),
                _ => narrow.push(part(p.logistic() * q, numbers.below(4) as i64, 4)),
            }
        }
        let mut stacked = vec![whole[whole.len() - 1]];
        for _ in 0..numbers.below(4) {
            stacked.push(numbers.pick(&narrow));
            stacked.push(numbers.pick(&whole));
        }
        let next = [narrow[narrow.len() - 1].tanh()];
        Yield::new(&next[..it.carries().len()], &stacked)
    });
    let mut loss = x.mean() + y.mean() + h.mean() + w.mean();
    for (at, stacked) in done.stacked.iter().enumerate() {
        loss = loss + stacked.sin().mean();
        if numbers.one_in(3) {
            g.output(&format!("stacked{at}"), *stacked);
        } else {
            g.output(&format!("turned{at}"), stacked.transpose(&[1, 0, 2]) * 1.5);
        }
    }
    for carry in &done.carries {
        loss = loss + carry.sin().mean();
        g.output("last", *carry);
    }
    if numbers.one_in(2) {
        for (name, gradient) in ["dx", "dy", "dh", "dw"]
            .iter()
            .zip(grad(loss, &[x, y, h, w]))
        {
            g.output(name, gradient);
        }
    }
    g.finish().unwrap()
}

#[test]
fn random_loops() {
    for seed in seeds() {
        let graph = random_loop(seed);
        check(&graph, &[&[("t", 1), ("b", 1)], &[("t", 9), ("b", 3)]]);
    }
}

// What loops keep for gradients.

/// A layer with gates from the parts of two scanned entries, and its gradients.
fn gated(units: i64, reverse: bool, dtype: DType) -> Graph {
    let g = Builder::new(&format!("gated {units} {reverse} {dtype}"));
    let (t, b) = (g.dim("t"), g.dim("b"));
    let wide = (t.clone(), b.clone(), 4 * units);
    let (x, y) = (g.input("x", dtype, wide.clone()), g.input("y", dtype, wide));
    let h = g.input("h", dtype, (b, units));
    let w = g.param_of("w", dtype, (units, 4 * units), Init::uniform(0.3));
    let options = ScanOptions {
        reverse,
        ..ScanOptions::default()
    };
    let done = g.scan(&options, &[h, h], &[x * 0.5, y + 0.5], |it| {
        let [c, h] = [it.carry(0), it.carry(1)];
        let z = it.entry(0) + h.dot(w);
        let (p, q) = (parts(z, 4), parts(it.entry(1), 4));
        let gates: Vec<_> = p
            .iter()
            .zip(&q)
            .map(|(p, q)| p.logistic() * q.tanh())
            .collect();
        let next = c * gates[0] + gates[1] * gates[2];
        let out = next.tanh() * gates[3];
        Yield::new(&[next, out], &[out])
    });
    let y_out = done.stacked[0].transpose(&[1, 0, 2]);
    let loss = (y_out * y_out.logistic()).mean() + done.carries[0].sum() * 0.1;
    for (name, gradient) in ["dx", "dy", "dh", "dw"]
        .iter()
        .zip(grad(loss, &[x, y, h, w]))
    {
        g.output(name, gradient);
    }
    g.output("loss", loss);
    g.finish().unwrap()
}

#[test]
fn gates_of_two_entries() {
    for (units, reverse, dtype) in [
        (1, false, DType::F32),
        (4, true, DType::F32),
        (17, false, DType::F64),
        (20, true, DType::F32),
        (32, false, DType::F32),
    ] {
        let graph = gated(units, reverse, dtype);
        check(
            &graph,
            &[
                &[("t", 1), ("b", 1)],
                &[("t", 5), ("b", 3)],
                &[("t", 4), ("b", 1)],
            ],
        );
    }
}

/// The gradients of a model on sequences.
fn gradients(layer: &dyn Layer, features: i64) -> Graph {
    let g = Builder::new(layer.kind());
    let (b, t) = (g.dim("b"), g.dim("t"));
    let x = g.input("x", DType::F32, (b, t, features));
    let y = Context::training(&g).layer("l", layer, x);
    let loss = (y * y.logistic()).mean();
    g.output("y", y);
    g.output("dx", grad(loss, &[x])[0]);
    let params = g.params();
    for (at, gradient) in grad(loss, &params).into_iter().enumerate() {
        g.output(&format!("dp{at}"), gradient);
    }
    g.finish().unwrap()
}

#[test]
fn layers_in_both_directions() {
    let sizes: &[&[(&str, i64)]] = &[
        &[("b", 1), ("t", 1)],
        &[("b", 1), ("t", 4)],
        &[("b", 5), ("t", 3)],
    ];
    check(&gradients(&Lstm::new(4).return_sequences(), 3), sizes);
    check(
        &gradients(&Lstm::new(20).go_backwards().return_sequences(), 3),
        sizes,
    );
    check(&gradients(&Gru::new(16).return_sequences(), 3), sizes);
    check(&gradients(&Gru::new(6).go_backwards(), 3), sizes);
    check(&gradients(&SimpleRnn::new(17).return_sequences(), 3), sizes);
    check(
        &gradients(&Bidirectional::new(Lstm::new(16).return_sequences()), 3),
        sizes,
    );
}

#[test]
fn layers_upon_layers() {
    let model = Sequential::new([6, 3])
        .layer(Lstm::new(16).return_sequences())
        .layer(Lstm::new(8).return_sequences())
        .layer(Gru::new(8).return_sequences())
        .dense(5);
    layer::check(&model, &[6, 3]);
}

/// What is optimized reads back, and has more to join: a scan is in one joint at a time.
#[test]
fn joined_once_more() {
    let mut graph = gated(16, false, DType::F32);
    // Two gradients are of the type of the entries too.
    for joined in [1 + 2, 2 + 2, 2 + 2] {
        let text = stage_text(&graph, Stage::Optimized, &Options::default()).expect("a graph");
        graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(
            text.matches(": f32[t, b, 64] = part").count(),
            joined,
            "{text}"
        );
        check(&graph, &[&[("t", 1), ("b", 1)], &[("t", 5), ("b", 3)]]);
    }
}

// Products and losses behind loops.

#[test]
fn rows_behind_a_loop() {
    for (units, classes) in [(1, 1), (16, 3), (5, 20), (20, 20)] {
        let g = Builder::new(&format!("rows of {units} to {classes}"));
        let (t, b) = (g.dim("t"), g.dim("b"));
        let x = g.input("x", DType::F32, (t.clone(), b.clone(), units));
        let wanted = g.input("wanted", DType::I32, (b.clone(), t.clone()));
        let w = g.param("w", (units, classes), Init::uniform(0.5));
        let bias = g.param("bias", (classes,), Init::uniform(0.5));
        let h = g.splat(DType::F32, (b.clone(), units), 0.0);
        let done = g.scan(&ScanOptions::default(), &[h], &[x], |it| {
            let next = (it.carry(0) * 0.5 + it.entry(0)).tanh();
            Yield::new(&[next], &[next])
        });
        let rows = done.stacked[0].transpose(&[1, 0, 2]);
        let logits = rows.dot(w);
        let logits = logits + bias.broadcast_to(shape_of(logits));
        let shift = spread(logits.reduce(ReduceKind::Max, &[2]).stop_gradient(), logits);
        let sums = (logits - shift).exp().reduce(ReduceKind::Sum, &[2]).log();
        let ty = TensorType::new(DType::I32, shape_of(logits));
        let classes = g.push(Iota { ty, axis: 2 }, &[]);
        let hit = classes.eq(spread(wanted, classes));
        let chosen = (logits - shift)
            .where_(hit, 0.0)
            .reduce(ReduceKind::Sum, &[2]);
        // What no transpose passes: numbers along the steps, and a mask of the examples.
        let ty = TensorType::new(DType::I32, shape_of(sums));
        let steps = g.push(Iota { ty, axis: 1 }, &[]);
        let losses = (sums - chosen).where_(steps.lt(3.0), 0.5);
        g.output("losses", losses);
        // Neighbours behind the transpose, and none before it.
        g.output("of each example", logits.reduce(ReduceKind::Sum, &[1, 2]));
        g.output("most", logits.reduce(ReduceKind::Max, &[1, 2]));
        g.output("weighted", losses * steps.convert(DType::F32));
        for (name, gradient) in ["dx", "dw", "dbias"]
            .iter()
            .zip(grad(losses.mean(), &[x, w, bias]))
        {
            g.output(name, gradient);
        }
        let graph = g.finish().unwrap();
        check(
            &graph,
            &[
                &[("t", 1), ("b", 1)],
                &[("t", 5), ("b", 3)],
                &[("t", 2), ("b", 1)],
                &[("t", 4), ("b", 17)],
            ],
        );
    }
}

/// Transposes behind a loop with random ops on them.
fn random_rows(seed: u64) -> Graph {
    let mut numbers = Numbers::new(seed);
    let g = Builder::new(&format!("random rows {seed}"));
    let units = numbers.pick(&[1, 3, 16, 20]);
    let size = |numbers: &mut Numbers, name: &str| match numbers.below(4) {
        0 => Dim::from(1 + numbers.below(4) as i64),
        _ => g.dim(name),
    };
    let (t, b) = (size(&mut numbers, "t"), size(&mut numbers, "b"));
    let x = g.input("x", DType::F32, [t.clone(), b.clone(), Dim::from(units)]);
    let m = g.input("m", DType::F32, [b.clone(), t.clone(), Dim::from(units)]);
    let v = g.input("v", DType::F32, [b.clone(), t.clone()]);
    let w = g.param("w", (units, units), Init::uniform(0.5));
    let u = g.param("u", (units,), Init::uniform(0.5));
    let h = g.splat(DType::F32, (b, units), 0.25);
    let done = g.scan(&ScanOptions::default(), &[h], &[x], |it| {
        let next = it.carry(0) * 0.5 + it.entry(0).sin();
        Yield::new(&[next], &[next, it.entry(0) * 0.5])
    });
    let mut three: Vec<Tensor<'_>> = done
        .stacked
        .iter()
        .map(|s| s.transpose(&[1, 0, 2]))
        .collect();
    three.push(m);
    let mut two = vec![v];
    let iota = |like: Tensor<'_>, axis: usize| {
        let ty = TensorType::new(DType::I32, shape_of(like));
        g.push(Iota { ty, axis }, &[])
    };
    for _ in 0..4 + numbers.below(10) {
        let (p, q) = (numbers.pick(&three), numbers.pick(&three));
        let (a, b) = (numbers.pick(&two), numbers.pick(&two));
        let axis = numbers.below(2);
        match numbers.below(17) {
            0 => three.push(p.dot(w)),
            1 => three.push(p.dot_general(w, &[2], &[1], &[], &[]).tanh()),
            2 => two.push(p.dot_general(u, &[2], &[0], &[], &[])),
            3 => three.push(p * q),
            4 => three.push(p + u.broadcast_to(shape_of(p))),
            5 => three.push(p - spread(a, p)),
            6 => two.push(p.reduce(ReduceKind::Sum, &[2])),
            7 => two.push(a * b + 0.5),
            8 => three.push(p.where_(iota(p, numbers.below(3)).lt(2.0), 0.5)),
            9 => two.push(a.where_(iota(a, axis).convert(DType::F32).lt(b), 0.25)),
            10 => three.push(p * iota(p, axis).convert(DType::F32)),
            11 => two.push(
                a + p
                    .reduce(ReduceKind::Max, &[1 - axis, 2])
                    .sum()
                    .broadcast_to(shape_of(a)),
            ),
            12 => three.push(p.exp() * 0.1 + iota(p, 2).convert(DType::F32).sin()),
            13 => three.push(p.transpose(&[1, 0, 2]).sin().transpose(&[1, 0, 2])),
            14 => {
                let scores = p.dot_general(q, &[2], &[2], &[0], &[0]);
                three.push(scores.tanh().dot_general(p, &[2], &[1], &[0], &[0]) * 0.1);
            }
            15 => two.push(
                p.reverse(&[axis])
                    .dot_general(u, &[2], &[0], &[], &[])
                    .sin(),
            ),
            _ => three.push(p.dot_general(w, &[2], &[0], &[], &[]) * 0.5 + p),
        }
    }
    let mut loss = x.mean() + w.mean() + u.mean();
    for (at, tensor) in three.iter().chain(&two).enumerate() {
        match numbers.below(6) {
            0 => g.output(&format!("whole{at}"), *tensor),
            1 => g.output(&format!("first{at}"), tensor.reduce(ReduceKind::Sum, &[0])),
            2 => g.output(&format!("second{at}"), tensor.reduce(ReduceKind::Max, &[1])),
            3 | 4 => loss = loss + tensor.sin().mean(),
            _ => {
                let mut order: Vec<usize> = (0..shape_of(*tensor).len()).collect();
                order.swap(0, 1);
                g.output(&format!("turned{at}"), tensor.transpose(&order));
            }
        }
    }
    for (name, gradient) in ["dx", "dw", "du"].iter().zip(grad(loss, &[x, w, u])) {
        g.output(name, gradient);
    }
    g.output("loss", loss);
    g.finish().unwrap()
}

#[test]
fn random_rows_behind_a_loop() {
    for seed in seeds() {
        let graph = random_rows(seed);
        check(
            &graph,
            &[
                &[("t", 1), ("b", 1)],
                &[("t", 5), ("b", 1)],
                &[("t", 4), ("b", 3)],
            ],
        );
    }
}

// Numbered iterations.

/// Numbers compared and computed with along rows: as they are, from an offset, turned around, padded, and folded.
fn numbered(dtype: DType, columns: Dim) -> Graph {
    let g = Builder::new(&format!("numbered {dtype} {columns}"));
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), columns.clone()));
    let y = g.input("y", dtype, (b.clone(), columns.clone()));
    let iota = |columns: &Dim, axis: usize| {
        let ty = TensorType::new(dtype, [b.clone(), columns.clone()]);
        g.push(Iota { ty, axis }, &[])
    };
    let plain = iota(&columns, 1);
    let behind = &columns + &Dim::from(1000);
    let offset = iota(&behind, 1).slice_axis(1, 1000, behind);
    let double = &columns + &columns;
    let symbolic = iota(&double, 1).slice_axis(1, columns.clone(), double);
    let backwards = plain.reverse(&[1]);
    let shifted = {
        let [none, three] = [Dim::from(0), Dim::from(3)];
        let padded = plain.pad(7.0, &[none.clone(), three], &[none.clone(), none], &[0, 0]);
        padded.slice_axis(1, 0, columns.clone())
    };
    let rows = iota(&columns, 0);
    let numbers = [
        plain,
        offset,
        symbolic,
        backwards,
        shifted,
        rows,
        plain * 3.0 + y,
    ];
    for (at, number) in numbers.into_iter().enumerate() {
        let chosen = x.where_(number.lt(20.0), -1.0);
        g.output(&format!("chosen{at}"), chosen);
        g.output(
            &format!("sum{at}"),
            x.where_(number.ge(y), 0.5).reduce(ReduceKind::Sum, &[1]),
        );
        g.output(&format!("number{at}"), number);
        g.output(
            &format!("sum of numbers{at}"),
            (number * 5.0 + y).reduce(ReduceKind::Sum, &[1]),
        );
        g.output(
            &format!("largest{at}"),
            number.eq(y).reduce(ReduceKind::Any, &[1]),
        );
    }
    g.output("floats", plain.convert(DType::F32) * x);
    g.output(
        "both",
        (plain * 2.0).maximum(rows).reduce(ReduceKind::Max, &[1]),
    );
    g.output("flat", iota(&columns, 1).reshape((&b * &columns,)).lt(9.0));
    g.finish().unwrap()
}

#[test]
fn numbers_along_rows() {
    for dtype in [DType::I32, DType::U32, DType::I64] {
        let graph = numbered(dtype, Dim::symbol("n"));
        let compiled = Compiled::new(&graph);
        let last = if dtype == DType::I32 { 40 } else { 18 };
        for n in (1..=last).chain([65, 1000, 4097, 5000]) {
            compiled.check(&[("b", 1 + n % 3), ("n", n)], Kind::Plain);
        }
    }
    for n in [1, 15, 17, 65, 4097] {
        let graph = numbered(DType::I32, Dim::from(n));
        check(&graph, &[&[("b", 2)], &[("b", 1)]]);
    }
}

/// Numbers beside random words, which are drawn for a strip of iterations at a time.
#[test]
fn numbers_beside_random_words() {
    let g = Builder::new("words");
    let (b, n) = (g.dim("b"), g.dim("n"));
    let shape = [b, n];
    let x = g.input("x", DType::F32, shape.clone());
    let key = g.input("key", DType::U32, (2,));
    let counter = g.input("counter", DType::U32, (2,));
    let drawn = g.rng_bits(key, counter, shape.clone()).unit_f32();
    let ty = TensorType::new(DType::I32, shape);
    let number = g.push(Iota { ty, axis: 1 }, &[]);
    g.output("map", (x * drawn).where_(number.lt(700.0), drawn));
    g.output(
        "sum",
        (x * drawn)
            .where_(number.lt(4000.0), 0.0)
            .reduce(ReduceKind::Sum, &[1]),
    );
    let graph = g.finish().unwrap();
    let compiled = Compiled::new(&graph);
    for n in [1, 17, 300, 1025, 5000] {
        compiled.check(&[("b", 2), ("n", n)], Kind::Plain);
    }
}

// Many accesses.

/// Sixteen parts of two tensors each, and what is computed of all of them, joined.
fn many(dtype: DType, columns: i64, reversed: bool) -> Graph {
    let g = Builder::new(&format!("many {dtype} {columns} {reversed}"));
    let b = g.dim("b");
    let shape = (b, 16 * columns);
    let (x, y) = (
        g.input("x", dtype, shape.clone()),
        g.input("y", dtype, shape),
    );
    let (p, mut q) = (parts(x, 16), parts(y, 16));
    if reversed {
        q.reverse();
    }
    let mut all = p[0];
    for (p, q) in p.iter().zip(&q) {
        all = match dtype {
            DType::Bool => all.or(p.and(*q).not()),
            _ => all + *p * *q,
        };
    }
    g.output("all", all);
    let part = |i: usize| match dtype {
        DType::Bool => p[i].or(q[i]),
        _ => p[i] * all + q[i],
    };
    let joined: Vec<Tensor<'_>> = (0..8).map(part).collect();
    g.output("joined", g.concat(&joined, 1));
    if dtype != DType::Bool {
        g.output("sum", all.reduce(ReduceKind::Sum, &[1]));
    }
    g.finish().unwrap()
}

#[test]
fn more_accesses_than_pointers() {
    for (dtype, columns, reversed) in [
        (DType::F32, 1, false),
        (DType::F32, 7, true),
        (DType::F32, 16, false),
        (DType::F32, 65, true),
        (DType::F32, 5000, false),
        (DType::I32, 33, true),
        (DType::I8, 50, true),
        (DType::U16, 50, false),
        (DType::Bool, 37, false),
        (DType::F64, 20, false),
    ] {
        check(&many(dtype, columns, reversed), &[&[("b", 1)], &[("b", 3)]]);
    }
}

#[test]
fn more_accesses_than_pointers_in_place() {
    for columns in [1, 16, 19, 300] {
        let g = Builder::new(&format!("many in place {columns}"));
        let (t, b) = (g.dim("t"), g.dim("b"));
        let shape = (t, b.clone(), 8 * columns);
        let (x, y) = (
            g.input("x", DType::F32, shape.clone()),
            g.input("y", DType::F32, shape),
        );
        let h = g.input("h", DType::F32, (b, columns));
        let done = g.scan(&ScanOptions::default(), &[h], &[x * 0.5, y + 1.0], |it| {
            let (p, q) = (parts(it.entry(0), 8), parts(it.entry(1), 8));
            let mut sum = it.carry(0) * 0.5;
            for (p, q) in p.iter().zip(&q) {
                sum = sum + *p * *q;
            }
            let one = |i: usize| p[i] * sum - q[7 - i];
            let joined: Vec<Tensor<'_>> = (0..8).map(one).collect();
            let other: Vec<Tensor<'_>> = (0..8).map(|i| q[i] + p[i] * 0.25).collect();
            let g = it.builder();
            Yield::new(&[sum * 0.01], &[g.concat(&joined, 1), g.concat(&other, 1)])
        });
        g.output("joined", done.stacked[0].reverse(&[0]));
        g.output("other", done.stacked[1].reverse(&[0]));
        g.output("last", done.carries[0]);
        let graph = g.finish().unwrap();
        check(&graph, &[&[("t", 1), ("b", 1)], &[("t", 4), ("b", 3)]]);
    }
}
