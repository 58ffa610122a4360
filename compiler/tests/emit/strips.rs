//! Strips: the full-width functions have the bits of the recipes on one lane, and kernels that call them those of the language.

use crate::elements::{Random, assert_same, decode, encode, numbers, zeros};
use crate::support::{
    Buffer, Build, Compiled, agrees_in_ranges, agrees_over, folding, i, n, nest, store, targets,
};
use kiln_compiler::kernel::{
    Access, Accumulator, Apply, Element, Expr, Fold, Function, Index, Kernel, LoopId, LoopKind,
    Operand, ParamId, STRIP, Stmt, verify,
};
use kiln_compiler::math::wide::{self, Width};
use kiln_ir::ops::{Binary, ReduceKind, Unary};
use kiln_ir::{Array, DType, Dim, Values};
use std::ptr::null;

/// Numbers of all magnitudes, the edges first.
fn operands(dtype: DType, count: usize, seed: u64) -> Array {
    let mut random = Random::new(seed);
    let mut values = numbers(dtype, count / 2, seed).floats().unwrap().to_vec();
    while values.len() < count {
        values.push(match dtype {
            DType::F32 => f64::from(f32::from_bits(random.next() as u32)),
            _ => f64::from_bits(random.next()),
        });
    }
    Array::new(dtype, vec![count], Values::Float(values)).unwrap()
}

/// Runs a function of a width over `count` elements, in place or not.
fn run(width: Width, row: usize, x: &Array, y: &Array, in_place: bool) -> Array {
    let count = x.shape()[0];
    let (mut first, mut second) = (encode(x), encode(y));
    let mut target = zeros(x.dtype(), count);
    let to = if in_place {
        first.pointer()
    } else {
        target.pointer()
    };
    // SAFETY: the buffers have `count` elements, and the machine has the width.
    unsafe {
        (width.functions()[row])(
            to,
            first.pointer(),
            second.pointer(),
            count,
            3,
            null(),
            null(),
        )
    };
    second.check_guards();
    first.check_guards();
    decode(x.dtype(), if in_place { &first } else { &target })
}

fn cut(array: &Array, start: usize, count: usize) -> Array {
    let values = array.floats().unwrap()[start..start + count].to_vec();
    Array::new(array.dtype(), vec![count], Values::Float(values)).unwrap()
}

#[test]
fn all_widths_have_the_bits_of_one_lane() {
    for (row, (function, dtype)) in wide::ROWS.iter().enumerate() {
        let (x, y) = (operands(*dtype, 1200, 3), operands(*dtype, 1200, 4));
        let expected = run(Width::Portable, row, &x, &y, false);
        for width in Width::available() {
            let what = format!("{function} of {dtype} at {width:?}");
            for in_place in [false, true] {
                assert_same(
                    &run(width, row, &x, &y, in_place),
                    &expected,
                    &[&x, &y],
                    &what,
                );
            }
            for count in 0..=130 {
                let start = (count * 7) % 1000;
                let [x, y, expected] = [&x, &y, &expected].map(|a| cut(a, start, count));
                let found = run(width, row, &x, &y, count % 2 == 0);
                assert_same(&found, &expected, &[&x, &y], &what);
            }
        }
    }
}

#[test]
fn operands_that_are_the_same_for_all() {
    for (row, (function, dtype)) in wide::ROWS.iter().enumerate() {
        let (x, y) = (operands(*dtype, 150, 5), operands(*dtype, 150, 6));
        for at in [0, 2, 7, 130] {
            let all = |a: &Array| {
                let value = a.floats().unwrap()[at];
                Array::new(*dtype, vec![150], Values::Float(vec![value; 150])).unwrap()
            };
            for walking in 0..3_usize {
                let first = if walking & 1 == 0 { all(&x) } else { x.clone() };
                let second = if walking & 2 == 0 { all(&y) } else { y.clone() };
                let expected = run(Width::Portable, row, &first, &second, false);
                for width in Width::available() {
                    let (mut first, mut second) = (encode(&first), encode(&second));
                    let mut target = zeros(*dtype, 150);
                    let (to, first, second) = (target.pointer(), first.pointer(), second.pointer());
                    // SAFETY: the buffers have as many elements, and the machine has the width.
                    unsafe {
                        (width.functions()[row])(to, first, second, 150, walking, to, second)
                    };
                    let what = format!("{function} of {dtype} at {width:?}, walking {walking}");
                    assert_same(&decode(*dtype, &target), &expected, &[&x, &y], &what);
                }
            }
        }
    }
}

