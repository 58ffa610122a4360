//! The definition of a product of floating-point numbers as it is written: one element after the other.
//!
//! It serves products that are done before blocks would be set up, and those without anything to contract.

use super::blocked::DEPTH;
use super::{Form, Isa, Matrices};
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
    let (lhs, rhs) = (at.lhs.cast::<T>(), at.rhs.cast::<T>());
    for row in rows.clone() {
        let left = lhs.wrapping_offset(row as isize * form.lhs.row);
        for col in cols.clone() {
            let right = rhs.wrapping_offset(col as isize * form.rhs.col);
            // SAFETY: `row` and `col` are among those of the matrices, which the caller promises at all depths.
            let sum = |depths: Range<usize>| unsafe {
                let (mut left, mut right) = (
                    left.wrapping_offset(depths.start as isize * form.lhs.col),
                    right.wrapping_offset(depths.start as isize * form.rhs.row),
                );
                let mut sum = T::ZERO;
                for _ in depths {
                    sum = (*left).multiply_add(*right, sum);
                    left = left.wrapping_offset(form.lhs.col);
                    right = right.wrapping_offset(form.rhs.row);
                }
                sum
            };
            let mut end = form.k.min(DEPTH);
            let mut total = sum(0..end);
            while end < form.k {
                let start = end;
                end = form.k.min(start + DEPTH);
                total = total + sum(start..end);
            }
            let to = row as isize * form.dst.row + col as isize * form.dst.col;
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe { at.dst.cast::<T>().offset(to).write(total) }
        }
    }
}
