//! A vector times a matrix that lies along the contracted axis, in partial sums: [`ProductSummation::Lanes`](super::ProductSummation::Lanes).
//!
//! One chain for each element, as other products have it, can be taken in lanes only across elements, and here these lie far apart: the
//! matrix would have to be transposed for one multiply-add with each of its elements. Partial sums are lanes along the contracted axis, so
//! the matrix is read as it lies, and the partial sums of as many elements as a vector has lanes are transposed instead, once.
//!
//! The bits depend on nothing but the operands here too; other strides are copied together first, which is not what this is for.

use super::blocked::DEPTH;
use super::simd::Simd;
use super::{Form, Matrices};
use std::mem::MaybeUninit;
use std::ops::Range;

/// The partial sums of an element. It is part of the definition of a product's bits.
pub const PARTIALS: usize = 32;

/// How many times [`PARTIALS`] depths are taken by loads of their own, where as many are left. A Zen 5 reads a matrix of 1 MB a quarter to a
/// third faster by a kilobyte of each line at a stretch, if there are two lines or more side by side.
const STRETCH: usize = 8;

/// The most elements of a square of vectors, of any instruction set.
const SQUARE: usize = 256;

/// Computes these rows and columns.
///
/// # Safety
/// As [`Method::run`](super::Method::run); the machine has what the function was made for.
pub(super) type LanesFn = unsafe fn(&Form, &Range<usize>, &Range<usize>, Matrices);

/// Elements of one side along the contracted axis.
#[derive(Clone, Copy)]
struct Line<T> {
    at: *const T,
    step: isize,
}

/// Computes these rows and columns, `V` vectors being [`PARTIALS`] lanes and `G` elements computed side by side.
///
/// # Safety
/// As [`Method::run`](super::Method::run), for elements of the instruction set's type; the machine has it.
#[inline(always)]
pub(super) unsafe fn lanes<S: Simd, const V: usize, const G: usize>(
    form: &Form,
    rows: &Range<usize>,
    cols: &Range<usize>,
    at: Matrices,
) {
    let lhs = |row: usize| Line {
        at: at
            .lhs
            .cast::<S::Element>()
            .wrapping_offset(row as isize * form.lhs.row),
        step: form.lhs.col,
    };
    let rhs = |col: usize| Line {
        at: at
            .rhs
            .cast::<S::Element>()
            .wrapping_offset(col as isize * form.rhs.col),
        step: form.rhs.row,
    };
    let out = |row: usize, col: usize| {
        let to = row as isize * form.dst.row + col as isize * form.dst.col;
        at.dst.cast::<S::Element>().wrapping_offset(to)
    };
    if form.n == 1 {
        let (first, lines) = (lhs(rows.start), rows.len());
        // SAFETY: the caller promises all lines of these rows, the one column, and the results.
        unsafe {
            along::<S, V, G>(
                form.k,
                rhs(0),
                first,
                form.lhs.row,
                lines,
                out(rows.start, 0),
                form.dst.row,
            );
        }
        return;
    }
    for row in rows.clone() {
        let (first, lines) = (rhs(cols.start), cols.len());
        // SAFETY: the caller promises this row, all lines of these columns, and the results.
        unsafe {
            along::<S, V, G>(
                form.k,
                lhs(row),
                first,
                form.rhs.col,
                lines,
                out(row, cols.start),
                form.dst.col,
            );
        }
    }
}

/// Computes the only element of a product of a row with a column: [`lanes`] without what it needs for more.
///
/// # Safety
/// As [`lanes`]; the form has one row and one column.
#[inline(always)]
pub(super) unsafe fn one<S: Simd, const V: usize>(form: &Form, at: Matrices) {
    let line = |at: *const u8, step: isize| Line {
        at: at.cast::<S::Element>(),
        step,
    };
    let (row, col) = (line(at.lhs, form.lhs.col), line(at.rhs, form.rhs.row));
    let mut vector = [MaybeUninit::<S::Element>::uninit(); SQUARE];
    let vector = vector.as_mut_ptr().cast::<S::Element>();
    // SAFETY: the caller promises the row, the column and the result; a vector is no larger than a square.
    unsafe {
        partials::<S, V, 1>(form.k, row, [col], vector);
        at.dst.cast::<S::Element>().write(folded::<S>(vector));
    }
}

