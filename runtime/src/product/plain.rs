//! The product as it is defined: three loops, for types whose speed no model depends on; and the arithmetic of sums, of which convolutions
//! make use too.
//!
//! The sum of an element is one chain in ascending order of the contracted index, so its bits depend on nothing else. This file does
//! not block, pack or vectorise.

use super::{Form, Matrices, Strides};
use std::ops::Range;

/// How elements are multiplied and summed.
pub(crate) trait Arithmetic {
    /// What the matrices hold.
    type Element: Copy;
    /// What a sum is held in.
    type Sum: Copy;
    /// The empty sum.
    const ZERO: Self::Sum;
    /// An element that is 0.
    const PADDING: Self::Element;
    /// `sum + a * b`.
    fn multiply_add(sum: Self::Sum, a: Self::Element, b: Self::Element) -> Self::Sum;
    /// `a + b`, of sums.
    fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// The sum as an element.
    fn finish(sum: Self::Sum) -> Self::Element;
}

macro_rules! wrapping {
    ($($type:ty),*) => {
        $(impl Arithmetic for $type {
            type Element = $type;
            type Sum = $type;
            const ZERO: $type = 0;
            const PADDING: $type = 0;

            #[inline]
            fn multiply_add(sum: $type, a: $type, b: $type) -> $type {
                sum.wrapping_add(a.wrapping_mul(b))
            }

            #[inline]
            fn add(a: $type, b: $type) -> $type {
                a.wrapping_add(b)
            }

            #[inline]
            fn finish(sum: $type) -> $type {
                sum
            }
        })*
    };
}
wrapping!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! fused {
    ($($type:ty),*) => {
        $(impl Arithmetic for $type {
            type Element = $type;
            type Sum = $type;
            const ZERO: $type = 0.0;
            const PADDING: $type = 0.0;

            #[inline(always)]
            fn multiply_add(sum: $type, a: $type, b: $type) -> $type {
                a.mul_add(b, sum)
            }

            #[inline(always)]
            fn add(a: $type, b: $type) -> $type {
                a + b
            }

            #[inline(always)]
            fn finish(sum: $type) -> $type {
                sum
            }
        })*
    };
}
fused!(f32, f64);

/// f32 elements with sums in f64. A product of two f32 is exact in f64, so contraction cannot change a bit.
pub(crate) struct F32InF64;

impl Arithmetic for F32InF64 {
    type Element = f32;
    type Sum = f64;
    const ZERO: f64 = 0.0;
    const PADDING: f32 = 0.0;

    #[inline]
    fn multiply_add(sum: f64, a: f32, b: f32) -> f64 {
        sum + f64::from(a) * f64::from(b)
    }

    #[inline]
    fn add(a: f64, b: f64) -> f64 {
        a + b
    }

    #[inline]
    fn finish(sum: f64) -> f32 {
        sum as f32
    }
}

/// `dst = lhs . rhs` in the arithmetic of `A`, for these rows and columns.
///
/// # Safety
/// As [`Method::run`](super::Method::run), for elements of type `A::Element`.
pub(super) unsafe fn plain<A: Arithmetic>(
    form: &Form,
    rows: &Range<usize>,
    cols: &Range<usize>,
    at: Matrices,
) {
    let offset = |strides: Strides, row: usize, col: usize| {
        row as isize * strides.row + col as isize * strides.col
    };
    for row in rows.clone() {
        for col in cols.clone() {
            let mut sum = A::ZERO;
            for depth in 0..form.k {
                let left = offset(form.lhs, row, depth);
                let right = offset(form.rhs, depth, col);
                // SAFETY: (row, depth) and (depth, col) are inside [m, k] and [k, n], which the caller promises.
                let (a, b) = unsafe {
                    (
                        *at.lhs.cast::<A::Element>().offset(left),
                        *at.rhs.cast::<A::Element>().offset(right),
                    )
                };
                sum = A::multiply_add(sum, a, b);
            }
            let to = offset(form.dst, row, col);
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe { at.dst.cast::<A::Element>().offset(to).write(A::finish(sum)) }
        }
    }
}
