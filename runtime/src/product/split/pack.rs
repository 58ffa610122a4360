//! Numbers as sums of three bf16, in the order in which tiles read them.
//!
//! A chunk of one side is 32 depths of two registers of rows or of lanes. A register's row is 64 bytes: for the rows of a product one row and
//! all depths, for its lanes two depths of all lanes, `i` and `i + 16`. What lies beyond an edge is zero.

use super::amx::{CHUNK, CHUNK_BYTES, SIDE, TILE};
use crate::product::avx512::Avx512F32;
use crate::product::simd::Simd;
use std::arch::x86_64::*;

/// One side of a product, from some depth on.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    /// Its first row or lane, at the first depth.
    pub(super) at: *const f32,
    /// From a row or lane to the next, in elements.
    pub(super) step: isize,
    /// From a depth to the next.
    pub(super) depth_step: isize,
    /// From an element to the one that is packed in its place the next time, and is asked for meanwhile; 0 where that is done elsewhere.
    pub(super) ahead: isize,
}

impl Operand {
    /// The operand from a row or lane and a depth on.
    pub(super) fn from(self, index: usize, depth: usize) -> Operand {
        let at = self
            .at
            .wrapping_offset(index as isize * self.step)
            .wrapping_offset(depth as isize * self.depth_step);
        Operand { at, ..self }
    }
}

/// Which side of a product an operand is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Rows,
    Lanes,
}

/// Packs up to two registers' rows or lanes, as many chunks as hold all depths.
///
/// # Safety
/// The machine has AVX-512; `count` x `depth` elements of `from` are readable, and the chunks at `to` writable and aligned to 64.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack(side: Side, from: Operand, count: usize, depth: usize, to: *mut u8) {
    for first in (0..depth).step_by(CHUNK) {
        let depths = CHUNK.min(depth - first);
        let chunk = to.wrapping_add(first / CHUNK * CHUNK_BYTES);
        for register in (0..count).step_by(SIDE) {
            let count = SIDE.min(count - register);
            let at = from
                .at
                .wrapping_offset(first as isize * from.depth_step)
                .wrapping_offset(register as isize * from.step);
            let second = at.wrapping_offset(SIDE as isize * from.depth_step);
            let depths = [depths.min(SIDE), depths.saturating_sub(SIDE)];
            let (steps, extents) = match side {
                Side::Rows => ([from.step, from.depth_step], depths.map(|d| [count, d])),
                Side::Lanes => ([from.depth_step, from.step], depths.map(|d| [d, count])),
            };
            let to = chunk.wrapping_add(register / SIDE * TILE);
            // SAFETY: these depths and rows or lanes are among the operand's; the register's rows are inside the chunk.
            unsafe {
                if count == SIDE && depths[1] == SIDE {
                    full([at, second], steps, from.ahead, to);
                } else {
                    edge([at, second], steps, extents, to);
                }
            }
        }
    }
}

/// Packs a register: the rows and columns of two blocks of sixteen by sixteen. Asks for what lies `ahead` of them.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn full(from: [*const f32; 2], steps: [isize; 2], ahead: isize, to: *mut u8) {
    let [row_step, col_step] = steps;
    // SAFETY: all rows and columns are read, and sixteen rows of each part written.
    unsafe {
        let mut lines = from;
        if col_step == 1 {
            for row in 0..SIDE {
                if ahead != 0 {
                    ask(lines, ahead);
                }
                let [low, high] = lines.map(|line| Avx512F32::load(line));
                store(to, row, low, high);
                lines = lines.map(|line| line.wrapping_offset(row_step));
            }
            return;
        }
        if ahead != 0 {
            for _ in 0..SIDE {
                ask(lines, ahead);
                lines = lines.map(|line| line.wrapping_offset(col_step));
            }
        }
        let mut rows = [[_mm512_setzero_ps(); SIDE]; 2];
        for (from, rows) in from.into_iter().zip(&mut rows) {
            if row_step == 1 {
                *rows = Avx512F32::square(from, col_step, SIDE, SIDE);
            } else {
                gather(from, steps, [SIDE, SIDE], rows);
            }
        }
        let [low, high] = rows;
        for (row, (low, high)) in low.into_iter().zip(high).enumerate() {
            store(to, row, low, high);
        }
    }
}