/// The sum of the lanes of a vector in memory, the upper half added to the lower one until one is left.
///
/// # Safety
/// A vector at `lanes` is readable and writable.
#[inline(always)]
unsafe fn folded<S: Simd>(lanes: *mut S::Element) -> S::Element {
    let mut half = S::LANES / 2;
    while half > 0 {
        for index in 0..half {
            let to = lanes.wrapping_add(index);
            // SAFETY: both are lanes of the vector.
            unsafe { to.write(to.read() + to.wrapping_add(half).read()) }
        }
        half /= 2;
    }
    // SAFETY: a vector has a lane.
    unsafe { lanes.read() }
}

/// The products of `vector` with `lines` lines of a matrix, `next` apart, the first of which is `matrix`; results are `step` apart.
///
/// # Safety
/// The machine has the instruction set; `depth` elements of the vector and of each line are readable, and the results writable.
#[inline(always)]
unsafe fn along<S: Simd, const V: usize, const G: usize>(
    depth: usize,
    vector: Line<S::Element>,
    matrix: Line<S::Element>,
    next: isize,
    lines: usize,
    out: *mut S::Element,
    step: isize,
) {
    let line = |index: usize| Line {
        at: matrix.at.wrapping_offset(index as isize * next),
        ..matrix
    };
    let mut first = 0;
    while first < lines {
        let count = S::LANES.min(lines - first);
        // A vector for each line, whose lanes are left to be added.
        let mut square = [MaybeUninit::<S::Element>::uninit(); SQUARE];
        let square = square.as_mut_ptr().cast::<S::Element>();
        let mut done = 0;
        while done < count {
            let to = square.wrapping_add(done * S::LANES);
            // SAFETY: the lines are among those of the caller; `count` vectors at most are written to the square, which holds as many
            // vectors as a vector has lanes.
            unsafe {
                if done + G <= count {
                    let group = std::array::from_fn(|index| line(first + done + index));
                    partials::<S, V, G>(depth, vector, group, to);
                    done += G;
                } else {
                    partials::<S, V, 1>(depth, vector, [line(first + done)], to);
                    done += 1;
                }
            }
        }
        if count == 1 {
            // One vector is not worth a transposition.
            let to = out.wrapping_offset(first as isize * step);
            // SAFETY: the first vector of the square has been written, and the result is the caller's.
            unsafe { to.write(folded::<S>(square)) }
            break;
        }
        // SAFETY: `count` vectors of the square have been written; results are the caller's.
        unsafe {
            let columns = S::square(square.cast_const(), S::LANES as isize, count, S::LANES);
            let total = halved::<S>(columns);
            if step == 1 {
                S::store_masked(out.wrapping_add(first), total, S::mask(count));
            } else {
                S::store(square, total);
                for index in 0..count {
                    let to = out.wrapping_offset((first + index) as isize * step);
                    to.write(square.wrapping_add(index).read());
                }
            }
        }
        first += count;
    }
}

/// Adds the vectors of a square: the upper half to the lower one until one is left.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn halved<S: Simd>(square: S::Square) -> S::Vector {
    // SAFETY: registers only.
    unsafe {
        let mut vectors = [S::zero(); 16];
        for (slot, vector) in vectors.iter_mut().zip(square.as_ref()) {
            *slot = *vector;
        }
        let mut half = S::LANES / 2;
        while half > 0 {
            for index in 0..half {
                vectors[index] = S::add(vectors[index], vectors[index + half]);
            }
            half /= 2;
        }
        vectors[0]
    }
}

