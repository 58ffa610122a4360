//! Control ops through the whole way: machine code with and without passes and fusion, at one and more threads, bit for bit, and near to what
//! the interpreter computes.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, random};
use common::jit::{Results, VARIANTS, executable, inputs, residents, session_at, states, step};
use kiln_ir::ops::Save;
use kiln_ir::{
    Array, Bindings, Builder, DType, Dim, Graph, Init, ScanOptions, Tensor, Values, Yield, eval,
    grad,
};
use kiln_nn::{AttentionOptions, AttentionSchedule, attention};

/// Compiles the graph in every way and compares. Sources without a value are drawn.
fn check(name: &str, graph: &Graph, bindings: &[(&str, i64)]) {
    let mut sizes = Bindings::new();
    for (symbol, size) in bindings {
        sizes.insert(kiln_ir::Symbol::new(symbol), *size);
    }
    let mut numbers = Numbers::new(7);
    let mut draw = |slot: &kiln_ir::Slot| {
        let ty = &graph.node(slot.node).unwrap().ty;
        let shape: Vec<usize> = ty
            .shape
            .iter()
            .map(|d| d.eval_size(&sizes).unwrap())
            .collect();
        random(&mut numbers, ty.dtype, &shape, Kind::Plain)
    };
    let fed: Vec<Array> = inputs(graph).map(&mut draw).collect();
    let feeds: Vec<Fed> = fed.iter().map(|a| Fed::new(a, false)).collect();
    let mut first: Option<Results> = None;
    let mut before: Vec<Array> = Vec::new();
    for variant in VARIANTS {
        let executable = executable(graph, variant).unwrap_or_else(|e| panic!("{name}: {e}"));
        for threads in [1, 2, 3] {
            let fixed = Bindings::new();
            let mut session = session_at(&executable, threads, fixed);
            before = states(&session);
            let results = step(&mut session, &feeds).unwrap_or_else(|e| panic!("{name}: {e}"));
            let wanted = first.get_or_insert_with(|| results.clone());
            let all = results.outputs.iter().chain(&results.states);
            for (i, (a, b)) in all
                .zip(wanted.outputs.iter().chain(&wanted.states))
                .enumerate()
            {
                if let Some(why) = bits_differ(a, b) {
                    panic!("{name} {variant:?} threads {threads} {bindings:?}: result {i}: {why}");
                }
            }
        }
    }
    let first = first.unwrap();
    let mut fed = fed.into_iter();
    let mut before = before.into_iter();
    let order: Vec<&str> = residents(graph).map(|s| s.name.as_str()).collect();
    assert_eq!(order.len(), before.len());
    let expected = eval(graph, |slot| {
        if inputs(graph).any(|s| s.name == slot.name) {
            fed.next()
        } else {
            before.next()
        }
    })
    .unwrap_or_else(|e| panic!("{name}: {e}"));
    let names = graph.outputs().iter().map(|o| &o.name);
    for ((a, b), output) in first.outputs.iter().zip(&expected.outputs).zip(names) {
        near(&format!("{name} {bindings:?} `{output}`"), a, b);
    }
}

/// Whether floats agree to 1e-5 of the norm, and all else exactly.
fn near(what: &str, a: &Array, b: &Array) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    match (a.values(), b.values()) {
        (Values::Float(x), Values::Float(y)) => {
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
            let difference = norm(&mut x.iter().zip(y).map(|(a, b)| a - b));
            let size = norm(&mut y.iter().copied());
            assert!(
                difference <= 1e-5 * size + 1e-7,
                "{what}: {difference} of {size}"
            );
        }
        (x, y) => assert_eq!(x, y, "{what}"),
    }
}

/// An Elman network with its gradients.
fn recurrent(options: &ScanOptions, dtype: DType) -> Graph {
    let g = Builder::new("recurrent");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let xs = g.input("xs", dtype, (t, b.clone(), 5));
    let h = g.input("h", dtype, (b, 20));
    let w = g.param_of("w", dtype, (5, 20), Init::uniform(0.3));
    let u = g.param_of("u", dtype, (20, 20), Init::uniform(0.3));
    let bias = g.param_of("bias", dtype, (20,), Init::uniform(0.3));
    let scanned = g.scan(options, &[h], &[xs], |it| {
        let next = (it.entry(0).dot(w) + it.carry(0).dot(u) + bias).tanh();
        Yield::new(&[next], &[next])
    });
    let loss = scanned.stacked[0].square().mean() + scanned.carries[0].sum() * 0.1;
    for (name, gradient) in ["dxs", "dh", "dw", "du", "dbias"]
        .into_iter()
        .zip(grad(loss, &[xs, h, w, u, bias]))
    {
        g.output(name, gradient);
    }
    g.output("all", scanned.stacked[0]);
    g.output("last", scanned.carries[0]);
    g.output("loss", loss);
    g.finish().unwrap()
}

