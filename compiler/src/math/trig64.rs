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

/// `sin(x)` of f64 lanes, at most 2 ULP. sin(±0) = ±0, sin(±inf) = NaN.
pub fn sin_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let y = pick(m, n, sin, cos);
    let y = keep_tiny(m, x, y);
    rare(m, x, y, Rare::Sin)
}

/// `cos(x)` of f64 lanes, at most 2 ULP. cos(±inf) = NaN.
pub fn cos_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let one = m.int(1);
    let n = m.iadd(n, one);
    let y = pick(m, n, sin, cos);
    rare(m, x, y, Rare::Cos)
}

/// `tan(x)` of f64 lanes, at most 2 ULP: the quotient of sine and cosine, or minus its inverse.
///
/// tan(±0) = ±0, tan(±inf) = NaN.
pub fn tan_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let Reduced { n, r, tail } = reduce(m, x, &REDUCTION);
    let (sin, cos) = kernel(m, r, tail);
    let is_odd = odd(m, n);
    let minus_sin = m.neg(sin);
    let numerator = m.select(is_odd, cos, sin);
    let denominator = m.select(is_odd, minus_sin, cos);
    let y = m.div(numerator, denominator);
    let y = keep_tiny(m, x, y);
    rare(m, x, y, Rare::Tan)
}

/// sin(r + n pi/2): the sine or cosine of r by the last bit of n, negated by the bit above.
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

fn odd<M: Machine64>(m: &mut M, n: M::I) -> M::M {
    let one = m.int(1);
    let last = m.iand(n, one);
    m.ieq(last, one)
}

/// `x` itself where it is tiny: r^3 s would turn -0 into +0.
fn keep_tiny<M: Machine64>(m: &mut M, x: M::F, y: M::F) -> M::F {
    let magnitude = m.abs(x);
    let tiny = m.float(1.0e-20);
    let is_tiny = m.lt(magnitude, tiny);
    m.select(is_tiny, x, y)
}

fn rare<M: Machine64>(m: &mut M, x: M::F, y: M::F, function: Rare) -> M::F {
    let magnitude = m.abs(x);
    let bound = m.float(BOUND);
    let huge = m.lt(bound, magnitude);
    m.rare(huge, y, x, function)
}