/// The partial sums of `G` lines, added down to one vector each, which are written one after the other.
///
/// # Safety
/// As [`along`]; `G` vectors at `to` are writable.
#[inline(always)]
unsafe fn partials<S: Simd, const V: usize, const G: usize>(
    depth: usize,
    vector: Line<S::Element>,
    lines: [Line<S::Element>; G],
    to: *mut S::Element,
) {
    let flat = vector.step == 1 && lines[0].step == 1;
    // SAFETY: depths are below the caller's.
    unsafe {
        let mut totals = [[S::zero(); V]; G];
        for block in (0..depth).step_by(DEPTH * PARTIALS) {
            let end = depth.min(block + DEPTH * PARTIALS);
            let mut sums = [[S::zero(); V]; G];
            let mut at = block;
            if flat {
                while at + STRETCH * PARTIALS <= end {
                    for step in 0..STRETCH {
                        accumulate::<S, V, G>(vector.at, &lines, at + step * PARTIALS, &mut sums);
                    }
                    at += STRETCH * PARTIALS;
                }
                while at + PARTIALS <= end {
                    accumulate::<S, V, G>(vector.at, &lines, at, &mut sums);
                    at += PARTIALS;
                }
            }
            while at < end {
                let count = PARTIALS.min(end - at);
                let left = gathered::<S, V>(vector, at, count);
                for (line, sums) in lines.iter().zip(&mut sums) {
                    let right = gathered::<S, V>(*line, at, count);
                    for (index, sum) in sums.iter_mut().enumerate() {
                        *sum = S::multiply_add(left[index], right[index], *sum);
                    }
                }
                at += count;
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = if block == 0 { sum } else { S::add(*total, sum) };
                }
            }
        }
        for (index, mut total) in totals.into_iter().enumerate() {
            let mut half = V / 2;
            while half > 0 {
                for lane in 0..half {
                    total[lane] = S::add(total[lane], total[lane + half]);
                }
                half /= 2;
            }
            S::store(to.wrapping_add(index * S::LANES), total[0]);
        }
    }
}

/// Adds the next [`PARTIALS`] products of each line, from depth `at` on, of a vector and lines that lie flat.
///
/// # Safety
/// The machine has the instruction set, and the elements are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, const V: usize, const G: usize>(
    vector: *const S::Element,
    lines: &[Line<S::Element>; G],
    at: usize,
    sums: &mut [[S::Vector; V]; G],
) {
    // SAFETY: the caller promises the elements.
    unsafe {
        let mut left = [S::zero(); V];
        for (index, left) in left.iter_mut().enumerate() {
            *left = S::load(vector.wrapping_add(at + index * S::LANES));
        }
        for (line, sums) in lines.iter().zip(sums) {
            for (index, sum) in sums.iter_mut().enumerate() {
                let right = S::load(line.at.wrapping_add(at + index * S::LANES));
                *sum = S::multiply_add(left[index], right, *sum);
            }
        }
    }
}

/// `count` elements of a line from depth `at` on, with zeros up to [`PARTIALS`].
///
/// # Safety
/// The machine has the instruction set, and the elements are readable.
#[inline(always)]
unsafe fn gathered<S: Simd, const V: usize>(
    line: Line<S::Element>,
    at: usize,
    count: usize,
) -> [S::Vector; V] {
    // SAFETY: elements below `count` are read, each once, into an array of as many as `V` vectors have.
    unsafe {
        let mut vectors = [S::zero(); V];
        if line.step == 1 {
            for (index, vector) in vectors.iter_mut().enumerate() {
                let first = index * S::LANES;
                if first < count {
                    let mask = S::mask(S::LANES.min(count - first));
                    *vector = S::load_masked(line.at.wrapping_add(at + first), mask);
                }
            }
            return vectors;
        }
        let mut elements = [MaybeUninit::<S::Element>::uninit(); PARTIALS];
        let elements = elements.as_mut_ptr().cast::<S::Element>();
        for (index, vector) in vectors.iter().enumerate() {
            S::store(elements.wrapping_add(index * S::LANES), *vector);
        }
        for index in 0..count {
            let from = line.at.wrapping_offset((at + index) as isize * line.step);
            elements.wrapping_add(index).write(from.read());
        }
        for (index, vector) in vectors.iter_mut().enumerate() {
            *vector = S::load(elements.wrapping_add(index * S::LANES));
        }
        vectors
    }
}
