//! Registers of f32 for the hand-written loops: one loop, written once, becomes code for AVX-512, for AVX2 with FMA, and for neither.
//!
//! Everything here is inlined into a function that is compiled for the instruction set, so no register is ever passed on the way. There
//! are no closures in the loops for that reason: a closure in a generic function is compiled for the baseline.

/// A register of f32 lanes.
///
/// # Safety
/// Each function may only be reached from a function that is compiled for the register's instruction set. Pointers are valid for as many
/// elements as are loaded or stored.
pub(crate) trait Vector: Copy {
    /// How many lanes there are.
    const LANES: usize;
    /// The same number in all lanes.
    unsafe fn splat(x: f32) -> Self;
    /// All lanes from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` lanes from memory, which are fewer than all; the others are 0.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// All lanes to memory, by an ordinary store.
    unsafe fn store(x: Self, to: *mut f32);
    /// The first `count` lanes to memory, which are fewer than all.
    unsafe fn store_first(x: Self, to: *mut f32, count: usize);
    /// `x + y`.
    unsafe fn add(x: Self, y: Self) -> Self;
    /// `x - y`.
    unsafe fn sub(x: Self, y: Self) -> Self;
    /// `x * y`.
    unsafe fn mul(x: Self, y: Self) -> Self;
    /// `x / y`.
    unsafe fn div(x: Self, y: Self) -> Self;
    /// `x * y + z`, rounded once where the machine can.
    unsafe fn fma(x: Self, y: Self, z: Self) -> Self;
    /// The greater of two numbers; NaN is not cared for.
    unsafe fn max(x: Self, y: Self) -> Self;
    /// The lesser of two numbers; NaN is not cared for.
    unsafe fn min(x: Self, y: Self) -> Self;
    /// The square root.
    unsafe fn sqrt(x: Self) -> Self;
    /// The magnitude.
    unsafe fn abs(x: Self) -> Self;
    /// The nearest integer, for magnitudes below 2^22.
    unsafe fn round(x: Self) -> Self;
    /// `x` times 2 to the integer `n`, for `n` from -250 to 128.
    unsafe fn scale(x: Self, n: Self) -> Self;
    /// `yes` where `x < y`, else `no`.
    unsafe fn if_less(x: Self, y: Self, yes: Self, no: Self) -> Self;
    /// A magnitude with the sign of another number.
    unsafe fn with_sign(magnitude: Self, sign: Self) -> Self;
    /// The sum of the lanes.
    unsafe fn sum(x: Self) -> f32;
    /// The greatest lane.
    unsafe fn greatest(x: Self) -> f32;
}

/// The lanes of a register whose elements lie in memory from `at` on: all of them, or what is left at the end.
#[derive(Clone, Copy)]
pub(crate) struct All {
    pub(crate) at: usize,
}

/// As [`All`], for the last `count` elements.
#[derive(Clone, Copy)]
pub(crate) struct First {
    pub(crate) at: usize,
    pub(crate) count: usize,
}

impl All {
    /// The elements of an operand.
    ///
    /// # Safety
    /// As for [`Vector`]; `from` has elements up to the register's last.
    #[inline(always)]
    pub(crate) unsafe fn load<V: Vector>(self, from: *const f32) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load(from.add(self.at)) }
    }

    /// Writes the elements of a result.
    ///
    /// # Safety
    /// As for [`All::load`].
    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, to: *mut f32, x: V) {
        // SAFETY: as the caller promises.
        unsafe { V::store(x, to.add(self.at)) }
    }
}

impl First {
    /// The elements of an operand.
    ///
    /// # Safety
    /// As for [`All::load`].
    #[inline(always)]
    pub(crate) unsafe fn load<V: Vector>(self, from: *const f32) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load_first(from.add(self.at), self.count) }
    }

    /// Writes the elements of a result.
    ///
    /// # Safety
    /// As for [`All::load`].
    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, to: *mut f32, x: V) {
        // SAFETY: as the caller promises.
        unsafe { V::store_first(x, to.add(self.at), self.count) }
    }
}

/// Runs `$body` for every register of `V` among `$n` elements; `$lanes` loads and stores them.
macro_rules! map {
    ($V:ident, $n:expr, $lanes:ident, $body:expr) => {{
        let n: usize = $n;
        let mut at = 0;
        while at + $V::LANES <= n {
            let $lanes = $crate::micro::vector::All { at };
            $body;
            at += $V::LANES;
        }
        if at < n {
            let $lanes = $crate::micro::vector::First { at, count: n - at };
            $body;
        }
    }};
}

