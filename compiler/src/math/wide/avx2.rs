//! Strips in 256-bit registers of AVX2 and FMA.
//!
//! Each operation is done on several registers before the next one: a recipe is one long chain of dependent instructions, and the machine
//! sees too little of the next elements' chain to fill the time that this one waits.
//!
//! Every method of the machines must be inlined into the functions of the table, which alone are compiled for these instructions; so are
//! the recipes, which are marked `inline(always)` for this reason.

use super::super::{Machine, Rare};
use super::super::{erf, erf64, erfc, exp, exp64, log, log64, pow, pow64, root, trig, trig64};
use super::{COUNT, Vector, WideFn, exact, functions, joined, rows, staged};
use std::arch::x86_64::*;

/// The registers that an operation is done on.
const COPIES: usize = 2;
const OFFSETS: [usize; COPIES] = [0, 1];

/// An expression for each of the copies of some lanes.
macro_rules! each {
    ($($lane:ident),+ => $result:expr) => {
        [
            { $(let $lane = $lane[0];)+ $result },
            { $(let $lane = $lane[1];)+ $result }
        ]
    };
}

/// Methods of a machine that are one intrinsic for each copy.
macro_rules! intrinsics {
    ($result:ident: $($name:ident($($operand:ident: $ty:ident),+) = $intrinsic:path;)+) => {
        $(
            #[inline(always)]
            fn $name(&mut self, $($operand: Self::$ty),+) -> Self::$result {
                // SAFETY: the machine is made only in functions that are compiled for its instructions.
                unsafe { each!($($operand),+ => $intrinsic($($operand),+)) }
            }
        )+
    };
}

rows!(functions! target_feature(enable = "avx2,fma"););

/// 2 registers of 8 f32 lanes.
#[derive(Clone, Copy, Default)]
struct Narrow;

impl Machine for Narrow {
    type Scalar = f32;
    type Word = i32;
    type F = [__m256; COPIES];
    type I = [__m256i; COPIES];
    type M = [__m256; COPIES];

    intrinsics! { F:
        add(a: F, b: F) = _mm256_add_ps;
        sub(a: F, b: F) = _mm256_sub_ps;
        mul(a: F, b: F) = _mm256_mul_ps;
        fma(a: F, b: F, c: F) = _mm256_fmadd_ps;
        div(a: F, b: F) = _mm256_div_ps;
        sqrt(a: F) = _mm256_sqrt_ps;
        with_bits(a: I) = _mm256_castsi256_ps;
        int_to_float(a: I) = _mm256_cvtepi32_ps;
    }

    intrinsics! { I:
        bits(a: F) = _mm256_castps_si256;
        iadd(a: I, b: I) = _mm256_add_epi32;
        isub(a: I, b: I) = _mm256_sub_epi32;
        iand(a: I, b: I) = _mm256_and_si256;
        ior(a: I, b: I) = _mm256_or_si256;
        ixor(a: I, b: I) = _mm256_xor_si256;
    }

    #[inline(always)]
    fn float(&mut self, value: f32) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm256_set1_ps(value); COPIES] }
    }

    #[inline(always)]
    fn int(&mut self, value: i32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm256_set1_epi32(value); COPIES] }
    }

    #[inline(always)]
    fn neg(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm256_castsi256_ps(_mm256_xor_si256(_mm256_castps_si256(a), _mm256_set1_epi32(i32::MIN))))
        }
    }

    #[inline(always)]
    fn abs(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(i32::MAX))))
        }
    }

    #[inline(always)]
    fn shl(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_sll_epi32(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn shr(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_srl_epi32(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn ieq(&mut self, a: Self::I, b: Self::I) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a, b => _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b))) }
    }

    #[inline(always)]
    fn igt(&mut self, a: Self::I, b: Self::I) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a, b => _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b))) }
    }

    intrinsics! { M:
        lt(a: F, b: F) = _mm256_cmp_ps::<_CMP_LT_OQ>;
        le(a: F, b: F) = _mm256_cmp_ps::<_CMP_LE_OQ>;
        eq(a: F, b: F) = _mm256_cmp_ps::<_CMP_EQ_OQ>;
        and(a: M, b: M) = _mm256_and_ps;
        or(a: M, b: M) = _mm256_or_ps;
    }

    #[inline(always)]
    fn not(&mut self, a: Self::M) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))) }
    }

    #[inline(always)]
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(mask, a, b => _mm256_blendv_ps(b, a, mask)) }
    }

    #[inline(always)]
    fn rare(&mut self, mask: Self::M, usual: Self::F, x: Self::F, function: Rare) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        let masks = unsafe { each!(mask => _mm256_movemask_ps(mask)) };
        let masks = masks.map(|m| u64::from(m.cast_unsigned()));
        let mask = joined(masks, 8);
        if mask == 0 {
            return usual;
        }
        let (mut results, mut operands) = ([0.0; Self::LANES], [0.0; Self::LANES]);
        // SAFETY: the arrays have all lanes.
        unsafe {
            self.store(results.as_mut_ptr(), usual);
            self.store(operands.as_mut_ptr(), x);
            exact(mask, &mut results, &operands, |x| function.f32(x));
            self.load(results.as_ptr())
        }
    }
}

