//! The complementary error function in f32.

use super::exp::{MAGIC_SCALE, quotient, reduce_precisely};
use super::{Machine32, at_most, horner};

/// `erfc(x)` of f32 lanes, at most 1 ULP.
///
/// erfc(a) = exp(-a^2) g(t) / (1 + a) for a = |x| with t = (a - 1) / (a + 1), where g has degree 12
/// and a relative error below 2^-27.3 on [0, 10.2] (the substitution is Shepherd and Laframboise's,
/// 1981); 2 - erfc(a) for negative x. The square, its exponential, g and the quotient all carry their
/// rounding errors along to first order, since each would cost half an ULP or more.
/// erfc(inf) = 0, erfc(-inf) = 2; subnormal results are not flushed.
#[inline(always)]
pub fn erfc_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let a = m.abs(x);
    let a = at_most(m, a, 10.2);
    let one = m.float(1.0);
    let minus_two = m.float(-2.0);

    // inverse (1 + error) is 1 / (1 + a), and t + t_low is 1 - 2 / (1 + a).
    let d = m.add(a, one);
    let d_low = m.sub(d, one);
    let d_low = m.sub(a, d_low);
    let inverse = m.div(one, d);
    let minus_inverse = m.neg(inverse);
    let error = m.fma(minus_inverse, d, one);
    let error = m.fma(minus_inverse, d_low, error);
    let t = m.fma(minus_two, inverse, one);
    let t_low = m.sub(one, t);
    let t_low = m.fma(minus_two, inverse, t_low);
    let doubled = m.mul(minus_two, inverse);
    let t_low = m.fma(doubled, error, t_low);

    let h = horner(
        m,
        t,
        &[
            8.329_093_5e-5,
            4.186_246_7e-4,
            5.946_45e-4,
            -3.508_823_3e-4,
            -2.363_587e-3,
            -3.761_249e-3,
            -1.219_174_9e-3,
            9.568_679e-3,
            2.539_483e-2,
            1.390_649e-2,
            -9.555_634e-2,
            -2.376_808_4e-1,
        ],
    );
    let constant = m.float(8.551_671_5e-1);
    let g = m.fma(t, h, constant);
    let g_low = m.sub(constant, g);
    let g_low = m.fma(t, h, g_low);
    // The derivative of g lies between -0.29 and -0.06.
    let slope = m.float(-0.24);
    let g_low = m.fma(t_low, slope, g_low);

    let square = m.mul(a, a);
    let argument = m.neg(square);
    let square_low = m.fma(a, a, argument);
    let border = m.float(-64.0);
    let is_low = m.lt(argument, border);
    let shifted = m.float(MAGIC_SCALE + 63.0);
    let plain = m.float(MAGIC_SCALE);
    let magic = m.select(is_low, shifted, plain);
    let shifted = m.float(1.084_202_2e-19);
    let back = m.select(is_low, shifted, one);
    let (bits, r, r_low) = reduce_precisely(m, argument, magic);
    let r_low = m.sub(r_low, square_low);
    // The exponential is 1 + r + w.
    let q = quotient(m, r);
    let r_square = m.mul(r, r);
    let p = m.fma(r_square, q, r);
    let w = m.fma(r_low, p, r_low);
    let w = m.fma(r_square, q, w);

    let low = m.fma(w, g, g_low);
    let low = m.fma(r, g, low);
    let high = m.add(g, low);
    let rest = m.sub(high, g);
    let rest = m.sub(low, rest);
    let rest = m.fma(error, high, rest);
    let y = m.mul(high, inverse);
    let negated = m.neg(y);
    let y_low = m.fma(high, inverse, negated);
    let y_low = m.fma(rest, inverse, y_low);
    let y = m.add(y, y_low);

    let bits = m.bits(bits);
    let scale = m.shl(bits, 23);
    let scale = m.with_bits(scale);
    let y = m.mul(y, scale);
    let y = m.mul(y, back);
    let two = m.float(2.0);
    let mirrored = m.sub(two, y);
    let zero = m.float(0.0);
    let negative = m.lt(x, zero);
    m.select(negative, mirrored, y)
}