#[test]
fn a_recurrent_network_and_its_gradients() {
    for dtype in [DType::F32, DType::F64] {
        for save in Save::ALL {
            for reverse in [false, true] {
                let options = ScanOptions {
                    save,
                    reverse,
                    ..ScanOptions::default()
                };
                let graph = recurrent(&options, dtype);
                for (t, b) in [(1, 1), (7, 3), (4, 17), (3, 40)] {
                    let name = format!("recurrent {dtype} {save:?} {reverse}");
                    check(&name, &graph, &[("t", t), ("b", b)]);
                }
            }
        }
    }
}

#[test]
fn a_scan_without_iterations_passes_its_carries_through() {
    let graph = recurrent(&ScanOptions::default(), DType::F32);
    // The mean of no elements is NaN, so the loss is not compared with the interpreter's by norm.
    let g = Builder::new("none");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let xs = g.input("xs", DType::F32, (t, b.clone()));
    let h = g.input("h", DType::F32, (b,));
    let scanned = g.scan(&ScanOptions::default(), &[h], &[xs], |it| {
        let next = it.carry(0) * 0.5 + it.entry(0);
        Yield::new(&[next], &[next, it.carry(0)])
    });
    g.output("last", scanned.carries[0]);
    g.output("all", scanned.stacked[0]);
    g.output("before", scanned.stacked[1]);
    let plain = g.finish().unwrap();
    for t in [0, 1, 2, 9] {
        check("none", &plain, &[("t", t), ("b", 4)]);
    }
    check("recurrent", &graph, &[("t", 2), ("b", 1)]);
}

#[test]
fn checkpoints_change_no_value() {
    let build = |checkpoint| {
        let g = Builder::new("segments");
        let xs = g.input("xs", DType::F32, (12, 3));
        let w = g.param("w", (3,), Init::uniform(0.9));
        let zero = g.splat(DType::F32, (3,), 0.0);
        let options = ScanOptions {
            checkpoint,
            ..ScanOptions::default()
        };
        let scanned = g.scan(&options, &[zero], &[xs], |it| {
            let next = (it.carry(0) * w + it.entry(0)).sin();
            Yield::new(&[next], &[next])
        });
        let loss = scanned.stacked[0].square().sum();
        g.output("dw", grad(loss, &[w])[0]);
        g.output("loss", loss);
        g.finish().unwrap()
    };
    for checkpoint in [None, Some(3), Some(4)] {
        check(&format!("{checkpoint:?}"), &build(checkpoint), &[]);
    }
}

/// Rows that do not depend on one another, with weights and their gradients.
#[test]
fn iterations_without_carries() {
    for save in Save::ALL {
        let g = Builder::new("rows");
        let (t, n) = (g.dim("t"), g.dim("n"));
        let q = g.input("q", DType::F32, (t.clone(), n.clone(), 8));
        let k = g.input("k", DType::F32, (t.clone(), n.clone(), 8));
        let v = g.input("v", DType::F32, (t, n, 8));
        let scale = g.param("scale", (8,), Init::uniform(1.0));
        let options = ScanOptions {
            save,
            ..ScanOptions::default()
        };
        let scanned = g.scan(&options, &[], &[q, k, v], |it| {
            let [q, k, v] = [it.entry(0) * scale, it.entry(1), it.entry(2)];
            let scores = q.dot_general(k, &[1], &[1], &[], &[]);
            let shape = scores.ty().unwrap().shape;
            let rows: Dim = shape[0].clone();
            let spread = |x: Tensor<'_>| {
                let column = [rows.clone(), Dim::from(1)];
                let _ = &x;
                column
            };
            let largest = scores.reduce(kiln_ir::ReduceKind::Max, &[1]);
            let largest = largest.stop_gradient().reshape(spread(largest));
            let powers = (scores - largest).exp();
            let sums = powers.reduce(kiln_ir::ReduceKind::Sum, &[1]);
            let p = powers / sums.reshape(spread(sums));
            Yield::new(&[], &[p.dot(v)])
        });
        let loss = scanned.stacked[0].square().mean();
        let names = ["dq", "dk", "dv", "dscale"];
        for (name, gradient) in names.into_iter().zip(grad(loss, &[q, k, v, scale])) {
            g.output(name, gradient);
        }
        g.output("y", scanned.stacked[0]);
        let graph = g.finish().unwrap();
        for (t, n) in [(1, 1), (9, 5), (16, 33)] {
            check(&format!("rows {save:?}"), &graph, &[("t", t), ("n", n)]);
        }
    }
}

