//! Lanes loops in full width: what fills all registers, every type in memory, folds of every length, predicates, and chance.

mod columns;

use crate::elements::Random;
use crate::support::{
    Buffer, Build, Compiled, agrees_in_ranges, agrees_over, folding, i, map, n, nest, store,
    store_if, targets,
};
use kiln_compiler::emit::asm_text;
use kiln_compiler::kernel::{
    Access, Accumulator, Expr, Fold, Index, Kernel, LoopKind, Stmt, ValueId,
};
use kiln_compiler::math::wide::Width;
use kiln_ir::ops::{Binary, Compare, ReduceKind, Unary};
use kiln_ir::{Array, DType, Dim, Values};

/// Around the iterations that are unrolled, single, and masked.
const LENGTHS: [usize; 14] = [1, 2, 15, 16, 17, 31, 32, 47, 63, 64, 65, 127, 128, 200];

fn floats(seed: u64, count: usize) -> Array {
    let mut random = Random::new(seed);
    let values = (0..count).map(|_| random.unit() * 8.0 - 4.0);
    Array::new(
        DType::F32,
        vec![count],
        Values::Float(values.map(|x| f64::from(x as f32)).collect()),
    )
    .unwrap()
}

fn ints(dtype: DType, seed: u64, count: usize) -> Array {
    let mut random = Random::new(seed);
    let values = (0..count).map(|_| (random.unit() * 100.0) as i64);
    let values = match dtype {
        DType::Bool => values.map(|v| v % 2).collect(),
        _ => values.collect(),
    };
    Array::new(dtype, vec![count], Values::Int(values)).unwrap()
}

fn zeros(dtype: DType, count: usize) -> Array {
    let values = if dtype.is_float() {
        Values::Float(vec![0.0; count])
    } else {
        Values::Int(vec![0; count])
    };
    Array::new(dtype, vec![count], values).unwrap()
}

/// On a machine with AVX-512 the kernel must really have been emitted in full width.
fn is_wide(kernel: &Kernel) {
    let [native, _] = targets();
    let wide = asm_text(kernel, &native).unwrap().contains("full-width");
    assert_eq!(wide, Width::native() == Width::Avx512, "{kernel}");
}

/// Whether the partial results of columns stay in registers from row to row, which is so on a machine with AVX-512 or never.
fn is_tiled(kernel: &Kernel) -> bool {
    let [native, _] = targets();
    let text = asm_text(kernel, &native).unwrap();
    Width::native() != Width::Avx512 || text.contains("for each vector of a row")
}

/// More values are alive at once than there are registers, and a comparison for each.
#[test]
fn values_that_do_not_fit_go_to_the_stack_and_come_back() {
    let kernel = map(&[DType::F32, DType::F32], DType::F32, |b, body, v| {
        let terms: Vec<(ValueId, ValueId)> = (0..50)
            .map(|j| {
                let c = b.float(body, DType::F32, 0.25 * f64::from(j) - 3.0);
                let product = b.compute(body, DType::F32, Expr::Binary(Binary::Mul, v[0], c));
                let sum = b.compute(body, DType::F32, Expr::Binary(Binary::Add, product, v[1]));
                let above = Expr::Compare(Compare::Gt, sum, v[0]);
                (sum, b.compute(body, DType::Bool, above))
            })
            .collect();
        let mut sum = v[1];
        for (term, above) in terms.iter().rev().chain(&terms) {
            let chosen = b.compute(body, DType::F32, Expr::Select(*above, *term, sum));
            sum = b.compute(body, DType::F32, Expr::Fma(*term, chosen, sum));
            sum = b.compute(body, DType::F32, Expr::Binary(Binary::Div, sum, v[0]));
        }
        sum
    });
    is_wide(&kernel);
    agrees_over(&kernel, &LENGTHS, |n| {
        vec![floats(1, n), floats(2, n), zeros(DType::F32, n)]
    });
}

