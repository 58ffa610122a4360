//! The hand-written loops: AVX-512 intrinsics, the same arithmetic as the graphs up to the order of sums, ordinary stores.

use super::graphs::{NORM, SOFTMAX};
use std::arch::x86_64::*;

type V = __m512;

#[inline(always)]
unsafe fn splat(x: f32) -> V {
    // SAFETY: only called from functions compiled for AVX-512.
    unsafe { _mm512_set1_ps(x) }
}

#[inline(always)]
unsafe fn horner(x: V, coefficients: &[f32]) -> V {
    // SAFETY: as above.
    unsafe {
        let mut sum = splat(coefficients[0]);
        for c in &coefficients[1..] {
            sum = _mm512_fmadd_ps(sum, x, splat(*c));
        }
        sum
    }
}

#[inline(always)]
unsafe fn exp_of(x: V) -> V {
    // SAFETY: as above.
    unsafe {
        let x = _mm512_min_ps(x, splat(88.8));
        let x = _mm512_max_ps(x, splat(-104.0));
        let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, splat(std::f32::consts::LOG2_E)));
        let r = _mm512_fmadd_ps(n, splat(-6.931_472e-1), x);
        let r = _mm512_fmadd_ps(n, splat(1.904_654_3e-9), r);
        let p = horner(
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
        _mm512_scalef_ps(p, n)
    }
}

#[inline(always)]
unsafe fn erf_of(x: V) -> V {
    // SAFETY: as above.
    unsafe {
        let magnitude = _mm512_abs_ps(x);
        let square = _mm512_mul_ps(x, x);
        let q = horner(
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
        let small = _mm512_fmadd_ps(magnitude, q, magnitude);
        let clamped = _mm512_min_ps(magnitude, splat(3.95));
        let u = _mm512_sub_ps(clamped, splat(2.5));
        let p = horner(
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
        let large = _mm512_sub_ps(splat(1.0), p);
        let is_small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(magnitude, splat(1.0));
        let y = _mm512_mask_blend_ps(is_small, large, small);
        let sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MIN));
        _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), sign))
    }
}

/// Maps 16 elements at a time, then the rest by masks.
macro_rules! map {
    ($n:expr, $load:ident, $store:ident, $body:expr) => {{
        let n = $n;
        let mut i = 0;
        while i + 16 <= n {
            let $load = |p: *mut f32| {
                // SAFETY: the buffers have `n` elements.
                unsafe { _mm512_loadu_ps(p.add(i)) }
            };
            let $store = |p: *mut f32, v: V| {
                // SAFETY: the buffers have `n` elements.
                unsafe { _mm512_storeu_ps(p.add(i), v) }
            };
            $body;
            i += 16;
        }
        if i < n {
            let mask = (1_u16 << (n - i)) - 1;
            let $load = |p: *mut f32| {
                // SAFETY: the buffers have `n` elements.
                unsafe { _mm512_maskz_loadu_ps(mask, p.add(i)) }
            };
            let $store = |p: *mut f32, v: V| {
                // SAFETY: the buffers have `n` elements.
                unsafe { _mm512_mask_storeu_ps(p.add(i), mask, v) }
            };
            $body;
        }
    }};
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn exp(b: &[*mut f32], n: usize) {
    let (x, y) = (b[0], b[1]);
    // SAFETY: the buffers have `n` elements.
    map!(n, load, store, unsafe { store(y, exp_of(load(x))) });
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn gelu(b: &[*mut f32], n: usize) {
    let (x, y) = (b[0], b[1]);
    // SAFETY: the buffers have `n` elements.
    map!(n, load, store, unsafe {
        let v = load(x);
        let e = erf_of(_mm512_mul_ps(v, splat(std::f32::consts::FRAC_1_SQRT_2)));
        let half = _mm512_mul_ps(v, splat(0.5));
        store(y, _mm512_mul_ps(half, _mm512_add_ps(e, splat(1.0))));
    });
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn softmax(b: &[*mut f32], n: usize) {
    for row in 0..n {
        // SAFETY: the buffers have `n` rows, of a multiple of 64 columns.
        unsafe {
            let (x, y) = (b[0].add(row * SOFTMAX), b[1].add(row * SOFTMAX));
            let mut max = [splat(f32::NEG_INFINITY); 4];
            for i in (0..SOFTMAX).step_by(64) {
                for (j, max) in max.iter_mut().enumerate() {
                    *max = _mm512_max_ps(*max, _mm512_loadu_ps(x.add(i + 16 * j)));
                }
            }
            let max = _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]));
            let max = splat(_mm512_reduce_max_ps(max));
            let mut sum = [splat(0.0); 4];
            for i in (0..SOFTMAX).step_by(64) {
                for (j, sum) in sum.iter_mut().enumerate() {
                    let e = exp_of(_mm512_sub_ps(_mm512_loadu_ps(x.add(i + 16 * j)), max));
                    _mm512_storeu_ps(y.add(i + 16 * j), e);
                    *sum = _mm512_add_ps(*sum, e);
                }
            }
            let sum = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
            let scale = splat(1.0 / _mm512_reduce_add_ps(sum));
            for i in (0..SOFTMAX).step_by(16) {
                _mm512_storeu_ps(y.add(i), _mm512_mul_ps(_mm512_loadu_ps(y.add(i)), scale));
            }
        }
    }
}

