//! What one core of the machine can do at most, measured: fused multiply-adds in its widest registers, and bytes to and from memory.
//!
//! Speed is told as a share of these limits, taken in the same run: numbers of another day or another machine say little. Nothing in a
//! session depends on them.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Independent chains, to hide the latency of an FMA: at least latency times units, 4 x 2 on the machines of today.
const CHAINS: usize = 16;
/// Where the chains start.
const STARTS: [f32; CHAINS] = {
    let mut starts = [1.0; CHAINS];
    let mut i = 0;
    while i < CHAINS {
        starts[i] += i as f32 / 64.0;
        i += 1;
    }
    starts
};
/// FMAs along a chain in one call.
const LENGTH: u64 = 100_000;

/// The limits of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// f32 fused multiply-adds, in FLOPs a second; a multiply-add is two.
    pub flops: f64,
    /// Bytes a second of the triad `a[i] = b[i] + s * c[i]` on arrays far larger than any cache: two reads and a write are counted for
    /// each element, as STREAM does (McCalpin 1995), and not the read that an ordinary store causes.
    pub bandwidth: f64,
}

impl Machine {
    /// Measures for about a fifth of a second. Needs 192 MiB of memory for that time.
    pub fn measure() -> Machine {
        Machine {
            flops: fma_peak(),
            bandwidth: triad(),
        }
    }
}

/// Elements of each of the triad's arrays: 64 MiB, beyond the last cache of the machines of today.
const TRIAD: usize = 16 << 20;

/// The bandwidth of memory on one core, in bytes a second: the best of a few triads.
pub fn triad() -> f64 {
    let (b, c) = (vec![1.0_f32; TRIAD], vec![2.0_f32; TRIAD]);
    let mut a = vec![0.0_f32; TRIAD];
    let scale = black_box(3.0_f32);
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        for ((a, b), c) in a.iter_mut().zip(&b).zip(&c) {
            *a = b + scale * c;
        }
        black_box(&mut a);
        best = best.max((3 * TRIAD * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// The peak of f32 fused multiply-adds on one core, in FLOPs a second; a multiply-add is two.
pub fn fma_peak() -> f64 {
    let (run, lanes) = widest();
    let mut best = 0.0_f64;
    let end = Instant::now() + Duration::from_millis(60);
    while Instant::now() < end {
        let start = Instant::now();
        black_box(run(black_box(LENGTH)));
        let seconds = start.elapsed().as_secs_f64();
        best = best.max((2 * CHAINS as u64 * lanes * LENGTH) as f64 / seconds);
    }
    best
}

/// The loop over the widest registers, and how many lanes they have.
fn widest() -> (fn(u64) -> f32, u64) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            return (|n| unsafe { x86::avx512(n) }, 16);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return (|n| unsafe { x86::avx2(n) }, 8);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: every aarch64 processor that Rust's standard library runs on has NEON.
        return (|n| unsafe { arm::neon(n) }, 4);
    }
    #[allow(
        unreachable_code,
        reason = "reached where there is no loop for the processor"
    )]
    (portable, 4)
}

/// Multiplies and adds in arrays, which the compiler turns into the baseline's registers. Without a fused instruction in the baseline a
/// multiply-add is two instructions, as it is for every program that is built for it.
fn portable(length: u64) -> f32 {
    let mut sums = STARTS.map(|start| [black_box(start); 4]);
    let (factor, term) = (black_box(0.999_f32), black_box(0.001_f32));
    for _ in 0..length {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * factor + term;
            }
        }
    }
    sums.as_flattened().iter().sum()
}

/// One loop over an instruction set: chains of multiply-adds towards the fixed point 1, so that no operand gets slow.
macro_rules! fma_loop {
    ($name:ident, $feature:literal, $splat:path, $fma:expr, $sum:expr) => {
        #[target_feature(enable = $feature)]
        pub(super) unsafe fn $name(length: u64) -> f32 {
            // Chains that the compiler can tell to be equal would become one.
            let mut sums = STARTS.map(|start| $splat(black_box(start)));
            let (factor, term) = ($splat(black_box(0.999)), $splat(black_box(0.001)));
            for _ in 0..length {
                for sum in &mut sums {
                    *sum = $fma(*sum, factor, term);
                }
            }
            sums.into_iter().map($sum).sum()
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STARTS, black_box};
    use std::arch::x86_64::{
        __m256, _mm_cvtss_f32, _mm256_castps256_ps128, _mm256_fmadd_ps, _mm256_set1_ps,
        _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    };

    fma_loop!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, |v| {
        _mm512_reduce_add_ps(v)
    });
    fma_loop!(
        avx2,
        "avx2,fma",
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        |v: __m256| { _mm_cvtss_f32(_mm256_castps256_ps128(v)) }
    );
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{STARTS, black_box};
    use std::arch::aarch64::{float32x4_t, vaddvq_f32, vdupq_n_f32, vfmaq_f32};

    fma_loop!(
        neon,
        "neon",
        vdupq_n_f32,
        |sum, factor, term| vfmaq_f32(term, sum, factor),
        |v: float32x4_t| vaddvq_f32(v)
    );
}
