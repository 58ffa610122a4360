//! Accumulators: the bits of every fold, at lengths around groups, sixteens and blocks.

use crate::elements::{Random, TYPES, numbers};
use crate::support::{Build, agrees_over, folding, i, n, nest, store};
use kiln_compiler::kernel::{
    Access, Accumulator, Expr, Fold, Index, Kernel, LoopKind, Stmt, ValueId,
};
use kiln_ir::ops::{ReduceKind, Unary};
use kiln_ir::{Array, DType, Dim, Values};

const LANES: [usize; 16] = [
    0, 1, 3, 4, 5, 15, 16, 17, 33, 100, 4095, 4096, 4097, 4112, 8192, 10_001,
];
const SERIAL: [usize; 10] = [0, 1, 2, 5, 127, 128, 129, 256, 300, 1000];

fn kinds(dtype: DType) -> &'static [ReduceKind] {
    if dtype == DType::Bool {
        &[ReduceKind::Any, ReduceKind::All]
    } else {
        &[
            ReduceKind::Sum,
            ReduceKind::Prod,
            ReduceKind::Max,
            ReduceKind::Min,
        ]
    }
}

/// All reductions and both positions of one stream, in one loop.
fn all_folds(
    kind: LoopKind,
    dtype: DType,
    extent: Dim,
    compute: impl Fn(&mut Build, &mut Vec<Stmt>, ValueId) -> ValueId,
) -> Kernel {
    all_folds_ordered(kind, dtype, extent, 1, compute)
}

fn all_folds_ordered(
    kind: LoopKind,
    dtype: DType,
    extent: Dim,
    order: i64,
    compute: impl Fn(&mut Build, &mut Vec<Stmt>, ValueId) -> ValueId,
) -> Kernel {
    let results = kinds(dtype);
    let mut params = vec![(dtype, Access::Read)];
    params.extend(results.iter().map(|_| (dtype, Access::Write)));
    if dtype != DType::Bool {
        params.extend([(DType::I64, Access::Write); 2]);
    }
    let mut b = Build::new(&params);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let x = compute(&mut b, &mut body, x);
    // Positions may fall, so that of equal numbers the last one wins.
    let at = b.compute(
        &mut body,
        DType::I64,
        Expr::Index(i(0).times(&Dim::from(order)).offset(&Dim::from(10))),
    );
    let mut folds: Vec<Accumulator> = Vec::new();
    for kind in results {
        folds.push(Accumulator {
            value: b.value(dtype),
            fold: Fold::Reduce(*kind),
            operand: x,
        });
    }
    if dtype != DType::Bool {
        for fold in [Fold::ArgMax(at), Fold::ArgMin(at)] {
            folds.push(Accumulator {
                value: b.value(DType::I64),
                fold,
                operand: x,
            });
        }
    }
    let values: Vec<ValueId> = folds.iter().map(|a| a.value).collect();
    let mut body = vec![folding(kind, 0, extent, body, folds)];
    for (p, value) in values.into_iter().enumerate() {
        body.push(store(p as u32 + 1, Index::constant(0), value));
    }
    b.finish(body)
}

fn outputs(dtype: DType, input: Array) -> Vec<Array> {
    let mut params = vec![input];
    params.extend(kinds(dtype).iter().map(|_| numbers(dtype, 1, 0)));
    if dtype != DType::Bool {
        params.extend([numbers(DType::I64, 1, 0), numbers(DType::I64, 1, 0)]);
    }
    params
}

/// Numbers whose sum depends on its order.
fn uneven(dtype: DType, count: usize) -> Array {
    if !dtype.is_float() {
        return numbers(dtype, count, 3);
    }
    let mut random = Random::new(17);
    let values = (0..count)
        .map(|_| random.unit() * 2.0_f64.powi((random.next() % 20) as i32))
        .collect();
    Array::new(dtype, vec![count], Values::Float(values)).unwrap()
}

fn same(_: &mut Build, _: &mut Vec<Stmt>, x: ValueId) -> ValueId {
    x
}

#[test]
fn folds_over_lanes() {
    for dtype in TYPES {
        let kernel = all_folds(LoopKind::Lanes, dtype, n(), same);
        agrees_over(&kernel, &LANES, |n| outputs(dtype, uneven(dtype, n)));
    }
}

#[test]
fn folds_over_lanes_of_known_number() {
    for length in LANES {
        let kernel = all_folds(LoopKind::Lanes, DType::F32, Dim::from(length), same);
        agrees_over(&kernel, &[length], |n| {
            outputs(DType::F32, uneven(DType::F32, n))
        });
    }
}

#[test]
fn folds_in_order() {
    for dtype in TYPES {
        let kernel = all_folds(LoopKind::Serial, dtype, n(), same);
        agrees_over(&kernel, &SERIAL, |n| outputs(dtype, uneven(dtype, n)));
    }
    for length in SERIAL {
        let kernel = all_folds(LoopKind::Serial, DType::F32, Dim::from(length), same);
        agrees_over(&kernel, &[length], |n| {
            outputs(DType::F32, uneven(DType::F32, n))
        });
    }
}