/// Asks for lines that are packed later.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
unsafe fn ask(lines: [*const f32; 2], ahead: isize) {
    for line in lines {
        // SAFETY: a hint, for which any address will do.
        unsafe { Avx512F32::prefetch_to_l2(line.wrapping_offset(ahead)) }
    }
}

/// The same of blocks of which only `extents` are read and the others are zero.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn edge(from: [*const f32; 2], steps: [isize; 2], extents: [[usize; 2]; 2], to: *mut u8) {
    // SAFETY: rows and columns below the extents are read, and sixteen rows of each part written.
    unsafe {
        let mut rows = [[_mm512_setzero_ps(); SIDE]; 2];
        for half in 0..2 {
            gather(from[half], steps, extents[half], &mut rows[half]);
        }
        let [low, high] = rows;
        for (row, (low, high)) in low.into_iter().zip(high).enumerate() {
            store(to, row, low, high);
        }
    }
}

/// The rows of a block, of any extents and steps; rows without elements stay as they are.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn gather(
    from: *const f32,
    [row_step, col_step]: [isize; 2],
    [rows, cols]: [usize; 2],
    to: &mut [__m512; SIDE],
) {
    // SAFETY: rows and columns below the extents are read.
    unsafe {
        if cols > 0 && row_step == 1 && col_step != 1 {
            *to = Avx512F32::square(from, col_step, cols, rows);
            return;
        }
        let mask = Avx512F32::mask(cols);
        for (row, vector) in to.iter_mut().enumerate().take(rows) {
            let from = from.wrapping_offset(row as isize * row_step);
            if col_step == 1 {
                *vector = Avx512F32::load_masked(from, mask);
                continue;
            }
            let mut elements = [0.0_f32; SIDE];
            for (col, element) in elements.iter_mut().enumerate().take(cols) {
                *element = *from.wrapping_offset(col as isize * col_step);
            }
            *vector = Avx512F32::load(elements.as_ptr());
        }
    }
}

/// Stores one row of each part.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn store(to: *mut u8, row: usize, low: __m512, high: __m512) {
    // SAFETY: the row of each part is inside the chunk and begins a line.
    unsafe {
        for (part, bits) in split(low, high).into_iter().enumerate() {
            let to = to.wrapping_add(part * 2 * TILE + row * 64);
            _mm512_store_si512(to.cast(), bits);
        }
    }
}

/// The three parts of two vectors: those of `low` are the even halves of the words, those of `high` the odd ones.
///
/// The first part is the number rounded to the nearest bf16 (halves away from 0), the second is the rest rounded likewise, and the third
/// what is left then, which is exact: 8 + 8 + 8 bits make the 24 of an f32.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
unsafe fn split(low: __m512, high: __m512) -> [__m512i; 3] {
    // SAFETY: registers only.
    unsafe {
        let (half, upper) = (
            _mm512_set1_epi32(0x8000),
            _mm512_set1_epi32(0xFFFF_0000_u32 as i32),
        );
        let rounded = |v: __m512| {
            let bits = _mm512_add_epi32(_mm512_castps_si512(v), half);
            _mm512_castsi512_ps(_mm512_and_si512(bits, upper))
        };
        // (low >> 16) | (high & upper)
        let merged = |low: __m512, high: __m512| {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
            _mm512_ternarylogic_epi32::<0xF8>(low, _mm512_castps_si512(high), upper)
        };
        let first = [low, high].map(rounded);
        let rest = [_mm512_sub_ps(low, first[0]), _mm512_sub_ps(high, first[1])];
        let second = rest.map(rounded);
        let third = [
            _mm512_sub_ps(rest[0], second[0]),
            _mm512_sub_ps(rest[1], second[1]),
        ];
        [first, second, third].map(|[low, high]| merged(low, high))
    }
}
