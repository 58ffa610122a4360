//! The odd cases, as the design's section 3 defines them.

use crate::{f32s, floats, ints, result};
use kiln_ir::ops::{Binary, Compare, Unary};
use kiln_ir::{Array, DType, Op};

const INTEGERS: [(DType, i64, i64); 8] = [
    (DType::I8, -128, 127),
    (DType::I16, -32768, 32767),
    (DType::I32, i32::MIN as i64, i32::MAX as i64),
    (DType::I64, i64::MIN, i64::MAX),
    (DType::U8, 0, 255),
    (DType::U16, 0, 65535),
    (DType::U32, 0, u32::MAX as i64),
    (DType::U64, 0, -1),
];

fn signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

fn int2(dtype: DType, x: i64, y: i64, op: impl Into<Op>) -> i64 {
    let op = op.into();
    let inputs = [ints(dtype, &[1], &[x]), ints(dtype, &[1], &[y])];
    result(&inputs, |g, t| g.push(op.clone(), t))
        .ints()
        .unwrap()[0]
}

fn int1(dtype: DType, x: i64, op: Unary) -> i64 {
    let inputs = [ints(dtype, &[1], &[x])];
    result(&inputs, |g, t| g.push(op, t)).ints().unwrap()[0]
}

/// f32 results of a binary op, as bits.
fn float2(x: f64, y: f64, op: impl Into<Op>) -> u64 {
    let op = op.into();
    let inputs = [f32s(&[1], &[x]), f32s(&[1], &[y])];
    let found = result(&inputs, |g, t| g.push(op.clone(), t))
        .floats()
        .unwrap()[0];
    if found.is_nan() {
        f64::NAN.to_bits()
    } else {
        found.to_bits()
    }
}

fn holds(x: f64, y: f64, op: impl Into<Op>) -> bool {
    let op = op.into();
    let inputs = [f32s(&[1], &[x]), f32s(&[1], &[y])];
    result(&inputs, |g, t| g.push(op.clone(), t))
        .ints()
        .unwrap()[0]
        == 1
}

#[test]
fn integer_division_never_traps() {
    for (dtype, min, max) in INTEGERS {
        let all_ones = if signed(dtype) { -1 } else { max };
        for x in [0, 1, 7, min, max] {
            assert_eq!(int2(dtype, x, 0, Binary::Div), all_ones, "{dtype} {x}/0");
            assert_eq!(int2(dtype, x, 0, Binary::Rem), x, "{dtype} {x} rem 0");
        }
        assert_eq!(int2(dtype, 7, 2, Binary::Div), 3);
        assert_eq!(int2(dtype, 7, 2, Binary::Rem), 1);
        if signed(dtype) {
            assert_eq!(int2(dtype, min, -1, Binary::Div), min, "{dtype} MIN/-1");
            assert_eq!(int2(dtype, min, -1, Binary::Rem), 0, "{dtype} MIN rem -1");
            assert_eq!(int2(dtype, -7, 2, Binary::Div), -3, "towards zero");
            assert_eq!(int2(dtype, -7, 2, Binary::Rem), -1, "the sign of the left");
        }
    }
    assert_eq!(int2(DType::U64, -1, 2, Binary::Div), i64::MAX);
    assert_eq!(int2(DType::U64, -1, 10, Binary::Rem), 5);
}

#[test]
fn integers_wrap() {
    for (dtype, min, max) in INTEGERS {
        assert_eq!(int2(dtype, max, 1, Binary::Add), min, "{dtype}");
        assert_eq!(int2(dtype, min, 1, Binary::Sub), max, "{dtype}");
        assert_eq!(
            int2(dtype, max, 2, Binary::Mul),
            if signed(dtype) { -2 } else { max - 1 }
        );
        assert_eq!(int1(dtype, min, Unary::Neg), min, "{dtype}");
        assert_eq!(int1(dtype, min, Unary::Abs), min, "{dtype}");
    }
}

#[test]
fn shifts_by_the_width_or_more() {
    for (dtype, min, max) in INTEGERS {
        let width = 8 * dtype.size() as i64;
        // The last amount is negative, or the largest unsigned one: large in either reading.
        let beyond = if signed(dtype) { -1 } else { max };
        for amount in [width, width + 1, beyond] {
            assert_eq!(
                int2(dtype, max, amount, Binary::Shl),
                0,
                "{dtype} << {amount}"
            );
            let sign = if signed(dtype) { -1 } else { 0 };
            assert_eq!(int2(dtype, min, amount, Binary::Shr), sign, "{dtype}");
            let top = if signed(dtype) { -5 } else { max };
            assert_eq!(
                int2(dtype, top, amount, Binary::Shr),
                sign,
                "{dtype} >> {amount}"
            );
        }
        assert_eq!(
            int2(dtype, 1, width - 1, Binary::Shl),
            if signed(dtype) { min } else { top_bit(dtype) }
        );
        assert_eq!(int2(dtype, 6, 1, Binary::Shr), 3);
        assert_eq!(int2(dtype, 6, 0, Binary::Shr), 6);
    }
    assert_eq!(int2(DType::I8, -128, 2, Binary::Shr), -32);
    assert_eq!(int2(DType::U64, -1, 63, Binary::Shr), 1);
}

