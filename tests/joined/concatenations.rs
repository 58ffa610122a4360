//! Concatenations that are stored part by part.

use super::*;

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

#[test]
fn random_maps() {
    for seed in seeds() {
        let graph = random_map(seed);
        check(&graph, &[&[("b", 1)], &[("b", 5)], &[("b", 130)]]);
    }
}
