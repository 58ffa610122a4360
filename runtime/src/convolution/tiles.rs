//! The micro-kernels: a few rows by a few vectors of lanes, all sums in registers, over one chain of terms.
//!
//! Several of them, since what lies one element apart differs. In a *straight* tile pixels are broadcast and features are lanes; in one
//! *across*, features are broadcast and pixels are lanes, which is for results of few features. A tile of *lines* is an outer product of
//! the input at some positions and features with the features of the other operand, summed over the pixels of many lines.
//!
//! The first two read the input through a table: the terms of a chain are at `offsets` from the first pixel, so that one loop serves
//! every window, stride and dilation. All of it is `#[inline(always)]`, and instantiated for each instruction set in `sets`.

use crate::product::simd::{Simd, store};

/// A tile of the definition's first form.
pub(super) struct WindowTile<T> {
    /// The terms.
    pub(super) depth: usize,
    /// Where each term's element lies, from that of the first pixel at the first.
    pub(super) offsets: *const i32,
    /// The first pixel; the others follow it.
    pub(super) image: *const T,
    /// The packed window: for each term a vector of lanes, or the features of a tile across.
    pub(super) weights: *const T,
    /// The lanes of the last vector that count.
    pub(super) last: usize,
    /// The element of row 0 and lane 0.
    pub(super) out: *mut T,
    /// From a row to the next; lanes follow one another.
    pub(super) out_row: isize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// A tile of the definition's second form: some lines, each of `pixels` terms.
pub(super) struct LinesTile<T> {
    /// The lines.
    pub(super) lines: usize,
    /// The terms of each line.
    pub(super) pixels: usize,
    /// The element of row 0; the other rows follow it. In tiles of groups, that of row 0 and lane 0.
    pub(super) rows: *const T,
    /// From a row to the next; looked at in tiles of groups only.
    pub(super) row: isize,
    /// From a set of rows to the next, and from its sums to theirs; looked at in tiles of several sets only.
    pub(super) set: isize,
    /// See `set`.
    pub(super) out_set: isize,
    /// Where each line begins in the rows' operand.
    pub(super) row_lines: *const isize,
    /// From a pixel to the next.
    pub(super) row_step: isize,
    /// The first vector; the other lanes follow it.
    pub(super) lanes: *const T,
    /// Where each line begins in the lanes' operand.
    pub(super) lane_lines: *const isize,
    /// From a pixel to the next.
    pub(super) lane_step: isize,
    /// The lanes of the last vector that count.
    pub(super) last: usize,
    /// The sum of row 0 and lane 0.
    pub(super) out: *mut T,
    /// From a row to the next.
    pub(super) out_row: isize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// A tile of the first form whose lanes are groups.
pub(super) struct GroupsTile<T> {
    /// The terms.
    pub(super) depth: usize,
    /// Where each term's elements lie, from those of the first pixel at the first.
    pub(super) offsets: *const i32,
    /// The first group of the first pixel.
    pub(super) image: *const T,
    /// From a pixel to the next.
    pub(super) pixel: isize,
    /// The packed window at the first group.
    pub(super) weights: *const T,
    /// From a term to the next there.
    pub(super) weights_step: usize,
    /// The lanes that count.
    pub(super) last: usize,
    /// The element of row 0 and lane 0.
    pub(super) out: *mut T,
    /// From a row to the next; lanes follow one another.
    pub(super) out_row: isize,
}

/// A row of the input, or zeros in its place.
pub(super) struct SeenRow<T> {
    /// The first group at position 0.
    pub(super) at: *const T,
    /// From a position to the next: 0 for zeros.
    pub(super) position: isize,
}

/// A tile of the first form whose lanes are groups, over rows that lie anywhere. Output `j` sees at tap `k` of each run the position
/// `first + j * stride + k * dilation` of its row.
pub(super) struct RowsTile<T> {
    /// The row of each run of the window.
    pub(super) rows: *const SeenRow<T>,
    /// The runs.
    pub(super) runs: usize,
    /// See above.
    pub(super) first: isize,
    /// The group of the rows that is in lane 0.
    pub(super) lane: usize,
    /// The taps of a run.
    pub(super) taps: usize,
    /// See above.
    pub(super) dilation: usize,
    /// See above.
    pub(super) stride: usize,
    /// The packed window at the first group.
    pub(super) weights: *const T,
    /// From a tap to the next there.
    pub(super) weights_step: usize,
    /// The lanes that count.
    pub(super) last: usize,
    /// The element of output 0 and lane 0.
    pub(super) out: *mut T,
    /// From an output to the next; lanes follow one another.
    pub(super) out_row: isize,
}

/// # Safety
/// As [`rows`].
pub(super) type RowsFn<T> = unsafe fn(&RowsTile<T>);

/// # Safety
/// As [`groups`].
pub(super) type GroupsFn<T> = unsafe fn(&GroupsTile<T>);

/// # Safety
/// As [`straight`] or [`across`].
pub(super) type WindowFn<T> = unsafe fn(&WindowTile<T>);

/// # Safety
/// As [`lines`].
pub(super) type LinesFn<T> = unsafe fn(&LinesTile<T>);

/// An instruction set with its micro-kernels. Numbers of rows and vectors are clamped to what there is.
pub(super) trait Tiles: Simd {
    /// The straight tile of so many pixels and vectors.
    fn straight(rows: usize, vectors: usize) -> WindowFn<Self::Element>;
    /// The most pixels of a straight tile of so many vectors: 0 where there is none so wide.
    fn most_straight(vectors: usize) -> usize;
    /// The tile across of so many features and vectors of pixels.
    fn across(rows: usize, vectors: usize) -> WindowFn<Self::Element>;
    /// The most features of a tile across of so many vectors: 0 where there is none so wide.
    fn most_across(vectors: usize) -> usize;
    /// The tile of lines of so many rows and vectors.
    fn lines(rows: usize, vectors: usize) -> LinesFn<Self::Element>;
    /// The most rows of a tile of lines of so many vectors: 0 where there is none so wide.
    fn most_lines(vectors: usize) -> usize;
    /// The tile of lines of [`SETS`] sets of so many rows, and so many vectors.
    fn sets(rows: usize, vectors: usize) -> LinesFn<Self::Element>;
    /// The most rows of each set: 0 where there is no tile so wide.
    fn most_sets(vectors: usize) -> usize;
    /// The most pixels, or positions, of tiles whose lanes are groups.
    const MOST_GROUPS: usize;
    /// The tile of groups of so many pixels.
    fn groups(rows: usize) -> GroupsFn<Self::Element>;
    /// The tile over rows of 8, 4 or 1 outputs, for runs of so many taps and this stride and dilation.
    fn rows(outputs: usize, taps: usize, stride: usize, dilation: usize) -> RowsFn<Self::Element>;
    /// The tile of lines and groups of so many positions.
    fn group_lines(rows: usize) -> LinesFn<Self::Element>;
}

/// Sets of rows in a tile of several, for inputs of so few features that a set alone is few rows: the positions of a window of three along
/// the middle axis.
pub(super) const SETS: usize = 3;

/// The widths that tiles may have, in vectors.
pub(super) const WIDTHS: [usize; 4] = [1, 2, 4, 8];

/// The most vectors of what goes to a result together: 16 features of 8 vectors of pixels.
pub(super) const MOST_VECTORS: usize = 128;

/// How many terms ahead a straight tile asks for what it will read: with many features neither the image nor the packed window is in L1.
const AHEAD: usize = 12;

/// Cycles that a tile takes for each term, where a vector of lanes costs `loads` loads: the units do two multiply-adds a cycle, loads
/// were measured to come at 1.7 a cycle, and a chain of multiply-adds advances once in four cycles.
pub(super) fn cycles(rows: f64, vectors: usize, loads: f64) -> f64 {
    let wide = vectors as f64;
    (rows * wide / 2.0)
        .max(0.6 * (rows + loads * wide))
        .max(4.2)
}

/// The vectors of the next part where so many lanes are left: a power of two, never more than hold a lane.
pub(super) fn next_vectors<S: Simd>(lanes: usize, most: usize) -> usize {
    let left = lanes.div_ceil(S::LANES);
    if left >= most {
        most
    } else {
        1 << left.ilog2()
    }
}

/// `ROWS` pixels by `VECTORS` vectors of features.
///
/// # Safety
/// The machine has the instruction set. For each term, `ROWS` elements from its offset on may be read, and `VECTORS` vectors of the
/// packed window; `ROWS` rows of lanes of `out` may be written (and read if `add`), by nobody else at the time.
#[inline(always)]
pub(super) unsafe fn straight<S: Simd, const ROWS: usize, const VECTORS: usize>(
    t: &WindowTile<S::Element>,
) {
    // SAFETY: the caller's promise; pointers only step past the end in wrapping arithmetic.
    unsafe {
        let mut sums = [[S::zero(); VECTORS]; ROWS];
        let mut weights = t.weights;
        for term in 0..t.depth {
            let image = t
                .image
                .wrapping_offset(*t.offsets.wrapping_add(term) as isize);
            let ahead = *t.offsets.wrapping_add((term + AHEAD).min(t.depth - 1));
            S::prefetch(t.image.wrapping_offset(ahead as isize));
            let mut right = [S::zero(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                let from = weights.wrapping_add(vector * S::LANES);
                S::prefetch(from.wrapping_add(AHEAD * VECTORS * S::LANES));
                *right = S::load(from);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = S::splat(image.wrapping_add(row));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = S::multiply_add(left, right, *sum);
                }
            }
            weights = weights.wrapping_add(VECTORS * S::LANES);
        }
        store::<S, ROWS, VECTORS>(sums, t.out, t.out_row, t.last, t.add);
    }
}

/// `ROWS` features by `VECTORS` vectors of pixels.
///
/// # Safety
/// As [`straight`], but that `VECTORS` vectors of the image are read for each term, and `ROWS` of a vector of the packed window.
#[inline(always)]
pub(super) unsafe fn across<S: Simd, const ROWS: usize, const VECTORS: usize>(
    t: &WindowTile<S::Element>,
) {
    // SAFETY: as in `straight`.
    unsafe {
        let mut sums = [[S::zero(); VECTORS]; ROWS];
        let mut weights = t.weights;
        for term in 0..t.depth {
            let image = t
                .image
                .wrapping_offset(*t.offsets.wrapping_add(term) as isize);
            let mut right = [S::zero(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                *right = S::load(image.wrapping_add(vector * S::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = S::splat(weights.wrapping_add(row));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = S::multiply_add(left, right, *sum);
                }
            }
            weights = weights.wrapping_add(S::LANES);
        }
        store::<S, ROWS, VECTORS>(sums, t.out, t.out_row, t.last, t.add);
    }
}

/// `COUNT` sets of `ROWS` elements of one operand by `VECTORS` vectors of the other.
///
/// # Safety
/// The machine has the instruction set. For each pixel of each line, `ROWS` elements of each set and `VECTORS - 1` vectors and `last` lanes may be
/// read; `ROWS` rows of each set of as many lanes of `out` may be written (and read if `add`), by nobody else at the time.
#[inline(always)]
pub(super) unsafe fn lines<S: Simd, const COUNT: usize, const ROWS: usize, const VECTORS: usize>(
    t: &LinesTile<S::Element>,
) {
    // SAFETY: as in `straight`.
    unsafe {
        let mask = S::mask(t.last);
        let mut sums = [[[S::zero(); VECTORS]; ROWS]; COUNT];
        for line in 0..t.lines {
            let mut rows = t.rows.wrapping_offset(*t.row_lines.wrapping_add(line));
            let mut lanes = t.lanes.wrapping_offset(*t.lane_lines.wrapping_add(line));
            for _ in 0..t.pixels {
                let mut right = [S::zero(); VECTORS];
                for (vector, right) in right.iter_mut().enumerate() {
                    let from = lanes.wrapping_add(vector * S::LANES);
                    *right = if vector + 1 == VECTORS {
                        S::load_masked(from, mask)
                    } else {
                        S::load(from)
                    };
                }
                for (set, sums) in sums.iter_mut().enumerate() {
                    let rows = rows.wrapping_offset(set as isize * t.set);
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = S::splat(rows.wrapping_add(row));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = S::multiply_add(left, right, *sum);
                        }
                    }
                }
                rows = rows.wrapping_offset(t.row_step);
                lanes = lanes.wrapping_offset(t.lane_step);
            }
        }
        for (set, sums) in sums.into_iter().enumerate() {
            let out = t.out.wrapping_offset(set as isize * t.out_set);
            store::<S, ROWS, VECTORS>(sums, out, t.out_row, t.last, t.add);
        }
    }
}

/// `ROWS` pixels by a vector of groups.
///
/// # Safety
/// The machine has the instruction set. For each term, a vector of each of `ROWS` pixels from its offset on may be read, and one of the
/// packed window; `ROWS` rows of `last` lanes of `out` may be written, by nobody else at the time.
#[inline(always)]
pub(super) unsafe fn groups<S: Simd, const ROWS: usize>(t: &GroupsTile<S::Element>) {
    // SAFETY: as in `straight`.
    unsafe {
        let mut sums = [[S::zero(); 1]; ROWS];
        let mut weights = t.weights;
        for term in 0..t.depth {
            let image = t
                .image
                .wrapping_offset(*t.offsets.wrapping_add(term) as isize);
            let right = S::load(weights);
            for (row, [sum]) in sums.iter_mut().enumerate() {
                let left = S::load(image.wrapping_offset(row as isize * t.pixel));
                *sum = S::multiply_add(left, right, *sum);
            }
            weights = weights.wrapping_add(t.weights_step);
        }
        store::<S, ROWS, 1>(sums, t.out, t.out_row, t.last, false);
    }
}

/// What a run of the widest tile sees where it is kept in registers.
const MOST_SEEN: usize = 7 * 2 + 5;

/// `OUTPUTS` neighbouring outputs by a vector of groups, over rows that lie anywhere. With `TAPS` above 0 these are the tile's taps, `STRIDE` is
/// its stride and 1 its dilation, and what a run sees is loaded once; else each tap loads what it sees.
///
/// # Safety
/// The machine has the instruction set. In the row of each run, `last` groups of the positions that the tile sees may be read, and a vector
/// of the packed window for each tap; `OUTPUTS` rows of `last` lanes of `out` may be written, by nobody else at the time.
#[inline(always)]
pub(super) unsafe fn rows<S: Simd, const OUTPUTS: usize, const TAPS: usize, const STRIDE: usize>(
    t: &RowsTile<S::Element>,
) {
    // SAFETY: as in `straight`.
    unsafe {
        let mask = S::mask(t.last);
        let mut sums = [[S::zero(); 1]; OUTPUTS];
        let mut weights = t.weights;
        for run in 0..t.runs {
            let row = &*t.rows.wrapping_add(run);
            let from = row.at.wrapping_add(t.lane);
            let from = from.wrapping_offset(t.first * row.position);
            if TAPS > 0 {
                let mut seen = [S::zero(); MOST_SEEN];
                let positions = (OUTPUTS - 1) * STRIDE + TAPS;
                for (position, seen) in seen.iter_mut().enumerate().take(positions) {
                    let from = from.wrapping_offset(position as isize * row.position);
                    *seen = S::load_masked(from, mask);
                }
                for tap in 0..TAPS {
                    let right = S::load(weights);
                    for (output, [sum]) in sums.iter_mut().enumerate() {
                        *sum = S::multiply_add(seen[output * STRIDE + tap], right, *sum);
                    }
                    weights = weights.wrapping_add(t.weights_step);
                }
            } else {
                for tap in 0..t.taps {
                    let right = S::load(weights);
                    for (output, [sum]) in sums.iter_mut().enumerate() {
                        let position = (output * t.stride + tap * t.dilation) as isize;
                        let from = from.wrapping_offset(position * row.position);
                        *sum = S::multiply_add(S::load_masked(from, mask), right, *sum);
                    }
                    weights = weights.wrapping_add(t.weights_step);
                }
            }
        }
        store::<S, OUTPUTS, 1>(sums, t.out, t.out_row, t.last, false);
    }
}

/// `ROWS` positions by a vector of groups, lane by lane.
///
/// # Safety
/// As [`lines`], but that `last` lanes of each of `ROWS` rows are read.
#[inline(always)]
pub(super) unsafe fn group_lines<S: Simd, const ROWS: usize>(t: &LinesTile<S::Element>) {
    // SAFETY: as in `straight`.
    unsafe {
        let mask = S::mask(t.last);
        let mut sums = [[S::zero(); 1]; ROWS];
        for line in 0..t.lines {
            let mut rows = t.rows.wrapping_offset(*t.row_lines.wrapping_add(line));
            let mut lanes = t.lanes.wrapping_offset(*t.lane_lines.wrapping_add(line));
            for _ in 0..t.pixels {
                let right = S::load_masked(lanes, mask);
                for (row, [sum]) in sums.iter_mut().enumerate() {
                    let left = S::load_masked(rows.wrapping_offset(row as isize * t.row), mask);
                    *sum = S::multiply_add(left, right, *sum);
                }
                rows = rows.wrapping_offset(t.row_step);
                lanes = lanes.wrapping_offset(t.lane_step);
            }
        }
        store::<S, ROWS, 1>(sums, t.out, t.out_row, t.last, t.add);
    }
}
