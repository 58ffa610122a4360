//! Whole kernels as fusion makes them: rows with several sweeps, columns, optimizer steps and random numbers.

use crate::elements::{Random, numbers};
use crate::support::{Build, agrees, agrees_over, float_param, folding, i, n, nest, store};
use kiln_compiler::kernel::{
    Access, Accumulator, Atom, Expr, Fold, Index, Kernel, LoopKind, Stmt, ValueId,
};
use kiln_ir::ops::{Binary, ReduceKind, Unary};
use kiln_ir::{Array, DType, Dim, Values};

fn reduce(b: &mut Build, dtype: DType, kind: ReduceKind, operand: ValueId) -> Accumulator {
    Accumulator {
        value: b.value(dtype),
        fold: Fold::Reduce(kind),
        operand,
    }
}

/// A row at a time: the maximum, the sum of exponentials (kept in scratch), the quotient; and where the maximum was.
pub(crate) fn softmax(dtype: DType, columns: Dim) -> Kernel {
    let row = |inner: u32| i(0).times(&columns).plus(&i(inner));
    let mut b = Build::new(&[
        (dtype, Access::Read),
        (dtype, Access::ReadWrite),
        (dtype, Access::Write),
        (DType::I64, Access::Write),
    ]);
    let mut grid = Vec::new();
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, row(1));
    let at = b.compute(&mut body, DType::I64, Expr::Index(i(1)));
    let max = reduce(&mut b, dtype, ReduceKind::Max, x);
    let best = Accumulator {
        value: b.value(DType::I64),
        fold: Fold::ArgMax(at),
        operand: x,
    };
    let (m, p) = (max.value, best.value);
    grid.push(folding(
        LoopKind::Lanes,
        1,
        columns.clone(),
        body,
        vec![max, best],
    ));
    grid.push(store(3, i(0), p));

    let mut body = Vec::new();
    let x = b.load(&mut body, 0, row(2));
    let d = b.compute(&mut body, dtype, Expr::Binary(Binary::Sub, x, m));
    let e = b.compute(&mut body, dtype, Expr::Unary(Unary::Exp, d));
    body.push(store(1, i(2), e));
    let sum = reduce(&mut b, dtype, ReduceKind::Sum, e);
    let s = sum.value;
    grid.push(folding(
        LoopKind::Lanes,
        2,
        columns.clone(),
        body,
        vec![sum],
    ));
    let inverse = b.compute(&mut grid, dtype, Expr::Unary(Unary::Recip, s));

    let mut body = Vec::new();
    let e = b.load(&mut body, 1, i(3));
    let y = b.compute(&mut body, dtype, Expr::Binary(Binary::Mul, e, inverse));
    body.push(store(2, row(3), y));
    grid.push(nest(LoopKind::Lanes, 3, columns, body));
    b.finish(vec![nest(LoopKind::Grid, 0, Dim::from(3), grid)])
}

#[test]
fn softmax_over_rows() {
    for dtype in [DType::F32, DType::F64] {
        for columns in [n(), Dim::from(10), Dim::from(16), Dim::from(65)] {
            let kernel = softmax(dtype, columns.clone());
            let lengths: &[usize] = match columns.constant() {
                Some(_) => &[1],
                None => &[0, 1, 3, 4, 5, 15, 16, 17, 33, 300],
            };
            agrees_over(&kernel, lengths, |n| {
                let width = columns.constant().map_or(n, |c| c as usize);
                let mut random = Random::new(3);
                let x = (0..3 * width).map(|_| random.unit() * 10.0).collect();
                let x = Array::new(dtype, vec![3 * width], Values::Float(x)).unwrap();
                vec![
                    x,
                    numbers(dtype, width, 1),
                    numbers(dtype, 3 * width, 1),
                    numbers(DType::I64, 3, 1),
                ]
            });
        }
    }
}

/// Adam, in place, with its scalars computed before the shared loop.
pub(crate) fn adam() -> Kernel {
    let f = DType::F32;
    let mut b = Build::new(&[
        (f, Access::Read),
        (f, Access::ReadWrite),
        (f, Access::ReadWrite),
        (f, Access::ReadWrite),
    ]);
    let mut body = Vec::new();
    let g = b.load(&mut body, 0, i(0));
    let m = b.load(&mut body, 1, i(0));
    let v = b.load(&mut body, 2, i(0));
    let w = b.load(&mut body, 3, i(0));
    let binary =
        |b: &mut Build, body: &mut Vec<Stmt>, op, x, y| b.compute(body, f, Expr::Binary(op, x, y));
    let decay = |b: &mut Build, body: &mut Vec<Stmt>, old, new, beta: f64| {
        let (keep, take) = (b.float(body, f, beta), b.float(body, f, 1.0 - beta));
        let old = binary(b, body, Binary::Mul, old, keep);
        let new = binary(b, body, Binary::Mul, new, take);
        binary(b, body, Binary::Add, old, new)
    };
    let m = decay(&mut b, &mut body, m, g, 0.9);
    let square = binary(&mut b, &mut body, Binary::Mul, g, g);
    let v = decay(&mut b, &mut body, v, square, 0.999);
    let root = b.compute(&mut body, f, Expr::Unary(Unary::Sqrt, v));
    let epsilon = b.float(&mut body, f, 1e-8);
    let rate = b.float(&mut body, f, 1e-3);
    let below = binary(&mut b, &mut body, Binary::Add, root, epsilon);
    let step = binary(&mut b, &mut body, Binary::Div, m, below);
    let step = binary(&mut b, &mut body, Binary::Mul, step, rate);
    let w = binary(&mut b, &mut body, Binary::Sub, w, step);
    body.extend([store(1, i(0), m), store(2, i(0), v), store(3, i(0), w)]);
    b.finish(vec![nest(LoopKind::Lanes, 0, n(), body)])
}

