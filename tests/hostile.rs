//! Graphs that nobody would write on purpose: no elements, chains without end, states that move into each other. All ways to compile them
//! give the same bits on any number of threads, and the interpreter's numbers; what cannot run is refused by name and line.

mod common;

use common::data::Fed;
use common::jit::{VARIANTS, executable, inputs, session, states, step};
use kiln_ir::{
    Array, Bindings, Builder, DType, Dim, Graph, Init, OutOfRange, ReduceKind, Role, ScatterKind,
    Symbol, Tensor, Values, eval,
};

fn d(n: i64) -> Dim {
    Dim::from(n)
}

fn numbers(dtype: DType, shape: Vec<usize>) -> Array {
    let count: usize = shape.iter().product();
    let whole = |i: usize| ((i * 7) % 5) as i64;
    let values = if dtype.is_float() {
        Values::Float((0..count).map(|i| whole(i) as f64 * 0.25 - 0.5).collect())
    } else {
        Values::Int((0..count).map(whole).collect())
    };
    Array::new(dtype, shape, values).unwrap()
}

fn close(a: &Array, b: &Array) -> bool {
    let near = |x: f64, y: f64| {
        x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-4 * (1.0 + x.abs())
    };
    a.shape() == b.shape()
        && match (a.values(), b.values()) {
            (Values::Float(x), Values::Float(y)) => x.iter().zip(y).all(|(x, y)| near(*x, *y)),
            (x, y) => x == y,
        }
}

/// Three steps in every way to compile, on one to three threads.
fn check(g: Builder, sizes: &[(&str, i64)]) {
    let graph = g.finish().unwrap();
    let mut bindings = Bindings::new();
    for (name, size) in sizes {
        bindings.insert(Symbol::new(name), *size);
    }
    let arrays: Vec<Array> = inputs(&graph)
        .map(|slot| {
            let ty = &graph.node(slot.node).unwrap().ty;
            let sizes = ty.shape.iter().map(|d| d.eval_size(&bindings).unwrap());
            numbers(ty.dtype, sizes.collect())
        })
        .collect();
    let fed: Vec<Fed> = arrays.iter().map(|a| Fed::new(a, false)).collect();
    let mut first = None;
    for variant in VARIANTS {
        let executable = executable(&graph, variant).unwrap();
        for threads in 1..=3 {
            let mut session = session(&executable, threads);
            let mut results = Vec::new();
            for _ in 0..3 {
                let before = states(&session);
                let after = step(&mut session, &fed).unwrap();
                agrees(&graph, &arrays, &before, &after);
                // NaN is no NaN, but its spelling is.
                results.push(format!("{after:?}"));
            }
            let wanted = first.get_or_insert_with(|| results.clone());
            assert_eq!(*wanted, results, "{} {variant:?} {threads}", graph.name);
        }
    }
}

fn agrees(graph: &Graph, arrays: &[Array], before: &[Array], after: &common::jit::Results) {
    let (mut fed, mut kept) = (arrays.iter(), before.iter());
    let wanted = eval(graph, |slot| match slot.role {
        Role::Input => fed.next().cloned(),
        Role::Param(_) | Role::State(_) => kept.next().cloned(),
    })
    .unwrap();
    for ((a, b), output) in after
        .outputs
        .iter()
        .zip(&wanted.outputs)
        .zip(graph.outputs())
    {
        assert!(close(a, b), "{} {}: {a:?} {b:?}", graph.name, output.name);
    }
    for ((slot, a), old) in common::jit::residents(graph).zip(&after.states).zip(before) {
        let new = wanted.updates.iter().find(|(id, _)| *id == slot.node);
        let b = new.map_or(old, |(_, b)| b);
        assert!(close(a, b), "{} {}: {a:?} {b:?}", graph.name, slot.name);
    }
}

#[test]
fn tensors_without_elements_touch_nothing() {
    let g = Builder::new("none");
    let x = g.input("x", DType::F32, [0, 4]);
    let w = g.param("w", [4, 0], Init::zeros());
    g.output("product over nothing", x.transpose(&[1, 0]).dot(x));
    g.output("product of nothing", x.dot(w));
    g.output("empty", w);
    g.output("sums", w.reduce(ReduceKind::Sum, &[1]));
    g.output("largest", x.reduce(ReduceKind::Max, &[0]));
    g.update(w, w + 1.0);
    check(g, &[]);
    for (b, t) in [(0, 3), (3, 0)] {
        let g = Builder::new("none");
        let x = g.input("x", DType::F32, (g.dim("b"), g.dim("t")));
        g.output("sum", x.sum());
        g.output("rows", x.reduce(ReduceKind::Prod, &[1]));
        g.output("product", x.dot(x.transpose(&[1, 0])));
        g.output("padded", x.pad(0.5, &[d(0), d(1)], &[d(2), d(2)], &[0, 0]));
        check(g, &[("b", b), ("t", t)]);
    }
}

