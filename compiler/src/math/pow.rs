//! The power function in f32.

use super::exp::MAGIC_SCALE;
use super::{Machine32, at_least, at_most, horner, with_sign};

/// `x^y` of f32 lanes, at most 2 ULP, with the special cases of C99.
///
/// |x| = 2^e m with m in [3/4, 3/2), s = (m - 1) / (m + 1), and log2 m = s (c + c/3 s^2 + ...) with
/// c = 2 / ln 2, in pairs of floats (Dekker 1971) where rounding would be multiplied by y: the
/// exponent y log2 |x| is good to about 2^-27. The series' tail is a fit of degree 4 in s^2 with
/// error below 2^-35.8 on |s| at most 0.2; 2^r has degree 6 and a relative error below 2^-27.8.
#[inline(always)]
pub fn pow_f32<M: Machine32>(m: &mut M, x: M::F, y: M::F) -> M::F {
    let zero = m.float(0.0);
    let one = m.float(1.0);
    let infinity = m.float(f32::INFINITY);
    let minus_infinity = m.float(f32::NEG_INFINITY);
    let a = m.abs(x);
    let (high, low) = log2(m, a);
    // log2 is infinite at 0 and inf, and NaN stays NaN.
    let finite = m.lt(a, infinity);
    let high = m.select(finite, high, a);
    let is_zero = m.eq(a, zero);
    let high = m.select(is_zero, minus_infinity, high);

    // A larger y gives no other result, but inf * 0 at |x| = 1.
    let factor = at_most(m, y, 1.0e30);
    let factor = at_least(m, factor, -1.0e30);
    let exponent = m.mul(factor, high);
    let negated = m.neg(exponent);
    let rest = m.fma(factor, high, negated);
    let rest = m.fma(factor, low, rest);
    let magnitude = m.abs(exponent);
    let extreme = m.float(160.0);
    let moderate = m.lt(magnitude, extreme);
    let rest = m.select(moderate, rest, zero);
    let power = exp2(m, exponent, rest);

    let y_magnitude = m.abs(y);
    let whole = integral(m, y_magnitude);
    let half = m.float(0.5);
    let y_half = m.mul(y_magnitude, half);
    let even = integral(m, y_half);
    let uneven = m.not(even);
    let odd = m.and(whole, uneven);
    let signed = with_sign(m, power, x, i32::MIN);
    let power = m.select(odd, signed, power);

    let negative = m.lt(x, zero);
    let negative = m.and(negative, finite);
    let fractional = m.not(whole);
    let undefined = m.and(negative, fractional);
    let nan = m.float(f32::NAN);
    let power = m.select(undefined, nan, power);
    let is_one = m.eq(x, one);
    let no_factor = m.eq(y, zero);
    let unit = m.or(is_one, no_factor);
    m.select(unit, one, power)
}

/// Whether `v`, which is not negative, is an integer; true for infinity, any for NaN.
#[inline(always)]
fn integral<M: Machine32>(m: &mut M, v: M::F) -> M::M {
    let border = m.float(8_388_608.0);
    let large = m.le(border, v);
    let rounded = m.add(v, border);
    let rounded = m.sub(rounded, border);
    let same = m.eq(rounded, v);
    m.or(large, same)
}

/// `log2 a` as an unevaluated sum, for positive finite `a`.
#[inline(always)]
fn log2<M: Machine32>(m: &mut M, a: M::F) -> (M::F, M::F) {
    let one = m.float(1.0);
    let least = m.float(f32::MIN_POSITIVE);
    let subnormal = m.lt(a, least);
    let up = m.float(8_388_608.0);
    let scaled = m.mul(a, up);
    let scaled = m.select(subnormal, scaled, a);
    let down = m.float(-23.0);
    let zero = m.float(0.0);
    let shift = m.select(subnormal, down, zero);
    let bits = m.bits(scaled);
    let base = m.int(0x3f40_0000);
    let field = m.int(0xff80_0000_u32.cast_signed());
    let e = m.isub(bits, base);
    let e = m.iand(e, field);
    let mantissa = m.isub(bits, e);
    let mantissa = m.with_bits(mantissa);
    let e = m.int_to_float(e);
    let unit = m.float(1.0 / 8_388_608.0);
    let e = m.fma(e, unit, shift);

    // s + s_low = (mantissa - 1) / (mantissa + 1)
    let f = m.sub(mantissa, one);
    let d = m.add(mantissa, one);
    let d_low = m.sub(d, one);
    let d_low = m.sub(mantissa, d_low);
    let inverse = m.div(one, d);
    let s = m.mul(f, inverse);
    let minus_s = m.neg(s);
    let s_low = m.fma(minus_s, d, f);
    let s_low = m.fma(minus_s, d_low, s_low);
    let s_low = m.mul(s_low, inverse);
    // z + z_low is its square.
    let z = m.mul(s, s);
    let minus_z = m.neg(z);
    let z_low = m.fma(s, s, minus_z);
    let twice = m.add(s, s);
    let z_low = m.fma(twice, s_low, z_low);

    // c/3 z + ... as t + t_low.
    let third = m.float(9.617_967e-1);
    let q = horner(
        m,
        z,
        &[3.453_368_2e-1, 4.114_776_3e-1, 5.770_846e-1, -7.028_462e-9],
    );
    let t = m.mul(z, third);
    let minus_t = m.neg(t);
    let t_low = m.fma(z, third, minus_t);
    let t_low = m.fma(z, q, t_low);
    let t_low = m.fma(z_low, third, t_low);
    // The series' value as g + g_low.
    let c = m.float(2.885_39);
    let c_low = m.float(3.851_926e-8);
    let g = m.add(c, t);
    let g_low = m.sub(g, c);
    let g_low = m.sub(t, g_low);
    let g_low = m.add(g_low, t_low);
    let g_low = m.add(g_low, c_low);
    // Times s, plus e.
    let p = m.mul(s, g);
    let minus_p = m.neg(p);
    let p_low = m.fma(s, g, minus_p);
    let p_low = m.fma(s, g_low, p_low);
    let p_low = m.fma(s_low, g, p_low);
    let high = m.add(e, p);
    let low = m.sub(high, e);
    let low = m.sub(p, low);
    let low = m.add(low, p_low);
    (high, low)
}

/// `2^(x + low)`; overflows and underflows as it must, NaN stays NaN.
#[inline(always)]
fn exp2<M: Machine32>(m: &mut M, x: M::F, low: M::F) -> M::F {
    let x = at_most(m, x, 128.5);
    let x = at_least(m, x, -151.0);
    let border = m.float(-92.0);
    let is_low = m.lt(x, border);
    let shifted = m.float(MAGIC_SCALE + 63.0);
    let plain = m.float(MAGIC_SCALE - 1.0);
    let magic = m.select(is_low, shifted, plain);
    let shifted = m.float(1.084_202_2e-19);
    let plain = m.float(2.0);
    let back = m.select(is_low, shifted, plain);
    let t = m.add(x, magic);
    let n = m.sub(t, magic);
    let r = m.sub(x, n);
    let r = m.add(r, low);
    let p = horner(
        m,
        r,
        &[
            1.519_960_2e-4,
            1.339_147_4e-3,
            9.618_996e-3,
            5.550_358_4e-2,
            2.402_264_3e-1,
            6.931_472e-1,
            1.0,
        ],
    );
    let bits = m.bits(t);
    let scale = m.shl(bits, 23);
    let scale = m.with_bits(scale);
    let y = m.mul(p, scale);
    m.mul(y, back)
}