/// A fused multiply-add with each pattern of constants, repeated operands and operands that live on.
#[test]
fn fused_multiply_adds_take_their_operands_from_anywhere() {
    let kernel = map(&[DType::F32, DType::F32], DType::F32, |b, body, v| {
        let (two, three) = (
            b.float(body, DType::F32, 2.0),
            b.float(body, DType::F32, 3.0),
        );
        let operands = [v[0], v[1], two, three];
        let mut sum = v[0];
        for a in operands {
            for x in operands {
                for c in operands {
                    let term = b.compute(body, DType::F32, Expr::Fma(a, x, c));
                    let last = b.compute(body, DType::F32, Expr::Fma(term, term, term));
                    sum = b.compute(body, DType::F32, Expr::Fma(sum, two, last));
                }
            }
        }
        sum
    });
    is_wide(&kernel);
    agrees_over(&kernel, &LENGTHS, |n| {
        vec![floats(3, n), floats(4, n), zeros(DType::F32, n)]
    });
}

#[test]
fn elements_of_every_narrow_type_are_read_and_written() {
    for dtype in [
        DType::Bool,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
    ] {
        let kernel = map(&[dtype, DType::F32], DType::F32, |b, body, v| {
            let number = b.compute(body, DType::F32, Expr::Convert(v[0]));
            b.compute(body, DType::F32, Expr::Binary(Binary::Mul, number, v[1]))
        });
        is_wide(&kernel);
        agrees_over(&kernel, &LENGTHS, |n| {
            vec![ints(dtype, 5, n), floats(6, n), zeros(DType::F32, n)]
        });
        let kernel = map(&[dtype], dtype, |_, _, v| v[0]);
        is_wide(&kernel);
        agrees_over(&kernel, &LENGTHS, |n| {
            vec![ints(dtype, 7, n), zeros(dtype, n)]
        });
    }
}

#[test]
fn predicates_keep_lanes_from_memory() {
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::F32, Access::Read),
        (DType::F32, Access::ReadWrite),
    ]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let zero = b.float(&mut body, DType::F32, 0.0);
    let above = b.compute(&mut body, DType::Bool, Expr::Compare(Compare::Gt, x, zero));
    let y = b.load_if(&mut body, 1, i(0), Some(above));
    let sum = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Add, x, y));
    body.push(store_if(2, i(0), sum, Some(above)));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)]);
    is_wide(&kernel);
    agrees_over(&kernel, &LENGTHS, |n| {
        vec![floats(8, n), floats(9, n), floats(10, n)]
    });
}

/// The folds of rows, for the lengths around sixteens and around a block.
#[test]
fn folds_have_the_order_of_the_language() {
    for dtype in [DType::F32, DType::I32, DType::U32] {
        for kind in [
            ReduceKind::Sum,
            ReduceKind::Prod,
            ReduceKind::Max,
            ReduceKind::Min,
        ] {
            let mut b = Build::new(&[(dtype, Access::Read), (dtype, Access::Write)]);
            let mut body = Vec::new();
            let x = b.load(&mut body, 0, i(0));
            let operand = b.compute(&mut body, dtype, Expr::Binary(Binary::Mul, x, x));
            let total = b.value(dtype);
            let accumulator = Accumulator {
                value: total,
                fold: Fold::Reduce(kind),
                operand,
            };
            let row = folding(LoopKind::Lanes, 0, n(), body, vec![accumulator]);
            let kernel = b.finish(vec![row, store(1, Index::constant(0), total)]);
            is_wide(&kernel);
            let lengths: Vec<usize> = (1..40)
                .chain([63, 64, 65, 4095, 4096, 4097, 9000])
                .collect();
            agrees_over(&kernel, &lengths, |n| {
                let operand = if dtype == DType::F32 {
                    floats(11, n)
                } else {
                    ints(dtype, 12, n)
                };
                vec![operand, zeros(dtype, 1)]
            });
        }
    }
}

#[test]
fn extrema_know_of_nan_and_of_signed_zeros() {
    let special = [f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1.0];
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
        let mut body = Vec::new();
        let operand = b.load(&mut body, 0, i(0));
        let total = b.value(DType::F32);
        let accumulator = Accumulator {
            value: total,
            fold: Fold::Reduce(kind),
            operand,
        };
        let row = folding(LoopKind::Lanes, 0, n(), body, vec![accumulator]);
        let kernel = b.finish(vec![row, store(1, Index::constant(0), total)]);
        is_wide(&kernel);
        for (at, first) in special.iter().enumerate() {
            for second in special {
                agrees_over(&kernel, &[2, 16, 33, 70, 165], |n| {
                    let mut values = vec![second; n];
                    values[at * 7 % n] = *first;
                    let row = Array::new(DType::F32, vec![n], Values::Float(values)).unwrap();
                    vec![row, zeros(DType::F32, 1)]
                });
            }
        }
    }
}