#[test]
fn updates_read_old_values_however_they_are_tangled() {
    let g = Builder::new("ring");
    let s: Vec<Tensor<'_>> = (0..5)
        .map(|i| g.state(&format!("s{i}"), DType::F32, [37], Init::normal(1.0)))
        .collect();
    for i in 0..5 {
        g.update(s[i], s[(i + 1) % 5].reverse(&[0]) * 0.5 + s[i]);
    }
    let a = g.param("a", [37], Init::normal(1.0));
    let b = g.param("b", [37], Init::normal(1.0));
    g.update(a, a + b);
    g.update(b, a - b);
    g.output("a", a);
    check(g, &[]);

    let g = Builder::new("own moves");
    let named = |name: &str, shape: [i64; 2]| g.param(name, shape, Init::normal(0.5));
    let t = named("transposed", [6, 6]);
    g.update(t, t.transpose(&[1, 0]) * 0.5 + t);
    let c = named("last column", [8, 5]);
    let last = c.slice(&[d(0), d(4)], &[d(8), d(5)], &[1, 1]);
    g.update(c, c - last);
    let r = named("row sums", [8, 5]);
    g.update(r, r - r.reduce(ReduceKind::Sum, &[1]).reshape([8, 1]));
    let l = named("column sums", [8, 5]);
    g.update(l, l - l.reduce(ReduceKind::Sum, &[0]));
    let (p, q) = (named("lhs", [6, 6]), named("rhs", [6, 6]));
    g.update(p, p.dot(q));
    g.update(q, q.dot(q) + p);
    let i = g.input("i", DType::I32, [7]);
    let e = named("rows", [10, 4]);
    let rows = e.gather(0, i, OutOfRange::Clamp) * 0.5;
    g.update(
        e,
        e.scatter(ScatterKind::Add, 0, i, rows, OutOfRange::Clamp),
    );
    check(g, &[]);
}

#[test]
fn long_chains_of_views_neither_recurse_nor_grow() {
    let g = Builder::new("reshapes");
    let mut t = g.input("x", DType::F32, [6, 4]);
    for _ in 0..60 {
        t = t.transpose(&[1, 0]).reshape([6, 4]).reverse(&[0]);
    }
    g.output("t", t);
    check(g, &[]);
    let g = Builder::new("reshapes of computed values");
    let mut t = g.input("x", DType::F32, [6, 4]);
    for _ in 0..60 {
        t = -t.transpose(&[1, 0]).reshape([6, 4]);
    }
    g.output("t", t);
    check(g, &[]);
    let g = Builder::new("windows");
    let n = 3000;
    let mut t = g.input("x", DType::F32, [n + 5]);
    for i in 0..n {
        t = t.reverse(&[0]).slice(&[d(0)], &[d(n + 4 - i)], &[1]);
    }
    g.output("t", t);
    // Without fusion these are thousands of kernels.
    let graph = g.finish().unwrap();
    for variant in VARIANTS.into_iter().filter(|v| v.fuse) {
        executable(&graph, variant).unwrap();
    }
}

#[test]
fn reads_that_double_are_bounded() {
    let g = Builder::new("halves");
    let mut t = g.input("x", DType::F32, [8]);
    for _ in 0..40 {
        let (low, high) = (
            t.slice(&[d(0)], &[d(4)], &[1]),
            t.slice(&[d(4)], &[d(8)], &[1]),
        );
        let all = g.concat(&[high, low, t.reverse(&[0])], 0);
        t = all.slice(&[d(3)], &[d(11)], &[1]);
    }
    g.output("t", t);
    check(g, &[]);
}

#[test]
fn a_window_behind_its_axis_is_refused_when_sizes_are_bound() {
    let g = Builder::new("window");
    let x = g.input("x", DType::F32, (g.dim("b"),));
    let s = g.state("s", DType::F32, (), Init::zeros());
    g.update(s, s + 1.0);
    g.output("o", x.slice(&[d(3)], &[d(7)], &[1]));
    let graph = g.finish().unwrap();
    for variant in VARIANTS {
        let executable = executable(&graph, variant).unwrap();
        let mut session = session(&executable, 1);
        let before = states(&session);
        let error = step(
            &mut session,
            &[Fed::new(&numbers(DType::F32, vec![5]), false)],
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`slice` at ")
                && error.contains("the window 3..7 of axis 0 ends behind its size b")
                && error.contains("`b - 7` is -2")
                && error.contains("tests/hostile.rs:"),
            "{error}"
        );
        assert_eq!(before, states(&session));
        step(
            &mut session,
            &[Fed::new(&numbers(DType::F32, vec![7]), false)],
        )
        .unwrap();
    }
}

#[test]
fn half_floats_are_refused_with_op_and_line() {
    for dtype in [DType::F16, DType::BF16] {
        let g = Builder::new("half");
        let x = g.input("x", dtype, [9, 9]);
        let _scope = g.scope("narrow");
        let line = line!() + 1;
        g.output("sum", x.convert(DType::F32).exp());
        g.output("product", x.dot(x));
        drop(_scope);
        let graph = g.finish().unwrap();
        for variant in VARIANTS {
            let Err(error) = executable(&graph, variant) else {
                panic!("{dtype} has machine code");
            };
            let wanted = format!("`convert` at tests/hostile.rs:{}:", line);
            assert!(error.contains(&wanted), "{error}");
            assert!(
                error.contains(&format!("in \"narrow\" computes with {dtype}")),
                "{error}"
            );
        }
    }
}
