//! The definition of a product of floating-point numbers as it is written: one element after the other.
//!
//! It serves products that are done before blocks would be set up, and those without anything to contract.

use super::blocked::DEPTH;
use super::{Form, Isa, Matrices, Strides};
use std::ops::{Add, Range};

/// Computes these rows and columns.
///
/// # Safety
/// As [`Method::run`](super::Method::run); the machine has what the function was made for.
pub(super) type ChainFn = unsafe fn(&Form, &Range<usize>, &Range<usize>, Matrices);

/// The function for f32.
pub(super) fn f32(isa: Isa) -> ChainFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => fused::<f32>,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => chain::<f32>,
        Isa::Portable => chain::<f32>,
    }
}

/// The function for f64.
pub(super) fn f64(isa: Isa) -> ChainFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => fused::<f64>,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => chain::<f64>,
        Isa::Portable => chain::<f64>,
    }
}

/// A floating-point type.
trait Float: Copy + Add<Output = Self> {
    const ZERO: Self;
    fn multiply_add(self, b: Self, c: Self) -> Self;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
    #[inline(always)]
    fn multiply_add(self, b: f32, c: f32) -> f32 {
        self.mul_add(b, c)
    }
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
    #[inline(always)]
    fn multiply_add(self, b: f64, c: f64) -> f64 {
        self.mul_add(b, c)
    }
}

/// [`chain`] where a fused multiply-add is an instruction.
///
/// # Safety
/// As [`chain`]; the machine has FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,fma")]
unsafe fn fused<T: Float>(form: &Form, rows: &Range<usize>, cols: &Range<usize>, at: Matrices) {
    // SAFETY: the caller's promise is passed on.
    unsafe { chain::<T>(form, rows, cols, at) }
}

/// # Safety
/// As [`Method::run`](super::Method::run), for elements of type `T`.
#[inline(always)]
unsafe fn chain<T: Float>(form: &Form, rows: &Range<usize>, cols: &Range<usize>, at: Matrices) {
    let offset = |strides: Strides, row: usize, col: usize| {
        row as isize * strides.row + col as isize * strides.col
    };
    for row in rows.clone() {
        for col in cols.clone() {
            let mut total = T::ZERO;
            for first in (0..form.k).step_by(DEPTH) {
                let mut sum = T::ZERO;
                for depth in first..form.k.min(first + DEPTH) {
                    // SAFETY: (row, depth) and (depth, col) are inside [m, k] and [k, n], which the caller promises.
                    let (a, b) = unsafe {
                        (
                            *at.lhs.cast::<T>().offset(offset(form.lhs, row, depth)),
                            *at.rhs.cast::<T>().offset(offset(form.rhs, depth, col)),
                        )
                    };
                    sum = a.multiply_add(b, sum);
                }
                total = if first == 0 { sum } else { total + sum };
            }
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe {
                at.dst
                    .cast::<T>()
                    .offset(offset(form.dst, row, col))
                    .write(total)
            }
        }
    }
}