/// Folds that have an order beside such that have none, each with a lane of NaN here and there.
#[test]
fn folds_of_all_kinds_share_a_loop() {
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::I32, Access::Read),
        (DType::F32, Access::Write),
        (DType::F32, Access::Write),
        (DType::I32, Access::Write),
        (DType::F32, Access::Write),
    ]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let k = b.load(&mut body, 1, i(0));
    let root = b.compute(&mut body, DType::F32, Expr::Unary(Unary::Sqrt, x));
    let folds = [
        (ReduceKind::Max, root),
        (ReduceKind::Sum, x),
        (ReduceKind::Sum, k),
        (ReduceKind::Min, x),
    ];
    let folds: Vec<Accumulator> = folds
        .into_iter()
        .map(|(kind, operand)| Accumulator {
            value: b.value(b.dtype(operand)),
            fold: Fold::Reduce(kind),
            operand,
        })
        .collect();
    let totals: Vec<ValueId> = folds.iter().map(|f| f.value).collect();
    let mut outer = vec![folding(LoopKind::Lanes, 0, n(), body, folds)];
    for (i, total) in totals.into_iter().enumerate() {
        outer.push(store(2 + i as u32, Index::constant(0), total));
    }
    let kernel = b.finish(outer);
    is_wide(&kernel);
    let results = || {
        let dtypes = [DType::F32, DType::F32, DType::I32, DType::F32];
        dtypes.map(|dtype| zeros(dtype, 1))
    };
    let lengths: Vec<usize> = (1..20).chain([63, 64, 80, 130, 4100]).collect();
    for shift in [0.0, 4.0] {
        agrees_over(&kernel, &lengths, |n| {
            let x = floats(17, n).floats().unwrap().to_vec();
            let x = x.iter().map(|x| x + shift).collect();
            let x = Array::new(DType::F32, vec![n], Values::Float(x)).unwrap();
            let mut params = vec![x, ints(DType::I32, 18, n)];
            params.extend(results());
            params
        });
    }
}

/// Loops of every number of iterations that the code knows of.
#[test]
fn known_lengths() {
    for count in (8_i64..=100).chain([127, 128, 160, 4096, 4100]) {
        let size = Dim::from(count);
        let mut b = Build::new(&[
            (DType::F32, Access::Read),
            (DType::F32, Access::Write),
            (DType::F32, Access::Write),
            (DType::F32, Access::Write),
        ]);
        let mut body = Vec::new();
        let at = i(0).times(&size).plus(&i(1));
        let x = b.load(&mut body, 0, at);
        let y = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Mul, x, x));
        let folds = [ReduceKind::Sum, ReduceKind::Max].map(|kind| Accumulator {
            value: b.value(DType::F32),
            fold: Fold::Reduce(kind),
            operand: y,
        });
        let [sum, largest] = [folds[0].value, folds[1].value];
        let mut row = vec![folding(
            LoopKind::Lanes,
            1,
            size.clone(),
            body,
            folds.to_vec(),
        )];
        row.push(store(1, i(0), sum));
        row.push(store(2, i(0), largest));
        let mut body = Vec::new();
        let at = i(0).times(&size).plus(&i(2));
        let x = b.load(&mut body, 0, at.clone());
        let y = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Div, x, sum));
        body.push(store(3, at, y));
        row.push(nest(LoopKind::Lanes, 2, size, body));
        let kernel = b.finish(vec![nest(LoopKind::Grid, 0, n(), row)]);
        is_wide(&kernel);
        agrees_over(&kernel, &[1, 3], |n| {
            let all = n * count as usize;
            let params = [floats(23, all), zeros(DType::F32, n), zeros(DType::F32, n)];
            params.into_iter().chain([zeros(DType::F32, all)]).collect()
        });
    }
}

