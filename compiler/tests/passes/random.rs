//! Random well-typed graphs with gradients and updates: every pass keeps what they compute, the exact ones to the bit.

use crate::support::{Feed, Numbers, assert_same_bits, results, run};
use kiln_compiler::driver::{self, Context};
use kiln_compiler::{Options, passes};
use kiln_ir::ops::{Binary, Concat, Op, OutOfRange, Pad, ReduceKind, Reverse};
use kiln_ir::{Builder, DType, Dim, Graph, Init, Shape, Tensor, TensorType, Values, grad};

const STEPS: usize = 40;

/// A graph over the symbol `b` in which about forty random ops are applied to inputs, params and each other's results.
fn graph(seed: u64) -> Graph {
    let g = Builder::new("random");
    let mut numbers = Numbers(seed);
    let b = g.dim("b");
    let params = [
        g.param("p", [2, 3], Init::zeros()),
        g.param("q", [3], Init::zeros()),
        g.param("r", [1, 3], Init::zeros()),
    ];
    let mut pool = params.to_vec();
    pool.push(g.input("x", DType::F32, (b.clone(), 3)));
    pool.push(g.input("z", DType::F64, [2, 3]));
    pool.push(g.input("i", DType::I32, (b.clone(), 3)));
    pool.push(g.input("u", DType::U8, [2, 3]));
    pool.push(g.input("m", DType::Bool, (b, 3)));
    for _ in 0..STEPS {
        if let Some(made) = step(&g, &mut numbers, &pool) {
            pool.push(made);
        }
    }
    for (i, result) in pool.iter().rev().take(4).enumerate() {
        g.output(&format!("o{i}"), *result);
    }
    let mut loss = g.splat(DType::F32, (), 0.0);
    for t in &pool {
        if t.ty().is_some_and(|ty| ty.dtype == DType::F32) {
            loss = loss + t.sum();
        }
    }
    for (param, gradient) in params.into_iter().zip(grad(loss, &params)) {
        g.update(param, param - gradient * 0.1);
    }
    g.output("loss", loss);
    g.finish().unwrap_or_else(|e| panic!("seed {seed}: {e}"))
}

