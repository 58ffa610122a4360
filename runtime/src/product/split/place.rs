//! Where a tile's sums go: into the result, where they are looked at once more.

use super::amx::SIDE;
use super::pack::Operand;
use super::walk::{STRIP, Split};
use crate::product::avx512::Avx512F32;
use crate::product::simd::Simd;
use crate::product::{DEPTH, Matrices};
use std::arch::x86_64::*;
use std::ops::Range;

/// The part of the result that a tile computes.
pub(super) struct Place<'a> {
    pub(super) split: &'a Split,
    pub(super) at: Matrices,
    pub(super) rows: Range<usize>,
    pub(super) lanes: Range<usize>,
    /// Its sums, [`STRIP`] to a row.
    pub(super) sums: *mut f32,
}

impl Place<'_> {
    /// From a row to the next in the result, and from a lane to the next, in elements.
    fn steps(&self) -> [isize; 2] {
        let dst = &self.split.form.dst;
        if self.split.swapped {
            [dst.col, dst.row]
        } else {
            [dst.row, dst.col]
        }
    }

    /// The results of up to a vector of lanes, and as many sums: how many these are, and where they begin.
    fn pieces(&self) -> impl Iterator<Item = (usize, *mut f32, *mut f32)> + use<> {
        let [row_step, lane_step] = self.steps();
        let out = self.at.dst.cast::<f32>();
        let out = out
            .wrapping_offset(self.rows.start as isize * row_step)
            .wrapping_offset(self.lanes.start as isize * lane_step);
        let (rows, lanes, sums) = (self.rows.len(), self.lanes.len(), self.sums);
        (0..rows).flat_map(move |row| {
            (0..lanes).step_by(SIDE).map(move |lane| {
                let out = out
                    .wrapping_offset(row as isize * row_step)
                    .wrapping_offset(lane as isize * lane_step);
                let sums = sums.wrapping_add(row * STRIP + lane);
                (SIDE.min(lanes - lane), out, sums)
            })
        })
    }

    /// The results and their row's bytes, where they fill registers and lie as they do.
    pub(super) fn in_place(&self) -> Option<(*mut f32, isize)> {
        let [row_step, lane_step] = self.steps();
        let whole = self.rows.len().is_multiple_of(SIDE) && self.lanes.len().is_multiple_of(SIDE);
        let (_, out, _) = self.pieces().next()?;
        (whole && lane_step == 1).then_some((out, row_step * size_of::<f32>() as isize))
    }

    /// Whether all results are finite, where their lanes follow one another.
    ///
    /// # Safety
    /// The results are readable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn is_finite(&self) -> bool {
        let mut differences = _mm512_setzero_si512();
        for (count, out, _) in self.pieces() {
            // SAFETY: the lanes are this tile's.
            let vector = unsafe { Avx512F32::load_masked(out, Avx512F32::mask(count)) };
            differences = _mm512_or_si512(differences, difference(vector));
        }
        _mm512_test_epi32_mask(differences, differences) == 0
    }

    /// Copies the results to the sums.
    ///
    /// # Safety
    /// The results are readable, and the sums writable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn fetch(&self) {
        let [_, lane_step] = self.steps();
        for (count, out, sums) in self.pieces() {
            for lane in 0..count {
                // SAFETY: the lane is this tile's.
                unsafe {
                    *sums.wrapping_add(lane) = *out.wrapping_offset(lane as isize * lane_step)
                }
            }
        }
    }

    /// Copies the sums to the results, and tells whether all are finite.
    ///
    /// # Safety
    /// The results are writable, and the sums readable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn store(&self) -> bool {
        let [_, lane_step] = self.steps();
        let mut differences = _mm512_setzero_si512();
        for (count, out, sums) in self.pieces() {
            // SAFETY: the lanes are this tile's.
            unsafe {
                let mask = Avx512F32::mask(count);
                let vector = Avx512F32::load_masked(sums, mask);
                differences = _mm512_or_si512(differences, difference(vector));
                if lane_step == 1 {
                    Avx512F32::store_masked(out, vector, mask);
                    continue;
                }
                for lane in 0..count {
                    *out.wrapping_offset(lane as isize * lane_step) = *sums.wrapping_add(lane);
                }
            }
        }
        _mm512_test_epi32_mask(differences, differences) == 0
    }

    /// Computes results that are not finite again, as chains: parts of an infinity, or of a number next to it, make a NaN.
    ///
    /// # Safety
    /// As [`multiply`](super::walk::multiply); the results have been computed.
    #[target_feature(enable = "avx512f,fma")]
    pub(super) unsafe fn mend(&self) {
        let [rows, lanes] = self.split.sides(&self.at);
        for (index, (count, out, _)) in self.pieces().enumerate() {
            let pieces = self.lanes.len().div_ceil(SIDE);
            let row = rows.from(self.rows.start + index / pieces, 0);
            let lane = lanes.from(self.lanes.start + index % pieces * SIDE, 0);
            // SAFETY: the results are this tile's, the operands the caller's.
            unsafe {
                // A NaN among the terms stays one, so there is nothing to compute again where a row has one: least of all where everything
                // is NaN.
                if !self.needs_mending(count, out) || self.has_nan(row) {
                    continue;
                }
                let chains = self.chains(row, lane, count);
                let [_, lane_step] = self.steps();
                for (lane, chain) in chains.into_iter().enumerate().take(count) {
                    let out = out.wrapping_offset(lane as isize * lane_step);
                    if !(*out).is_finite() {
                        *out = chain;
                    }
                }
            }
        }
    }

    /// Whether a piece has results that are not finite.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn needs_mending(&self, count: usize, out: *const f32) -> bool {
        let [_, lane_step] = self.steps();
        // SAFETY: the lanes are this tile's.
        let result = |lane| unsafe { *out.wrapping_offset(lane as isize * lane_step) };
        (0..count).any(|lane| !result(lane).is_finite())
    }

    /// Whether a row has a NaN.
    ///
    /// # Safety
    /// It is readable at all depths.
    unsafe fn has_nan(&self, row: Operand) -> bool {
        // SAFETY: the depths are the operand's.
        let element = |depth| unsafe { *row.at.wrapping_offset(depth as isize * row.depth_step) };
        (0..self.split.form.k).any(|depth| element(depth).is_nan())
    }

    /// One row times up to a vector of lanes, as chains.
    ///
    /// # Safety
    /// The machine has AVX-512; the row and the lanes are readable at all depths.
    #[target_feature(enable = "avx512f,fma")]
    unsafe fn chains(&self, row: Operand, lanes: Operand, count: usize) -> [f32; SIDE] {
        let k = self.split.form.k;
        let mut totals = [0.0; SIDE];
        for first in (0..k).step_by(DEPTH) {
            let mut sums = [0.0_f32; SIDE];
            for depth in first..k.min(first + DEPTH) {
                let line = lanes.from(0, depth).at;
                let mut right = [0.0; SIDE];
                for (lane, right) in right.iter_mut().enumerate().take(count) {
                    // SAFETY: lane and depth are the operand's.
                    *right = unsafe { *line.wrapping_offset(lane as isize * lanes.step) };
                }
                // SAFETY: the depth is the row's.
                let left = unsafe { *row.from(0, depth).at };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = left.mul_add(right, *sum);
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = if first == 0 { sum } else { *total + sum };
            }
        }
        totals
    }
}

/// The difference of numbers and themselves: 0 where they are finite, and otherwise the bits of a NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn difference(vector: __m512) -> __m512i {
    _mm512_castps_si512(_mm512_sub_ps(vector, vector))
}