/// A loop may be cut anywhere and shared out, and what lies before it is computed once for each call.
#[test]
fn ranges_and_values_from_outside() {
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::F32, Access::Read),
        (DType::F32, Access::Write),
    ]);
    let mut before = Vec::new();
    let scale = b.load(&mut before, 1, Index::constant(0));
    let scale = b.compute(&mut before, DType::F32, Expr::Unary(Unary::Sqrt, scale));
    let least = b.load(&mut before, 1, Index::constant(0));
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let quotient = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Div, scale, x));
    let larger = b.compute(
        &mut body,
        DType::F32,
        Expr::Binary(Binary::Max, quotient, least),
    );
    body.push(store(2, i(0), larger));
    before.push(nest(LoopKind::Lanes, 0, n(), body));
    let kernel = b.finish(before);
    is_wide(&kernel);
    agrees_in_ranges(&kernel, 200, &[0..200, 0..1, 5..100, 77..200, 3..3], |n| {
        let scale = Array::new(DType::F32, vec![1], Values::Float(vec![2.0])).unwrap();
        vec![floats(13, n), scale, zeros(DType::F32, n)]
    });
}

/// Random words at positions in a row: two streams in one loop of any or of a known length, whole strips and more, from any word of a block.
#[test]
fn random_words_are_drawn_in_strips() {
    for (extent, fold, offset) in [
        (n(), false, 0_i64),
        (n(), false, 3),
        (n(), true, 1),
        (Dim::from(2500), false, 2),
        (Dim::from(1024), false, 1),
        (Dim::from(40), true, (1 << 34) - 6),
    ] {
        let mut b = Build::new(&[
            (DType::U32, Access::Read),
            (DType::F32, Access::Read),
            (DType::F32, Access::Write),
            (DType::U32, Access::Write),
        ]);
        let mut body = Vec::new();
        let words = [0, 1, 2, 3].map(|w| b.load(&mut body, 0, Index::constant(w)));
        let mut lanes = Vec::new();
        let drawn = [offset, offset + 1].map(|offset| {
            let at = Expr::Index(i(0).offset(&Dim::from(offset)));
            let position = b.compute(&mut lanes, DType::I64, at);
            let draw = Expr::Philox {
                key: [words[0], words[1]],
                counter: [words[2], words[3]],
                position,
            };
            b.compute(&mut lanes, DType::U32, draw)
        });
        let x = b.load(&mut lanes, 1, i(0));
        let kept = Expr::Compare(Compare::Lt, drawn[0], drawn[1]);
        let kept = b.compute(&mut lanes, DType::Bool, kept);
        let zero = b.float(&mut lanes, DType::F32, 0.0);
        let y = b.compute(&mut lanes, DType::F32, Expr::Select(kept, x, zero));
        lanes.push(store(2, i(0), y));
        let folds = fold.then(|| Accumulator {
            value: b.value(DType::U32),
            fold: Fold::Reduce(ReduceKind::Sum),
            operand: drawn[0],
        });
        let total = folds.as_ref().map(|f| f.value);
        let folds = folds.into_iter().collect();
        body.push(folding(LoopKind::Lanes, 0, extent.clone(), lanes, folds));
        body.extend(total.map(|total| store(3, Index::constant(0), total)));
        let kernel = b.finish(body);
        is_wide(&kernel);
        let params = |n: usize| {
            let n = extent.constant().map_or(n, |n| n as usize);
            let words = vec![0x1234_5678, 0xffff_fff0, 7, 0x8000_0001];
            vec![
                Array::new(DType::U32, vec![4], Values::Int(words)).unwrap(),
                floats(24, n),
                zeros(DType::F32, n),
                zeros(DType::U32, 1),
            ]
        };
        agrees_over(&kernel, &[1, 5, 16, 70, 1023, 1024, 1025, 4097], params);
        if !fold {
            let end = extent.constant().unwrap_or(2500);
            let cuts = [0..end, 1..2, 3..end - 5, end / 3..end];
            agrees_in_ranges(&kernel, 2500, &cuts, params);
        }
    }
}