#[test]
fn adam_in_place() {
    agrees(&adam(), |n| vec![float_param(n); 4]);
}

/// Dropout: the words of Philox at the positions of the elements, with a key and counter from memory.
pub(crate) fn dropout() -> Kernel {
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::U32, Access::Read),
        (DType::F32, Access::Write),
        (DType::U32, Access::Write),
    ]);
    let mut body = Vec::new();
    let words = [0, 1, 2, 3].map(|w| b.load(&mut body, 1, Index::constant(w)));
    let mut lanes = Vec::new();
    let x = b.load(&mut lanes, 0, i(0));
    let position = b.compute(
        &mut lanes,
        DType::I64,
        Expr::Index(i(0).offset(&Dim::from((1_i64 << 34) - 6))),
    );
    let bits = b.compute(
        &mut lanes,
        DType::U32,
        Expr::Philox {
            key: [words[0], words[1]],
            counter: [words[2], words[3]],
            position,
        },
    );
    let limit = b.int(&mut lanes, DType::U32, 1 << 31);
    let kept = b.compute(
        &mut lanes,
        DType::Bool,
        Expr::Compare(kiln_ir::ops::Compare::Lt, bits, limit),
    );
    let zero = b.float(&mut lanes, DType::F32, 0.0);
    let y = b.compute(&mut lanes, DType::F32, Expr::Select(kept, x, zero));
    lanes.extend([store(2, i(0), y), store(3, i(0), bits)]);
    body.push(nest(LoopKind::Lanes, 0, n(), lanes));
    b.finish(body)
}

#[test]
fn philox_has_the_bits_of_the_host() {
    let key = || {
        let words = vec![0x1234_5678, 0xffff_fff0, 7, 0x8000_0001];
        Array::new(DType::U32, vec![4], Values::Int(words)).unwrap()
    };
    let kernel = dropout();
    agrees(&kernel, |n| {
        vec![
            float_param(n),
            key(),
            float_param(n),
            numbers(DType::U32, n, 1),
        ]
    });
    // At positions without order.
    let mut b = Build::new(&[
        (DType::I64, Access::Read),
        (DType::U32, Access::Read),
        (DType::U32, Access::Write),
    ]);
    let mut lanes = Vec::new();
    let words = [0, 1, 2, 3].map(|w| b.load(&mut lanes, 1, Index::constant(w)));
    let position = b.load(&mut lanes, 0, i(0));
    let [k0, k1, c0, c1] = words;
    let bits = b.compute(
        &mut lanes,
        DType::U32,
        Expr::Philox {
            key: [k0, k1],
            counter: [c0, c1],
            position,
        },
    );
    lanes.push(store(2, i(0), bits));
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), lanes)]);
    agrees(&kernel, |n| {
        vec![numbers(DType::I64, n, 8), key(), numbers(DType::U32, n, 1)]
    });
}

/// A scatter-add: rows in order, their elements in lanes.
#[test]
fn rows_are_added_to_rows_that_repeat() {
    let width = Dim::from(6);
    let mut b = Build::new(&[
        (DType::F32, Access::Read),
        (DType::I64, Access::Read),
        (DType::F32, Access::ReadWrite),
    ]);
    let mut serial = Vec::new();
    let target = b.load(&mut serial, 1, i(0));
    let mut body = Vec::new();
    let at = Index::atom(Atom::Value(target)).times(&width).plus(&i(1));
    let x = b.load(&mut body, 0, i(0).times(&width).plus(&i(1)));
    let old = b.load(&mut body, 2, at.clone());
    let new = b.compute(&mut body, DType::F32, Expr::Binary(Binary::Add, old, x));
    body.push(store(2, at, new));
    serial.push(nest(LoopKind::Lanes, 1, width, body));
    let kernel = b.finish(vec![nest(LoopKind::Serial, 0, n(), serial)]);
    agrees(&kernel, |n| {
        let rows = (0..n).map(|r| (r % 3) as i64).collect();
        let rows = Array::new(DType::I64, vec![n], Values::Int(rows)).unwrap();
        vec![float_param(6 * n), rows, float_param(18)]
    });
}

/// Loops within loops of the lanes, with values that cross them.
#[test]
fn two_serial_loops_within_the_lanes() {
    let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
    let mut lanes = Vec::new();
    let x = b.load(&mut lanes, 0, i(0));
    let mut outer = Vec::new();
    let mut inner = Vec::new();
    let y = b.load(
        &mut inner,
        0,
        i(0).plus(&i(1).times(&Dim::from(2))).plus(&i(2)),
    );
    let z = b.compute(&mut inner, DType::F32, Expr::Binary(Binary::Mul, x, y));
    let sum = reduce(&mut b, DType::F32, ReduceKind::Sum, z);
    let s = sum.value;
    outer.push(folding(LoopKind::Serial, 2, Dim::from(2), inner, vec![sum]));
    let t = b.compute(&mut outer, DType::F32, Expr::Unary(Unary::Tanh, s));
    let max = reduce(&mut b, DType::F32, ReduceKind::Max, t);
    let total = reduce(&mut b, DType::F32, ReduceKind::Sum, s);
    let (m, q) = (max.value, total.value);
    lanes.push(folding(
        LoopKind::Serial,
        1,
        Dim::from(3),
        outer,
        vec![max, total],
    ));
    let r = b.compute(&mut lanes, DType::F32, Expr::Binary(Binary::Sub, q, m));
    lanes.push(store(1, i(0), r));
    // And a sum over the lanes of what came out of them.
    let kernel = b.finish(vec![nest(LoopKind::Lanes, 0, n(), lanes)]);
    agrees(&kernel, |n| vec![float_param(n + 6), float_param(n)]);
}
