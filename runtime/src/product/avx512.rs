//! Products on AVX-512: vectors of 64 bytes, 32 registers, masks for every edge.
//!
//! A tile is 14 rows by 2 vectors: 28 sums, 2 vectors of lanes and one row element are 31 registers, and 16 loads feed 28
//! multiply-adds. Only AVX512F is used.

use super::simd::{Simd, Tile, TileFn, instantiate, tiles};
use std::arch::x86_64::*;

/// What all machines of this kind have; AVX2 and FMA come with it.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma")
}

macro_rules! avx512 {
    (
        $(#[$doc:meta])* $name:ident, $element:ty, $vector:ty, $mask:ty, $lanes:literal,
        $setzero:ident $set1:ident $loadu:ident $storeu:ident $maskz_loadu:ident $mask_storeu:ident $add:ident $fmadd:ident $transposed:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Simd for $name {
            type Element = $element;
            type Vector = $vector;
            type Mask = $mask;
            type Square = [$vector; $lanes];
            const LANES: usize = $lanes;
            const SLIVER: usize = 16;
            const WIDE: usize = 2;
            const WIDE_STRIDED: usize = 4;

            // SAFETY, for all of these: the trait's caller has the instruction set and valid pointers; the unaligned forms are used.
            #[inline(always)]
            unsafe fn zero() -> $vector {
                // SAFETY: see above.
                unsafe { $setzero() }
            }
            #[inline(always)]
            unsafe fn splat(from: *const $element) -> $vector {
                // SAFETY: see above.
                unsafe { $set1(*from) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $element) -> $vector {
                // SAFETY: see above.
                unsafe { $loadu(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $element, vector: $vector) {
                // SAFETY: see above.
                unsafe { $storeu(to, vector) }
            }
            #[inline(always)]
            unsafe fn mask(count: usize) -> $mask {
                ((1_u32 << count) - 1) as $mask
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $element, mask: $mask) -> $vector {
                // SAFETY: see above; lanes outside of the mask are not accessed.
                unsafe { $maskz_loadu(mask, from) }
            }
            #[inline(always)]
            unsafe fn store_masked(to: *mut $element, vector: $vector, mask: $mask) {
                // SAFETY: as above.
                unsafe { $mask_storeu(to, mask, vector) }
            }
            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                // SAFETY: see above.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn multiply_add(a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: see above.
                unsafe { $fmadd(a, b, c) }
            }
            #[inline(always)]
            unsafe fn prefetch(at: *const $element) {
                // SAFETY: a prefetch does not fault.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }
            #[inline(always)]
            unsafe fn prefetch_to_l2(at: *const $element) {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
            }
            #[inline(always)]
            unsafe fn square(from: *const $element, stride: isize, rows: usize, cols: usize) -> Self::Square {
                // SAFETY: rows below `rows` and columns below `cols` are read, as the trait says.
                unsafe {
                    let mut block = [$setzero(); $lanes];
                    if rows == $lanes && cols == $lanes {
                        for (row, vector) in block.iter_mut().enumerate() {
                            *vector = $loadu(from.wrapping_offset(row as isize * stride));
                        }
                        return $transposed(block);
                    }
                    let mask = Self::mask(cols);
                    for (row, vector) in block.iter_mut().enumerate() {
                        if row < rows {
                            *vector = $maskz_loadu(mask, from.wrapping_offset(row as isize * stride));
                        }
                    }
                    $transposed(block)
                }
            }

            tiles!(
                1: flat [1 2 3 4 5 6 7 8 9 10 11 12 13 14] strided [1 2 3 4 5 6 7 8],
                2: flat [1 2 3 4 5 6 7 8 9 10 11 12 13 14] strided [1 2 3 4 5 6 7 8],
                4: flat [1 2 3 4 5 6] strided [1 2 3 4 5 6],
                8: flat [1 2] strided [1 2],
                packing 2: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
            );
        }

        instantiate!($name, "avx512f,avx2,fma");
    };
}

avx512!(
    /// 16 lanes of f32.
    Avx512F32, f32, __m512, __mmask16, 16,
    _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_maskz_loadu_ps _mm512_mask_storeu_ps _mm512_add_ps
    _mm512_fmadd_ps transposed_f32
);
avx512!(
    /// 8 lanes of f64.
    Avx512F64, f64, __m512d, __mmask8, 8,
    _mm512_setzero_pd _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_maskz_loadu_pd _mm512_mask_storeu_pd _mm512_add_pd
    _mm512_fmadd_pd transposed_f64
);

/// Sixteen rows of sixteen columns as sixteen columns: pairs of rows, then fours, within quarters of the registers; then whole quarters.
///
/// # Safety
/// The machine has AVX512F.
#[inline(always)]
unsafe fn transposed_f32(r: [__m512; 16]) -> [__m512; 16] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe {
        let mut fours = r;
        for g in (0..16).step_by(4) {
            let low = [
                _mm512_castps_pd(_mm512_unpacklo_ps(r[g], r[g + 1])),
                _mm512_castps_pd(_mm512_unpacklo_ps(r[g + 2], r[g + 3])),
            ];
            let high = [
                _mm512_castps_pd(_mm512_unpackhi_ps(r[g], r[g + 1])),
                _mm512_castps_pd(_mm512_unpackhi_ps(r[g + 2], r[g + 3])),
            ];
            fours[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low[0], low[1]));
            fours[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low[0], low[1]));
            fours[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high[0], high[1]));
            fours[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high[0], high[1]));
        }
        // Quarter q of fours[4 g + c] is column 4 q + c of rows 4 g to 4 g + 3.
        let mut out = r;
        for c in 0..4 {
            let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
            let even = [
                _mm512_shuffle_f32x4::<0x88>(a, b),
                _mm512_shuffle_f32x4::<0x88>(d, e),
            ];
            let odd = [
                _mm512_shuffle_f32x4::<0xDD>(a, b),
                _mm512_shuffle_f32x4::<0xDD>(d, e),
            ];
            out[c] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
            out[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
            out[8 + c] = _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]);
            out[12 + c] = _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]);
        }
        out
    }
}

/// Eight rows of eight columns as eight columns, in the same way.
///
/// # Safety
/// The machine has AVX512F.
#[inline(always)]
unsafe fn transposed_f64(r: [__m512d; 8]) -> [__m512d; 8] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe {
        let mut pairs = r;
        for g in (0..8).step_by(2) {
            pairs[g] = _mm512_unpacklo_pd(r[g], r[g + 1]);
            pairs[g + 1] = _mm512_unpackhi_pd(r[g], r[g + 1]);
        }
        // Quarter q of pairs[2 g + c] is column 2 q + c of rows 2 g and 2 g + 1.
        let mut out = r;
        for c in 0..2 {
            let [a, b, d, e] = [pairs[c], pairs[2 + c], pairs[4 + c], pairs[6 + c]];
            let even = [
                _mm512_shuffle_f64x2::<0x88>(a, b),
                _mm512_shuffle_f64x2::<0x88>(d, e),
            ];
            let odd = [
                _mm512_shuffle_f64x2::<0xDD>(a, b),
                _mm512_shuffle_f64x2::<0xDD>(d, e),
            ];
            out[c] = _mm512_shuffle_f64x2::<0x88>(even[0], even[1]);
            out[2 + c] = _mm512_shuffle_f64x2::<0x88>(odd[0], odd[1]);
            out[4 + c] = _mm512_shuffle_f64x2::<0xDD>(even[0], even[1]);
            out[6 + c] = _mm512_shuffle_f64x2::<0xDD>(odd[0], odd[1]);
        }
        out
    }
}