/// The exponential family over all magnitudes and what is no number, where one instruction scales that is several in 128 bits.
#[test]
fn exponentials_have_the_bits_of_128_bits() {
    for op in [
        Unary::Exp,
        Unary::Expm1,
        Unary::Logistic,
        Unary::Tanh,
        Unary::Erf,
        Unary::Erfc,
    ] {
        let kernel = map(&[DType::F32], DType::F32, |b, body, v| {
            b.compute(body, DType::F32, Expr::Unary(op, v[0]))
        });
        is_wide(&kernel);
        let compiled = targets().map(|target| Compiled::for_target(kernel.clone(), &target));
        let operands: Vec<f32> = (0..=u32::MAX).step_by(2003).map(f32::from_bits).collect();
        let found = compiled.map(|compiled| {
            let count = operands.len();
            let (mut x, mut y) = (Buffer::of(&operands), Buffer::of(&vec![0.0_f32; count]));
            compiled.run(count, &mut [&mut x, &mut y]);
            y.to_vec::<f32>()
        });
        for (x, (a, b)) in operands.iter().zip(found[0].iter().zip(&found[1])) {
            let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same, "{op:?} of {x:e} ({:#x}): {a:e}, {b:e}", x.to_bits());
        }
    }
}

/// Straight-line code by chance: every op that is selected, operands from everywhere.
#[test]
fn random_bodies() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut below = |n: usize| (random.unit().abs() * n as f64) as usize % n;
        let kernel = map(
            &[DType::F32, DType::I32, DType::F32],
            DType::F32,
            |b, body, v| {
                let mut floats = vec![v[0], v[2], b.float(body, DType::F32, 1.5)];
                let mut ints = vec![v[1], b.int(body, DType::I32, 3)];
                let mut masks = Vec::new();
                for _ in 0..5 + below(60) {
                    let (x, y) = (floats[below(floats.len())], floats[below(floats.len())]);
                    let (p, q) = (ints[below(ints.len())], ints[below(ints.len())]);
                    let float =
                        |b: &mut Build, body: &mut Vec<Stmt>, e| b.compute(body, DType::F32, e);
                    let int =
                        |b: &mut Build, body: &mut Vec<Stmt>, e| b.compute(body, DType::I32, e);
                    let mask =
                        |b: &mut Build, body: &mut Vec<Stmt>, e| b.compute(body, DType::Bool, e);
                    match below(14) {
                        0 => floats.push(float(b, body, Expr::Binary(Binary::Add, x, y))),
                        1 => floats.push(float(b, body, Expr::Binary(Binary::Mul, x, y))),
                        2 => floats.push(float(b, body, Expr::Binary(Binary::Sub, x, y))),
                        3 => floats.push(float(b, body, Expr::Binary(Binary::Max, x, y))),
                        4 => floats.push(float(b, body, Expr::Fma(x, y, x))),
                        5 => floats.push(float(b, body, Expr::Unary(Unary::Tanh, x))),
                        6 => floats.push(float(b, body, Expr::Unary(Unary::Floor, x))),
                        7 => floats.push(float(b, body, Expr::Convert(p))),
                        8 => ints.push(int(b, body, Expr::Binary(Binary::Shl, p, q))),
                        9 => ints.push(int(b, body, Expr::Binary(Binary::Sub, p, q))),
                        10 => masks.push(mask(b, body, Expr::Compare(Compare::Le, x, y))),
                        11 => masks.push(mask(b, body, Expr::Compare(Compare::Ne, p, q))),
                        12 if masks.len() > 1 => {
                            let (c, d) = (masks[below(masks.len())], masks[below(masks.len())]);
                            masks.push(mask(b, body, Expr::Binary(Binary::Xor, c, d)));
                        }
                        _ if !masks.is_empty() => {
                            let c = masks[below(masks.len())];
                            floats.push(float(b, body, Expr::Select(c, x, y)));
                        }
                        _ => floats.push(float(b, body, Expr::Unary(Unary::Neg, x))),
                    }
                }
                let mut sum = floats[0];
                for x in &floats[1..] {
                    sum = b.compute(body, DType::F32, Expr::Binary(Binary::Add, sum, *x));
                }
                sum
            },
        );
        is_wide(&kernel);
        agrees_over(&kernel, &[1, 16, 40, 150], |n| {
            vec![
                floats(seed, n),
                ints(DType::I32, seed, n),
                floats(seed + 1, n),
                zeros(DType::F32, n),
            ]
        });
    }
}
