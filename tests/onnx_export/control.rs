//! Loops and branches, with their gradients.

use super::common::Numbers;
use super::common::data::Kind;
use super::trip::Trip;
use kiln_ir::{Bindings, Builder, DType, Graph, Init, ScanOptions, Symbol, Yield, grad};

fn check(name: &str, graph: Graph, sizes: &[&[(&str, i64)]]) {
    let mut numbers = Numbers::new(3);
    let mut trip =
        Trip::new(name, graph, &mut numbers).unwrap_or_else(|why| panic!("{name}: {why}"));
    for sizes in sizes {
        let mut bindings = Bindings::new();
        for (symbol, size) in *sizes {
            bindings.insert(Symbol::new(symbol), *size);
        }
        let run = trip.run(&bindings, &mut numbers, Kind::Plain);
        assert_eq!(run, Ok(true), "{name}");
    }
}

#[test]
fn scans_carry_stack_and_go_backwards() {
    for reverse in [false, true] {
        let g = Builder::new("recurrent");
        let (t, b) = (g.dim("t"), g.dim("b"));
        let xs = g.input("xs", DType::F32, (t, b.clone(), 5));
        let h = g.input("h", DType::F32, (b, 7));
        let w = g.param("w", (5, 7), Init::zeros());
        let u = g.param("u", (7, 7), Init::zeros());
        let options = ScanOptions {
            reverse,
            ..ScanOptions::default()
        };
        let scanned = g.scan(&options, &[h], &[xs], |it| {
            let next = (it.entry(0).dot(w) + it.carry(0).dot(u)).tanh();
            Yield::new(&[next], &[next, it.carry(0)])
        });
        let loss = scanned.stacked[0].square().mean() + scanned.carries[0].sum() * 0.1;
        for (name, gradient) in ["dxs", "dh", "dw"].into_iter().zip(grad(loss, &[xs, h, w])) {
            g.output(name, gradient);
        }
        g.output("all", scanned.stacked[0]);
        g.output("last", scanned.carries[0]);
        g.output("loss", loss);
        let graph = g.finish().expect("a graph");
        let sizes: [&[(&str, i64)]; 2] = [&[("t", 4), ("b", 3)], &[("t", 1), ("b", 2)]];
        check(&format!("control-scan-{reverse}"), graph, &sizes);
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
    g.output("y", outer.stacked[0]);
    g.output("before", outer.stacked[1]);
    let graph = g.finish().expect("a graph");
    check("control-nested", graph, &[&[("t", 3), ("s", 4), ("b", 2)]]);
}

#[test]
fn a_scan_over_nothing_counts() {
    let g = Builder::new("powers");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b,));
    let options = ScanOptions {
        trip: Some(5.into()),
        ..ScanOptions::default()
    };
    let scanned = g.scan(&options, &[x], &[], |it| {
        let number = it.number().convert(DType::F32);
        Yield::new(&[it.carry(0) * 0.5], &[it.carry(0) + number])
    });
    g.output("last", scanned.carries[0]);
    g.output("all", scanned.stacked[0]);
    let graph = g.finish().expect("a graph");
    check("control-count", graph, &[&[("b", 3)]]);
}

#[test]
fn branches_and_loops_that_test() {
    let g = Builder::new("branch");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(),));
    let y = g.input("y", DType::F32, (b,));
    let w = g.param("w", (), Init::zeros());
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
    let graph = g.finish().expect("a graph");
    check(
        "control-cond",
        graph,
        &[&[("b", 1)], &[("b", 2)], &[("b", 3)], &[("b", 4)]],
    );

    let g = Builder::new("until");
    let x = g.input("x", DType::F32, (g.dim("b"),));
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
    let mut numbers = Numbers::new(4);
    let graph = g.finish().expect("a graph");
    let why = Trip::new("control-clash", graph.clone(), &mut numbers)
        .err()
        .expect("two of a name");
    assert!(
        why.contains("`x` (output: f32[b]): an input, param or state has the same name"),
        "{why}"
    );
    let renamed = graph.to_string().replace("return x:", "return y:");
    let graph: Graph = renamed.parse().expect("a graph");
    check("control-while", graph, &[&[("b", 1)], &[("b", 5)]]);
}
