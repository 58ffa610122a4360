//! Products on NEON: vectors of 16 bytes, 32 registers.
//!
//! A tile is 6 rows by 4 vectors: 24 sums, 4 vectors of lanes and one row element are 29 registers.

use super::simd::{Simd, Tile, TileFn, instantiate, tiles};
use std::arch::aarch64::*;

macro_rules! neon {
    (
        $(#[$doc:meta])* $name:ident, $element:ty, $vector:ty, $lanes:literal,
        $dup:ident $load_dup:ident $load:ident $store:ident $add:ident $fma:ident $transposed:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Simd for $name {
            type Element = $element;
            type Vector = $vector;
            type Mask = usize;
            type Square = [$vector; $lanes];
            const LANES: usize = $lanes;
            const SLIVER: usize = 8;
            const WIDE: usize = 4;
            const WIDE_STRIDED: usize = 4;

            // SAFETY, for all of these: the trait's caller has valid pointers; NEON is part of the architecture.
            #[inline(always)]
            unsafe fn zero() -> $vector {
                // SAFETY: see above.
                unsafe { $dup(0.0) }
            }
            #[inline(always)]
            unsafe fn splat(from: *const $element) -> $vector {
                // SAFETY: see above.
                unsafe { $load_dup(from) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $element) -> $vector {
                // SAFETY: see above.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $element, vector: $vector) {
                // SAFETY: see above.
                unsafe { $store(to, vector) }
            }
            #[inline(always)]
            unsafe fn mask(count: usize) -> usize {
                count
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $element, mask: usize) -> $vector {
                // SAFETY: see above; lanes outside of the mask are not accessed.
                unsafe {
                    if mask >= $lanes {
                        return $load(from);
                    }
                    let mut lanes = [0.0; $lanes];
                    for (lane, element) in lanes.iter_mut().enumerate() {
                        if lane < mask {
                            *element = *from.wrapping_add(lane);
                        }
                    }
                    $load(lanes.as_ptr())
                }
            }
            #[inline(always)]
            unsafe fn store_masked(to: *mut $element, vector: $vector, mask: usize) {
                // SAFETY: as above.
                unsafe {
                    if mask >= $lanes {
                        return $store(to, vector);
                    }
                    let mut lanes = [0.0; $lanes];
                    $store(lanes.as_mut_ptr(), vector);
                    for (lane, element) in lanes.into_iter().enumerate() {
                        if lane < mask {
                            *to.wrapping_add(lane) = element;
                        }
                    }
                }
            }
            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                // SAFETY: see above.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn multiply_add(a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: see above.
                unsafe { $fma(c, a, b) }
            }
            #[inline(always)]
            unsafe fn prefetch(_: *const $element) {
                // The hint is not stable in Rust on this architecture; its machines fetch ahead well by themselves.
            }
            #[inline(always)]
            unsafe fn prefetch_to_l2(_: *const $element) {}
            #[inline(always)]
            unsafe fn square(from: *const $element, stride: isize, rows: usize, cols: usize) -> Self::Square {
                // SAFETY: rows below `rows` and columns below `cols` are read, as the trait says.
                unsafe {
                    let mut block = [Self::zero(); $lanes];
                    for (row, vector) in block.iter_mut().enumerate() {
                        if row < rows {
                            *vector = Self::load_masked(from.wrapping_offset(row as isize * stride), cols);
                        }
                    }
                    $transposed(block)
                }
            }

            tiles!(
                1: flat [1 2 3 4 5 6 7 8] strided [1 2 3 4 5 6 7 8],
                2: flat [1 2 3 4 5 6 7 8] strided [1 2 3 4 5 6 7 8],
                4: flat [1 2 3 4 5 6] strided [1 2 3 4 5 6],
                8: flat [1 2] strided [1 2],
                packing 4: [1 2 3 4 5 6]
            );
        }

        instantiate!($name, "neon");
    };
}

neon!(
    /// 4 lanes of f32.
    NeonF32, f32, float32x4_t, 4, vdupq_n_f32 vld1q_dup_f32 vld1q_f32 vst1q_f32 vaddq_f32 vfmaq_f32 transposed_f32
);
neon!(
    /// 2 lanes of f64.
    NeonF64, f64, float64x2_t, 2, vdupq_n_f64 vld1q_dup_f64 vld1q_f64 vst1q_f64 vaddq_f64 vfmaq_f64 transposed_f64
);

/// Four rows of four columns as four columns.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn transposed_f32(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe {
        let pairs = |a, b| {
            [
                vreinterpretq_f64_f32(vtrn1q_f32(a, b)),
                vreinterpretq_f64_f32(vtrn2q_f32(a, b)),
            ]
        };
        let (top, bottom) = (pairs(r[0], r[1]), pairs(r[2], r[3]));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(top[0], bottom[0])),
            vreinterpretq_f32_f64(vtrn1q_f64(top[1], bottom[1])),
            vreinterpretq_f32_f64(vtrn2q_f64(top[0], bottom[0])),
            vreinterpretq_f32_f64(vtrn2q_f64(top[1], bottom[1])),
        ]
    }
}

/// Two rows of two columns as two columns.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn transposed_f64(r: [float64x2_t; 2]) -> [float64x2_t; 2] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe { [vtrn1q_f64(r[0], r[1]), vtrn2q_f64(r[0], r[1])] }
}
