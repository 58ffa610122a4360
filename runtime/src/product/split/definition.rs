//! The definition of a split product as it is written: one element after the other. Machines without tiles compute it so, slowly.

use super::{CHUNK, PARTS, Parts};
use crate::product::chain::{self, ChainFn};
use crate::product::{Form, Isa, Matrices};
use std::ops::Range;

/// The function that computes it on an instruction set.
pub(in crate::product) fn definition(isa: Isa) -> ChainFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => fused,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => as_written,
        Isa::Portable => as_written,
    }
}

/// [`as_written`] where a fused multiply-add is an instruction.
///
/// # Safety
/// As [`as_written`]; the machine has FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,fma")]
unsafe fn fused(form: &Form, rows: &Range<usize>, cols: &Range<usize>, at: Matrices) {
    // SAFETY: the caller's promise is passed on.
    unsafe { as_written(form, rows, cols, at) }
}

/// Computes these rows and columns.
///
/// # Safety
/// As [`Method::run`](crate::product::Method::run), for elements of f32.
#[inline(always)]
unsafe fn as_written(form: &Form, rows: &Range<usize>, cols: &Range<usize>, at: Matrices) {
    let (lhs, rhs) = (at.lhs.cast::<f32>(), at.rhs.cast::<f32>());
    for row in rows.clone() {
        for col in cols.clone() {
            let parts = |depth: usize| {
                let left = row as isize * form.lhs.row + depth as isize * form.lhs.col;
                let right = depth as isize * form.rhs.row + col as isize * form.rhs.col;
                // SAFETY: row, column and depth are among those that the caller promises.
                unsafe { [*lhs.wrapping_offset(left), *rhs.wrapping_offset(right)].map(Parts::of) }
            };
            let sum = element(form.k, parts);
            if !sum.is_finite() {
                // SAFETY: the caller's promise is passed on.
                unsafe { chain::f32(Isa::Portable)(form, &(row..row + 1), &(col..col + 1), at) }
                continue;
            }
            let to = row as isize * form.dst.row + col as isize * form.dst.col;
            // SAFETY: (row, col) is inside [m, n], which the caller promises for writing.
            unsafe { at.dst.cast::<f32>().offset(to).write(sum) }
        }
    }
}

/// The sum over `depth` terms, the parts of whose factors `parts` gives.
#[inline(always)]
fn element(depth: usize, parts: impl Fn(usize) -> [Parts; 2]) -> f32 {
    let mut sum = 0.0;
    for first in (0..depth).step_by(CHUNK) {
        let mut halves = [[0.0_f32; 2]; PARTS.len()];
        for at in first..depth.min(first + CHUNK) {
            let [a, b] = parts(at);
            let half = (at - first) / (CHUNK / 2);
            for (halves, [left, right]) in halves.iter_mut().zip(PARTS) {
                halves[half] = multiply_add(a.0[left], b.0[right], halves[half]);
            }
        }
        for [low, high] in halves {
            sum = flushed(sum + flushed(low + high));
        }
    }
    sum
}

/// `a * b + c` rounded once, or 0 where that is below the smallest normal number when rounded to 24 bits of any exponent. `a` and `b` are
/// bf16, so that their product is exact in f64.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    /// Numbers from half a unit in the last place below the smallest normal one on are rounded to it.
    const SMALLEST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - f32::EPSILON as f64 / 4.0);
    let rounded = a.mul_add(b, c);
    // Exact where it is that small.
    let sum = f64::from(a) * f64::from(b) + f64::from(c);
    if sum.abs() < SMALLEST {
        0.0_f32.copysign(rounded)
    } else {
        rounded
    }
}

/// The number, or 0 with its sign where it is subnormal. Sums of two numbers that are none are exact there.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() {
        0.0_f32.copysign(value)
    } else {
        value
    }
}

impl Parts {
    /// The parts of a number: the nearest bf16 (halves away from 0), that of the rest, and what is left; subnormal ones are 0.
    fn of(value: f32) -> Parts {
        let rounded = |v: f32| f32::from_bits(v.to_bits().wrapping_add(0x8000) & 0xFFFF_0000);
        let first = rounded(value);
        let rest = value - first;
        let second = rounded(rest);
        let third = f32::from_bits((rest - second).to_bits() & 0xFFFF_0000);
        Parts([first, second, third].map(flushed))
    }
}