#[test]
fn the_portable_functions_are_the_recipes() {
    for (row, (function, dtype)) in wide::ROWS.iter().enumerate() {
        let (x, y) = (operands(*dtype, 300, 8), operands(*dtype, 300, 9));
        let found = run(Width::Portable, row, &x, &y, false);
        let expected = match function {
            Function::Unary(op) => crate::elementwise::unary_reference(*op, &x),
            Function::Binary(op) => crate::elementwise::binary_reference(*op, &x, &y),
        };
        assert_same(
            &found,
            &expected,
            &[&x, &y],
            &format!("{function} of {dtype}"),
        );
    }
}

#[test]
fn every_function_is_found_by_its_name() {
    for (row, (function, dtype)) in wide::ROWS.iter().enumerate() {
        assert_eq!(wide::position(*function, *dtype), Some(row));
    }
    assert_eq!(
        wide::position(Function::Unary(Unary::Neg), DType::F32),
        None
    );
    assert_eq!(
        wide::position(Function::Binary(Binary::Pow), DType::I32),
        None
    );
}

fn element(param: u32, index: Index) -> Element {
    Element {
        param: ParamId(param),
        index,
    }
}

fn apply(id: u32, function: Function, target: Element, operands: Vec<Element>) -> Stmt {
    let operands = operands.into_iter().map(Operand::Element).collect();
    Stmt::Apply(Apply {
        id: LoopId(id),
        function,
        target,
        operands,
        ahead: Vec::new(),
    })
}

/// The element of a strip of scratch, for a counter of the strips `outer`.
fn within(outer: u32, id: u32) -> Index {
    i(id).plus(&i(outer).times(&Dim::from(-1)))
}

/// `out = x * tanh(x + x)`, and the sum and the position of the largest of these.
fn folded(dtype: DType, extent: Dim) -> Kernel {
    let mut b = Build::new(&[
        (dtype, Access::Read),
        (dtype, Access::ReadWrite),
        (dtype, Access::Write),
        (dtype, Access::Write),
        (DType::I64, Access::Write),
    ]);
    let mut first = Vec::new();
    let x = b.load(&mut first, 0, i(1));
    let twice = b.compute(&mut first, dtype, Expr::Binary(Binary::Add, x, x));
    first.push(store(1, within(0, 1), twice));
    let mut second = Vec::new();
    let x = b.load(&mut second, 0, i(3));
    let t = b.load(&mut second, 1, within(0, 3));
    let y = b.compute(&mut second, dtype, Expr::Binary(Binary::Mul, x, t));
    let at = b.compute(&mut second, DType::I64, Expr::Index(i(3)));
    second.push(store(2, i(3), y));
    let sum = Accumulator {
        value: b.value(dtype),
        fold: Fold::Reduce(ReduceKind::Sum),
        operand: y,
    };
    let best = Accumulator {
        value: b.value(DType::I64),
        fold: Fold::ArgMax(at),
        operand: y,
    };
    let (s, p) = (sum.value, best.value);
    let tanh = apply(
        2,
        Function::Unary(Unary::Tanh),
        element(1, within(0, 2)),
        vec![element(1, within(0, 2))],
    );
    let phases = vec![
        nest(LoopKind::Lanes, 1, extent.clone(), first),
        tanh,
        nest(LoopKind::Lanes, 3, extent.clone(), second),
    ];
    b.finish(vec![
        folding(LoopKind::Strips, 0, extent, phases, vec![sum, best]),
        store(3, Index::constant(0), s),
        store(4, Index::constant(0), p),
    ])
}

