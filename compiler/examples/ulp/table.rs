//! The functions under test with their references, and how an error is measured; shared by the
//! exhaustive example and the strided test.

use kiln_compiler::math::{Host32, erf, exp, log, trig};

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
];

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