/// The sum of `f` over the columns of a layer norm.
#[inline(always)]
unsafe fn summed(f: impl Fn(usize) -> V) -> f32 {
    // SAFETY: only called from functions compiled for AVX-512.
    unsafe {
        let mut sum = [splat(0.0); 4];
        for i in (0..NORM).step_by(64) {
            for (j, sum) in sum.iter_mut().enumerate() {
                *sum = _mm512_add_ps(*sum, f(i + 16 * j));
            }
        }
        let sum = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
        _mm512_reduce_add_ps(sum)
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn layernorm(b: &[*mut f32], n: usize) {
    let (gamma, beta) = (b[1], b[2]);
    for row in 0..n {
        // SAFETY: the buffers have `n` rows, of a multiple of 64 columns.
        unsafe {
            let (x, y) = (b[0].add(row * NORM), b[3].add(row * NORM));
            let at = |p: *mut f32, i: usize| _mm512_loadu_ps(p.add(i));
            let mean = splat(summed(|i| at(x, i)) / NORM as f32);
            let variance = summed(|i| {
                let c = _mm512_sub_ps(at(x, i), mean);
                _mm512_mul_ps(c, c)
            }) / NORM as f32;
            let scale = splat(1.0 / (variance + 1e-5).sqrt());
            for i in (0..NORM).step_by(16) {
                let c = _mm512_mul_ps(_mm512_sub_ps(at(x, i), mean), scale);
                let v = _mm512_fmadd_ps(c, at(gamma, i), at(beta, i));
                _mm512_storeu_ps(y.add(i), v);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn norm_back(b: &[*mut f32], n: usize) {
    let gamma = b[2];
    for row in 0..n {
        // SAFETY: the buffers have `n` rows, of a multiple of 64 columns.
        unsafe {
            let (x, dy) = (b[0].add(row * NORM), b[1].add(row * NORM));
            let dx = b[3].add(row * NORM);
            let at = |p: *mut f32, i: usize| _mm512_loadu_ps(p.add(i));
            let mean = splat(summed(|i| at(x, i)) / NORM as f32);
            let variance = summed(|i| {
                let c = _mm512_sub_ps(at(x, i), mean);
                _mm512_mul_ps(c, c)
            }) / NORM as f32;
            let scale = splat(1.0 / (variance + 1e-5).sqrt());
            let normal = |i| _mm512_mul_ps(_mm512_sub_ps(at(x, i), mean), scale);
            let cotangent = |i| _mm512_mul_ps(at(dy, i), at(gamma, i));
            let first = splat(summed(cotangent) / NORM as f32);
            let second = splat(summed(|i| _mm512_mul_ps(cotangent(i), normal(i))) / NORM as f32);
            for i in (0..NORM).step_by(16) {
                let v = _mm512_sub_ps(cotangent(i), first);
                let v = _mm512_fnmadd_ps(normal(i), second, v);
                _mm512_storeu_ps(dx.add(i), _mm512_mul_ps(v, scale));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn adam(b: &[*mut f32], n: usize) {
    let [d, p, m, v] = [0, 1, 2, 3].map(|i| b[i]);
    // SAFETY: the buffers have `n` elements.
    map!(n, load, store, unsafe {
        let g = load(d);
        let first = _mm512_fmadd_ps(g, splat(0.1), _mm512_mul_ps(load(m), splat(0.9)));
        let square = _mm512_mul_ps(_mm512_mul_ps(g, g), splat(0.001));
        let second = _mm512_fmadd_ps(load(v), splat(0.999), square);
        store(m, first);
        store(v, second);
        let root = _mm512_fmadd_ps(_mm512_sqrt_ps(second), splat(1.5), splat(1e-8));
        let change = _mm512_div_ps(_mm512_mul_ps(first, splat(1e-3)), root);
        store(p, _mm512_sub_ps(load(p), change));
    });
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn add(b: &[*mut f32], n: usize) {
    let [x, y, z] = [0, 1, 2].map(|i| b[i]);
    map!(n, load, store, store(z, _mm512_add_ps(load(x), load(y))));
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn axpby(b: &[*mut f32], n: usize) {
    let [x, y, z] = [0, 1, 2].map(|i| b[i]);
    // SAFETY: the buffers have `n` elements.
    map!(n, load, store, unsafe {
        let scaled = _mm512_mul_ps(load(y), splat(0.1));
        store(z, _mm512_fmadd_ps(load(x), splat(0.9), scaled));
    });
}

/// Row by row into a row of sums.
#[inline(always)]
unsafe fn sums(b: &[*mut f32], n: usize, columns: usize) {
    let (x, y) = (b[0], b[1]);
    // SAFETY: the operand has `n` rows, the result one; only called from functions compiled for AVX-512.
    unsafe {
        for i in (0..columns).step_by(16) {
            _mm512_storeu_ps(y.add(i), splat(0.0));
        }
        let mut row = 0;
        while row < n {
            // Four rows for each pass over the sums, which then cost little.
            let rows = (n - row).min(4);
            for i in (0..columns).step_by(16) {
                let mut sum = _mm512_loadu_ps(y.add(i));
                for r in row..row + rows {
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(x.add(r * columns + i)));
                }
                _mm512_storeu_ps(y.add(i), sum);
            }
            row += rows;
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn columns(b: &[*mut f32], n: usize) {
    // SAFETY: as the caller promises.
    unsafe { sums(b, n, NORM) }
}

#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn columns512(b: &[*mut f32], n: usize) {
    // SAFETY: as the caller promises.
    unsafe { sums(b, n, 512) }
}