/// The value of the highest bit of an unsigned type, as the interpreter holds it.
fn top_bit(dtype: DType) -> i64 {
    1_i64.wrapping_shl(8 * dtype.size() as u32 - 1)
}

#[test]
fn float_to_int_saturates_and_nan_is_zero() {
    let x = floats(
        DType::F64,
        &[7],
        &[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e30,
            -1e30,
            2.9,
            -2.9,
        ],
    );
    for (dtype, min, max) in INTEGERS {
        let y = result(std::slice::from_ref(&x), |_, t| t[0].convert(dtype));
        let negative = if signed(dtype) { -2 } else { 0 };
        assert_eq!(y, ints(dtype, &[7], &[0, max, min, max, min, 2, negative]));
    }
    let flags = f32s(&[4], &[0.0, -0.0, 0.5, f64::NAN]);
    let y = result(&[flags], |_, t| t[0].convert(DType::Bool));
    assert_eq!(y, ints(DType::Bool, &[4], &[0, 0, 1, 1]));
    let narrowed = result(&[ints(DType::I32, &[2], &[300, -1])], |_, t| {
        t[0].convert(DType::U8)
    });
    assert_eq!(narrowed, ints(DType::U8, &[2], &[44, 255]));
}

#[test]
fn max_and_min_propagate_nan_and_order_zeros() {
    let nan = f64::NAN;
    for (x, y) in [(nan, 1.0), (1.0, nan), (nan, nan), (nan, f64::INFINITY)] {
        assert_eq!(float2(x, y, Binary::Max), nan.to_bits());
        assert_eq!(float2(x, y, Binary::Min), nan.to_bits());
    }
    for (x, y) in [(0.0, -0.0), (-0.0, 0.0)] {
        assert_eq!(float2(x, y, Binary::Max), 0.0_f64.to_bits());
        assert_eq!(float2(x, y, Binary::Min), (-0.0_f64).to_bits());
    }
    assert_eq!(float2(-0.0, -0.0, Binary::Max), (-0.0_f64).to_bits());
    assert_eq!(int2(DType::U64, -1, 1, Binary::Max), -1);
    assert_eq!(int2(DType::U64, -1, 1, Binary::Min), 1);
    assert_eq!(int2(DType::I64, -1, 1, Binary::Max), 1);
}

#[test]
fn comparisons_with_nan_are_false_but_ne_is_true() {
    let nan = f64::NAN;
    for (x, y) in [(nan, 1.0), (1.0, nan), (nan, nan)] {
        assert!(holds(x, y, Compare::Ne));
        let others: [Compare; 5] = [
            Compare::Eq,
            Compare::Lt,
            Compare::Le,
            Compare::Gt,
            Compare::Ge,
        ];
        assert!(others.iter().all(|op| !holds(x, y, *op)));
    }
    assert!(holds(0.0, -0.0, Compare::Eq) && !holds(0.0, -0.0, Compare::Ne));
    assert_eq!(int2(DType::U64, -1, 1, Compare::Gt), 1);
}

#[test]
fn rounding_and_signs() {
    let x = f32s(&[6], &[0.5, 1.5, 2.5, -0.5, f64::NAN, -0.0]);
    let nearest = result(std::slice::from_ref(&x), |_, t| t[0].round());
    let shown = |a: &Array| format!("{:?}", a.floats().unwrap());
    assert_eq!(shown(&nearest), "[0.0, 2.0, 2.0, -0.0, NaN, -0.0]");
    let signs = result(std::slice::from_ref(&x), |_, t| t[0].sign());
    assert_eq!(shown(&signs), "[1.0, 1.0, 1.0, -1.0, NaN, -0.0]");
    let finite = f32s(&[3], &[f64::NAN, f64::INFINITY, 1e38]);
    let finite = result(&[finite], |_, t| t[0].is_finite());
    assert_eq!(finite, ints(DType::Bool, &[3], &[0, 0, 1]));
    // What does not fit the type overflows to infinity as the type does, however wide the interpreter computes.
    let big = result(&[f32s(&[1], &[3e38])], |_, t| t[0] * 2.0 * 0.5);
    assert_eq!(big, f32s(&[1], &[f64::INFINITY]));
    let big = result(&[floats(DType::F16, &[1], &[60000.0])], |_, t| t[0] + t[0]);
    assert_eq!(big, floats(DType::F16, &[1], &[f64::INFINITY]));
}
