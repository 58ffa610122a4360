//! The product as it is defined: three loops, for types whose speed no model depends on.
//!
//! The sum of an element is one chain in ascending order of the contracted index, so its bits depend on nothing else. This file does
//! not block, pack or vectorise.

use super::{Operand, Target};

/// How elements are multiplied and summed.
pub(super) trait Arithmetic {
    /// What the matrices hold.
    type Element: Copy;
    /// What a sum is held in.
    type Sum: Copy;
    /// The empty sum.
    const ZERO: Self::Sum;
    /// `sum + a * b`.
    fn multiply_add(sum: Self::Sum, a: Self::Element, b: Self::Element) -> Self::Sum;
    /// The sum as an element.
    fn finish(sum: Self::Sum) -> Self::Element;
}

macro_rules! wrapping {
    ($($type:ty),*) => {
        $(impl Arithmetic for $type {
            type Element = $type;
            type Sum = $type;
            const ZERO: $type = 0;

            #[inline]
            fn multiply_add(sum: $type, a: $type, b: $type) -> $type {
                sum.wrapping_add(a.wrapping_mul(b))
            }

            #[inline]
            fn finish(sum: $type) -> $type {
                sum
            }
        })*
    };
}
wrapping!(i8, i16, i32, i64, u8, u16, u32, u64);

/// f32 elements with sums in f64. A product of two f32 is exact in f64, so contraction cannot change a bit.
pub(super) struct F32InF64;

impl Arithmetic for F32InF64 {
    type Element = f32;
    type Sum = f64;
    const ZERO: f64 = 0.0;

    #[inline]
    fn multiply_add(sum: f64, a: f32, b: f32) -> f64 {
        sum + f64::from(a) * f64::from(b)
    }

    #[inline]
    fn finish(sum: f64) -> f32 {
        sum as f32
    }
}

/// `dst = lhs . rhs` in the arithmetic of `A`.
///
/// # Safety
/// As [`product`](super::product), for elements of type `A::Element`.
pub(super) unsafe fn plain<A: Arithmetic>(
    m: usize,
    n: usize,
    k: usize,
    dst: Target,
    lhs: Operand,
    rhs: Operand,
) {
    let at = |row_stride: isize, col_stride: isize, row: usize, col: usize| {
        row as isize * row_stride + col as isize * col_stride
    };
    for row in 0..m {
        for col in 0..n {
            let mut sum = A::ZERO;
            for depth in 0..k {
                let left = at(lhs.row_stride, lhs.col_stride, row, depth);
                let right = at(rhs.row_stride, rhs.col_stride, depth, col);
                // SAFETY: (row, depth) and (depth, col) are inside [m, k] and [k, n], which the caller promises.
                let (a, b) = unsafe {
                    (
                        *lhs.ptr.cast::<A::Element>().offset(left),
                        *rhs.ptr.cast::<A::Element>().offset(right),
                    )
                };
                sum = A::multiply_add(sum, a, b);
            }
            let to = at(dst.row_stride, dst.col_stride, row, col);
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe {
                dst.ptr
                    .cast::<A::Element>()
                    .offset(to)
                    .write(A::finish(sum))
            }
        }
    }
}
