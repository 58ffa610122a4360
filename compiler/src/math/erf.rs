//! The error function in f32.

use super::{Machine32, at_most, horner, with_sign};

/// `erf(x)` of f32 lanes, at most 1 ULP.
///
/// Below 1, x + x q(x^2) of degree 13 (relative error below 2^-29.3); above, 1 - p(|x| - 2.5) of
/// degree 14 on [1, 3.95] (absolute error below 2^-26.9), which is 1 from there on. A direct
/// polynomial of that degree is shorter than the usual detour over exp.
/// erf(±0) = ±0, erf(±inf) = ±1.
#[inline(always)]
pub fn erf_f32<M: Machine32>(m: &mut M, x: M::F) -> M::F {
    let magnitude = m.abs(x);
    let square = m.mul(x, x);
    let q = horner(
        m,
        square,
        &[
            7.846_108e-5,
            -8.007_878e-4,
            5.188_074e-3,
            -2.685_369_2e-2,
            1.128_358_3e-1,
            -3.761_262_6e-1,
            1.283_791_7e-1,
        ],
    );
    let small = m.fma(magnitude, q, magnitude);

    let clamped = at_most(m, magnitude, 3.95);
    let center = m.float(2.5);
    let u = m.sub(clamped, center);
    let p = horner(
        m,
        u,
        &[
            -1.016_013_1e-6,
            -6.255_361_3e-7,
            1.660_474_7e-5,
            -1.692_593_5e-5,
            -8.353_405_4e-5,
            2.685_209_6e-4,
            -2.554_348e-4,
            -5.578_457e-4,
            2.795_281_1e-3,
            -6.110_564e-3,
            8.623_345e-3,
            -8.351_413e-3,
            5.445_599e-3,
            -2.178_209_4e-3,
            4.069_541_2e-4,
        ],
    );
    let one = m.float(1.0);
    let large = m.sub(one, p);

    let is_small = m.lt(magnitude, one);
    let y = m.select(is_small, small, large);
    with_sign(m, y, x, i32::MIN)
}
