//! Moving operands into the order in which tiles read them, and tiles into results that lie otherwise.
//!
//! Copies where lanes or rows follow one another, squares transposed in registers where depths do, plain loops elsewhere. What is packed
//! beyond an edge is zero, so that whole vectors may be read.

use super::blocked::{Blocked, TILE_BYTES};
use super::simd::Simd;
use std::ops::Range;

/// The rows of tile `index` where `rows` are cut into `tiles`: their numbers differ by one at most.
#[inline(always)]
pub(crate) fn cut(rows: usize, tiles: usize, index: usize) -> Range<usize> {
    let (each, longer) = (rows / tiles, rows % tiles);
    let start = index * each + index.min(longer);
    start..start + each + usize::from(index < longer)
}

/// How many slivers of rows that lie one element apart are packed at once: depths may lie far apart, and as much as this is read of each
/// without a stop.
const SLIVERS_AT_ONCE: usize = 16;

/// How many depths ahead of a copy its operands are asked for: they come from far away, and a copy waits for each line otherwise.
const AHEAD: isize = 8;

/// From a packed sliver of rows to the next. The elements behind a sliver's last depth put slivers into different sets of a cache, so that
/// several can be written at once.
pub(super) const fn sliver_stride<S: Simd>(depth: usize) -> usize {
    S::SLIVER * (depth + 1)
}

/// Packs one block of `rows` rows into a sliver for each tile: `S::SLIVER` elements for each depth.
///
/// # Safety
/// The machine has the instruction set; `rows` x `depth` elements at `from` are readable and `tiles` slivers at `to` writable.
#[inline(always)]
pub(super) unsafe fn pack_rows<S: Simd>(
    b: &Blocked,
    to: *mut S::Element,
    from: *const S::Element,
    rows: usize,
    tiles: usize,
    depth: usize,
) {
    let sliver = |index: usize| to.wrapping_add(index * sliver_stride::<S>(depth));
    if b.row == 1 && b.tile_rows <= S::LANES {
        // Longer slivers come first: those of one length are packed together.
        let longer = rows % tiles;
        for all in [0..longer, longer..tiles] {
            let end = all.end;
            for first in all.step_by(SLIVERS_AT_ONCE) {
                let count = SLIVERS_AT_ONCE.min(end - first);
                let range = cut(rows, tiles, first);
                let length = range.len();
                let mut from = from.wrapping_add(range.start);
                let mut to = sliver(first);
                // SAFETY: the rows of a tile are no more than a vector's lanes, and a sliver has a vector for each depth.
                unsafe {
                    let mask = S::mask(length);
                    for _ in 0..depth {
                        for index in 0..count {
                            let at = from.wrapping_add(index * length);
                            S::prefetch_to_l2(at.wrapping_offset(AHEAD * b.row_depth));
                            let vector = S::load_masked(at, mask);
                            S::store(to.wrapping_add(index * sliver_stride::<S>(depth)), vector);
                        }
                        from = from.wrapping_offset(b.row_depth);
                        to = to.wrapping_add(S::SLIVER);
                    }
                }
            }
        }
        return;
    }
    for index in 0..tiles {
        let range = cut(rows, tiles, index);
        let from = from.wrapping_offset(range.start as isize * b.row);
        // SAFETY: a sliver is `depth` times `S::SLIVER` elements, and the rows of a tile are no more than these.
        unsafe {
            pack::<S>(
                sliver(index),
                S::SLIVER,
                from,
                range.len(),
                b.row,
                depth,
                b.row_depth,
            )
        }
    }
}

/// Packs a strip of `width` lanes, of which `vectors` vectors hold one at least: all vectors of a depth, then those of the next.
///
/// # Safety
/// The machine has the instruction set; `width` x `depth` elements at `from` are readable and `depth` times `vectors` vectors at `to`
/// writable.
#[inline(always)]
pub(super) unsafe fn pack_lanes<S: Simd>(
    b: &Blocked,
    to: *mut S::Element,
    from: *const S::Element,
    depth: usize,
    width: usize,
    vectors: usize,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        pack::<S>(
            to,
            vectors * S::LANES,
            from,
            width,
            b.lane,
            depth,
            b.lane_depth,
        )
    }
}