fn step<'g>(g: &'g Builder, numbers: &mut Numbers, pool: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    // Later results are likelier, so that chains grow.
    let from = numbers.below(pool.len()).max(numbers.below(pool.len()));
    let x = pool[from];
    let ty = x.ty()?;
    let rank = ty.rank();
    let float = ty.dtype.is_float();
    let boolean = ty.dtype == DType::Bool;
    Some(match numbers.below(20) {
        0 if float => match numbers.below(7) {
            0 => x.abs(),
            1 => x.recip(),
            2 => x.floor(),
            3 => x.abs().sqrt(),
            4 => x.sign(),
            5 => -(-x),
            _ => -x,
        },
        1 | 2 if !boolean => {
            let op = numbers.pick(&[
                Binary::Add,
                Binary::Sub,
                Binary::Mul,
                Binary::Div,
                Binary::Max,
                Binary::Min,
            ]);
            let y = partner(g, numbers, pool, &ty)?;
            let (x, y) = if numbers.below(2) == 0 {
                (x, y)
            } else {
                (y, x)
            };
            if op == Binary::Div && !float {
                x - y
            } else {
                g.push(op, &[x, y])
            }
        }
        3 | 4 if !boolean => {
            let literal = numbers.pick(&[0.0, -0.0, 1.0, 2.0, 0.5, -1.0, 3.0, -4.0]);
            let literal = g.splat(ty.dtype, &ty.shape, literal);
            let op = numbers.pick(&[
                Binary::Add,
                Binary::Sub,
                Binary::Mul,
                Binary::Div,
                Binary::Max,
            ]);
            if numbers.below(2) == 0 {
                g.push(op, &[x, literal])
            } else {
                g.push(op, &[literal, x])
            }
        }
        5 => {
            let y = partner(g, numbers, pool, &ty)?;
            match numbers.below(4) {
                0 => x.lt(y),
                1 => x.eq(y),
                2 => x.ne(y),
                _ => x.ge(y),
            }
        }
        6 => {
            let y = partner(g, numbers, pool, &ty)?;
            let condition = x.le(y);
            x.where_(
                if numbers.below(2) == 0 {
                    condition
                } else {
                    condition.not()
                },
                y,
            )
        }
        7 if boolean => match numbers.below(4) {
            0 => x.not(),
            1 => x.and(partner(g, numbers, pool, &ty)?),
            2 => x.or(partner(g, numbers, pool, &ty)?),
            _ => x.xor(1.0),
        },
        8 | 9 => {
            let mut order: Vec<usize> = (0..rank).collect();
            for i in (1..rank).rev() {
                order.swap(i, numbers.below(i + 1));
            }
            x.transpose(&order)
        }
        10 | 11 => {
            // Units come or go, or the tensor becomes flat.
            let mut shape = ty.shape.to_vec();
            match numbers.below(3) {
                0 => shape.insert(numbers.below(rank + 1), Dim::from(1)),
                1 => shape.retain(|d| d.constant() != Some(1)),
                _ => shape = vec![ty.shape.elements()],
            }
            x.reshape(Shape::from(shape))
        }
        12 if rank < 4 => {
            let mut shape = ty.shape.to_vec();
            shape.insert(0, Dim::from(2));
            x.broadcast_to(Shape::from(shape))
        }
        13 | 14 => {
            let axes: Vec<usize> = (0..rank).filter(|_| numbers.below(2) == 0).collect();
            let kind = if boolean {
                ReduceKind::Any
            } else {
                numbers.pick(&[ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min])
            };
            x.reduce(kind, &axes)
        }
        15 if !boolean && rank > 0 => {
            let axis = numbers.below(rank);
            let y = *pool.iter().rev().find(|y| {
                y.ty().is_some_and(|t| {
                    t.dtype == ty.dtype && t.rank() + rank <= 5 && t.shape.contains(&ty.shape[axis])
                })
            })?;
            let other = y.ty()?.shape.iter().position(|d| *d == ty.shape[axis])?;
            x.dot_general(y, &[axis], &[other], &[], &[])
        }
        16 => {
            x.convert(numbers.pick(&[DType::F32, DType::F64, DType::I32, DType::Bool, DType::I64]))
        }
        17 if rank > 0 => {
            let (start, limit): (Vec<Dim>, Vec<Dim>) = ty
                .shape
                .iter()
                .map(|d| match d.constant() {
                    Some(n) if n > 1 => (Dim::from(1), Dim::from(n)),
                    Some(_) | None => (Dim::from(0), d.clone()),
                })
                .unzip();
            let stride = numbers.pick(&[1, 1, 2]);
            x.slice(&start, &limit, &vec![stride; rank])
        }
        18 if rank > 0 => match numbers.below(4) {
            0 => g.push(
                Reverse {
                    axes: vec![numbers.below(rank)],
                },
                &[x],
            ),
            1 => g.push(
                Concat {
                    axis: numbers.below(rank),
                },
                &[x, x],
            ),
            2 => {
                let pad = Pad {
                    low: vec![Dim::from(1); rank],
                    high: vec![Dim::from(0); rank],
                    interior: vec![0; rank],
                };
                g.push(pad, &[x, g.splat(ty.dtype, (), 0.0)])
            }
            _ => {
                let index = *pool.iter().find(|t| {
                    t.ty()
                        .is_some_and(|t| t.dtype == DType::I32 && t.rank() + rank <= 5)
                })?;
                let mode = numbers.pick(&[OutOfRange::Clamp, OutOfRange::Skip]);
                x.gather(numbers.below(rank), index, mode)
            }
        },
        19 => x.stop_gradient(),
        _ => return None,
    })
}

/// Another tensor of the pool of the same type, or one that broadcasts to it, or the tensor of ones.
fn partner<'g>(
    g: &'g Builder,
    numbers: &mut Numbers,
    pool: &[Tensor<'g>],
    ty: &TensorType,
) -> Option<Tensor<'g>> {
    let fits: Vec<Tensor<'g>> = pool
        .iter()
        .copied()
        .filter(|t| {
            t.ty().is_some_and(|t| {
                let skip = ty.rank().checked_sub(t.rank());
                let matches = |skip: usize| {
                    let pairs = t.shape.iter().zip(&ty.shape[skip..]);
                    pairs
                        .into_iter()
                        .all(|(d, e)| d == e || d.constant() == Some(1))
                };
                t.dtype == ty.dtype && skip.is_some_and(matches)
            })
        })
        .collect();
    Some(if fits.is_empty() {
        g.splat(ty.dtype, &ty.shape, 1.0)
    } else {
        numbers.pick(&fits).broadcast_to(&ty.shape)
    })
}

