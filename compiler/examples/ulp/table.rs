//! The functions under test with their references, and how an error is measured; shared by the
//! exhaustive example and the strided test.

use kiln_compiler::math::{Host32, erf, erfc, exp, log, pow, root, trig};

/// One unary f32 recipe, its f64 reference, and the promised bound in ULP.
pub(crate) struct Unary {
    /// The op's name.
    pub(crate) name: &'static str,
    /// The recipe on the host machine.
    pub(crate) recipe: fn(f32) -> f32,
    /// The same function in f64, an order of 2^29 more precise than needed.
    pub(crate) exact: fn(f64) -> f64,
    /// Representable steps from the correctly rounded result that are allowed.
    pub(crate) bound: u32,
}

/// All unary f32 recipes.
pub(crate) const UNARY: &[Unary] = &[
    Unary {
        name: "exp",
        recipe: |x| exp::exp_f32(&mut Host32, x),
        exact: f64::exp,
        bound: 1,
    },
    Unary {
        name: "expm1",
        recipe: |x| exp::expm1_f32(&mut Host32, x),
        exact: f64::exp_m1,
        bound: 1,
    },
    Unary {
        name: "logistic",
        recipe: |x| exp::logistic_f32(&mut Host32, x),
        exact: logistic,
        bound: 2,
    },
    Unary {
        name: "softplus",
        recipe: |x| exp::softplus_f32(&mut Host32, x),
        exact: softplus,
        bound: 2,
    },
    Unary {
        name: "tanh",
        recipe: |x| exp::tanh_f32(&mut Host32, x),
        exact: f64::tanh,
        bound: 1,
    },
    Unary {
        name: "log",
        recipe: |x| log::log_f32(&mut Host32, x),
        exact: f64::ln,
        bound: 1,
    },
    Unary {
        name: "log1p",
        recipe: |x| log::log1p_f32(&mut Host32, x),
        exact: f64::ln_1p,
        bound: 1,
    },
    Unary {
        name: "erf",
        recipe: |x| erf::erf_f32(&mut Host32, x),
        exact: libm::erf,
        bound: 1,
    },
    Unary {
        name: "sin",
        recipe: |x| trig::sin_f32(&mut Host32, x),
        exact: f64::sin,
        bound: 1,
    },
    Unary {
        name: "cos",
        recipe: |x| trig::cos_f32(&mut Host32, x),
        exact: f64::cos,
        bound: 1,
    },
    Unary {
        name: "tan",
        recipe: |x| trig::tan_f32(&mut Host32, x),
        exact: f64::tan,
        bound: 2,
    },
    Unary {
        name: "erfc",
        recipe: |x| erfc::erfc_f32(&mut Host32, x),
        exact: libm::erfc,
        bound: 1,
    },
    Unary {
        name: "rsqrt",
        recipe: |x| root::rsqrt_f32(&mut Host32, x),
        exact: |x| 1.0 / x.sqrt(),
        bound: 1,
    },
    Unary {
        name: "recip",
        recipe: |x| root::recip_f32(&mut Host32, x),
        exact: |x| 1.0 / x,
        bound: 1,
    },
];

/// One binary f32 recipe.
pub(crate) struct Binary {
    /// The op's name.
    pub(crate) name: &'static str,
    /// The recipe on the host machine.
    pub(crate) recipe: fn(f32, f32) -> f32,
    /// The same function in f64.
    pub(crate) exact: fn(f64, f64) -> f64,
    /// Representable steps from the correctly rounded result that are allowed.
    pub(crate) bound: u32,
}

/// All binary f32 recipes.
pub(crate) const BINARY: &[Binary] = &[
    Binary {
        name: "pow",
        recipe: |x, y| pow::pow_f32(&mut Host32, x, y),
        exact: f64::powf,
        bound: 2,
    },
    Binary {
        name: "atan2",
        recipe: |y, x| root::atan2_f32(&mut Host32, y, x),
        exact: f64::atan2,
        bound: 2,
    },
];

/// The next number of a fixed sequence (SplitMix64, Steele and others 2014).
pub(crate) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A pair of arguments that brings the function into its range rather often: arbitrary bits, or
/// moderate magnitudes, or an exponent that keeps the power finite.
pub(crate) fn pair(state: &mut u64) -> (f32, f32) {
    let bits = draw(state);
    let (a, b) = (
        f32::from_bits((bits >> 32) as u32),
        f32::from_bits(bits as u32),
    );
    let unit = |bits: u32| bits as f32 / 4_294_967_296.0;
    match draw(state) % 4 {
        0 => (a, b),
        1 => (
            unit((bits >> 32) as u32) * 4.0,
            unit(bits as u32) * 200.0 - 100.0,
        ),
        2 => (
            f32::from_bits((bits >> 32) as u32 & 0x7fff_ffff),
            unit(bits as u32) * 4.0 - 2.0,
        ),
        _ => {
            let x = 1.0 + (unit((bits >> 32) as u32) - 0.5) / 64.0;
            (
                x,
                (unit(bits as u32) * 2.0 - 1.0) * 104.0 / x.ln().abs().max(1.0e-8),
            )
        }
    }
}

fn logistic(x: f64) -> f64 {
    if x < 0.0 {
        x.exp() / (1.0 + x.exp())
    } else {
        1.0 / (1.0 + (-x).exp())
    }
}

fn softplus(x: f64) -> f64 {
    if x.is_nan() {
        x
    } else {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
}

/// How many representable values lie between `computed` and the correctly rounded `exact`. NaN
/// against a number, or zeros of different sign, are as far apart as can be.
pub(crate) fn steps(computed: f32, exact: f64) -> u32 {
    let rounded = exact as f32;
    if computed.to_bits() == rounded.to_bits() || (computed.is_nan() && rounded.is_nan()) {
        return 0;
    }
    if computed.is_nan() || rounded.is_nan() || (computed == 0.0 && rounded == 0.0) {
        return u32::MAX;
    }
    ordered(computed).abs_diff(ordered(rounded))
}

/// The floats in order as integers, both zeros at 0.
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits().cast_signed();
    if bits < 0 { -(bits & i32::MAX) } else { bits }
}

/// `|computed - exact|` in units of the last place of the exact result; zero where both are not
/// finite numbers of f32.
pub(crate) fn ulps(computed: f32, exact: f64) -> f64 {
    if !computed.is_finite() || !exact.is_finite() {
        return 0.0;
    }
    let exponent = ((exact.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let unit = f64::from_bits(((exponent.max(-126) - 23 + 1023) as u64) << 52);
    (f64::from(computed) - exact).abs() / unit
}
