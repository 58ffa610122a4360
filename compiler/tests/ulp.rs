//! The error bounds of the f32 recipes on a stride of all inputs, and at the special values.
//!
//! `examples/ulp` visits every input; here a stride of 4,099 (a prime, so that all exponents and
//! mantissa patterns take part) and the neighbourhoods of the values where a recipe changes course.

#[path = "../examples/ulp/table.rs"]
mod table;

use table::{BINARY, Binary, UNARY, Unary, pair, steps, ulps};

/// A prime near 2^12.
const STRIDE: usize = 4_099;

fn check(function: &Unary, bits: u32) {
    let x = f32::from_bits(bits);
    let computed = (function.recipe)(x);
    let exact = (function.exact)(f64::from(x));
    let distance = steps(computed, exact);
    assert!(
        distance <= function.bound,
        "{}({x:e} = 0x{bits:08x}) = {computed:e}, {distance} steps ({:.3} ULP) from {exact:e}",
        function.name,
        ulps(computed, exact),
    );
}

#[test]
fn strided_inputs_are_within_the_bounds() {
    for function in UNARY {
        for bits in (0..=u32::MAX).step_by(STRIDE) {
            check(function, bits);
        }
    }
}

#[test]
fn special_values_and_borders_are_within_the_bounds() {
    let centers = [
        0.0,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        f32::EPSILON,
        1.0e-10,
        0.25,
        0.5,
        0.75,
        0.8125,
        1.0,
        1.25,
        1.5,
        2.0,
        2.5,
        3.92,
        3.95,
        9.02,
        9.1,
        10.05,
        17.33,
        18.0,
        64.0,
        87.336_54,
        88.722_84,
        88.8,
        103.278_93,
        103.972_08,
        104.0,
        131_072.0,
        std::f32::consts::FRAC_PI_2,
        std::f32::consts::LN_2,
    ];
    for function in UNARY {
        for center in centers {
            for bits in [center, -center].map(f32::to_bits) {
                for offset in 0..64 {
                    check(function, bits.wrapping_add(offset));
                    check(function, bits.wrapping_sub(offset));
                }
            }
        }
    }
}

fn check_pair(function: &Binary, a: f32, b: f32) {
    let computed = (function.recipe)(a, b);
    let exact = (function.exact)(f64::from(a), f64::from(b));
    let distance = steps(computed, exact);
    assert!(
        distance <= function.bound,
        "{}({a:e}, {b:e}) = {computed:e}, {distance} steps from {exact:e}",
        function.name,
    );
}

#[test]
fn binary_functions_are_within_the_bounds() {
    for function in BINARY {
        let mut state = 1;
        for _ in 0..1_000_000 {
            let (a, b) = pair(&mut state);
            check_pair(function, a, b);
        }
    }
}

#[test]
fn binary_functions_follow_c99_at_special_values() {
    let magnitudes = [
        0.0,
        1.0e-45,
        f32::MIN_POSITIVE,
        0.5,
        1.0 - f32::EPSILON,
        1.0,
        1.0 + f32::EPSILON,
        1.5,
        2.0,
        3.0,
        4.0,
        126.0,
        127.0,
        128.0,
        149.0,
        150.0,
        151.0,
        8_388_607.0,
        8_388_607.5,
        8_388_608.0,
        8_388_609.0,
        16_777_215.0,
        16_777_216.0,
        1.0e30,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    let values: Vec<f32> = magnitudes.iter().flat_map(|&v| [v, -v]).collect();
    for function in BINARY {
        for &a in &values {
            for &b in &values {
                check_pair(function, a, b);
            }
        }
    }
}
