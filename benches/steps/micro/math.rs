//! The transcendental functions of the hand-written loops: the polynomials of Kiln's recipes, with every multiply-add contracted.
//!
//! They are what a person would write who wants speed: NaN, infinities and signed zeros are not cared for.

use super::vector::Vector;

/// The exponential function for every x that is a number: below -104 it is about 0, above 88.8 about the greatest finite number.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let x = V::max(V::min(x, V::splat(88.8)), V::splat(-104.0));
        let n = V::round(V::mul(x, V::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first of which is exact in few bits.
        let r = V::fma(n, V::splat(-6.931_472e-1), x);
        let r = V::fma(n, V::splat(1.904_654_3e-9), r);
        let p = polynomial(
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
        );
        V::scale(p, n)
    }
}

/// The error function: one polynomial below 1, and another one around 2.5 above.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn erf<V: Vector>(x: V) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let magnitude = V::abs(x);
        let q = polynomial(
            V::mul(x, x),
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
        let small = V::fma(magnitude, q, magnitude);
        let clamped = V::min(magnitude, V::splat(3.95));
        let p = polynomial(
            V::sub(clamped, V::splat(2.5)),
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
        let large = V::sub(V::splat(1.0), p);
        V::with_sign(V::if_less(magnitude, V::splat(1.0), small, large), x)
    }
}

/// Horner's scheme, from the coefficient of the highest power on.
#[inline(always)]
unsafe fn polynomial<V: Vector>(x: V, coefficients: &[f32]) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sum = V::splat(coefficients[0]);
        for coefficient in &coefficients[1..] {
            sum = V::fma(sum, x, V::splat(*coefficient));
        }
        sum
    }
}
