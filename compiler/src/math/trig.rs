//! sin, cos and tan in f32, and the argument reduction that f64 shares.
//!
//! x = n pi/2 + r + tail by a three-part pi/2 (Cody and Waite 1980) with an error-free sum (Knuth's
//! TwoSum), right for |x| up to [`BOUND`]. Beyond it, [`Machine::rare`] takes over: an all-range
//! reduction in line would cost every lane some sixty instructions for arguments nobody has.

use super::{Machine, Machine32, Rare, horner};

/// The largest |x| that the inline reduction serves.
pub const BOUND: f32 = 131_072.0;

/// The constants of the reduction in one width.
pub(crate) struct Reduction<S> {
    /// 2 / pi.
    pub(crate) inverse: S,
    /// 1.5 * 2^(mantissa bits).
    pub(crate) magic: S,
    /// Minus pi/2 in three parts.
    pub(crate) minus_half_pi: [S; 3],
}

/// x = n pi/2 + r + tail.
pub(crate) struct Reduced<M: Machine> {
    /// An integer whose low bits are those of n.
    pub(crate) n: M::I,
    /// At most pi/4, but for the rounding of n.
    pub(crate) r: M::F,
    /// At most half an ULP of `r`.
    pub(crate) tail: M::F,
}

/// Reduces `x`, whose magnitude is within the bound of its width.
///
/// `x - n c0` is exact: both are multiples of an ULP of c0, and the difference is below 1.
/// `n c1` and its subtraction are error-free, since the difference may cancel almost completely.
#[inline(always)]
pub(crate) fn reduce<M: Machine>(
    m: &mut M,
    x: M::F,
    constants: &Reduction<M::Scalar>,
) -> Reduced<M> {
    let inverse = m.float(constants.inverse);
    let magic = m.float(constants.magic);
    let shifted = m.fma(x, inverse, magic);
    let n = m.sub(shifted, magic);
    let [c0, c1, c2] = constants.minus_half_pi.map(|c| m.float(c));
    let a = m.fma(n, c0, x);
    let b = m.mul(n, c1);
    let negated = m.neg(b);
    let b_error = m.fma(n, c1, negated);
    let r = m.add(a, b);
    let b_part = m.sub(r, a);
    let a_part = m.sub(r, b_part);
    let a_rest = m.sub(a, a_part);
    let b_rest = m.sub(b, b_part);
    let tail = m.add(a_rest, b_rest);
    let tail = m.add(tail, b_error);
    let tail = m.fma(n, c2, tail);
    let n = m.bits(shifted);
    Reduced { n, r, tail }
}

const REDUCTION: Reduction<f32> = Reduction {
    inverse: std::f32::consts::FRAC_2_PI,
    magic: super::exp::MAGIC,
    minus_half_pi: [-1.570_796_4, 4.371_139e-8, 1.715_124_5e-15],
};

/// The sine and cosine of r + tail.
///
/// sin(r) = r + r^3 s(r^2), degree 7, relative error below 2^-27.6, and cos(r) = 1 - r^2/2 + r^4 c(r^2),
/// degree 8, error below 2^-32.9, both on [-0.8, 0.8].
#[inline(always)]
fn kernel<M: Machine32>(m: &mut M, r: M::F, tail: M::F) -> (M::F, M::F) {
    let square = m.mul(r, r);
    let c = horner(
        m,
        square,
        &[2.442_840_4e-5, -1.388_729e-3, 4.166_664_6e-2, -0.5],
    );
    // cos(r + tail) is cos r - r tail, to first order.
    let product = m.mul(r, tail);
    let product = m.neg(product);
    let c = m.fma(c, square, product);
    let one = m.float(1.0);
    let cos = m.add(c, one);
    let s = horner(m, square, &[-1.950_514_7e-4, 8.332_093e-3, -1.666_665_4e-1]);
    let cube = m.mul(square, r);
    let tail = m.mul(tail, cos);
    let s = m.fma(s, cube, tail);
    let sin = m.add(s, r);
    (sin, cos)
}

/// `sin(x)` of f32 lanes, at most 1 ULP. sin(±0) = ±0, sin(±inf) = NaN.
#[inline(always)]
pub fn sin_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let y = pick(m, n, sin, cos);
    // r^3 s would turn -0 into +0.
    let magnitude = m.abs(x);
    let tiny = m.float(1.0e-10);
    let is_tiny = m.lt(magnitude, tiny);
    let y = m.select(is_tiny, x, y);
    let bound = m.float(BOUND);
    let huge = m.lt(bound, magnitude);
    m.rare(huge, y, x, Rare::Sin)
}

/// `cos(x)` of f32 lanes, at most 1 ULP. cos(±inf) = NaN.
#[inline(always)]
pub fn cos_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let one = m.int(1);
    let n = m.iadd(n, one);
    let y = pick(m, n, sin, cos);
    let magnitude = m.abs(x);
    let bound = m.float(BOUND);
    let huge = m.lt(bound, magnitude);
    m.rare(huge, y, x, Rare::Cos)
}

/// sin(r + n pi/2): the sine or cosine of r by the last bit of n, negated by the bit above.
#[inline(always)]
fn pick<M: Machine32>(m: &mut M, n: M::I, sin: M::F, cos: M::F) -> M::F {
    let is_odd = odd(m, n);
    let y = m.select(is_odd, cos, sin);
    let two = m.int(2);
    let sign = m.iand(n, two);
    let sign = m.shl(sign, 30);
    let bits = m.bits(y);
    let bits = m.ixor(bits, sign);
    m.with_bits(bits)
}

#[inline(always)]
fn odd<M: Machine32>(m: &mut M, n: M::I) -> M::M {
    let one = m.int(1);
    let last = m.iand(n, one);
    m.ieq(last, one)
}

/// `tan(x)` of f32 lanes, at most 2 ULP: a polynomial, or minus its inverse in odd octants.
///
/// tan(r) = r + r^3 t(r^2), degree 15, relative error below 2^-29.2 on [-0.79, 0.79].
/// tan(±0) = ±0, tan(±inf) = NaN.
#[inline(always)]
pub fn tan_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let square = m.mul(r, r);
    let t = horner(
        m,
        square,
        &[
            4.481_367_3e-3,
            -1.184_135_2e-4,
            1.099_531_1e-2,
            2.122_267_7e-2,
            5.407_097_2e-2,
            1.333_257_1e-1,
            3.333_335_2e-1,
        ],
    );
    let cube = m.mul(square, r);
    let one = m.float(1.0);
    // tan(r + tail) is tan r + tail (1 + tan^2 r), to first order.
    let slope = m.fma(t, cube, r);
    let slope = m.fma(slope, slope, one);
    let tail = m.mul(tail, slope);
    let t = m.fma(t, cube, tail);
    let tan = m.add(t, r);
    let minus_one = m.float(-1.0);
    let inverse = m.div(minus_one, tan);
    let is_odd = odd(m, n);
    let y = m.select(is_odd, inverse, tan);
    let magnitude = m.abs(x);
    let tiny = m.float(1.0e-10);
    let is_tiny = m.lt(magnitude, tiny);
    let y = m.select(is_tiny, x, y);
    let bound = m.float(BOUND);
    let huge = m.lt(bound, magnitude);
    m.rare(huge, y, x, Rare::Tan)
}
