//! Products of f32 and f64 that are small or have a single row or column, in an order of sums that strides have no part in.
//!
//! At these shapes the `gemm` crate looks at the strides of its operands to choose between dot products along lanes and sums in order,
//! which round differently. But a transpose that fusion absorbs, and one that is written out, must give the same bits. So each element is
//! one sum here, in ascending order of the contracted index, whatever the strides, with fused multiply-add where the machine has it.

use super::{Operand, Target};

/// The products that are computed here: a choice by shape alone.
pub(super) fn is_ordered(m: usize, n: usize) -> bool {
    m <= 1 || n <= 1 || m.saturating_mul(n) <= 256
}

/// A type of sums.
pub(super) trait Float: Copy {
    const ZERO: Self;
    /// `a * b + sum`, rounded once.
    fn fused(sum: Self, a: Self, b: Self) -> Self;
    /// `a * b + sum`, rounded twice.
    fn separate(sum: Self, a: Self, b: Self) -> Self;
}

macro_rules! floats {
    ($($type:ty),*) => {$(
        impl Float for $type {
            const ZERO: Self = 0.0;

            #[inline(always)]
            fn fused(sum: Self, a: Self, b: Self) -> Self {
                a.mul_add(b, sum)
            }

            #[inline(always)]
            fn separate(sum: Self, a: Self, b: Self) -> Self {
                a * b + sum
            }
        }
    )*};
}
floats!(f32, f64);

/// `dst = lhs . rhs`.
///
/// # Safety
/// As [`product`](super::product), for elements of type `T`; m and n are above 0.
pub(super) unsafe fn ordered<T: Float>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
) {
    #[cfg(target_arch = "x86_64")]
    {
        if !(is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2")) {
            // SAFETY: as the caller's.
            return unsafe { tiled::<T>(m, n, k, dst, lhs, rhs, T::separate) };
        }
        // SAFETY: the machine has the features, and the rest is the caller's.
        unsafe { with_fma::<T>(m, n, k, dst, lhs, rhs) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller's.
    unsafe {
        tiled::<T>(m, n, k, dst, lhs, rhs, T::fused)
    }
}

/// # Safety
/// As [`ordered`], on a machine with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_fma<T: Float>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
) {
    // SAFETY: as the caller's.
    unsafe { tiled::<T>(m, n, k, dst, lhs, rhs, |sum, a, b| T::fused(sum, a, b)) }
}

/// Tiles of sixteen elements, so that sixteen sums run beside each other.
///
/// # Safety
/// As [`ordered`].
#[inline(always)]
unsafe fn tiled<T: Float>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
    multiply_add: impl Fn(T, T, T) -> T + Copy,
) {
    // SAFETY: as the caller's.
    unsafe {
        if m == 1 {
            tiles::<T, 1, 16>(m, n, k, dst, lhs, rhs, multiply_add);
        } else if n == 1 {
            tiles::<T, 16, 1>(m, n, k, dst, lhs, rhs, multiply_add);
        } else {
            tiles::<T, 4, 4>(m, n, k, dst, lhs, rhs, multiply_add);
        }
    }
}

/// # Safety
/// As [`ordered`].
#[inline(always)]
unsafe fn tiles<T: Float, const R: usize, const C: usize>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
    multiply_add: impl Fn(T, T, T) -> T,
) {
    for row in (0..m).step_by(R) {
        for col in (0..n).step_by(C) {
            // Beyond the edge the last row and column are computed again.
            let rows: [isize; R] = std::array::from_fn(|r| (row + r).min(m - 1) as isize);
            let cols: [isize; C] = std::array::from_fn(|c| (col + c).min(n - 1) as isize);
            let mut sums = [[T::ZERO; C]; R];
            for depth in 0..k as isize {
                let (left, right) = (depth * lhs.col_stride, depth * rhs.row_stride);
                let a: [T; R] = rows.map(|r| {
                    // SAFETY: (r, depth) is inside [m, k], which the caller promises for reading.
                    unsafe { *lhs.ptr.cast::<T>().offset(r * lhs.row_stride + left) }
                });
                let b: [T; C] = cols.map(|c| {
                    // SAFETY: (depth, c) is inside [k, n], which the caller promises for reading.
                    unsafe { *rhs.ptr.cast::<T>().offset(right + c * rhs.col_stride) }
                });
                for (sums, a) in sums.iter_mut().zip(a) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = multiply_add(*sum, a, b);
                    }
                }
            }
            for (r, sums) in rows.iter().zip(sums) {
                for (c, sum) in cols.iter().zip(sums) {
                    let to = r * dst.row_stride + c * dst.col_stride;
                    // SAFETY: (r, c) is inside [m, n], which the caller promises for writing.
                    unsafe { dst.ptr.cast::<T>().offset(to).write(sum) }
                }
            }
        }
    }
}
