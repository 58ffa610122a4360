//! Scans without what nobody reads.

use crate::{close, f64s, run};
use kiln_ir::ops::Scan;
use kiln_ir::{Builder, DType, Graph, NodeId, Op, ScanOptions, Yield};

/// Three carries: `a` depends on itself, `b` on `a`, `c` on nothing but itself and a captured value. Stacked: `b`, and the entry squared.
fn example() -> Graph {
    let g = Builder::new("three");
    let xs = g.input("xs", DType::F64, [3]);
    let k = g.input("k", DType::F64, ());
    let zero = g.splat(DType::F64, (), 0.0);
    let scanned = g.scan(
        &ScanOptions::default(),
        &[zero, zero, zero],
        &[xs, xs],
        |it| {
            let a = it.carry(0) + it.entry(0);
            let b = it.carry(1) + it.carry(0);
            let c = it.carry(2) * 0.5 + k;
            Yield::new(&[a, b, c], &[b, it.entry(1).square()])
        },
    );
    for (i, part) in [scanned.carries, scanned.stacked]
        .concat()
        .iter()
        .enumerate()
    {
        g.output(&i.to_string(), *part);
    }
    g.finish().unwrap()
}

fn scan_of(graph: &Graph) -> (NodeId, Scan) {
    let mut scans = graph.nodes().filter_map(|(id, node)| match &node.op {
        Op::Scan(scan) => Some((id, scan.clone())),
        _ => None,
    });
    scans.next().unwrap()
}

#[test]
fn nothing_goes_where_everything_is_read() {
    let (_, scan) = scan_of(&example());
    assert!(scan.pruned(&|_| true).is_none());
    assert!(scan.pruned(&|_| false).is_none());
}

#[test]
fn a_carry_stays_that_a_kept_value_reads_and_no_other() {
    let (_, scan) = scan_of(&example());
    // (what is read, operands that stay, results that stay)
    let cases: [(&[usize], &[usize], &[usize]); 5] = [
        (&[0], &[0, 3], &[0]),
        (&[1], &[0, 1, 3], &[0, 1]),
        (&[2], &[2, 5], &[2]),
        (&[3], &[0, 1, 3], &[0, 1, 3]),
        (&[4], &[4], &[4]),
    ];
    for (read, operands, results) in cases {
        let pruned = scan.pruned(&|r| read.contains(&r)).unwrap();
        assert_eq!(pruned.operands, operands, "{read:?}");
        assert_eq!(pruned.results, results, "{read:?}");
        let again = pruned.scan.pruned(&|r| read.contains(&results[r]));
        assert!(again.is_none(), "{read:?} is pruned once");
    }
}

#[test]
fn what_stays_is_computed_as_before() {
    let graph = example();
    let (id, scan) = scan_of(&graph);
    let feeds = [
        ("xs", f64s(&[3], &[1.0, -2.0, 4.0])),
        ("k", f64s(&[], &[3.0])),
    ];
    let expected = run(&graph, &feeds);
    let node = graph.node(id).unwrap();
    assert_eq!(expected.len(), 5);
    for (read, expected) in expected.iter().enumerate() {
        let pruned = scan.pruned(&|r| r == read).unwrap();
        let g = Builder::new("pruned");
        let zero = g.splat(DType::F64, (), 0.0);
        let xs = g.input("xs", DType::F64, [3]);
        let k = g.input("k", DType::F64, ());
        assert_eq!(node.operands.len(), 6);
        let all = [zero, zero, zero, xs, xs, k];
        let operands: Vec<_> = pruned.operands.iter().map(|p| all[*p]).collect();
        let at = pruned.results.iter().position(|r| *r == read).unwrap();
        let whole = g.push(pruned.scan.clone(), &operands);
        let ty = match at {
            0 => whole.ty().unwrap(),
            _ if read < 3 => zero.ty().unwrap(),
            _ => xs.ty().unwrap(),
        };
        g.output("y", g.push(kiln_ir::ops::Part { index: at, ty }, &[whole]));
        let found = run(&g.finish().unwrap(), &feeds);
        close(&found[0], expected.floats().unwrap());
    }
}
