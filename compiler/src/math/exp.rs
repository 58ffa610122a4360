//! The exponential family in f32: exp, expm1, logistic and softplus.
//!
//! Reduction x = n ln 2 + r by the magic-number addition and a two-part ln 2 (Cody and Waite, Software
//! Manual for the Elementary Functions, 1980).

use super::log::log1p_unit;
use super::{Machine32, at_least, at_most, horner, with_sign};

/// 1.5 * 2^23: adding it rounds to an integer, which then sits in the low bits.
pub(crate) const MAGIC: f32 = 12_582_912.0;
/// The first float of ln 2 less ln 2.
const LN2_LOW: f32 = 1.904_654_3e-9;
/// The magic number whose sum with n, shifted left by 23, is 2^n.
pub(crate) const MAGIC_SCALE: f32 = MAGIC + 127.0;

/// Below it the nearest float to e^x is 0: it is a little less than -150 ln 2, and 2^-150 is half of the smallest float.
const VANISHES: f32 = -103.972_1;

/// `exp(x)` for x in [-104, 88.8], or down to -inf on a machine with a scaler; NaN stays NaN.
///
/// The exponent is shifted by -1, or by 63 where the result may be subnormal, and the last product
/// takes the shift back: so 2^n is always one normal factor, and the only rounding of a subnormal
/// result is the last one. One instruction that multiplies by 2^n rounds in the same place. Some processors leave it to microcode where
/// its result is tiny, at 150 cycles, and a softmax of masked scores consists of such: there it is given 0 to multiply.
#[inline(always)]
fn exp_wide<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    if let Some(scaled) = m.scaler() {
        // Even like both that are chosen from below: of two integers as near, n is the same one.
        let magic = m.float(MAGIC_SCALE - 1.0);
        let (_, n, a) = reduce_high(m, x, magic);
        let low = m.float(LN2_LOW);
        let r = m.fma(n, low, a);
        let p = polynomial(m, r);
        let border = m.float(VANISHES);
        let vanishes = m.lt(x, border);
        let zero = m.float(0.0);
        let p = m.select(vanishes, zero, p);
        return scaled(m, p, n);
    }
    let border = m.float(-64.0);
    let is_low = m.lt(x, border);
    let low = m.float(MAGIC_SCALE + 63.0);
    let high = m.float(MAGIC_SCALE - 1.0);
    let magic = m.select(is_low, low, high);
    let low = m.float(1.084_202_2e-19);
    let high = m.float(2.0);
    let back = m.select(is_low, low, high);
    let y = exp_scaled(m, x, magic);
    m.mul(y, back)
}

/// `exp(x)` for x in [-87, 88]; NaN stays NaN.
///
/// exp(r) = 1 + r + r^2 q(r) on [-ln 2 / 2, ln 2 / 2], degree 6, relative error below 2^-28.1.
#[inline(always)]
pub(crate) fn exp_narrow<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let magic = m.float(MAGIC_SCALE);
    exp_scaled(m, x, magic)
}

/// `exp(x) * 2^k` where `magic` is [`MAGIC_SCALE`] + k and the exponent of the result is normal.
#[inline(always)]
fn exp_scaled<M: Machine32>(m: &mut M, x: M::F, magic: M::F) -> M::F {
    let (t, r) = reduce(m, x, magic);
    let p = polynomial(m, r);
    let bits = m.bits(t);
    let scale = m.shl(bits, 23);
    let scale = m.with_bits(scale);
    m.mul(p, scale)
}

/// `exp(r)` on [-ln 2 / 2, ln 2 / 2].
#[inline(always)]
fn polynomial<M: Machine32>(m: &mut M, r: M::F) -> M::F {
    horner(
        m,
        r,
        &[
            1.382_511_3e-3,
            8.369_384e-3,
            4.166_823_3e-2,
            1.666_651_5e-1,
            4.999_999_4e-1,
            1.0,
            1.0,
        ],
    )
}

/// x = n ln 2 + r with |r| at most ln 2 / 2: returns n + `magic` and r.
#[inline(always)]
fn reduce<M: Machine32>(m: &mut M, x: M::F, magic: M::F) -> (M::F, M::F) {
    let (t, n, a) = reduce_high(m, x, magic);
    let low = m.float(LN2_LOW);
    let r = m.fma(n, low, a);
    (t, r)
}

/// The same reduction, with the rounding error of r: returns n + `magic`, r and the error.
#[inline(always)]
pub(crate) fn reduce_precisely<M: Machine32>(
    m: &mut M,
    x: M::F,
    magic: M::F,
) -> (M::F, M::F, M::F) {
    let (t, n, a) = reduce_high(m, x, magic);
    let low = m.float(LN2_LOW);
    let r = m.fma(n, low, a);
    let rest = m.sub(a, r);
    let rest = m.fma(n, low, rest);
    (t, r, rest)
}

