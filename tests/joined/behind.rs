//! Products and losses behind loops.

use super::*;

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