/// With zeros of both signs, infinities and NaN among the operands, in different places.
#[test]
fn folds_of_edges() {
    for dtype in [DType::F32, DType::F64] {
        for kind in [LoopKind::Lanes, LoopKind::Serial] {
            let kernel = all_folds(kind, dtype, n(), same);
            for shift in 0..34 {
                agrees_over(&kernel, &[1, 2, 3, 7, 20], |n| {
                    let edges = numbers(dtype, 34, 0);
                    outputs(
                        dtype,
                        crate::elements::gather(&edges, n, |i| (i + shift) % 34),
                    )
                });
            }
        }
    }
}

#[test]
fn positions_of_equal_and_missing_numbers() {
    let nan = f64::NAN;
    let cases: [&[f64]; 7] = [
        &[1.0; 40],
        &[f64::NEG_INFINITY; 20],
        &[f64::INFINITY; 5],
        &[nan; 18],
        &[3.0, nan, 5.0, nan, 5.0],
        &[-0.0, 0.0, -0.0, 0.0, 0.0, -0.0],
        &[],
    ];
    for dtype in [DType::F32, DType::F64] {
        for kind in [LoopKind::Lanes, LoopKind::Serial] {
            for order in [1, -1] {
                let kernel = all_folds_ordered(kind, dtype, n(), order, same);
                for case in cases {
                    agrees_over(&kernel, &[case.len()], |n| {
                        outputs(
                            dtype,
                            Array::new(dtype, vec![n], Values::Float(case.to_vec())).unwrap(),
                        )
                    });
                }
            }
        }
    }
}

/// A body too long for four groups an iteration: the partial results change places, the bits do not.
#[test]
fn long_bodies_fold_in_the_same_order() {
    let long = |b: &mut Build, body: &mut Vec<Stmt>, x: ValueId| {
        let ops = [Unary::Sin, Unary::Erfc, Unary::Exp];
        ops.into_iter()
            .fold(x, |x, op| b.compute(body, DType::F32, Expr::Unary(op, x)))
    };
    let kernel = all_folds(LoopKind::Lanes, DType::F32, n(), long);
    agrees_over(&kernel, &[0, 1, 15, 16, 17, 33, 100, 4097], |n| {
        outputs(DType::F32, uneven(DType::F32, n))
    });
    for length in [7, 32, 45] {
        let kernel = all_folds(LoopKind::Lanes, DType::F32, Dim::from(length), long);
        agrees_over(&kernel, &[length as usize], |n| {
            outputs(DType::F32, uneven(DType::F32, n))
        });
    }
}

/// Lanes outside, a fold in order inside: sums down the columns of a matrix, with a value of the lanes loop used inside.
#[test]
fn columns() {
    for dtype in [DType::F32, DType::F64, DType::U8, DType::I64] {
        for rows in [Dim::from(0), Dim::from(3), Dim::from(200), n()] {
            let mut b = Build::new(&[
                (dtype, Access::Read),
                (dtype, Access::Read),
                (dtype, Access::Write),
                (DType::I64, Access::Write),
            ]);
            let mut lanes = Vec::new();
            let scale = b.load(&mut lanes, 1, i(0));
            let mut body = Vec::new();
            let x = b.load(&mut body, 0, i(1).times(&n()).plus(&i(0)));
            // Uniform within the lanes.
            let w = b.load(&mut body, 1, i(1).modulo(&Dim::from(2), &|_| None));
            let y = b.compute(
                &mut body,
                dtype,
                Expr::Binary(kiln_ir::ops::Binary::Mul, x, scale),
            );
            let y = b.compute(
                &mut body,
                dtype,
                Expr::Binary(kiln_ir::ops::Binary::Add, y, w),
            );
            let at = b.compute(&mut body, DType::I64, Expr::Index(i(1)));
            let sum = Accumulator {
                value: b.value(dtype),
                fold: Fold::Reduce(ReduceKind::Sum),
                operand: y,
            };
            let best = Accumulator {
                value: b.value(DType::I64),
                fold: Fold::ArgMax(at),
                operand: x,
            };
            let (s, p) = (sum.value, best.value);
            lanes.push(folding(
                LoopKind::Serial,
                1,
                rows.clone(),
                body,
                vec![sum, best],
            ));
            lanes.push(store(2, i(0), s));
            lanes.push(store(3, i(0), p));
            let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), lanes)]);
            let lengths: &[usize] = if rows.constant() == Some(200) {
                &[5, 17]
            } else {
                &[0, 1, 2, 5, 17, 33]
            };
            agrees_over(&kernel, lengths, |n| {
                let count = n * rows.constant().map_or(n, |r| r as usize);
                vec![
                    uneven(dtype, count),
                    numbers(dtype, n.max(2), 2),
                    numbers(dtype, n, 1),
                    numbers(DType::I64, n, 1),
                ]
            });
        }
    }
}
