//! Logarithms in f32: log, log1p, and the log1p of [0, 1] that softplus needs.
//!
//! x = 2^e m with m in [3/4, 3/2); log x = e ln 2 + log1p(m - 1). With that interval the reduced
//! argument of `log1p` is exact wherever its rounding could be seen.

use super::{Machine32, horner};

/// The bits of 3/4: subtracting them makes the exponent field the exponent of the reduction.
const THREE_QUARTERS: i32 = 0x3f40_0000;
/// The first 16 bits of ln 2, and the rest.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// Sign and exponent.
const EXPONENT: i32 = 0xff80_0000_u32.cast_signed();

/// `log(1 + f)` for f in [-1/4, 1/2]: f - f^2/2 + f^3 q(f), degree 10, relative error below 2^-27.5.
#[inline(always)]
fn log1p_reduced<M: Machine32>(m: &mut M, f: M::F) -> M::F {
    let q = log1p_quotient(m, f);
    let square = m.mul(f, f);
    m.fma(square, q, f)
}

/// `(log(1 + f) - f) / f^2` for f in [-1/4, 1/2].
#[inline(always)]
fn log1p_quotient<M: Machine32>(m: &mut M, f: M::F) -> M::F {
    horner(
        m,
        f,
        &[
            -4.512_229e-2,
            1.047_003_05e-1,
            -1.316_420_3e-1,
            1.447_828_4e-1,
            -1.664_697_5e-1,
            1.999_081_8e-1,
            -2.500_010_4e-1,
            3.333_345e-1,
            -5.0e-1,
        ],
    )
}

/// `log x` of f32 lanes, at most 1 ULP.
///
/// log(±0) = -inf, log(x < 0) = NaN, log(inf) = inf; subnormal inputs are exact inputs.
#[inline(always)]
pub fn log_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let least = m.float(f32::MIN_POSITIVE);
    let subnormal = m.lt(x, least);
    let up = m.float(8_388_608.0);
    let scaled = m.mul(x, up);
    let scaled = m.select(subnormal, scaled, x);
    let down = m.float(-23.0);
    let zero = m.float(0.0);
    let shift = m.select(subnormal, down, zero);

    let bits = m.bits(scaled);
    let base = m.int(THREE_QUARTERS);
    let field = m.int(EXPONENT);
    let exponent = m.isub(bits, base);
    let exponent = m.iand(exponent, field);
    let mantissa = m.isub(bits, exponent);
    let mantissa = m.with_bits(mantissa);
    let one = m.float(1.0);
    let f = m.sub(mantissa, one);
    let exponent = m.int_to_float(exponent);
    let unit = m.float(1.0 / 8_388_608.0);
    let e = m.fma(exponent, unit, shift);

    let y = log1p_reduced(m, f);
    let ln2 = m.float(std::f32::consts::LN_2);
    let y = m.fma(e, ln2, y);
    special(m, x, zero, x, y)
}

/// Puts the special cases of a logarithm around `usual`: `x` if it is +inf or NaN, -inf where
/// `argument` is `pole`, NaN below it.
#[inline(always)]
fn special<M: Machine32>(m: &mut M, argument: M::F, pole: M::F, x: M::F, usual: M::F) -> M::F {
    let infinity = m.float(f32::INFINITY);
    let finite = m.lt(x, infinity);
    let y = m.select(finite, usual, x);
    let minus_infinity = m.float(f32::NEG_INFINITY);
    let nan = m.float(f32::NAN);
    let at_pole = m.eq(argument, pole);
    let edge = m.select(at_pole, minus_infinity, nan);
    let outside = m.le(argument, pole);
    m.select(outside, edge, y)
}

/// `log(1 + x)` of f32 lanes, at most 1 ULP.
///
/// With 1 + x = 2^e m only e is taken from the rounded sum; m - 1 = x 2^-e + (2^-e - 1) is exact or
/// rounded once. log1p(±0) = ±0, log1p(-1) = -inf, below it NaN, log1p(inf) = inf.
#[inline(always)]
pub fn log1p_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let one = m.float(1.0);
    let sum = m.add(x, one);
    let bits = m.bits(sum);
    let base = m.int(THREE_QUARTERS);
    let field = m.int(EXPONENT);
    let exponent = m.isub(bits, base);
    let exponent = m.iand(exponent, field);
    // 4 * 2^-e, which is a normal number for every e up to 128.
    let four = m.int(0x4080_0000);
    let inverse = m.isub(four, exponent);
    let inverse = m.with_bits(inverse);
    let quarter = m.float(0.25);
    let minus_one = m.float(-1.0);
    let rest = m.fma(inverse, quarter, minus_one);
    let scaled = m.mul(x, quarter);
    let f = m.fma(scaled, inverse, rest);
    let exponent = m.int_to_float(exponent);

    // e ln2 + f as an unevaluated sum (Dekker 1971): one rounding more would cost half an ULP where
    // e = 1 cancels against f. The first part of ln 2 has 16 bits, so that its product is exact.
    let square = m.mul(f, f);
    let q = log1p_quotient(m, f);
    let high = m.float(LN2_HIGH / 8_388_608.0);
    let low = m.float(LN2_LOW / 8_388_608.0);
    let whole = m.mul(exponent, high);
    let sum = m.add(whole, f);
    let back = m.sub(sum, whole);
    let rest = m.sub(f, back);
    let rest = m.fma(exponent, low, rest);
    let rest = m.fma(square, q, rest);
    let y = m.add(sum, rest);
    let y = special(m, x, minus_one, x, y);
    // A quarter of a subnormal is rounded, and 0 + -0 loses the sign.
    let magnitude = m.abs(x);
    let bound = m.float(1.0e-10);
    let tiny = m.lt(magnitude, bound);
    m.select(tiny, x, y)
}

/// `log(1 + x)` for x in [0, 1]; NaN stays NaN. Above 1/2 it is ln 2 + log1p((x - 1) / 2).
#[inline(always)]
pub(crate) fn log1p_unit<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let half = m.float(0.5);
    let upper = m.lt(half, x);
    let minus_half = m.float(-0.5);
    let halved = m.fma(x, half, minus_half);
    let f = m.select(upper, halved, x);
    let y = log1p_reduced(m, f);
    let ln2 = m.float(std::f32::consts::LN_2);
    let zero = m.float(0.0);
    let offset = m.select(upper, ln2, zero);
    m.add(y, offset)
}
