//! Loops with more accesses than there are registers for pointers.

use super::*;

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
