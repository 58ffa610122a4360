//! A matrix times a vector where the matrix lies along the contracted axis.
//!
//! Each element of the matrix is used once, so packing it would be half of the work. Squares of it are transposed in registers instead
//! and multiplied there, several side by side, because each is a chain of as many multiply-adds as a vector has lanes.

use super::blocked::{Blocked, DEPTH, Work};
use super::simd::Simd;

/// Squares side by side.
pub(super) const GROUP: usize = 4;

/// Squares by which each of them lags behind the one before: where rows lie a multiple of a page apart, lines that are fetched ahead for
/// all of them at the same depth would drive each other out of L1.
const LAG: usize = 2;

/// Computes the share of `work` where there is one row, depths lie one element apart on both sides, and results follow one another.
///
/// # Safety
/// As [`multiply`](super::blocked::multiply).
#[inline(always)]
pub(super) unsafe fn fold<S: Simd>(b: &Blocked, work: &Work) {
    let mut first = work.lanes.start;
    while first < work.lanes.end {
        let left = work.lanes.end - first;
        let lanes = work
            .lanes_at
            .cast::<S::Element>()
            .wrapping_offset(first as isize * b.lane);
        let out = work.out.cast::<S::Element>().wrapping_add(first);
        // SAFETY: `GROUP` vectors of lanes, or one that may be partial, are left from here on; each is the work's, and so are its results.
        unsafe {
            if left >= GROUP * S::LANES {
                group::<S, GROUP>(b, work, lanes, out, S::LANES);
                first += GROUP * S::LANES;
            } else {
                let width = left.min(S::LANES);
                group::<S, 1>(b, work, lanes, out, width);
                first += width;
            }
        }
    }
}

/// The results of `G` vectors of lanes, the last of `width`.
///
/// # Safety
/// As [`fold`].
#[inline(always)]
unsafe fn group<S: Simd, const G: usize>(
    b: &Blocked,
    work: &Work,
    lanes: *const S::Element,
    out: *mut S::Element,
    width: usize,
) {
    let row = work.rows_at.cast::<S::Element>();
    // SAFETY: depths are below the product's, lanes and results are those of the caller.
    unsafe {
        let mut totals = [S::zero(); G];
        let mut sums = [S::zero(); G];
        let at = |depth: usize, index: usize| {
            let lane = (index * S::LANES) as isize * b.lane;
            (
                row.wrapping_add(depth),
                lanes.wrapping_add(depth).wrapping_offset(lane),
            )
        };
        let squares = b.depth / S::LANES;
        for turn in 0..squares + (G - 1) * LAG {
            for index in 0..G {
                let square = turn.wrapping_sub(index * LAG);
                if square >= squares {
                    continue;
                }
                let (row, from) = at(square * S::LANES, index);
                let columns = if width == S::LANES {
                    S::square(from, b.lane, S::LANES, S::LANES)
                } else {
                    S::square(from, b.lane, width, S::LANES)
                };
                sums[index] = chain::<S>(&columns, S::LANES, row, sums[index]);
                if ((square + 1) * S::LANES).is_multiple_of(DEPTH) {
                    close::<S>(
                        &mut totals[index],
                        &mut sums[index],
                        square * S::LANES < DEPTH,
                    );
                }
            }
        }
        let done = squares * S::LANES;
        for index in 0..G {
            if done < b.depth {
                let (row, from) = at(done, index);
                let cols = b.depth - done;
                let columns = S::square(from, b.lane, width, cols);
                sums[index] = chain::<S>(&columns, cols, row, sums[index]);
            }
            if !b.depth.is_multiple_of(DEPTH) {
                close::<S>(&mut totals[index], &mut sums[index], b.depth < DEPTH);
            }
        }
        let mask = S::mask(width);
        for (index, total) in totals.into_iter().enumerate() {
            S::store_masked(out.wrapping_add(index * S::LANES), total, mask);
        }
    }
}

/// Ends a block: adds its sum to the total, which it becomes if it is the first.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn close<S: Simd>(total: &mut S::Vector, sum: &mut S::Vector, first: bool) {
    // SAFETY: registers only.
    unsafe {
        *total = if first { *sum } else { S::add(*total, *sum) };
        *sum = S::zero();
    }
}

/// Multiplies the first `cols` columns by as many elements of the row, on top of `sum`.
///
/// # Safety
/// The machine has the instruction set, and the elements are readable.
#[inline(always)]
unsafe fn chain<S: Simd>(
    square: &S::Square,
    cols: usize,
    row: *const S::Element,
    mut sum: S::Vector,
) -> S::Vector {
    for (col, vector) in square.as_ref().iter().enumerate() {
        if col < cols {
            // SAFETY: the caller's promise is passed on.
            unsafe {
                let left = S::splat(row.wrapping_add(col));
                sum = S::multiply_add(left, *vector, sum);
            }
        }
    }
    sum
}
