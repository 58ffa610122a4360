//! Moving elements between memory that lies in one order and scratch that lies in another.
//!
//! Whole vectors where elements follow one another on both sides, squares transposed in registers where the axes are exchanged, plain
//! loops elsewhere. Nothing beyond the last element is touched.

use crate::product::simd::Simd;

/// Writes `to[d * to_step + i]` = `from[i * step + d * depth_step]` for `count` x `depth` elements.
///
/// # Safety
/// The machine has the instruction set, and these elements of `from` are readable and of `to` writable.
#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(
    to: *mut S::Element,
    to_step: isize,
    from: *const S::Element,
    count: usize,
    step: isize,
    depth: usize,
    depth_step: isize,
) {
    let to = |d: usize, i: usize| to.wrapping_offset(d as isize * to_step).wrapping_add(i);
    let from = |i: usize, d: usize| {
        from.wrapping_offset(i as isize * step)
            .wrapping_offset(d as isize * depth_step)
    };
    // SAFETY: all indices are below `count` and `depth`, and vectors that reach beyond are masked.
    unsafe {
        if step == 1 || count == 1 {
            if to_step == count as isize && depth_step == count as isize {
                std::ptr::copy_nonoverlapping(from(0, 0), to(0, 0), count * depth);
                return;
            }
            for d in 0..depth {
                let mut i = 0;
                while i + S::LANES <= count {
                    S::store(to(d, i), S::load(from(i, d)));
                    i += S::LANES;
                }
                if i < count {
                    let mask = S::mask(count - i);
                    S::store_masked(to(d, i), S::load_masked(from(i, d), mask), mask);
                }
            }
        } else if depth_step == 1 && depth > 1 {
            for i in (0..count).step_by(S::LANES) {
                let rows = S::LANES.min(count - i);
                let mask = S::mask(rows);
                for d in (0..depth).step_by(S::LANES) {
                    let cols = S::LANES.min(depth - d);
                    if rows == S::LANES && cols == S::LANES {
                        let square = S::square(from(i, d), step, S::LANES, S::LANES);
                        for (col, vector) in square.as_ref().iter().enumerate() {
                            S::store(to(d + col, i), *vector);
                        }
                    } else {
                        let square = S::square(from(i, d), step, rows, cols);
                        for (col, vector) in square.as_ref().iter().enumerate() {
                            if col < cols {
                                S::store_masked(to(d + col, i), *vector, mask);
                            }
                        }
                    }
                }
            }
        } else {
            for d in 0..depth {
                for i in 0..count {
                    to(d, i).write(from(i, d).read());
                }
            }
        }
    }
}

/// Takes a tile of `rows` x `width` elements, whose rows are `stride` apart, to its place in a result.
///
/// # Safety
/// The machine has the instruction set; the tile is readable, and element `(row, lane)` of the result is writable.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd>(
    tile: *const S::Element,
    stride: usize,
    rows: usize,
    width: usize,
    out: *mut S::Element,
    out_row: isize,
    out_lane: isize,
) {
    let stride = stride as isize;
    // SAFETY: the caller's promise is passed on, with the axes in the order in which the result has them.
    unsafe {
        if out_lane == 1 || width == 1 {
            copy::<S>(out, out_row, tile, width, 1, rows, stride);
        } else if out_row == 1 || rows == 1 {
            copy::<S>(out, out_lane, tile, rows, stride, width, 1);
        } else {
            for row in 0..rows as isize {
                for lane in 0..width as isize {
                    let to = out.wrapping_offset(row * out_row + lane * out_lane);
                    to.write(tile.wrapping_offset(row * stride + lane).read());
                }
            }
        }
    }
}
