//! Reciprocal, reciprocal square root and the four-quadrant arctangent.

use super::{Machine, Machine32, Machine64, horner, with_sign};

/// `1 / x` of f32 lanes, correctly rounded. recip(±0) = ±inf, recip(±inf) = ±0.
#[inline(always)]
pub fn recip_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let one = m.float(1.0);
    m.div(one, x)
}

/// `1 / x` of f64 lanes, correctly rounded. recip(±0) = ±inf, recip(±inf) = ±0.
#[inline(always)]
pub fn recip_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let one = m.float(1.0);
    m.div(one, x)
}

/// `1 / sqrt(x)` of f32 lanes, at most 1 ULP: two correctly rounded operations.
///
/// rsqrt(±0) = ±inf, rsqrt(inf) = 0, rsqrt(x < 0) = NaN.
#[inline(always)]
pub fn rsqrt_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let root = m.sqrt(x);
    let one = m.float(1.0);
    m.div(one, root)
}

/// `1 / sqrt(x)` of f64 lanes, at most 1 ULP, with the special cases of [`rsqrt_f32`].
#[inline(always)]
pub fn rsqrt_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let root = m.sqrt(x);
    let one = m.float(1.0);
    m.div(one, root)
}

/// The smaller magnitude over the larger, in [0, 1], and whether |y| is the larger one.
///
/// Equal magnitudes give 0 if both are zero and 1 otherwise, infinities included; NaN gives NaN.
#[inline(always)]
fn ratio<M: Machine>(m: &mut M, y: M::F, x: M::F, zero: M::Scalar, one: M::Scalar) -> (M::F, M::M) {
    let (y, x) = (m.abs(y), m.abs(x));
    let steep = m.lt(x, y);
    let numerator = m.select(steep, x, y);
    let denominator = m.select(steep, y, x);
    let quotient = m.div(numerator, denominator);
    let (zero, one) = (m.float(zero), m.float(one));
    let none = m.eq(denominator, zero);
    let equal_value = m.select(none, zero, one);
    let equal = m.eq(numerator, denominator);
    (m.select(equal, equal_value, quotient), steep)
}

/// From the arctangent `a` of the ratio to the angle: reflects at the diagonal and at the axis, then
/// takes the sign of y. `high + low` is pi, `half_high + half_low` its half.
#[inline(always)]
fn unfold<M: Machine>(
    m: &mut M,
    a: M::F,
    steep: M::M,
    y: M::F,
    left: M::M,
    pi: [M::Scalar; 4],
    sign: M::Word,
) -> M::F {
    let [high, low, half_high, half_low] = pi.map(|c| m.float(c));
    let rest = m.sub(half_low, a);
    let complement = m.add(half_high, rest);
    let a = m.select(steep, complement, a);
    let rest = m.sub(low, a);
    let supplement = m.add(high, rest);
    let a = m.select(left, supplement, a);
    with_sign(m, a, y, sign)
}

/// The angle of the point (x, y), of f32 lanes, at most 2 ULP, with the special cases of C99.
///
/// atan(q) = q + q^3 p(q^2) on [0, 1], degree 19, relative error below 2^-28.5.
#[inline(always)]
pub fn atan2_f32<M: Machine32>(m: &mut M, y: M::F, x: M::F) -> M::F {
    let (q, steep) = ratio(m, y, x, 0.0, 1.0);
    let square = m.mul(q, q);
    let p = horner(
        m,
        square,
        &[
            -1.790_125_5e-3,
            1.089_856_7e-2,
            -3.114_709_3e-2,
            5.792_567_5e-2,
            -8.401_511e-2,
            1.095_149e-1,
            -1.426_410_1e-1,
            1.999_853_4e-1,
            -3.333_33e-1,
        ],
    );
    let cube = m.mul(square, q);
    let a = m.fma(cube, p, q);
    let bits = m.bits(x);
    let zero = m.int(0);
    let left = m.igt(zero, bits);
    unfold(
        m,
        a,
        steep,
        y,
        left,
        [
            std::f32::consts::PI,
            -8.742_278e-8,
            std::f32::consts::FRAC_PI_2,
            -4.371_139e-8,
        ],
        i32::MIN,
    )
}

/// The angle of the point (x, y), of f64 lanes, at most 2 ULP, with the special cases of C99.
///
/// atan(q) = q + q^3 p(q^2) on [0, 1], degree 41, relative error below 2^-57.5.
#[inline(always)]
pub fn atan2_f64<M: Machine64>(m: &mut M, y: M::F, x: M::F) -> M::F {
    let (q, steep) = ratio(m, y, x, 0.0, 1.0);
    let square = m.mul(q, q);
    let p = horner(
        m,
        square,
        &[
            1.322_908_159_003_355_6e-5,
            -1.522_025_882_829_047_5e-4,
            8.315_232_200_499_687e-4,
            -0.002_885_516_094_931_184_7,
            0.007_197_723_571_598_047,
            -0.013_902_377_886_954_212,
            0.021_986_896_432_022_37,
            -0.029_905_626_449_881_1,
            0.036_643_102_206_643_16,
            -0.042_192_417_659_651_7,
            0.047_223_481_163_837_37,
            -0.052_535_268_592_396_77,
            0.058_805_298_643_537_64,
            -0.066_664_044_402_047_8,
            0.076_922_798_919_895_2,
            -0.090_909_070_081_548_21,
            0.111_111_110_073_672_05,
            -0.142_857_142_825_890_6,
            0.199_999_999_999_517_65,
            -0.333_333_333_333_330_7,
        ],
    );
    let cube = m.mul(square, q);
    let a = m.fma(cube, p, q);
    let bits = m.bits(x);
    let zero = m.int(0);
    let left = m.igt(zero, bits);
    unfold(
        m,
        a,
        steep,
        y,
        left,
        [
            std::f64::consts::PI,
            1.224_646_799_147_353_2e-16,
            std::f64::consts::FRAC_PI_2,
            6.123_233_995_736_766e-17,
        ],
        i64::MIN,
    )
}
