//! Products on AVX2 with FMA: vectors of 32 bytes, 16 registers.
//!
//! A tile is 6 rows by 2 vectors: 12 sums, 2 vectors of lanes and one row element are 15 registers.

use super::simd::{Simd, Tile, TileFn, instantiate, tiles};
use std::arch::x86_64::*;

/// What all machines of this kind have.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

macro_rules! avx2 {
    (
        $(#[$doc:meta])* $name:ident, $element:ty, $integer:ty, $vector:ty, $lanes:literal,
        $setzero:ident $broadcast:ident $loadu:ident $storeu:ident $maskload:ident $maskstore:ident $add:ident $fmadd:ident
        $transposed:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Simd for $name {
            type Element = $element;
            type Vector = $vector;
            type Mask = __m256i;
            type Square = [$vector; $lanes];
            const LANES: usize = $lanes;
            const SLIVER: usize = 8;
            const WIDE: usize = 2;
            const WIDE_STRIDED: usize = 2;

            // SAFETY, for all of these: the trait's caller has the instruction set and valid pointers; the unaligned forms are used.
            #[inline(always)]
            unsafe fn zero() -> $vector {
                // SAFETY: see above.
                unsafe { $setzero() }
            }
            #[inline(always)]
            unsafe fn splat(from: *const $element) -> $vector {
                // SAFETY: see above.
                unsafe { $broadcast(*from) }
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
            unsafe fn mask(count: usize) -> __m256i {
                // The window of `LANES` numbers that begins with `count` times -1.
                const WINDOW: [$integer; 2 * $lanes] = {
                    let mut window = [0; 2 * $lanes];
                    let mut lane = 0;
                    while lane < $lanes {
                        window[lane] = -1;
                        lane += 1;
                    }
                    window
                };
                let from = WINDOW.as_ptr().wrapping_add($lanes - count.min($lanes));
                // SAFETY: the window starts at 0 to `LANES`, so it ends inside the table.
                unsafe { _mm256_loadu_si256(from.cast()) }
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $element, mask: __m256i) -> $vector {
                // SAFETY: see above; lanes outside of the mask are not accessed.
                unsafe { $maskload(from, mask) }
            }
            #[inline(always)]
            unsafe fn store_masked(to: *mut $element, vector: $vector, mask: __m256i) {
                // SAFETY: as above. A store of all lanes is much the faster one on some machines.
                unsafe {
                    if _mm256_movemask_epi8(mask) == -1 {
                        $storeu(to, vector);
                    } else {
                        $maskstore(to, mask, vector);
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
                            *vector = $maskload(from.wrapping_offset(row as isize * stride), mask);
                        }
                    }
                    $transposed(block)
                }
            }

            tiles!(
                1: flat [1 2 3 4 5 6] strided [1 2 3 4 5 6],
                2: flat [1 2 3 4 5 6] strided [1 2 3 4 5 6],
                4: flat [1 2] strided [1 2],
                packing 2: [1 2 3 4 5 6]
            );
        }

        instantiate!($name, "avx2,fma");
    };
}

avx2!(
    /// 8 lanes of f32.
    Avx2F32, f32, i32, __m256, 8,
    _mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_maskload_ps _mm256_maskstore_ps _mm256_add_ps
    _mm256_fmadd_ps transposed_f32
);
avx2!(
    /// 4 lanes of f64.
    Avx2F64, f64, i64, __m256d, 4,
    _mm256_setzero_pd _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_maskload_pd _mm256_maskstore_pd _mm256_add_pd
    _mm256_fmadd_pd transposed_f64
);

/// Eight rows of eight columns as eight columns: pairs of rows, then fours, within the halves of the registers; then the halves.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn transposed_f32(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe {
        let mut fours = r;
        for g in [0, 4] {
            let low = [
                _mm256_unpacklo_ps(r[g], r[g + 1]),
                _mm256_unpacklo_ps(r[g + 2], r[g + 3]),
            ];
            let high = [
                _mm256_unpackhi_ps(r[g], r[g + 1]),
                _mm256_unpackhi_ps(r[g + 2], r[g + 3]),
            ];
            fours[g] = _mm256_shuffle_ps::<0x44>(low[0], low[1]);
            fours[g + 1] = _mm256_shuffle_ps::<0xEE>(low[0], low[1]);
            fours[g + 2] = _mm256_shuffle_ps::<0x44>(high[0], high[1]);
            fours[g + 3] = _mm256_shuffle_ps::<0xEE>(high[0], high[1]);
        }
        // Half h of fours[4 g + c] is column 4 h + c of rows 4 g to 4 g + 3.
        let mut out = r;
        for c in 0..4 {
            out[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
            out[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
        }
        out
    }
}

/// Four rows of four columns as four columns, in the same way.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn transposed_f64(r: [__m256d; 4]) -> [__m256d; 4] {
    // SAFETY: registers only; the caller has the instructions.
    unsafe {
        let low = [
            _mm256_unpacklo_pd(r[0], r[1]),
            _mm256_unpacklo_pd(r[2], r[3]),
        ];
        let high = [
            _mm256_unpackhi_pd(r[0], r[1]),
            _mm256_unpackhi_pd(r[2], r[3]),
        ];
        [
            _mm256_permute2f128_pd::<0x20>(low[0], low[1]),
            _mm256_permute2f128_pd::<0x20>(high[0], high[1]),
            _mm256_permute2f128_pd::<0x31>(low[0], low[1]),
            _mm256_permute2f128_pd::<0x31>(high[0], high[1]),
        ]
    }
}
