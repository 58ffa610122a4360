//! Column reductions in full width: partial results stay in registers from row to row, in tiles of columns.

use super::{floats, ints, is_tiled, is_wide, zeros};
use crate::support::{Build, agrees_in_ranges, agrees_over, folding, i, n, nest, store};
use kiln_compiler::kernel::{Access, Accumulator, Expr, Fold, LoopKind};
use kiln_compiler::math::wide::Width;
use kiln_ir::ops::{Binary, Compare, ReduceKind, Unary};
use kiln_ir::{Array, DType, Dim, Values};

/// Column reductions: two folds at once, with numbers of the row and of the column beside the elements.
#[test]
fn columns_are_folded_row_by_row() {
    for columns in [8_i64, 10, 16, 17, 48, 64, 67, 130, 272, 600] {
        let width = Dim::from(columns);
        let mut b = Build::new(&[
            (DType::F32, Access::Read),
            (DType::F32, Access::Read),
            (DType::F32, Access::Read),
            (DType::F32, Access::Write),
            (DType::F32, Access::Write),
        ]);
        let mut outer = Vec::new();
        let column = b.load(&mut outer, 1, i(0));
        let mut body = Vec::new();
        let x = b.load(&mut body, 0, i(1).times(&width).plus(&i(0)));
        let row = b.load(&mut body, 2, i(1));
        let row = b.compute(&mut body, DType::F32, Expr::Unary(Unary::Exp, row));
        let scaled = b.compute(&mut body, DType::F32, Expr::Fma(x, row, column));
        let folds = [ReduceKind::Sum, ReduceKind::Max].map(|kind| Accumulator {
            value: b.value(DType::F32),
            fold: Fold::Reduce(kind),
            operand: if kind == ReduceKind::Sum { scaled } else { x },
        });
        let [sum, largest] = [folds[0].value, folds[1].value];
        outer.push(folding(LoopKind::Serial, 1, n(), body, folds.to_vec()));
        let mean = b.compute(
            &mut outer,
            DType::F32,
            Expr::Binary(Binary::Mul, sum, column),
        );
        outer.push(store(3, i(0), mean));
        outer.push(store(4, i(0), largest));
        let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, width, outer)]);
        is_wide(&kernel);
        assert!(is_tiled(&kernel), "{kernel}");
        let columns = columns as usize;
        agrees_over(&kernel, &[1, 2, 3, 8, 9, 20, 128, 129, 300], |n| {
            vec![
                floats(14, n * columns),
                floats(15, columns),
                floats(16, n),
                zeros(DType::F32, columns),
                zeros(DType::F32, columns),
            ]
        });
        let end = columns as i64;
        let cuts = [0..end, 0..1, 3..end - 2, end / 3..end, end - 1..end];
        agrees_in_ranges(&kernel, 40, &cuts, |n| {
            vec![
                floats(14, n * columns),
                floats(15, columns),
                floats(16, n),
                zeros(DType::F32, columns),
                zeros(DType::F32, columns),
            ]
        });
    }
}

/// As many columns as a step has, whose rows are as far apart; what the rows are folded with is computed before them or is a mask, which
/// has no register for all rows.
#[test]
fn columns_of_any_number_with_values_from_before_the_rows() {
    for masked in [false, true] {
        let mut b = Build::new(&[
            (DType::F32, Access::Read),
            (DType::F32, Access::Read),
            (DType::I32, Access::Read),
            (DType::F32, Access::Write),
            (DType::I32, Access::Write),
        ]);
        let mut outer = Vec::new();
        let column = b.load(&mut outer, 1, i(0));
        let root = b.compute(&mut outer, DType::F32, Expr::Unary(Unary::Sqrt, column));
        let zero = b.float(&mut outer, DType::F32, 0.0);
        let positive = Expr::Compare(Compare::Gt, column, zero);
        let positive = b.compute(&mut outer, DType::Bool, positive);
        let mut body = Vec::new();
        let at = i(1).times(&n()).plus(&i(0));
        let x = b.load(&mut body, 0, at.clone());
        let k = b.load(&mut body, 2, at);
        let mut scaled = b.compute(&mut body, DType::F32, Expr::Fma(x, root, column));
        if masked {
            let chosen = Expr::Select(positive, scaled, x);
            scaled = b.compute(&mut body, DType::F32, chosen);
        }
        let folds = vec![
            Accumulator {
                value: b.value(DType::F32),
                fold: Fold::Reduce(ReduceKind::Min),
                operand: scaled,
            },
            Accumulator {
                value: b.value(DType::I32),
                fold: Fold::Reduce(ReduceKind::Sum),
                operand: k,
            },
        ];
        let [least, sum] = [folds[0].value, folds[1].value];
        outer.push(folding(LoopKind::Serial, 1, Dim::from(150), body, folds));
        outer.push(store(3, i(0), least));
        outer.push(store(4, i(0), sum));
        let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), outer)]);
        is_wide(&kernel);
        assert_ne!(
            is_tiled(&kernel),
            masked && Width::native() == Width::Avx512
        );
        let params = |n: usize| {
            let mut columns = floats(20, n).floats().unwrap().to_vec();
            columns.iter_mut().step_by(3).for_each(|x| *x = x.abs());
            vec![
                floats(19, 150 * n),
                Array::new(DType::F32, vec![n], Values::Float(columns)).unwrap(),
                ints(DType::I32, 21, 150 * n),
                zeros(DType::F32, n),
                zeros(DType::I32, n),
            ]
        };
        agrees_over(&kernel, &[1, 7, 15, 16, 17, 33, 127, 128, 129, 200], params);
        agrees_in_ranges(&kernel, 150, &[0..150, 3..4, 20..143], params);
    }
}

/// What is no number, and zeros of both signs, in every column and row.
#[test]
fn extrema_of_columns_know_of_nan_and_of_signed_zeros() {
    let special = [f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, -1.0];
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        let width = Dim::from(40);
        let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
        let mut body = Vec::new();
        let operand = b.load(&mut body, 0, i(1).times(&width).plus(&i(0)));
        let total = b.value(DType::F32);
        let accumulator = Accumulator {
            value: total,
            fold: Fold::Reduce(kind),
            operand,
        };
        let rows = folding(LoopKind::Serial, 1, n(), body, vec![accumulator]);
        let outer = vec![rows, store(1, i(0), total)];
        let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, width, outer)]);
        is_wide(&kernel);
        assert!(is_tiled(&kernel), "{kernel}");
        for first in special {
            for second in special {
                agrees_over(&kernel, &[0, 1, 2, 130], |n| {
                    let mut values = vec![second; 40 * n];
                    values.iter_mut().step_by(37).for_each(|x| *x = first);
                    let rows = Array::new(DType::F32, vec![40 * n], Values::Float(values)).unwrap();
                    vec![rows, zeros(DType::F32, 40)]
                });
            }
        }
    }
}