#[test]
fn attention_in_blocks_of_a_length_that_is_not_known() {
    let g = Builder::new("attention");
    let (b, t, s) = (g.dim("b"), g.dim("t"), g.dim("s"));
    let q = g.input("q", DType::F32, (b.clone(), t, 4, 8));
    let k = g.input("k", DType::F32, (b.clone(), s.clone(), 2, 8));
    let v = g.input("v", DType::F32, (b.clone(), s.clone(), 2, 5));
    let visible = g.input("visible", DType::Bool, (b, s));
    let options = AttentionOptions {
        causal: true,
        visible: Some(visible),
        schedule: AttentionSchedule::Blocks(4),
        ..AttentionOptions::default()
    };
    let y = attention(q, k, v, &options);
    let loss = (y * y.logistic()).mean();
    for (name, gradient) in ["dq", "dk", "dv"].into_iter().zip(grad(loss, &[q, k, v])) {
        g.output(name, gradient);
    }
    g.output("y", y);
    let graph = g.finish().unwrap();
    for (b, t, s) in [(1, 1, 1), (2, 4, 9), (5, 7, 7), (3, 17, 20)] {
        check("attention", &graph, &[("b", b), ("t", t), ("s", s)]);
    }
}

#[test]
fn loops_within_loops() {
    let g = Builder::new("nested");
    let (t, s, b) = (g.dim("t"), g.dim("s"), g.dim("b"));
    let xs = g.input("xs", DType::F32, (t, s, b.clone()));
    let h = g.input("h", DType::F32, (b.clone(),));
    let w = g.input("w", DType::F32, (b,));
    let options = ScanOptions::default();
    let outer = g.scan(&options, &[h], &[xs], |it| {
        let inner = it
            .builder()
            .scan(&options, &[it.carry(0)], &[it.entry(0)], |it| {
                let next = (it.carry(0) * w + it.entry(0)).tanh();
                Yield::new(&[next], &[next])
            });
        Yield::new(&[inner.carries[0]], &[inner.stacked[0], it.carry(0)])
    });
    let loss = outer.stacked[0].square().sum() + outer.stacked[1].sum();
    for (name, gradient) in ["dxs", "dh", "dw"].into_iter().zip(grad(loss, &[xs, h, w])) {
        g.output(name, gradient);
    }
    g.output("y", outer.stacked[0]);
    let graph = g.finish().unwrap();
    for (t, s) in [(1, 1), (3, 4), (5, 2), (2, 0)] {
        check("nested", &graph, &[("t", t), ("s", s), ("b", 18)]);
    }
}

#[test]
fn a_branch_computes_the_side_that_is_chosen() {
    let g = Builder::new("branch");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(),));
    let y = g.input("y", DType::F32, (b,));
    let w = g.param("w", (), Init::uniform(1.0));
    let chosen = g.cond(
        x.sum().gt(y.sum()),
        |_| vec![x * w, y.sum()],
        |_| vec![(x + y).sin() * w, x.sum()],
    );
    let loss = chosen[0].square().sum() + chosen[1];
    for (name, gradient) in ["dx", "dy", "dw"].into_iter().zip(grad(loss, &[x, y, w])) {
        g.output(name, gradient);
    }
    g.output("z", chosen[0]);
    let graph = g.finish().unwrap();
    for b in 1..12 {
        check("branch", &graph, &[("b", b)]);
    }
}

#[test]
fn a_while_runs_as_long_as_its_test_holds() {
    let g = Builder::new("until");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b,));
    let limit = g.input("limit", DType::F32, ());
    let one = g.splat(DType::I64, (), 0.0);
    let results = g.while_loop(
        &[x, one],
        |it| {
            it.carry(0)
                .square()
                .sum()
                .gt(limit.abs() + 0.5)
                .and(it.carry(1).lt(50.0))
        },
        |it| vec![it.carry(0) * 0.75, it.carry(1) + 1.0],
    );
    g.output("x", results[0]);
    g.output("iterations", results[1]);
    let graph = g.finish().unwrap();
    for b in [0, 1, 5, 40] {
        check("until", &graph, &[("b", b)]);
    }
}
