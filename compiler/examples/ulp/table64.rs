//! The f64 functions under test, with the platform's functions to compare with.
//!
//! The platform's functions err by up to an ULP themselves; the table of correctly rounded results in
//! `tests/data/f64.txt` is the judge, and they serve to find where to look.

use kiln_compiler::math::{Host64, erf64, exp64, log64, pow64, root, trig64};

/// One unary f64 recipe.
pub(crate) struct Unary64 {
    /// The op's name.
    pub(crate) name: &'static str,
    /// The recipe on the host machine.
    pub(crate) recipe: fn(f64) -> f64,
    /// The platform's function.
    pub(crate) platform: fn(f64) -> f64,
}

/// One binary f64 recipe.
pub(crate) struct Binary64 {
    /// The op's name.
    pub(crate) name: &'static str,
    /// The recipe on the host machine.
    pub(crate) recipe: fn(f64, f64) -> f64,
    /// The platform's function.
    pub(crate) platform: fn(f64, f64) -> f64,
}

/// All unary f64 recipes.
pub(crate) const UNARY: &[Unary64] = &[
    Unary64 {
        name: "exp",
        recipe: |x| exp64::exp_f64(&mut Host64, x),
        platform: f64::exp,
    },
    Unary64 {
        name: "expm1",
        recipe: |x| exp64::expm1_f64(&mut Host64, x),
        platform: f64::exp_m1,
    },
    Unary64 {
        name: "logistic",
        recipe: |x| exp64::logistic_f64(&mut Host64, x),
        platform: logistic,
    },
    Unary64 {
        name: "softplus",
        recipe: |x| exp64::softplus_f64(&mut Host64, x),
        platform: softplus,
    },
    Unary64 {
        name: "tanh",
        recipe: |x| exp64::tanh_f64(&mut Host64, x),
        platform: f64::tanh,
    },
    Unary64 {
        name: "log",
        recipe: |x| log64::log_f64(&mut Host64, x),
        platform: f64::ln,
    },
    Unary64 {
        name: "log1p",
        recipe: |x| log64::log1p_f64(&mut Host64, x),
        platform: f64::ln_1p,
    },
    Unary64 {
        name: "erf",
        recipe: |x| erf64::erf_f64(&mut Host64, x),
        platform: libm::erf,
    },
    Unary64 {
        name: "erfc",
        recipe: |x| erf64::erfc_f64(&mut Host64, x),
        platform: libm::erfc,
    },
    Unary64 {
        name: "rsqrt",
        recipe: |x| root::rsqrt_f64(&mut Host64, x),
        platform: |x| 1.0 / x.sqrt(),
    },
    Unary64 {
        name: "recip",
        recipe: |x| root::recip_f64(&mut Host64, x),
        platform: |x| 1.0 / x,
    },
    Unary64 {
        name: "sin",
        recipe: |x| trig64::sin_f64(&mut Host64, x),
        platform: f64::sin,
    },
    Unary64 {
        name: "cos",
        recipe: |x| trig64::cos_f64(&mut Host64, x),
        platform: f64::cos,
    },
    Unary64 {
        name: "tan",
        recipe: |x| trig64::tan_f64(&mut Host64, x),
        platform: f64::tan,
    },
];

/// All binary f64 recipes.
pub(crate) const BINARY: &[Binary64] = &[
    Binary64 {
        name: "pow",
        recipe: |x, y| pow64::pow_f64(&mut Host64, x, y),
        platform: f64::powf,
    },
    Binary64 {
        name: "atan2",
        recipe: |y, x| root::atan2_f64(&mut Host64, y, x),
        platform: f64::atan2,
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

/// How many representable values lie between `computed` and `expected`. NaN against a number, or
/// zeros of different sign, are as far apart as can be.
pub(crate) fn steps(computed: f64, expected: f64) -> u64 {
    if computed.to_bits() == expected.to_bits() || (computed.is_nan() && expected.is_nan()) {
        return 0;
    }
    if computed.is_nan() || expected.is_nan() || (computed == 0.0 && expected == 0.0) {
        return u64::MAX;
    }
    let ordered = |x: f64| {
        let bits = x.to_bits().cast_signed();
        if bits < 0 { -(bits & i64::MAX) } else { bits }
    };
    ordered(computed).abs_diff(ordered(expected))
}
