//! The error function and its complement in f64.

use super::exp64::{MAGIC_SCALE, TAKE_BACK, power, quotient, reduce_precisely};
use super::{Machine64, at_most, horner, with_sign};

/// `erf(x)` of f64 lanes, at most 2 ULP.
///
/// Below 1, x + x q(x^2) of degree 25 (relative error below 2^-56.3); above, 1 - erfc(|x|).
#[inline(always)]
pub fn erf_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let square = m.mul(x, x);
    let q = horner(
        m,
        square,
        &[
            6.775_050_440_449_1e-11,
            -1.188_623_397_930_687_8e-9,
            1.480_161_237_850_992_7e-8,
            -1.637_299_022_823_627e-7,
            1.646_332_106_329_937e-6,
            -1.492_575_396_550_933_5e-5,
            1.205_533_846_418_863_4e-4,
            -8.548_327_209_838_523e-4,
            0.005_223_977_629_477_69,
            -0.026_866_170_645_662_6,
            0.112_837_916_709_589_95,
            -0.376_126_389_031_838_8,
            0.128_379_167_095_512_6,
        ],
    );
    let small = m.fma(magnitude, q, magnitude);
    let complement = erfc_f64(m, magnitude);
    let one = m.float(1.0);
    let large = m.sub(one, complement);
    let is_small = m.lt(magnitude, one);
    let y = m.select(is_small, small, large);
    with_sign(m, y, x, i64::MIN)
}

/// `erfc(x)` of f64 lanes, at most 2 ULP.
///
/// The method is that of f32 with t = (a - 2) / (a + 2), erfc(a) = exp(-a^2) g(t) / (1 + a / 2), where
/// g has degree 27 and a relative error below 2^-55.8 on [0, 28].
#[inline(always)]
pub fn erfc_f64<M: Machine64>(m: &mut M, x: M::F) -> M::F {
    let a = m.abs(x);
    let a = at_most(m, a, 28.0);
    let one = m.float(1.0);
    let two = m.float(2.0);
    let minus_four = m.float(-4.0);

    // inverse (1 + error) is 1 / (a + 2), and t + t_low is 1 - 4 / (a + 2).
    let d = m.add(a, two);
    let d_low = m.sub(d, two);
    let d_low = m.sub(a, d_low);
    let inverse = m.div(one, d);
    let minus_inverse = m.neg(inverse);
    let error = m.fma(minus_inverse, d, one);
    let error = m.fma(minus_inverse, d_low, error);
    let t = m.fma(minus_four, inverse, one);
    let t_low = m.sub(one, t);
    let t_low = m.fma(minus_four, inverse, t_low);
    let fourfold = m.mul(minus_four, inverse);
    let t_low = m.fma(fourfold, error, t_low);

    let h = horner(
        m,
        t,
        &[
            2.746_871_458_861_275_3e-10,
            8.902_202_527_478_57e-10,
            -1.261_283_047_317_299_6e-9,
            -8.255_548_500_744_333e-9,
            -5.328_283_513_140_269e-9,
            2.594_600_584_920_567_7e-8,
            5.476_421_673_055_887e-8,
            2.029_606_867_751_854e-9,
            -1.609_726_952_374_851_4e-7,
            -2.884_359_446_842_531_3e-7,
            -2.854_337_293_896_937_7e-10,
            1.002_434_972_119_996_3e-6,
            1.822_667_515_107_105_6e-6,
            -5.633_736_721_014_407e-7,
            -8.060_733_840_874_438e-6,
            -1.084_791_064_495_662_6e-5,
            1.707_450_932_099_200_7e-5,
            7.223_532_236_542_193e-5,
            1.718_570_953_953_757e-5,
            -3.315_367_436_191_46e-4,
            -4.186_480_304_806_244_6e-4,
            0.001_545_306_028_659_323,
            0.003_239_592_533_827_462_6,
            -0.010_755_330_944_691_683,
            -0.018_221_115_753_438_25,
            0.139_736_046_278_026_13,
            -0.343_580_342_206_905_3,
        ],
    );
    let constant = m.float(0.510_791_352_621_011_5);
    let g = m.fma(t, h, constant);
    let g_low = m.sub(constant, g);
    let g_low = m.fma(t, h, g_low);
    // The derivative of g lies between -0.64 and -0.14.
    let slope = m.float(-0.35);
    let g_low = m.fma(t_low, slope, g_low);

    let square = m.mul(a, a);
    let argument = m.neg(square);
    let square_low = m.fma(a, a, argument);
    let border = m.float(-512.0);
    let is_low = m.lt(argument, border);
    let shifted = m.float(MAGIC_SCALE + 511.0);
    let plain = m.float(MAGIC_SCALE);
    let magic = m.select(is_low, shifted, plain);
    let shifted = m.float(TAKE_BACK);
    let back = m.select(is_low, shifted, one);
    let (scale, r, r_low) = reduce_precisely(m, argument, magic);
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

    // The denominator 1 + a / 2 is half of what was inverted.
    let y = m.add(y, y);
    let scale = power(m, scale);
    let y = m.mul(y, scale);
    let y = m.mul(y, back);
    let mirrored = m.sub(two, y);
    let zero = m.float(0.0);
    let negative = m.lt(x, zero);
    m.select(negative, mirrored, y)
}
