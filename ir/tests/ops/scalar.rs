//! Fma, conversions and guards.

use crate::{evaluate, f32s, floats, ints, own_shapes, result};
use kiln_ir::{Array, DType, EvalError, Op, OutOfRange, ScatterKind};

#[test]
fn fma_rounds_once() {
    // a * a = 1 + 2^-11 + 2^-24 lies halfway between two f32; the summand, far below an ulp of f64, decides.
    let a = 1.0 + 2f64.powi(-12);
    let (up, down) = (2f64.powi(-80), -2f64.powi(-80));
    let x = f32s(&[2], &[a, a]);
    let z = f32s(&[2], &[up, down]);
    let y = result(&[x.clone(), x, z], |_, t| t[0].fma(t[1], t[2]));
    let below = 1.0 + 2f64.powi(-11);
    assert_eq!(y, f32s(&[2], &[below + 2f64.powi(-23), below]));
    let a = 1.0 + 2f64.powi(-30);
    let x = floats(DType::F64, &[], &[a]);
    let y = result(&[x], |_, t| t[0].fma(t[0], -(1.0 + 2f64.powi(-29))));
    assert_eq!(y, floats(DType::F64, &[], &[2f64.powi(-60)]));
    let half = floats(DType::BF16, &[1, 2], &[3.0, 0.5]);
    let y = result(&[half], |_, t| t[0].fma(2.0, 1.0));
    assert_eq!(y, floats(DType::BF16, &[1, 2], &[7.0, 2.0]));
}

#[test]
fn bitcast_keeps_the_bits() {
    let cast = |x: Array, to: DType| result(&[x], |_, t| t[0].bitcast(to));
    let ones = cast(f32s(&[2], &[1.0, -0.0]), DType::U32);
    assert_eq!(ones, ints(DType::U32, &[2], &[0x3F80_0000, 0x8000_0000]));
    assert_eq!(cast(ones, DType::F32), f32s(&[2], &[1.0, -0.0]));
    let signed = cast(f32s(&[1], &[-0.0]), DType::I32);
    assert_eq!(signed, ints(DType::I32, &[1], &[i64::from(i32::MIN)]));
    let doubles = cast(floats(DType::F64, &[1], &[-2.0]), DType::U64);
    assert_eq!(
        doubles.ints().unwrap(),
        [(-2.0_f64).to_bits().cast_signed()]
    );
    let halves = cast(floats(DType::F16, &[1], &[1.5]), DType::BF16);
    assert_eq!(
        halves,
        floats(DType::BF16, &[1], &[half::bf16::from_bits(0x3E00).to_f64()])
    );
    assert_eq!(
        cast(ints(DType::U8, &[1], &[200]), DType::I8),
        ints(DType::I8, &[1], &[-56])
    );
    assert_eq!(
        cast(ints(DType::Bool, &[2], &[0, 1]), DType::U8),
        ints(DType::U8, &[2], &[0, 1])
    );
}

#[test]
fn a_guard_lets_pass_or_names_its_message_and_place() {
    let guard = |values: &[f64]| {
        let inputs = [f32s(&[1, values.len()], values)];
        evaluate(&inputs, &own_shapes(&inputs), |g, t| {
            let _scope = g.scope("head");
            (t[0] * 2.0).require(t[0].is_finite(), "the loss is not finite")
        })
    };
    assert_eq!(guard(&[1.0, 2.0]).unwrap(), f32s(&[1, 2], &[2.0, 4.0]));
    assert_eq!(guard(&[]).unwrap().shape(), [1, 0]);
    let error = guard(&[1.0, f64::NAN]).unwrap_err();
    let EvalError::Required { message, index } = error.cause() else {
        panic!("{error}");
    };
    assert_eq!(
        (message.as_str(), index.as_slice()),
        ("the loss is not finite", &[0, 1][..])
    );
    let text = error.to_string();
    assert!(text.starts_with("require %"), "{text}");
    assert!(text.contains("ir/tests/ops/scalar.rs:"), "{text}");
    assert!(
        text.ends_with("in \"head\": the loss is not finite (the condition is false at [0, 1])"),
        "{text}"
    );
}

#[test]
fn integers_convert_to_f32_with_one_rounding() {
    // Through f64 this would first become the tie 2^60 + 2^36 and then round down.
    let x = (1_i64 << 60) + (1 << 36) + 1;
    let y = result(&[ints(DType::I64, &[2], &[x, -x])], |_, t| {
        t[0].convert(DType::F32)
    });
    let up = 2f64.powi(60) + 2f64.powi(37);
    assert_eq!(y, f32s(&[2], &[up, -up]));
    let y = result(&[ints(DType::U64, &[1], &[-1])], |_, t| {
        t[0].convert(DType::F32)
    });
    assert_eq!(y, f32s(&[1], &[2f64.powi(64)]));
    let y = result(&[ints(DType::U64, &[1], &[-1])], |_, t| {
        t[0].convert(DType::F64)
    });
    assert_eq!(y, floats(DType::F64, &[1], &[2f64.powi(64)]));
}

#[test]
fn guards_and_failing_indices_are_fallible() {
    use kiln_ir::ops::{Effect, Gather, Require, Scatter};
    let effect = |op: Op| op.rules().effect();
    let message = "finite".to_owned();
    assert_eq!(effect(Require { message }.into()), Effect::Fallible);
    for out_of_range in OutOfRange::ALL {
        let expected = if out_of_range == OutOfRange::Fail {
            Effect::Fallible
        } else {
            Effect::Pure
        };
        let (axis, kind) = (0, ScatterKind::Set);
        assert_eq!(effect(Gather { axis, out_of_range }.into()), expected);
        let scatter = Scatter {
            kind,
            axis,
            out_of_range,
        };
        assert_eq!(effect(scatter.into()), expected);
    }
    let all = Op::representatives();
    let fallible: Vec<&str> = all
        .iter()
        .map(Op::rules)
        .filter(|rules| rules.effect() != Effect::Pure)
        .map(|rules| rules.name())
        .collect();
    assert_eq!(fallible, ["require"]);
}