/// Folds `$of`, a register for the elements from `$i` on, over `$n` elements in four chains; `$n` is a multiple of four registers.
macro_rules! fold {
    ($V:ident, $n:expr, $start:expr, $join:path, $i:ident, $of:expr) => {{
        let start = $V::splat($start);
        let mut chains = [start; 4];
        let mut at = 0;
        while at < $n {
            for (j, chain) in chains.iter_mut().enumerate() {
                let $i = at + j * $V::LANES;
                *chain = $join(*chain, $of);
            }
            at += 4 * $V::LANES;
        }
        $join($join(chains[0], chains[1]), $join(chains[2], chains[3]))
    }};
}

/// The safe loops of the instruction sets that the machine has, widest first, from a generic one. The generic loop checks that its
/// operands are as long as it needs.
macro_rules! loops {
    ($generic:ident) => {{
        use $crate::micro::block::Block;
        let mut found: Vec<$crate::micro::Rival> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512dq")]
            unsafe fn avx512(inputs: &[Block], own: &mut [Block]) {
                // SAFETY: this function is compiled for AVX-512.
                unsafe { $generic::<std::arch::x86_64::__m512>(inputs, own) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(inputs: &[Block], own: &mut [Block]) {
                // SAFETY: this function is compiled for AVX2 and FMA.
                unsafe { $generic::<std::arch::x86_64::__m256>(inputs, own) }
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                // SAFETY: the processor has AVX-512.
                found.push(|inputs, own| unsafe { avx512(inputs, own) });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has AVX2 and FMA.
                found.push(|inputs, own| unsafe { avx2(inputs, own) });
            }
        }
        // SAFETY: plain f32 needs no instruction set.
        found.push(|inputs, own| unsafe { $generic::<f32>(inputs, own) });
        found
    }};
}

pub(crate) use {fold, loops, map};

/// Implements [`Vector`] by one expression for each function.
macro_rules! registers {
    ($register:ty, $lanes:literal, { $($name:ident($($argument:ident: $ty:ty),*) -> $out:ty = $body:expr;)* }) => {
        impl Vector for $register {
            const LANES: usize = $lanes;
            $(
                #[inline(always)]
                unsafe fn $name($($argument: $ty),*) -> $out {
                    // SAFETY: the trait asks callers for the instruction set and for valid pointers.
                    #[allow(unused_unsafe, reason = "plain arithmetic is safe")]
                    unsafe { $body }
                }
            )*
        }
    };
}

registers!(f32, 1, {
    splat(x: f32) -> Self = x;
    load(from: *const f32) -> Self = *from;
    load_first(_from: *const f32, _count: usize) -> Self = 0.0;
    store(x: Self, to: *mut f32) -> () = *to = x;
    store_first(_x: Self, _to: *mut f32, _count: usize) -> () = ();
    add(x: Self, y: Self) -> Self = x + y;
    sub(x: Self, y: Self) -> Self = x - y;
    mul(x: Self, y: Self) -> Self = x * y;
    div(x: Self, y: Self) -> Self = x / y;
    // Without an instruction for it, a fused multiply-add is a call of the library.
    fma(x: Self, y: Self, z: Self) -> Self = if cfg!(target_arch = "aarch64") { x.mul_add(y, z) } else { x * y + z };
    max(x: Self, y: Self) -> Self = if x > y { x } else { y };
    min(x: Self, y: Self) -> Self = if x < y { x } else { y };
    sqrt(x: Self) -> Self = x.sqrt();
    abs(x: Self) -> Self = x.abs();
    // 1.5 * 2^23, to which only integers can be added.
    round(x: Self) -> Self = (x + 12_582_912.0) - 12_582_912.0;
    scale(x: Self, n: Self) -> Self = {
        let half = (n as i32) >> 1;
        let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
        x * power(half) * power(n as i32 - half)
    };
    if_less(x: Self, y: Self, yes: Self, no: Self) -> Self = if x < y { yes } else { no };
    with_sign(magnitude: Self, sign: Self) -> Self = magnitude.copysign(sign);
    sum(x: Self) -> f32 = x;
    greatest(x: Self) -> f32 = x;
});

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    registers!(__m512, 16, {
        splat(x: f32) -> Self = _mm512_set1_ps(x);
        load(from: *const f32) -> Self = _mm512_loadu_ps(from);
        load_first(from: *const f32, count: usize) -> Self = _mm512_maskz_loadu_ps((1 << count) - 1, from);
        store(x: Self, to: *mut f32) -> () = _mm512_storeu_ps(to, x);
        store_first(x: Self, to: *mut f32, count: usize) -> () = _mm512_mask_storeu_ps(to, (1 << count) - 1, x);
        add(x: Self, y: Self) -> Self = _mm512_add_ps(x, y);
        sub(x: Self, y: Self) -> Self = _mm512_sub_ps(x, y);
        mul(x: Self, y: Self) -> Self = _mm512_mul_ps(x, y);
        div(x: Self, y: Self) -> Self = _mm512_div_ps(x, y);
        fma(x: Self, y: Self, z: Self) -> Self = _mm512_fmadd_ps(x, y, z);
        max(x: Self, y: Self) -> Self = _mm512_max_ps(x, y);
        min(x: Self, y: Self) -> Self = _mm512_min_ps(x, y);
        sqrt(x: Self) -> Self = _mm512_sqrt_ps(x);
        abs(x: Self) -> Self = _mm512_abs_ps(x);
        round(x: Self) -> Self = _mm512_roundscale_ps::<0>(x);
        scale(x: Self, n: Self) -> Self = _mm512_scalef_ps(x, n);
        if_less(x: Self, y: Self, yes: Self, no: Self) -> Self =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), no, yes);
        with_sign(magnitude: Self, sign: Self) -> Self =
            _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0)));
        sum(x: Self) -> f32 = _mm512_reduce_add_ps(x);
        greatest(x: Self) -> f32 = _mm512_reduce_max_ps(x);
    });

    registers!(__m256, 8, {
        splat(x: f32) -> Self = _mm256_set1_ps(x);
        load(from: *const f32) -> Self = _mm256_loadu_ps(from);
        load_first(from: *const f32, count: usize) -> Self = _mm256_maskload_ps(from, first(count));
        store(x: Self, to: *mut f32) -> () = _mm256_storeu_ps(to, x);
        store_first(x: Self, to: *mut f32, count: usize) -> () = _mm256_maskstore_ps(to, first(count), x);
        add(x: Self, y: Self) -> Self = _mm256_add_ps(x, y);
        sub(x: Self, y: Self) -> Self = _mm256_sub_ps(x, y);
        mul(x: Self, y: Self) -> Self = _mm256_mul_ps(x, y);
        div(x: Self, y: Self) -> Self = _mm256_div_ps(x, y);
        fma(x: Self, y: Self, z: Self) -> Self = _mm256_fmadd_ps(x, y, z);
        max(x: Self, y: Self) -> Self = _mm256_max_ps(x, y);
        min(x: Self, y: Self) -> Self = _mm256_min_ps(x, y);
        sqrt(x: Self) -> Self = _mm256_sqrt_ps(x);
        abs(x: Self) -> Self = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
        round(x: Self) -> Self = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        // In two factors, since a power of two below 2^-126 has no exponent of its own.
        scale(x: Self, n: Self) -> Self = {
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let first = _mm256_mul_ps(x, power(half));
            _mm256_mul_ps(first, power(_mm256_sub_epi32(n, half)))
        };
        if_less(x: Self, y: Self, yes: Self, no: Self) -> Self =
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(x, y));
        with_sign(magnitude: Self, sign: Self) -> Self =
            _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0)));
        sum(x: Self) -> f32 = lanes(x).iter().sum();
        greatest(x: Self) -> f32 = lanes(x).into_iter().fold(f32::NEG_INFINITY, f32::max);
    });

    /// The mask of the first `count` lanes.
    #[inline(always)]
    unsafe fn first(count: usize) -> __m256i {
        // SAFETY: only reached from functions compiled for AVX2.
        unsafe {
            let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), numbers)
        }
    }

    /// 2 to the integers `n`, from -126 to 127.
    #[inline(always)]
    unsafe fn power(n: __m256i) -> __m256 {
        // SAFETY: only reached from functions compiled for AVX2.
        unsafe {
            let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    unsafe fn lanes(x: __m256) -> [f32; 8] {
        let mut lanes = [0.0; 8];
        // SAFETY: only reached from functions compiled for AVX2; the array has eight elements.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
        lanes
    }
}