impl Vector for Narrow {
    const LANES: usize = 8 * COPIES;

    #[inline(always)]
    fn fetch(&mut self, line: *const u8) {
        // SAFETY: an instruction of every x86-64, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f32) -> Self::F {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at => _mm256_loadu_ps(from.add(8 * at))) }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f32, lanes: Self::F) {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at, lanes => _mm256_storeu_ps(to.add(8 * at), lanes)) };
    }
}

/// 2 registers of 4 f64 lanes.
#[derive(Clone, Copy, Default)]
struct Wide;

impl Machine for Wide {
    type Scalar = f64;
    type Word = i64;
    type F = [__m256d; COPIES];
    type I = [__m256i; COPIES];
    type M = [__m256d; COPIES];

    intrinsics! { F:
        add(a: F, b: F) = _mm256_add_pd;
        sub(a: F, b: F) = _mm256_sub_pd;
        mul(a: F, b: F) = _mm256_mul_pd;
        fma(a: F, b: F, c: F) = _mm256_fmadd_pd;
        div(a: F, b: F) = _mm256_div_pd;
        sqrt(a: F) = _mm256_sqrt_pd;
        with_bits(a: I) = _mm256_castsi256_pd;
    }

    intrinsics! { I:
        bits(a: F) = _mm256_castpd_si256;
        iadd(a: I, b: I) = _mm256_add_epi64;
        isub(a: I, b: I) = _mm256_sub_epi64;
        iand(a: I, b: I) = _mm256_and_si256;
        ior(a: I, b: I) = _mm256_or_si256;
        ixor(a: I, b: I) = _mm256_xor_si256;
    }

    #[inline(always)]
    fn float(&mut self, value: f64) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm256_set1_pd(value); COPIES] }
    }

    #[inline(always)]
    fn int(&mut self, value: i64) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm256_set1_epi64x(value); COPIES] }
    }

    #[inline(always)]
    fn neg(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm256_castsi256_pd(_mm256_xor_si256(_mm256_castpd_si256(a), _mm256_set1_epi64x(i64::MIN))))
        }
    }

    #[inline(always)]
    fn abs(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm256_castsi256_pd(_mm256_and_si256(_mm256_castpd_si256(a), _mm256_set1_epi64x(i64::MAX))))
        }
    }

    #[inline(always)]
    fn int_to_float(&mut self, a: Self::I) -> Self::F {
        // 1.5 * 2^52 has its last bit at 1, so that adding an integer to its bits adds the integer to the number.
        let magic = self.float(6_755_399_441_055_744.0);
        let bits = self.bits(magic);
        let sum = self.iadd(a, bits);
        let sum = self.with_bits(sum);
        self.sub(sum, magic)
    }

    #[inline(always)]
    fn shl(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_sll_epi64(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn shr(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_srl_epi64(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn ieq(&mut self, a: Self::I, b: Self::I) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a, b => _mm256_castsi256_pd(_mm256_cmpeq_epi64(a, b))) }
    }

    #[inline(always)]
    fn igt(&mut self, a: Self::I, b: Self::I) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a, b => _mm256_castsi256_pd(_mm256_cmpgt_epi64(a, b))) }
    }

    intrinsics! { M:
        lt(a: F, b: F) = _mm256_cmp_pd::<_CMP_LT_OQ>;
        le(a: F, b: F) = _mm256_cmp_pd::<_CMP_LE_OQ>;
        eq(a: F, b: F) = _mm256_cmp_pd::<_CMP_EQ_OQ>;
        and(a: M, b: M) = _mm256_and_pd;
        or(a: M, b: M) = _mm256_or_pd;
    }

    #[inline(always)]
    fn not(&mut self, a: Self::M) -> Self::M {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm256_xor_pd(a, _mm256_castsi256_pd(_mm256_set1_epi64x(-1)))) }
    }

    #[inline(always)]
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(mask, a, b => _mm256_blendv_pd(b, a, mask)) }
    }

    #[inline(always)]
    fn rare(&mut self, mask: Self::M, usual: Self::F, x: Self::F, function: Rare) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        let masks = unsafe { each!(mask => _mm256_movemask_pd(mask)) };
        let masks = masks.map(|m| u64::from(m.cast_unsigned()));
        let mask = joined(masks, 4);
        if mask == 0 {
            return usual;
        }
        let (mut results, mut operands) = ([0.0; Self::LANES], [0.0; Self::LANES]);
        // SAFETY: the arrays have all lanes.
        unsafe {
            self.store(results.as_mut_ptr(), usual);
            self.store(operands.as_mut_ptr(), x);
            exact(mask, &mut results, &operands, |x| function.f64(x));
            self.load(results.as_ptr())
        }
    }
}

impl Vector for Wide {
    const LANES: usize = 4 * COPIES;

    #[inline(always)]
    fn fetch(&mut self, line: *const u8) {
        // SAFETY: an instruction of every x86-64, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f64) -> Self::F {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at => _mm256_loadu_pd(from.add(4 * at))) }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f64, lanes: Self::F) {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at, lanes => _mm256_storeu_pd(to.add(4 * at), lanes)) };
    }
}
