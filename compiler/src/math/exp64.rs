//! The exponential family in f64: exp, expm1, logistic, softplus and tanh, by the methods of [`super::exp`].

use super::log64::log1p_unit;
use super::{Machine64, at_least, at_most, horner, with_sign};

/// 1.5 * 2^52: adding it rounds to an integer, which then sits in the low bits.
pub(crate) const MAGIC: f64 = 6_755_399_441_055_744.0;
/// The magic number whose sum with n, shifted left by 52, is 2^n.
pub(crate) const MAGIC_SCALE: f64 = MAGIC + 1023.0;
/// 2^-511, which takes back the exponent shift of small results.
pub(crate) const TAKE_BACK: f64 = f64::from_bits(512 << 52);
/// ln 2 less its first f64.
const LN2_LOW: f64 = 2.319_046_813_846_299_6e-17;

/// `exp(x)` for x in [-746, 710]; NaN stays NaN. The exponent is shifted as in f32.
#[inline(always)]
fn exp_wide<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let border = m.float(-512.0);
    let is_low = m.lt(x, border);
    let low = m.float(MAGIC_SCALE + 511.0);
    let high = m.float(MAGIC_SCALE - 1.0);
    let magic = m.select(is_low, low, high);
    let low = m.float(TAKE_BACK);
    let high = m.float(2.0);
    let back = m.select(is_low, low, high);
    let y = exp_scaled(m, x, magic);
    m.mul(y, back)
}

/// `exp(x) * 2^k` where `magic` is [`MAGIC_SCALE`] + k and the exponent of the result is normal.
#[inline(always)]
fn exp_scaled<M: Machine64>(m: &mut M, x: M::F, magic: M::F) -> M::F {
    let (t, r) = reduce(m, x, magic);
    let q = quotient(m, r);
    let square = m.mul(r, r);
    let p = m.fma(square, q, r);
    let one = m.float(1.0);
    let p = m.add(p, one);
    let scale = power(m, t);
    m.mul(p, scale)
}

/// 2^n from n + [`MAGIC_SCALE`].
#[inline(always)]
pub(crate) fn power<M: Machine64>(m: &mut M, t: M::F) -> M::F {
    let bits = m.bits(t);
    let scale = m.shl(bits, 52);
    m.with_bits(scale)
}

/// x = n ln 2 + r with |r| at most ln 2 / 2: returns n + `magic` and r.
#[inline(always)]
fn reduce<M: Machine64>(m: &mut M, x: M::F, magic: M::F) -> (M::F, M::F) {
    let (t, n, a) = reduce_high(m, x, magic);
    let low = m.float(-LN2_LOW);
    let r = m.fma(n, low, a);
    (t, r)
}

/// The same reduction, with the rounding error of r: returns n + `magic`, r and the error.
#[inline(always)]
pub(crate) fn reduce_precisely<M: Machine64>(
    m: &mut M,
    x: M::F,
    magic: M::F,
) -> (M::F, M::F, M::F) {
    let (t, n, a) = reduce_high(m, x, magic);
    let low = m.float(-LN2_LOW);
    let r = m.fma(n, low, a);
    let rest = m.sub(a, r);
    let rest = m.fma(n, low, rest);
    (t, r, rest)
}

/// n + `magic`, n, and x - n times the first part of ln 2, which is exact.
///
/// `magic` is [`MAGIC`] plus an integer.
#[inline(always)]
fn reduce_high<M: Machine64>(m: &mut M, x: M::F, magic: M::F) -> (M::F, M::F, M::F) {
    let inverse = m.float(std::f64::consts::LOG2_E);
    let t = m.fma(x, inverse, magic);
    let n = m.sub(t, magic);
    let high = m.float(-std::f64::consts::LN_2);
    let a = m.fma(n, high, x);
    (t, n, a)
}