#[test]
fn folds_go_on_from_strip_to_strip() {
    let lengths = [0, 1, 3, 16, 17, 511, 512, 513, 530, 1024, 4096, 4097, 5000];
    let strip = STRIP as usize;
    let scratch = |dtype| Array::new(dtype, vec![strip], Values::Float(vec![0.0; strip])).unwrap();
    let one = |dtype| match dtype {
        DType::I64 => Array::new(dtype, vec![1], Values::Int(vec![0])).unwrap(),
        _ => Array::new(dtype, vec![1], Values::Float(vec![0.0])).unwrap(),
    };
    let params = |dtype: DType| {
        move |n: usize| {
            let mut random = Random::new(5);
            let x = (0..n).map(|_| random.unit() * 2.0).collect();
            let x = Array::new(dtype, vec![n], Values::Float(x)).unwrap();
            let x = match dtype {
                DType::F32 => decode(dtype, &encode(&x)),
                _ => x,
            };
            vec![x.clone(), scratch(dtype), x, one(dtype), one(DType::I64)]
        }
    };
    for dtype in [DType::F32, DType::F64] {
        agrees_over(&folded(dtype, n()), &lengths, params(dtype));
        for known in [0, 5, 512, 530, 1024, 4100] {
            let kernel = folded(dtype, Dim::from(known));
            agrees_over(&kernel, &[known as usize], params(dtype));
        }
    }
}

/// `p1 = exp(p0)` and `p2 = p0 ^ p1`, strip by strip.
fn partitioned() -> Kernel {
    let dtype = DType::F32;
    let b = Build::new(&[
        (dtype, Access::Read),
        (dtype, Access::ReadWrite),
        (dtype, Access::Write),
    ]);
    let exp = apply(
        1,
        Function::Unary(Unary::Exp),
        element(1, i(1)),
        vec![element(0, i(1))],
    );
    let pow = apply(
        2,
        Function::Binary(Binary::Pow),
        element(2, i(2)),
        vec![element(0, i(2)), element(1, i(2))],
    );
    b.finish(vec![nest(LoopKind::Strips, 0, n(), vec![exp, pow])])
}

#[test]
fn strips_may_be_shared_out_anywhere() {
    let kernel = partitioned();
    assert_eq!(kernel.partition().map(|l| l.id), Some(LoopId(0)));
    let ranges = [0..0, 0..1, 0..2000, 5..6, 64..1999, 511..513, 513..1600];
    agrees_in_ranges(&kernel, 2000, &ranges, |n| {
        vec![
            operands(DType::F32, n, 2),
            operands(DType::F32, n, 3),
            operands(DType::F32, n, 4),
        ]
    });
}