/// Writes `to[d * stride + i]` = element `i` of depth `d`, for `count` <= `stride` elements; those from `count` up to the next whole
/// vector become 0.
///
/// # Safety
/// The machine has the instruction set; `count` x `depth` elements are readable and `depth * stride` writable; `stride` is a multiple of
/// the lanes.
#[inline(always)]
pub(crate) unsafe fn pack<S: Simd>(
    to: *mut S::Element,
    stride: usize,
    from: *const S::Element,
    count: usize,
    step: isize,
    depth: usize,
    depth_step: isize,
) {
    for first in (0..count).step_by(S::LANES) {
        let lanes = S::LANES.min(count - first);
        let from = from.wrapping_offset(first as isize * step);
        let to = to.wrapping_add(first);
        // SAFETY: `lanes` elements of each depth are read, and a whole vector written where it begins below `count`, so inside the stride.
        unsafe {
            let mask = S::mask(lanes);
            if step == 1 && lanes == S::LANES {
                for d in 0..depth {
                    let from = from.wrapping_offset(d as isize * depth_step);
                    S::prefetch_to_l2(from.wrapping_offset(AHEAD * depth_step));
                    let vector = S::load(from);
                    S::store(to.wrapping_add(d * stride), vector);
                }
            } else if step == 1 {
                for d in 0..depth {
                    let vector =
                        S::load_masked(from.wrapping_offset(d as isize * depth_step), mask);
                    S::store(to.wrapping_add(d * stride), vector);
                }
            } else if depth_step == 1 {
                for d in (0..depth).step_by(S::LANES) {
                    let depths = S::LANES.min(depth - d);
                    // The square of the next lanes.
                    for lane in 0..S::LANES {
                        let next = (S::LANES + lane) as isize * step;
                        S::prefetch_to_l2(from.wrapping_add(d).wrapping_offset(next));
                    }
                    let to = to.wrapping_add(d * stride);
                    transpose::<S>(from.wrapping_add(d), step, lanes, depths, to, stride);
                }
            } else {
                for d in 0..depth {
                    let from = from.wrapping_offset(d as isize * depth_step);
                    let to = to.wrapping_add(d * stride);
                    S::store(to, S::zero());
                    for lane in 0..lanes {
                        *to.wrapping_add(lane) = *from.wrapping_offset(lane as isize * step);
                    }
                }
            }
        }
    }
}

/// Writes the columns of a square, `to_stride` apart: `cols` whole vectors.
///
/// # Safety
/// As [`Simd::square`], and the vectors are writable.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    from: *const S::Element,
    stride: isize,
    rows: usize,
    cols: usize,
    to: *mut S::Element,
    to_stride: usize,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        if rows == S::LANES && cols == S::LANES {
            let square = S::square(from, stride, S::LANES, S::LANES);
            for (col, vector) in square.as_ref().iter().enumerate() {
                S::store(to.wrapping_add(col * to_stride), *vector);
            }
            return;
        }
        let square = S::square(from, stride, rows, cols);
        for (col, vector) in square.as_ref().iter().enumerate() {
            if col < cols {
                S::store(to.wrapping_add(col * to_stride), *vector);
            }
        }
    }
}

/// Takes the tile at the start of the scratch, whose rows are `stride` apart, to `rows` x `width` results whose lanes do not follow one
/// another.
///
/// # Safety
/// The machine has the instruction set; the scratch has [`TILE_BYTES`]; the results at `out` are writable (and readable if `add`).
#[inline(always)]
pub(super) unsafe fn spread<S: Simd>(
    b: &Blocked,
    scratch: *mut S::Element,
    stride: usize,
    rows: usize,
    width: usize,
    out: *mut S::Element,
    add: bool,
) {
    let square = scratch.wrapping_add(TILE_BYTES / 2 / size_of::<S::Element>());
    for lane in (0..width).step_by(S::LANES) {
        let lanes = S::LANES.min(width - lane);
        for row in (0..rows).step_by(S::LANES) {
            let count = S::LANES.min(rows - row);
            let from = scratch.wrapping_add(row * stride + lane).cast_const();
            // SAFETY: the tile is in the first half of its room, 28 vectors at most, and the square in the second, 16 at most.
            unsafe { transpose::<S>(from, stride as isize, count, lanes, square, S::LANES) }
            // Rows that follow one another are written as a vector; otherwise each element is a vector of one lane.
            let (step, parts) = if b.out_row == 1 || count == 1 {
                (count, 1)
            } else {
                (1, count)
            };
            for index in 0..lanes {
                let vector = square.wrapping_add(index * S::LANES).cast_const();
                let out = out
                    .wrapping_offset((lane + index) as isize * b.out_lane)
                    .wrapping_offset(row as isize * b.out_row);
                for part in 0..parts {
                    let to = out.wrapping_offset(part as isize * b.out_row);
                    // SAFETY: `step` results from row `part` on, and as many elements of the lane's vector.
                    unsafe {
                        let mask = S::mask(step);
                        let mut sum = S::load_masked(vector.wrapping_add(part), mask);
                        if add {
                            sum = S::add(S::load_masked(to, mask), sum);
                        }
                        S::store_masked(to, sum, mask);
                    }
                }
            }
        }
    }
}