/// `(exp(r) - 1 - r) / r^2` on [-ln 2 / 2, ln 2 / 2], degree 10: r + r^2 q(r) is expm1(r) with a
/// relative error below 2^-61.4.
#[inline(always)]
pub(crate) fn quotient<M: Machine64>(m: &mut M, r: M::F) -> M::F {
    horner(
        m,
        r,
        &[
            2.088_626_221_924_503e-9,
            2.510_983_380_863_096_2e-8,
            2.755_736_513_952_366_7e-7,
            2.755_724_224_578_904e-6,
            2.480_158_722_167_703e-5,
            1.984_126_988_770_281_6e-4,
            0.001_388_888_888_893_201,
            0.008_333_333_333_321_187,
            0.041_666_666_666_666_595,
            0.166_666_666_666_666_77,
            0.5,
        ],
    )
}

/// `e^x` of f64 lanes, at most 2 ULP, with the special cases of f32.
#[inline(always)]
pub fn exp_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let x = at_most(m, x, 710.0);
    let x = at_least(m, x, -746.0);
    exp_wide(m, x)
}

/// `e^x - 1` of f64 lanes, at most 2 ULP, with the method and special cases of f32.
#[inline(always)]
pub fn expm1_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let clamped = at_most(m, x, 710.0);
    let clamped = at_least(m, clamped, -40.0);
    // One less in the exponent: half of 2^n.
    let magic = m.float(MAGIC_SCALE - 1.0);
    let (t, r) = reduce(m, clamped, magic);
    let q = quotient(m, r);
    let square = m.mul(r, r);
    let p = m.fma(square, q, r);
    let scale = power(m, t);
    let half = m.float(0.5);
    let offset = m.sub(scale, half);
    let y = m.fma(p, scale, offset);
    let y = m.add(y, y);
    // Halving would round subnormals, and 0 - 0 loses the sign of zero.
    let magnitude = m.abs(x);
    let bound = m.float(1.0e-20);
    let tiny = m.lt(magnitude, bound);
    m.select(tiny, x, y)
}

/// `exp(-|x|)`, of use where the exponential must not overflow; NaN stays NaN.
#[inline(always)]
fn decay<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let negated = m.neg(magnitude);
    let negated = at_least(m, negated, -746.0);
    exp_wide(m, negated)
}

/// `1 / (1 + e^-x)` of f64 lanes, at most 2 ULP.
#[inline(always)]
pub fn logistic_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let e = decay(m, x);
    let zero = m.float(0.0);
    let one = m.float(1.0);
    let negative = m.lt(x, zero);
    let numerator = m.select(negative, e, one);
    let denominator = m.add(e, one);
    m.div(numerator, denominator)
}

/// `log(1 + e^x)` of f64 lanes, at most 2 ULP: max(x, 0) + log1p(exp(-|x|)).
#[inline(always)]
pub fn softplus_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let e = decay(m, x);
    let tail = log1p_unit(m, e);
    let linear = at_least(m, x, 0.0);
    m.add(linear, tail)
}

/// `tanh(x)` of f64 lanes, at most 2 ULP.
///
/// Below 0.625 an odd polynomial of degree 23 (relative error below 2^-56.4), above it
/// 1 - 2 / (exp(2|x|) + 1), which is 1 from 19.1 on.
#[inline(always)]
pub fn tanh_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let square = m.mul(x, x);
    let q = horner(
        m,
        square,
        &[
            -1.607_220_133_186_058_8e-5,
            7.714_353_228_478_923e-5,
            -2.285_633_884_751_603_4e-4,
            5.863_160_774_968_187e-4,
            -0.001_454_958_714_326_924_6,
            0.003_591_989_136_072_42,
            -0.008_863_220_996_932_122,
            0.021_869_487_575_544_872,
            -0.053_968_253_931_235_79,
            0.133_333_333_332_619_93,
            -0.333_333_333_333_328_54,
        ],
    );
    let q = m.mul(square, q);
    let small = m.fma(q, magnitude, magnitude);

    let clamped = at_most(m, magnitude, 20.0);
    let double = m.add(clamped, clamped);
    let magic = m.float(MAGIC_SCALE);
    let e = exp_scaled(m, double, magic);
    let one = m.float(1.0);
    let denominator = m.add(e, one);
    let minus_two = m.float(-2.0);
    let quotient = m.div(minus_two, denominator);
    let large = m.add(quotient, one);

    let border = m.float(0.625);
    let is_small = m.lt(magnitude, border);
    let y = m.select(is_small, small, large);
    with_sign(m, y, x, i64::MIN)
}
