//! Loops that write over what they scan.

use super::*;

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
