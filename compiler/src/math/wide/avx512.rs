//! Strips in 512-bit registers of AVX-512.
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
const COPIES: usize = 4;
const OFFSETS: [usize; COPIES] = [0, 1, 2, 3];

/// An expression for each of the copies of some lanes.
macro_rules! each {
    ($($lane:ident),+ => $result:expr) => {
        [
            { $(let $lane = $lane[0];)+ $result },
            { $(let $lane = $lane[1];)+ $result },
            { $(let $lane = $lane[2];)+ $result },
            { $(let $lane = $lane[3];)+ $result }
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

rows!(functions! target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl"););

/// 4 registers of 16 f32 lanes.
#[derive(Clone, Copy, Default)]
struct Narrow;

impl Machine for Narrow {
    type Scalar = f32;
    type Word = i32;
    type F = [__m512; COPIES];
    type I = [__m512i; COPIES];
    type M = [__mmask16; COPIES];

    intrinsics! { F:
        add(a: F, b: F) = _mm512_add_ps;
        sub(a: F, b: F) = _mm512_sub_ps;
        mul(a: F, b: F) = _mm512_mul_ps;
        fma(a: F, b: F, c: F) = _mm512_fmadd_ps;
        div(a: F, b: F) = _mm512_div_ps;
        sqrt(a: F) = _mm512_sqrt_ps;
        with_bits(a: I) = _mm512_castsi512_ps;
        int_to_float(a: I) = _mm512_cvtepi32_ps;
    }

    intrinsics! { I:
        bits(a: F) = _mm512_castps_si512;
        iadd(a: I, b: I) = _mm512_add_epi32;
        isub(a: I, b: I) = _mm512_sub_epi32;
        iand(a: I, b: I) = _mm512_and_si512;
        ior(a: I, b: I) = _mm512_or_si512;
        ixor(a: I, b: I) = _mm512_xor_si512;
    }

    #[inline(always)]
    fn float(&mut self, value: f32) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm512_set1_ps(value); COPIES] }
    }

    #[inline(always)]
    fn int(&mut self, value: i32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm512_set1_epi32(value); COPIES] }
    }

    #[inline(always)]
    fn neg(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN))))
        }
    }

    #[inline(always)]
    fn abs(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MAX))))
        }
    }

    #[inline(always)]
    fn shl(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm512_sll_epi32(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn shr(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm512_srl_epi32(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    intrinsics! { M:
        ieq(a: I, b: I) = _mm512_cmpeq_epi32_mask;
        igt(a: I, b: I) = _mm512_cmpgt_epi32_mask;
        lt(a: F, b: F) = _mm512_cmp_ps_mask::<_CMP_LT_OQ>;
        le(a: F, b: F) = _mm512_cmp_ps_mask::<_CMP_LE_OQ>;
        eq(a: F, b: F) = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>;
    }

    #[inline(always)]
    fn and(&mut self, a: Self::M, b: Self::M) -> Self::M {
        each!(a, b => a & b)
    }

    #[inline(always)]
    fn or(&mut self, a: Self::M, b: Self::M) -> Self::M {
        each!(a, b => a | b)
    }

    #[inline(always)]
    fn not(&mut self, a: Self::M) -> Self::M {
        each!(a => !a)
    }

    #[inline(always)]
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(mask, a, b => _mm512_mask_blend_ps(mask, b, a)) }
    }

    #[inline(always)]
    fn rare(&mut self, mask: Self::M, usual: Self::F, x: Self::F, function: Rare) -> Self::F {
        let masks = mask.map(u64::from);
        let mask = joined(masks, 16);
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
    const LANES: usize = 16 * COPIES;

    #[inline(always)]
    fn fetch(&mut self, line: *const u8) {
        // SAFETY: an instruction of every x86-64, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f32) -> Self::F {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at => _mm512_loadu_ps(from.add(16 * at))) }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f32, lanes: Self::F) {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at, lanes => _mm512_storeu_ps(to.add(16 * at), lanes)) };
    }
}

/// 4 registers of 8 f64 lanes.
#[derive(Clone, Copy, Default)]
struct Wide;

impl Machine for Wide {
    type Scalar = f64;
    type Word = i64;
    type F = [__m512d; COPIES];
    type I = [__m512i; COPIES];
    type M = [__mmask8; COPIES];

    intrinsics! { F:
        add(a: F, b: F) = _mm512_add_pd;
        sub(a: F, b: F) = _mm512_sub_pd;
        mul(a: F, b: F) = _mm512_mul_pd;
        fma(a: F, b: F, c: F) = _mm512_fmadd_pd;
        div(a: F, b: F) = _mm512_div_pd;
        sqrt(a: F) = _mm512_sqrt_pd;
        with_bits(a: I) = _mm512_castsi512_pd;
        int_to_float(a: I) = _mm512_cvtepi64_pd;
    }

    intrinsics! { I:
        bits(a: F) = _mm512_castpd_si512;
        iadd(a: I, b: I) = _mm512_add_epi64;
        isub(a: I, b: I) = _mm512_sub_epi64;
        iand(a: I, b: I) = _mm512_and_si512;
        ior(a: I, b: I) = _mm512_or_si512;
        ixor(a: I, b: I) = _mm512_xor_si512;
    }

    #[inline(always)]
    fn float(&mut self, value: f64) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm512_set1_pd(value); COPIES] }
    }

    #[inline(always)]
    fn int(&mut self, value: i64) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { [_mm512_set1_epi64(value); COPIES] }
    }

    #[inline(always)]
    fn neg(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(a), _mm512_set1_epi64(i64::MIN))))
        }
    }

    #[inline(always)]
    fn abs(&mut self, a: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe {
            each!(a => _mm512_castsi512_pd(_mm512_and_si512(_mm512_castpd_si512(a), _mm512_set1_epi64(i64::MAX))))
        }
    }

    #[inline(always)]
    fn shl(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm512_sll_epi64(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    #[inline(always)]
    fn shr(&mut self, a: Self::I, by: u32) -> Self::I {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(a => _mm512_srl_epi64(a, _mm_cvtsi32_si128(by.cast_signed()))) }
    }

    intrinsics! { M:
        ieq(a: I, b: I) = _mm512_cmpeq_epi64_mask;
        igt(a: I, b: I) = _mm512_cmpgt_epi64_mask;
        lt(a: F, b: F) = _mm512_cmp_pd_mask::<_CMP_LT_OQ>;
        le(a: F, b: F) = _mm512_cmp_pd_mask::<_CMP_LE_OQ>;
        eq(a: F, b: F) = _mm512_cmp_pd_mask::<_CMP_EQ_OQ>;
    }

    #[inline(always)]
    fn and(&mut self, a: Self::M, b: Self::M) -> Self::M {
        each!(a, b => a & b)
    }

    #[inline(always)]
    fn or(&mut self, a: Self::M, b: Self::M) -> Self::M {
        each!(a, b => a | b)
    }

    #[inline(always)]
    fn not(&mut self, a: Self::M) -> Self::M {
        each!(a => !a)
    }

    #[inline(always)]
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the machine is made only in functions that are compiled for its instructions.
        unsafe { each!(mask, a, b => _mm512_mask_blend_pd(mask, b, a)) }
    }

    #[inline(always)]
    fn rare(&mut self, mask: Self::M, usual: Self::F, x: Self::F, function: Rare) -> Self::F {
        let masks = mask.map(u64::from);
        let mask = joined(masks, 8);
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
    const LANES: usize = 8 * COPIES;

    #[inline(always)]
    fn fetch(&mut self, line: *const u8) {
        // SAFETY: an instruction of every x86-64, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f64) -> Self::F {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at => _mm512_loadu_pd(from.add(8 * at))) }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f64, lanes: Self::F) {
        let at = OFFSETS;
        // SAFETY: as the caller promises.
        unsafe { each!(at, lanes => _mm512_storeu_pd(to.add(8 * at), lanes)) };
    }
}
