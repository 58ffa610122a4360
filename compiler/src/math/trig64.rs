//! sin, cos and tan in f64, by the reduction of [`super::trig`].

use super::trig::{Reduced, Reduction, reduce};
use super::{Machine64, Rare, horner};

/// The largest |x| that the inline reduction serves.
pub const BOUND: f64 = 268_435_456.0;

const REDUCTION: Reduction<f64> = Reduction {
    inverse: std::f64::consts::FRAC_2_PI,
    magic: 6_755_399_441_055_744.0,
    minus_half_pi: [
        -std::f64::consts::FRAC_PI_2,
        -6.123_233_995_736_766e-17,
        1.497_384_904_859_169_8e-33,
    ],
};

/// The sine and cosine of r + tail.
///
/// sin(r) = r + r^3 s(r^2), degree 15, relative error below 2^-62.8, and cos(r) = 1 - r^2/2 + r^4 c(r^2),
/// degree 16, error below 2^-68, both on [-0.8, 0.8].
#[inline(always)]
pub(crate) fn kernel<M: Machine64>(m: &mut M, r: M::F, tail: M::F) -> (M::F, M::F) {
    let square = m.mul(r, r);
    let c = horner(
        m,
        square,
        &[
            4.652_615_599_383_151e-14,
            -1.146_814_307_388_134_3e-11,
            2.087_673_263_029_918e-9,
            -2.755_731_910_310_791_3e-7,
            2.480_158_730_126_183_8e-5,
            -1.388_888_888_888_844_7e-3,
            4.166_666_666_666_666_4e-2,
            -0.5,
        ],
    );
    // cos(r + tail) is cos r - r tail, to first order.
    let product = m.mul(r, tail);
    let product = m.neg(product);
    let c = m.fma(c, square, product);
    let one = m.float(1.0);
    let cos = m.add(c, one);
    let s = horner(
        m,
        square,
        &[
            -7.500_036_782_312_675e-13,
            1.605_653_298_209_016_2e-10,
            -2.505_208_798_256_911_7e-8,
            2.755_731_913_590_14e-6,
            -1.984_126_984_106_703e-4,
            8.333_333_333_333_106e-3,
            -1.666_666_666_666_666_6e-1,
        ],
    );
    let cube = m.mul(square, r);
    let tail = m.mul(tail, cos);
    let s = m.fma(s, cube, tail);
    let sin = m.add(s, r);
    (sin, cos)
}

/// The tangent of r + tail.
#[inline(always)]
pub(crate) fn tan_kernel<M: Machine64>(m: &mut M, r: M::F, tail: M::F) -> M::F {
    let square = m.mul(r, r);
    let t = horner(
        m,
        square,
        &[
            4.808_060_495_669_66e-6,
            -1.390_592_299_364_102_4e-5,
            2.866_305_275_319_232e-5,
            -2.217_697_962_730_926_4e-5,
            3.759_486_570_079_096e-5,
            2.747_323_088_435_180_5e-5,
            1.016_415_168_461_615_4e-4,
            2.377_264_498_385_747_6e-4,
            5.903_355_536_639_904e-4,
            0.001_455_784_835_076_099,
            0.003_592_133_749_907_138,
            0.008_863_235_073_425_37,
            0.021_869_488_560_116_7,
            0.053_968_253_967_495_744,
            0.133_333_333_333_345_74,
            0.333_333_333_333_333_26,
        ],
    );
    let cube = m.mul(square, r);
    let one = m.float(1.0);
    // tan(r + tail) is tan r + tail (1 + tan^2 r), to first order.
    let slope = m.fma(t, cube, r);
    let slope = m.fma(slope, slope, one);
    let tail = m.mul(tail, slope);
    let t = m.fma(t, cube, tail);
    m.add(t, r)
}

/// `sin(x)` of f64 lanes, at most 2 ULP. sin(±0) = ±0, sin(±inf) = NaN.
#[inline(always)]
pub fn sin_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let y = pick(m, n, sin, cos);
    let y = keep_tiny(m, x, y);
    rare(m, x, y, Rare::Sin)
}

/// `cos(x)` of f64 lanes, at most 2 ULP. cos(±inf) = NaN.
#[inline(always)]
pub fn cos_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let one = m.int(1);
    let n = m.iadd(n, one);
    let y = pick(m, n, sin, cos);
    rare(m, x, y, Rare::Cos)
}

/// `tan(x)` of f64 lanes, at most 2 ULP: a polynomial, or minus its inverse in odd octants.
///
/// tan(r) = r + r^3 t(r^2), degree 33, relative error below 2^-62.6 on [-0.79, 0.79].
/// tan(±0) = ±0, tan(±inf) = NaN.
#[inline(always)]
pub fn tan_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let tan = tan_kernel(m, r, tail);
    let minus_one = m.float(-1.0);
    let inverse = m.div(minus_one, tan);
    let is_odd = odd(m, n);
    let y = m.select(is_odd, inverse, tan);
    let y = keep_tiny(m, x, y);
    rare(m, x, y, Rare::Tan)
}

/// sin(r + n pi/2): the sine or cosine of r by the last bit of n, negated by the bit above.
#[inline(always)]
fn pick<M: Machine64>(m: &mut M, n: M::I, sin: M::F, cos: M::F) -> M::F {
    let is_odd = odd(m, n);
    let y = m.select(is_odd, cos, sin);
    let two = m.int(2);
    let sign = m.iand(n, two);
    let sign = m.shl(sign, 62);
    let bits = m.bits(y);
    let bits = m.ixor(bits, sign);
    m.with_bits(bits)
}

#[inline(always)]
fn odd<M: Machine64>(m: &mut M, n: M::I) -> M::M {
    let one = m.int(1);
    let last = m.iand(n, one);
    m.ieq(last, one)
}

/// `x` itself where it is tiny: r^3 s would turn -0 into +0.
#[inline(always)]
fn keep_tiny<M: Machine64>(m: &mut M, x: M::F, y: M::F) -> M::F {
    let magnitude = m.abs(x);
    let tiny = m.float(1.0e-20);
    let is_tiny = m.lt(magnitude, tiny);
    m.select(is_tiny, x, y)
}

#[inline(always)]
fn rare<M: Machine64>(m: &mut M, x: M::F, y: M::F, function: Rare) -> M::F {
    let magnitude = m.abs(x);
    let bound = m.float(BOUND);
    let huge = m.lt(bound, magnitude);
    m.rare(huge, y, x, function)
}