/// n + `magic`, n, and x - n times the first part of ln 2, which is exact.
///
/// `magic` is [`MAGIC`] plus an integer.
#[inline(always)]
fn reduce_high<M: Machine32>(m: &mut M, x: M::F, magic: M::F) -> (M::F, M::F, M::F) {
    let inverse = m.float(std::f32::consts::LOG2_E);
    let t = m.fma(x, inverse, magic);
    let n = m.sub(t, magic);
    let high = m.float(-6.931_472e-1);
    let a = m.fma(n, high, x);
    (t, n, a)
}

/// `e^x` of f32 lanes, at most 1 ULP from the correctly rounded result for every input.
///
/// exp(-inf) = 0, exp(inf) = inf, NaN gives NaN; subnormal results are not flushed.
#[inline(always)]
pub fn exp_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let x = at_most(m, x, 88.8);
    let x = match m.scaler() {
        Some(_) => x,
        None => at_least(m, x, -104.0),
    };
    exp_wide(m, x)
}

/// `(exp(r) - 1 - r) / r^2` on [-ln 2 / 2, ln 2 / 2], degree 5: r + r^2 q(r) is expm1(r) with a relative
/// error below 2^-30.8.
#[inline(always)]
pub(crate) fn quotient<M: Machine32>(m: &mut M, r: M::F) -> M::F {
    horner(
        m,
        r,
        &[
            1.975_064_1e-4,
            1.393_457_1e-3,
            8.333_56e-3,
            4.166_647e-2,
            1.666_666_6e-1,
            5.0e-1,
        ],
    )
}

/// `e^x - 1` of f32 lanes, at most 1 ULP.
///
/// expm1(±0) = ±0, expm1(-inf) = -1, expm1(inf) = inf, NaN gives NaN.
/// The result is 2^n expm1(r) + (2^n - 1), computed at half scale so that n = 128 does not overflow.
#[inline(always)]
pub fn expm1_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let clamped = at_most(m, x, 88.8);
    let clamped = at_least(m, clamped, -18.0);
    // One less in the exponent: half of 2^n.
    let magic = m.float(MAGIC_SCALE - 1.0);
    let (t, r) = reduce(m, clamped, magic);
    let q = quotient(m, r);
    let square = m.mul(r, r);
    let p = m.fma(square, q, r);
    let bits = m.bits(t);
    let scale = m.shl(bits, 23);
    let scale = m.with_bits(scale);
    let half = m.float(0.5);
    let offset = m.sub(scale, half);
    let y = m.fma(p, scale, offset);
    let y = m.add(y, y);
    // Halving would round subnormals, and 0 - 0 loses the sign of zero.
    let magnitude = m.abs(x);
    let bound = m.float(1.0e-10);
    let tiny = m.lt(magnitude, bound);
    m.select(tiny, x, y)
}

/// `1 / (1 + e^-x)` of f32 lanes, at most 2 ULP.
///
/// Computed from e = exp(-|x|) as 1 / (1 + e) or e / (1 + e), so that nothing overflows and the
/// left tail keeps its subnormal results.
#[inline(always)]
pub fn logistic_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let negated = m.neg(magnitude);
    let negated = at_least(m, negated, -104.0);
    let e = exp_wide(m, negated);
    let zero = m.float(0.0);
    let one = m.float(1.0);
    let negative = m.lt(x, zero);
    let numerator = m.select(negative, e, one);
    let denominator = m.add(e, one);
    m.div(numerator, denominator)
}

/// `log(1 + e^x)` of f32 lanes, at most 2 ULP: max(x, 0) + log1p(exp(-|x|)).
#[inline(always)]
pub fn softplus_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let negated = m.neg(magnitude);
    let negated = at_least(m, negated, -104.0);
    let e = exp_wide(m, negated);
    let tail = log1p_unit(m, e);
    let linear = at_least(m, x, 0.0);
    m.add(linear, tail)
}

/// `tanh(x)` of f32 lanes, at most 1 ULP.
///
/// Below 0.8125 an odd polynomial of degree 13 (relative error below 2^-27.6), above it
/// 1 - 2 / (exp(2|x|) + 1), which is 1 from 9.02 on. tanh(±0) = ±0, tanh(±inf) = ±1.
#[inline(always)]
pub fn tanh_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let square = m.mul(x, x);
    let q = horner(
        m,
        square,
        &[
            1.545_442_4e-3,
            -7.339_525_5e-3,
            2.125_675_2e-2,
            -5.383_851e-2,
            1.333_204e-1,
            -3.333_329e-1,
        ],
    );
    let q = m.mul(square, q);
    let small = m.fma(q, magnitude, magnitude);

    let clamped = at_most(m, magnitude, 9.1);
    let double = m.add(clamped, clamped);
    let e = exp_narrow(m, double);
    let one = m.float(1.0);
    let denominator = m.add(e, one);
    let minus_two = m.float(-2.0);
    let quotient = m.div(minus_two, denominator);
    let large = m.add(quotient, one);

    let border = m.float(0.8125);
    let is_small = m.lt(magnitude, border);
    let y = m.select(is_small, small, large);
    with_sign(m, y, x, i32::MIN)
}
