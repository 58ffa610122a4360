//! Logarithms in f64: log, log1p, and the log1p of [0, 1] that softplus needs.
//!
//! x = 2^e m with m in [3/4, 3/2); log(1 + f) = f - (f^2/2 - s (f^2/2 + s^2 p(s^2))) with s = f / (2 + f),
//! which loses little more than the final rounding (the arrangement is that of FDLIBM, Ng 1993).

use super::exp64::MAGIC;
use super::{Machine64, horner};

/// The bits of 3/4: subtracting them makes the exponent field the exponent of the reduction.
pub(crate) const THREE_QUARTERS: i64 = 0x3fe8_0000_0000_0000;
/// Sign and exponent.
pub(crate) const EXPONENT: i64 = 0xfff0_0000_0000_0000_u64.cast_signed();
/// The first 40 bits of ln 2, and the rest: the product of the first with an exponent is exact.
const LN2_HIGH: f64 = 0.693_147_180_559_208_2;
const LN2_LOW: f64 = 7.371_002_565_167_799e-13;

/// The exponent e, as a float, of an exponent field that may be negative. There is no 64-bit
/// arithmetic shift, so the field is biased first.
#[inline(always)]
pub(crate) fn exponent<M: Machine64>(m: &mut M, field: M::I) -> M::F {
    let bias = m.int(0x4000_0000_0000_0000);
    let biased = m.iadd(field, bias);
    let shifted = m.shr(biased, 52);
    let magic_bits = m.int(MAGIC.to_bits().cast_signed());
    let sum = m.iadd(shifted, magic_bits);
    let sum = m.with_bits(sum);
    let magic = m.float(MAGIC + 1024.0);
    m.sub(sum, magic)
}

/// `e ln 2 + log(1 + f)` for f in [-1/4, 1/2].
///
/// log((1 + s) / (1 - s)) = 2 s + s^3 p(s^2), degree 17 on [-0.2, 0.2], error below 2^-61.6 |s|.
#[inline(always)]
fn assemble<M: Machine64>(m: &mut M, e: M::F, f: M::F) -> M::F {
    let two = m.float(2.0);
    let denominator = m.add(f, two);
    let s = m.div(f, denominator);
    let z = m.mul(s, s);
    let p = horner(
        m,
        z,
        &[
            0.138_479_458_231_924_37,
            0.131_728_997_917_524_96,
            0.153_911_515_862_737_38,
            0.181_816_647_439_308_73,
            0.222_222_243_134_169_66,
            0.285_714_285_557_044_37,
            0.400_000_000_000_570_1,
            0.666_666_666_666_666,
        ],
    );
    let half = m.float(0.5);
    let half_square = m.mul(f, half);
    let half_square = m.mul(half_square, f);
    let inner = m.fma(z, p, half_square);
    let low = m.float(LN2_LOW);
    let inner_low = m.mul(e, low);
    let inner = m.fma(s, inner, inner_low);
    let rest = m.sub(half_square, inner);
    let rest = m.sub(rest, f);
    let high = m.float(LN2_HIGH);
    let whole = m.mul(e, high);
    m.sub(whole, rest)
}

/// `log x` of f64 lanes, at most 2 ULP, with the special cases of f32.
#[inline(always)]
pub fn log_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let least = m.float(f64::MIN_POSITIVE);
    let subnormal = m.lt(x, least);
    let up = m.float(18_014_398_509_481_984.0);
    let scaled = m.mul(x, up);
    let scaled = m.select(subnormal, scaled, x);
    let down = m.float(-54.0);
    let zero = m.float(0.0);
    let shift = m.select(subnormal, down, zero);

    let bits = m.bits(scaled);
    let base = m.int(THREE_QUARTERS);
    let mask = m.int(EXPONENT);
    let field = m.isub(bits, base);
    let field = m.iand(field, mask);
    let mantissa = m.isub(bits, field);
    let mantissa = m.with_bits(mantissa);
    let one = m.float(1.0);
    let f = m.sub(mantissa, one);
    let e = exponent(m, field);
    let e = m.add(e, shift);
    let y = assemble(m, e, f);
    special(m, x, zero, y)
}

/// Puts the special cases of a logarithm around `usual`: `x` if it is +inf or NaN, -inf at the pole,
/// NaN below it.
#[inline(always)]
fn special<M: Machine64>(m: &mut M, x: M::F, pole: M::F, usual: M::F) -> M::F {
    let infinity = m.float(f64::INFINITY);
    let finite = m.lt(x, infinity);
    let y = m.select(finite, usual, x);
    let minus_infinity = m.float(f64::NEG_INFINITY);
    let nan = m.float(f64::NAN);
    let at_pole = m.eq(x, pole);
    let edge = m.select(at_pole, minus_infinity, nan);
    let outside = m.le(x, pole);
    m.select(outside, edge, y)
}

/// `log(1 + x)` of f64 lanes, at most 2 ULP, with the method and special cases of f32.
#[inline(always)]
pub fn log1p_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let one = m.float(1.0);
    let sum = m.add(x, one);
    let bits = m.bits(sum);
    let base = m.int(THREE_QUARTERS);
    let mask = m.int(EXPONENT);
    let field = m.isub(bits, base);
    let field = m.iand(field, mask);
    // 4 * 2^-e, which is a normal number for every e up to 1024.
    let four = m.int(4.0_f64.to_bits().cast_signed());
    let inverse = m.isub(four, field);
    let inverse = m.with_bits(inverse);
    let quarter = m.float(0.25);
    let minus_one = m.float(-1.0);
    let rest = m.fma(inverse, quarter, minus_one);
    let scaled = m.mul(x, quarter);
    let f = m.fma(scaled, inverse, rest);
    let e = exponent(m, field);
    let y = assemble(m, e, f);
    let y = special(m, x, minus_one, y);
    // A quarter of a subnormal is rounded, and 0 + -0 loses the sign.
    let magnitude = m.abs(x);
    let bound = m.float(1.0e-20);
    let tiny = m.lt(magnitude, bound);
    m.select(tiny, x, y)
}

/// `log(1 + x)` for x in [0, 1]; NaN stays NaN. Above 1/2 it is ln 2 + log1p((x - 1) / 2).
#[inline(always)]
pub(crate) fn log1p_unit<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let half = m.float(0.5);
    let upper = m.lt(half, x);
    let minus_half = m.float(-0.5);
    let halved = m.fma(x, half, minus_half);
    let f = m.select(upper, halved, x);
    let zero = m.float(0.0);
    let one = m.float(1.0);
    let e = m.select(upper, one, zero);
    assemble(m, e, f)
}