const SEEDS: u64 = 150;

#[test]
fn the_graphs_use_every_family_and_differ() {
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        names.extend(graph(seed).nodes().map(|(_, n)| n.op.rules().name()));
    }
    for name in [
        "dot",
        "reduce",
        "select",
        "broadcast",
        "transpose",
        "slice",
        "pad",
        "concat",
        "gather",
        "scatter",
        "convert",
        "sub",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert_ne!(graph(1), graph(2));
}

#[test]
fn exact_passes_keep_every_bit() {
    let options = Options::default();
    for seed in 0..SEEDS {
        let before = graph(seed);
        let mut chained = before.clone();
        for pass in passes::Pipeline::standard().exact {
            let name = pass.name();
            let alone = driver::run_pass(name, &before, &options)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            chained = driver::run_pass(name, &chained, &options)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for (kind, b) in [
                (Feed::Moderate, 2),
                (Feed::Odd, 3),
                (Feed::Odd, 0),
                (Feed::Odd, 1),
            ] {
                assert_same_bits(
                    &format!("seed {seed}, {name}"),
                    &before,
                    &alone,
                    kind,
                    seed,
                    b,
                );
                assert_same_bits(
                    &format!("seed {seed}, up to {name}"),
                    &before,
                    &chained,
                    kind,
                    seed,
                    b,
                );
            }
        }
        assert!(chained.len() <= before.len(), "seed {seed}");
    }
}

#[test]
fn mandatory_passes_keep_results_but_for_rounding() {
    let options = Options::default();
    for seed in 0..SEEDS {
        let before = graph(seed);
        let mut after = before.clone();
        for pass in passes::Pipeline::standard().mandatory {
            after = driver::run_pass(pass.name(), &after, &options)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        legal(&after);
        let exact = !before.nodes().any(|(_, n)| splits(&n.op));
        if exact {
            assert_same_bits(
                &format!("seed {seed}"),
                &before,
                &after,
                Feed::Moderate,
                seed,
                2,
            );
            continue;
        }
        let (x, y) = (
            run(&before, Feed::Moderate, seed, 1),
            run(&after, Feed::Moderate, seed, 1),
        );
        for (x, y) in results(&x).into_iter().zip(results(&y)) {
            assert_eq!(
                (x.dtype(), x.shape()),
                (y.dtype(), y.shape()),
                "seed {seed}"
            );
        }
    }
}

/// Whether legalisation defines another order of a sum than the interpreter's.
fn splits(op: &Op) -> bool {
    match op {
        Op::Reduce(r) => r.kind == ReduceKind::Sum && r.axes.windows(2).any(|w| w[0] + 1 != w[1]),
        _ => false,
    }
}

fn legal(graph: &Graph) {
    for (id, node) in graph.nodes() {
        match &node.op {
            Op::StopGradient(_) => panic!("{id} is a gradient stop"),
            Op::Reduce(r) => assert!(
                !r.axes.is_empty() && r.axes.windows(2).all(|w| w[0] + 1 == w[1]),
                "{id}"
            ),
            _ => {}
        }
    }
}

#[test]
fn sums_over_separate_runs_agree_but_for_rounding() {
    let g = Builder::new("runs");
    let x = g.input("x", DType::F32, [3, 4, 5, 2]);
    g.output("y", x.reduce(ReduceKind::Sum, &[0, 2, 3]));
    let before = g.finish().unwrap();
    let after = driver::run_pass("legalize", &before, &Options::default()).unwrap();
    for seed in 0..20 {
        let (x, y) = (
            run(&before, Feed::Moderate, seed, 1),
            run(&after, Feed::Moderate, seed, 1),
        );
        let (Values::Float(x), Values::Float(y)) = (x.outputs[0].values(), y.outputs[0].values())
        else {
            panic!("floats");
        };
        assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-4));
    }
}

#[test]
fn the_pipeline_is_deterministic_and_a_second_run_of_the_exact_part_changes_little() {
    for seed in 0..SEEDS / 5 {
        let before = graph(seed);
        let options = Options::default();
        let optimize = || {
            driver::optimize(&before, &mut Context::new(&options))
                .unwrap()
                .graph
        };
        let once = optimize();
        assert_eq!(once, optimize(), "seed {seed}");
        let twice = driver::optimize(&once, &mut Context::new(&options))
            .unwrap()
            .graph;
        assert!(twice.len() <= once.len(), "seed {seed}");
    }
}
