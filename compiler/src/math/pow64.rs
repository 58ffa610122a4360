//! The power function in f64.

use super::exp64::{MAGIC_SCALE, TAKE_BACK, power as power_of_two};
use super::log64::{EXPONENT, THREE_QUARTERS, exponent};
use super::{Machine64, at_least, at_most, horner, with_sign};

/// `x^y` of f64 lanes, at most 2 ULP, with the special cases of C99.
///
/// The method is that of f32 in pairs of f64; the exponent y log2 |x| is good to about 2^-55.
/// The series' tail is a fit of degree 16 in s with error below 2^-70.5; 2^r has degree 12 and a
/// relative error below 2^-59.1.
#[inline(always)]
pub fn pow_f64<M: Machine64>(m: &mut M, x: M::F, y: M::F) -> M::F {
    let zero = m.float(0.0);
    let one = m.float(1.0);
    let infinity = m.float(f64::INFINITY);
    let minus_infinity = m.float(f64::NEG_INFINITY);
    let a = m.abs(x);
    let (high, low) = log2(m, a);
    // log2 is infinite at 0 and inf, and NaN stays NaN.
    let finite = m.lt(a, infinity);
    let high = m.select(finite, high, a);
    let is_zero = m.eq(a, zero);
    let high = m.select(is_zero, minus_infinity, high);

    // A larger y gives no other result, but inf * 0 at |x| = 1.
    let factor = at_most(m, y, 1.0e300);
    let factor = at_least(m, factor, -1.0e300);
    let exponent = m.mul(factor, high);
    let negated = m.neg(exponent);
    let rest = m.fma(factor, high, negated);
    let rest = m.fma(factor, low, rest);
    let magnitude = m.abs(exponent);
    let extreme = m.float(1200.0);
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
    let signed = with_sign(m, power, x, i64::MIN);
    let power = m.select(odd, signed, power);

    let negative = m.lt(x, zero);
    let negative = m.and(negative, finite);
    let fractional = m.not(whole);
    let undefined = m.and(negative, fractional);
    let nan = m.float(f64::NAN);
    let power = m.select(undefined, nan, power);
    let is_one = m.eq(x, one);
    let no_factor = m.eq(y, zero);
    let unit = m.or(is_one, no_factor);
    m.select(unit, one, power)
}

/// Whether `v`, which is not negative, is an integer; true for infinity, any for NaN.
#[inline(always)]
fn integral<M: Machine64>(m: &mut M, v: M::F) -> M::M {
    let border = m.float(4_503_599_627_370_496.0);
    let large = m.le(border, v);
    let rounded = m.add(v, border);
    let rounded = m.sub(rounded, border);
    let same = m.eq(rounded, v);
    m.or(large, same)
}

/// `log2 a` as an unevaluated sum, for positive finite `a`.
#[inline(always)]
fn log2<M: Machine64>(m: &mut M, a: M::F) -> (M::F, M::F) {
    let one = m.float(1.0);
    let least = m.float(f64::MIN_POSITIVE);
    let subnormal = m.lt(a, least);
    let up = m.float(18_014_398_509_481_984.0);
    let scaled = m.mul(a, up);
    let scaled = m.select(subnormal, scaled, a);
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
    let e = exponent(m, field);
    let e = m.add(e, shift);

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
    let third = m.float(0.961_796_693_925_975_6);
    let q = horner(
        m,
        z,
        &[
            0.182_444_278_212_844_48,
            0.167_050_517_984_017_96,
            0.192_486_186_557_585_81,
            0.221_949_514_267_916_8,
            0.262_308_250_062_642_1,
            0.320_598_897_368_074_73,
            0.412_198_583_114_338,
            0.577_078_016_355_578_6,
            5.057_761_664_812_590_7e-17,
        ],
    );
    let t = m.mul(z, third);
    let minus_t = m.neg(t);
    let t_low = m.fma(z, third, minus_t);
    let t_low = m.fma(z, q, t_low);
    let t_low = m.fma(z_low, third, t_low);
    // The series' value as g + g_low.
    let c = m.float(2.885_390_081_777_926_8);
    let c_low = m.float(4.071_054_748_186_206_6e-17);
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
fn exp2<M: Machine64>(m: &mut M, x: M::F, low: M::F) -> M::F {
    let x = at_most(m, x, 1024.5);
    let x = at_least(m, x, -1076.0);
    let border = m.float(-512.0);
    let is_low = m.lt(x, border);
    let shifted = m.float(MAGIC_SCALE + 511.0);
    let plain = m.float(MAGIC_SCALE - 1.0);
    let magic = m.select(is_low, shifted, plain);
    let shifted = m.float(TAKE_BACK);
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
            2.780_037_352_833_344_3e-11,
            4.465_508_337_374_09e-10,
            7.053_316_642_975_292e-9,
            1.017_798_596_302_670_3e-7,
            1.321_549_134_669_042_2e-6,
            1.525_273_403_568_814e-5,
            1.540_353_038_735_22e-4,
            0.001_333_355_814_616_594,
            0.009_618_129_107_632_07,
            0.055_504_108_664_822_93,
            0.240_226_506_959_100_64,
            std::f64::consts::LN_2,
            1.0,
        ],
    );
    let scale = power_of_two(m, t);
    let y = m.mul(p, scale);
    m.mul(y, back)
}