#[test]
fn strips_print() {
    insta::assert_snapshot!(folded(DType::F32, n()), @r"
    kernel test(p0: read f32, p1: update f32, p2: write f32, p3: write f32, p4: write i64) {
      strips i0 < n {
        lanes i1 < n {
          v0: f32 = load p0[i1]
          v1: f32 = add v0, v0
          store p1[-i0 + i1] = v1
        }
        apply i2: p1[-i0 + i2] = tanh p1[-i0 + i2]
        lanes i3 < n {
          v2: f32 = load p0[i3]
          v3: f32 = load p1[-i0 + i3]
          v4: f32 = mul v2, v3
          v5: i64 = index i3
          store p2[i3] = v4
        }
      } fold v6: f32 = sum v4, v7: i64 = argmax v4 at v5
      store p3[0] = v6
      store p4[0] = v7
    }
    ");
}

fn refused(body: Vec<Stmt>, rule: &str) {
    let mut b = Build::new(&[
        (DType::F32, Access::ReadWrite),
        (DType::F64, Access::ReadWrite),
    ]);
    // Values for bodies that need some.
    b.value(DType::F32);
    let error = verify(&b.finish(body)).unwrap_err().to_string();
    assert!(error.contains(rule), "{error}");
}

#[test]
fn strips_hold_what_they_may() {
    let exp =
        |target: Element, from: Element| apply(5, Function::Unary(Unary::Exp), target, vec![from]);
    let own = |p| element(p, i(5));
    let strips = |body| nest(LoopKind::Strips, 0, n(), body);
    refused(vec![exp(element(0, i(5)), own(0))], "directly in strips");
    refused(
        vec![strips(vec![exp(own(0), own(1))])],
        "p1[i5] is f64, not f32",
    );
    refused(
        vec![strips(vec![exp(
            element(0, i(5).times(&Dim::from(2))),
            own(0),
        )])],
        "steps of 1",
    );
    refused(
        vec![strips(vec![exp(element(0, i(0)), own(0))])],
        "steps of 1",
    );
    let two = apply(5, Function::Unary(Unary::Exp), own(0), vec![own(0), own(0)]);
    refused(vec![strips(vec![two])], "takes 1 operands");
    let neg = apply(5, Function::Unary(Unary::Neg), own(0), vec![own(0)]);
    refused(vec![strips(vec![neg])], "no full-width function");
    let short = nest(LoopKind::Lanes, 1, Dim::from(3), Vec::new());
    refused(vec![strips(vec![short])], "another extent");
    let serial = nest(LoopKind::Serial, 1, n(), Vec::new());
    refused(
        vec![strips(vec![serial])],
        "lanes loops and applications only",
    );
    let inner = nest(LoopKind::Strips, 1, n(), Vec::new());
    refused(
        vec![nest(LoopKind::Lanes, 0, n(), vec![inner])],
        "within grid and serial loops only",
    );
}

/// Sums down columns, in the order of the language, where the rows come from memory as one stream and where they do not.
#[test]
fn columns_keep_their_order() {
    for (rows, columns) in [(2100_usize, 2100_usize), (300, 70), (131, 2060), (16, 64)] {
        for known in [false, true] {
            let mut b = Build::new(&[(DType::F32, Access::Read), (DType::F32, Access::Write)]);
            let mut body = Vec::new();
            let width = Dim::from(columns as i64);
            let x = b.load(&mut body, 0, i(1).times(&width).plus(&i(0)));
            let sum = Accumulator {
                value: b.value(DType::F32),
                fold: Fold::Reduce(ReduceKind::Sum),
                operand: x,
            };
            let value = sum.value;
            let extent = if known { Dim::from(rows as i64) } else { n() };
            let fold = folding(LoopKind::Serial, 1, extent, body, vec![sum]);
            let lanes = nest(LoopKind::Lanes, 0, width, vec![fold, store(1, i(0), value)]);
            let kernel = b.finish(vec![lanes]);
            let mut random = Random::new(6);
            let x: Vec<f32> = (0..rows * columns).map(|_| random.unit() as f32).collect();
            let mut from = Buffer::of(&x);
            let mut to = Buffer::of(&vec![0_f32; columns]);
            let mut expected = vec![0_f32; columns];
            for block in x.chunks(128 * columns) {
                let mut partial = vec![-0.0_f32; columns];
                for row in block.chunks(columns) {
                    partial.iter_mut().zip(row).for_each(|(p, x)| *p += x);
                }
                expected.iter_mut().zip(partial).for_each(|(e, p)| *e += p);
            }
            for target in targets() {
                let compiled = Compiled::for_target(kernel.clone(), &target);
                compiled.run(rows, &mut [&mut from, &mut to]);
                assert_eq!(to.to_vec::<f32>(), expected, "{rows} x {columns}");
            }
        }
    }
}
