//! What a product needs of an instruction set, and the micro-kernel that is written once over it.
//!
//! [`Simd`] is a handful of vector operations; [`tile`] multiplies a few rows by a few vectors of lanes with all sums in registers. Both
//! are `#[inline(always)]`: each instruction set instantiates them in functions that enable its features, so that what is generic here
//! comes out as plain vector code there. A tile is one block of the contracted axis at most, or a part of one.

use super::ahead::{LINE, Lines};
use std::hint::black_box;
use std::ops::Add;

/// An instruction set, for one element type.
///
/// # Safety
/// All functions but `kernel` and `most_rows` need a machine that has the instruction set, and pointers valid for what the function says
/// it touches; alignment beyond the element's is never asked for.
pub(crate) trait Simd: Copy + 'static {
    /// What the matrices hold.
    type Element: Copy + Add<Output = Self::Element> + 'static;
    /// [`Simd::LANES`] elements.
    type Vector: Copy;
    /// The first few lanes of a vector.
    type Mask: Copy;
    /// As many vectors as a vector has lanes.
    type Square: Copy + AsRef<[Self::Vector]>;
    /// Elements of a vector.
    const LANES: usize;
    /// The distance from a depth to the next in a packed sliver of rows: a multiple of the lanes, at least the rows of any tile.
    const SLIVER: usize;
    /// How many vectors wide the tile is that keeps the units busy, where there are rows enough.
    const WIDE: usize;
    /// The same for rows that are read in place and do not lie one element apart, of which a tile has fewer.
    const WIDE_STRIDED: usize;

    /// Zeros.
    unsafe fn zero() -> Self::Vector;
    /// One element in all lanes.
    unsafe fn splat(from: *const Self::Element) -> Self::Vector;
    /// A vector from memory.
    unsafe fn load(from: *const Self::Element) -> Self::Vector;
    /// A vector to memory.
    unsafe fn store(to: *mut Self::Element, vector: Self::Vector);
    /// The first `count` lanes, of which there are 1 to `LANES`.
    unsafe fn mask(count: usize) -> Self::Mask;
    /// The lanes of the mask from memory, zeros in the others; touches no other element.
    unsafe fn load_masked(from: *const Self::Element, mask: Self::Mask) -> Self::Vector;
    /// The lanes of the mask to memory; touches no other element.
    unsafe fn store_masked(to: *mut Self::Element, vector: Self::Vector, mask: Self::Mask);
    /// `a + b`.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// A hint that the line at the address will be used soon; any address will do.
    unsafe fn prefetch(at: *const Self::Element);
    /// The same, of a line that may wait in L2.
    unsafe fn prefetch_to_l2(at: *const Self::Element);
    /// Reads `rows` x `cols` elements (each 1 to `LANES`), `stride` from a row to the next and 1 from a column to the next. Vector `c` of
    /// the first `cols` holds column `c`, with zeros in the lanes from `rows` on.
    unsafe fn square(
        from: *const Self::Element,
        stride: isize,
        rows: usize,
        cols: usize,
    ) -> Self::Square;
    /// The tile of so many rows and vectors; `flat` where the rows lie one element apart. `rows` and `vectors` are clamped to what
    /// there is, which `most_rows` and [`Simd::WIDE`] tell.
    fn kernel(rows: usize, vectors: usize, flat: bool) -> TileFn<Self::Element>;
    /// As `kernel` for flat rows, but copies the vectors of lanes to [`Tile::copy`] as it goes; where there is one.
    fn packing_kernel(rows: usize, vectors: usize) -> Option<TileFn<Self::Element>>;
    /// As `kernel` for rows that lie one element apart, but copies them to [`Tile::copy`] as it goes, [`Simd::SLIVER`] elements for each
    /// depth; where there is one. There are no more rows than lanes.
    fn row_packing_kernel(rows: usize, vectors: usize) -> Option<TileFn<Self::Element>>;
    /// The most rows of a tile of so many vectors (a power of two): 0 where there is none so wide.
    fn most_rows(vectors: usize, flat: bool) -> usize;
}

/// A tile in machine code.
///
/// # Safety
/// As [`tile`].
pub(crate) type TileFn<T> = unsafe fn(&Tile<T>);

/// One tile: `rows . lanes` over one block of the contracted axis or a part of it, and what becomes of it.
pub(crate) struct Tile<T> {
    /// How much is contracted.
    pub(super) depth: usize,
    /// The element of row 0 at depth 0; each is multiplied with whole vectors.
    pub(super) rows: *const T,
    /// From a row to the next; not looked at in flat tiles.
    pub(super) row: isize,
    /// From a depth to the next.
    pub(super) row_depth: isize,
    /// The first vector at depth 0; the next vectors follow it in memory.
    pub(super) lanes: *const T,
    /// From a depth to the next.
    pub(super) lane_depth: isize,
    /// The lanes of the last vector that count.
    pub(super) last: usize,
    /// Whether the other lanes of the last vector may be read too, as where lanes are packed.
    pub(super) padded: bool,
    /// Where a packing tile copies its vectors to, with zeros after the last lane or row; not looked at by others.
    pub(super) copy: *mut T,
    /// The element of row 0 and lane 0.
    pub(super) out: *mut T,
    /// From a row to the next; lanes follow one another.
    pub(super) out_row: isize,
    /// What becomes of the sums.
    pub(super) then: Then,
    /// What others will touch, of which it asks for a line with each depth.
    pub(super) ahead: Lines,
}

/// How the sums of a tile and what is in the result make the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The sums are the result.
    Store,
    /// They are added to it.
    Add,
}

/// Below this depth a tile is done before a prefetch of its result would arrive.
const PREFETCH_DEPTH: usize = 48;

/// How far ahead of its sums a tile asks for operands, in depths: a dozen cycles each.
const PREFETCH_AHEAD: isize = 16;

/// The same of what a packing tile packs, to L1 and to L2. Depths that lie a multiple of a page apart share a set of L1, which
/// holds no more than a dozen lines, and come from so far away that this would be too late to ask for them the first time.
const PACKING_AHEAD: [isize; 2] = [8, 32];

/// How a tile reads its operands: whether rows lie one element apart, and whether the lanes are copied as they are read.
///
/// To pack a strip costs a tenth of what is gained by it; copied by the first tile that reads it, among multiply-adds, it costs nothing.
pub(super) const FLAT: u8 = 1;
/// See [`FLAT`].
pub(super) const STRIDED: u8 = 2;
/// See [`FLAT`].
pub(super) const PACKING: u8 = 3;
/// As [`FLAT`], but the rows are copied as they are read.
pub(super) const PACKING_ROWS: u8 = 4;

/// `ROWS` rows by `VECTORS` vectors. Each sum is a chain of fused multiply-adds from 0 in order of depth.
///
/// # Safety
/// The machine has the instruction set. `ROWS` x `depth` elements of `rows` and `depth` x (`VECTORS - 1` vectors and `last` lanes) of
/// `lanes` may be read (whole vectors if `padded`), and as many lanes of `ROWS` rows of `out` written (and read unless they are only stored),
/// by nobody else at the time. A packing tile may write `depth` x `VECTORS` vectors to `copy`, or, if it packs rows, of which there are no more
/// than lanes, a vector to each of `depth` times [`Simd::SLIVER`] elements.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const MODE: u8>(
    t: &Tile<S::Element>,
) {
    // SAFETY: all pointers stay inside what the caller promises: row i < ROWS, depth < t.depth, and the last vector masked. Where a
    // pointer steps past the end it is not read, and it gets there by wrapping arithmetic.
    unsafe {
        let mask = S::mask(t.last);
        let sums = if t.padded || t.last == S::LANES {
            sums::<S, ROWS, VECTORS, MODE, false>(t, mask)
        } else {
            sums::<S, ROWS, VECTORS, MODE, true>(t, mask)
        };
        store::<S, ROWS, VECTORS>(sums, t.out, t.out_row, t.last, t.then == Then::Add);
    }
}

/// The sums of a tile. A load under a mask takes a slot of the multiply-adds on Intel, so they are `MASKED` only where they must be.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn sums<
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const MODE: u8,
    const MASKED: bool,
>(
    t: &Tile<S::Element>,
    mask: S::Mask,
) -> [[S::Vector; VECTORS]; ROWS] {
    // SAFETY: as in `tile`; the last vector is masked unless all of it may be read.
    unsafe {
        let mut sums = [[S::zero(); VECTORS]; ROWS];
        // Strided rows are a pointer each and one offset. Where the compiler knows that they are evenly spaced it steps one pointer from row
        // to row, which is a chain of additions as long as the multiply-adds take, so that it must not know.
        let bases: [_; ROWS] = std::array::from_fn(|row| {
            let base = t.rows.wrapping_offset(row as isize * t.row);
            if MODE == STRIDED {
                black_box(base)
            } else {
                base
            }
        });
        // Most strided rows lie behind one another, so that the next tile's are as many elements: by the end all of them are on their way.
        let mut next = t.rows.wrapping_offset(ROWS as isize * t.row);
        let mut offset = 0;
        let (mut rows, mut lanes, mut copy) = (t.rows, t.lanes, t.copy);
        // The result's lines are asked for a row with each depth: all at once they hold up the first loads, the longer the farther they come.
        let asked = if t.depth >= PREFETCH_DEPTH { ROWS } else { 0 };
        let mut out = t.out;
        let mut ahead = t.ahead.at.cast::<S::Element>();
        // One comparison where nothing is left to ask for.
        let asking = asked.max(t.ahead.count);
        for depth in 0..t.depth {
            if depth < asking {
                if depth < t.ahead.count {
                    S::prefetch_to_l2(ahead);
                    ahead = ahead.wrapping_byte_add(LINE);
                }
                if depth < asked {
                    for vector in 0..VECTORS {
                        S::prefetch(out.wrapping_add(vector * S::LANES));
                    }
                    // Where rows do not begin with a line there is one more.
                    S::prefetch(out.wrapping_add(VECTORS * S::LANES - 1));
                    out = out.wrapping_offset(t.out_row);
                }
            }
            let mut right = [S::zero(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                let from = lanes.wrapping_add(vector * S::LANES);
                *right = if MASKED && vector + 1 == VECTORS {
                    S::load_masked(from, mask)
                } else {
                    S::load(from)
                };
                if MODE == PACKING {
                    let [near, far] = PACKING_AHEAD.map(|d| from.wrapping_offset(d * t.lane_depth));
                    S::prefetch(near);
                    S::prefetch_to_l2(far);
                    if vector + 1 == VECTORS {
                        S::prefetch(near.wrapping_add(S::LANES - 1));
                        S::prefetch_to_l2(far.wrapping_add(S::LANES - 1));
                    }
                    S::store(copy.wrapping_add(vector * S::LANES), *right);
                } else if ROWS > 1 {
                    // A single row is bound by its loads, and its lanes are read in place, where 16 depths ahead may be too many for a set of L1.
                    S::prefetch(from.wrapping_offset(PREFETCH_AHEAD * t.lane_depth));
                }
            }
            if MODE == PACKING_ROWS {
                let [near, far] = PACKING_AHEAD.map(|d| rows.wrapping_offset(d * t.row_depth));
                S::prefetch(near);
                S::prefetch(near.wrapping_add(ROWS - 1));
                S::prefetch_to_l2(far);
                S::prefetch_to_l2(far.wrapping_add(ROWS - 1));
                S::store(copy, S::load_masked(rows, S::mask(ROWS)));
            } else if MODE != STRIDED {
                S::prefetch(rows.wrapping_offset(PREFETCH_AHEAD * t.row_depth));
            } else if ROWS > 1 {
                S::prefetch(next);
                next = next.wrapping_add(ROWS);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = S::splat(if MODE == STRIDED {
                    bases[row].wrapping_offset(offset)
                } else {
                    rows.wrapping_add(row)
                });
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = S::multiply_add(left, right, *sum);
                }
            }
            rows = rows.wrapping_offset(t.row_depth);
            offset = offset.wrapping_add(t.row_depth);
            lanes = lanes.wrapping_offset(t.lane_depth);
            copy = copy.wrapping_add(if MODE == PACKING_ROWS {
                S::SLIVER
            } else {
                VECTORS * S::LANES
            });
        }
        sums
    }
}

/// Stores the sums of a tile, or adds them to what is there.
///
/// # Safety
/// `ROWS` rows of `VECTORS - 1` vectors and `last` lanes are writable, and readable if `add`.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    sums: [[S::Vector; VECTORS]; ROWS],
    out: *mut S::Element,
    out_row: isize,
    last: usize,
    add: bool,
) {
    // SAFETY: the caller's promise; the last vector is masked.
    unsafe {
        let mask = S::mask(last);
        for (row, sums) in sums.into_iter().enumerate() {
            let out = out.wrapping_offset(row as isize * out_row);
            for (vector, sum) in sums.into_iter().enumerate() {
                let to = out.wrapping_add(vector * S::LANES);
                if vector + 1 == VECTORS {
                    let sum = if add {
                        S::add(S::load_masked(to, mask), sum)
                    } else {
                        sum
                    };
                    S::store_masked(to, sum, mask);
                } else {
                    let sum = if add { S::add(S::load(to), sum) } else { sum };
                    S::store(to, sum);
                }
            }
        }
    }
}

/// The functions of an instruction set that enable its features: a tile for each size, and the walk over a product.
///
/// `$feature` is the list of `target_feature`, or nothing.
macro_rules! instantiate {
    ($simd:ident $(, $feature:literal)?) => {
        impl $simd {
            /// # Safety
            /// As [`tile`](crate::product::simd::tile).
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile<const ROWS: usize, const VECTORS: usize, const MODE: u8>(
                t: &Tile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: the caller's promise is passed on; the features are enabled here.
                unsafe { crate::product::simd::tile::<$simd, ROWS, VECTORS, MODE>(t) }
            }

            /// # Safety
            /// As [`multiply`](crate::product::blocked::multiply).
            $(#[target_feature(enable = $feature)])?
            pub(in crate::product) unsafe fn multiply(
                blocked: &crate::product::blocked::Blocked,
                work: &crate::product::blocked::Work,
            ) {
                // SAFETY: as above.
                unsafe { crate::product::blocked::multiply::<$simd>(blocked, work) }
            }

            /// # Safety
            /// As [`fold`](crate::product::fold::fold).
            $(#[target_feature(enable = $feature)])?
            pub(in crate::product) unsafe fn fold(
                blocked: &crate::product::blocked::Blocked,
                work: &crate::product::blocked::Work,
            ) {
                // SAFETY: as above.
                unsafe { crate::product::fold::fold::<$simd>(blocked, work) }
            }

            /// # Safety
            /// As [`lanes`](crate::product::lanes::lanes).
            $(#[target_feature(enable = $feature)])?
            pub(in crate::product) unsafe fn lanes(
                form: &crate::product::Form,
                rows: &std::ops::Range<usize>,
                cols: &std::ops::Range<usize>,
                at: crate::product::Matrices,
            ) {
                // Eight chains hide what a multiply-add takes.
                const VECTORS: usize = crate::product::lanes::PARTIALS / <$simd as Simd>::LANES;
                const GROUP: usize = if VECTORS < 8 { 8 / VECTORS } else { 1 };
                // SAFETY: as above.
                unsafe {
                    crate::product::lanes::lanes::<$simd, VECTORS, GROUP>(form, rows, cols, at)
                }
            }

            /// # Safety
            /// As [`one`](crate::product::lanes::one).
            $(#[target_feature(enable = $feature)])?
            pub(in crate::product) unsafe fn one(
                form: &crate::product::Form,
                _: &std::ops::Range<usize>,
                _: &std::ops::Range<usize>,
                at: crate::product::Matrices,
            ) {
                const VECTORS: usize = crate::product::lanes::PARTIALS / <$simd as Simd>::LANES;
                // SAFETY: as above.
                unsafe { crate::product::lanes::one::<$simd, VECTORS>(form, at) }
            }

            /// # Safety
            /// As [`pack_whole`](crate::product::blocked::pack_whole).
            $(#[target_feature(enable = $feature)])?
            pub(in crate::product) unsafe fn pack_whole(
                blocked: &crate::product::blocked::Blocked,
                lanes: *const u8,
                whole: *mut u8,
            ) {
                // SAFETY: as above.
                unsafe { crate::product::blocked::pack_whole::<$simd>(blocked, lanes, whole) }
            }
        }
    };
}

/// The table of tiles of an instruction set: for each width the numbers of rows there are, flat and strided, and those of packing tiles.
macro_rules! tiles {
    (
        $($vectors:literal: flat [$($flat:literal)*] strided [$($strided:literal)*],)*
        packing $wide:literal: [$($packing:literal)*]
    ) => {
        fn kernel(rows: usize, vectors: usize, flat: bool) -> TileFn<Self::Element> {
            use crate::product::simd::{FLAT, STRIDED, pick};
            match (vectors, flat) {
                $(
                    ($vectors, true) => pick(const { &[$(Self::tile::<$flat, $vectors, FLAT> as TileFn<Self::Element>),*] }, rows),
                    ($vectors, false) => pick(const { &[$(Self::tile::<$strided, $vectors, STRIDED> as TileFn<Self::Element>),*] }, rows),
                )*
                (_, _) => Self::kernel(rows, 1, flat),
            }
        }

        fn packing_kernel(rows: usize, vectors: usize) -> Option<TileFn<Self::Element>> {
            use crate::product::simd::{PACKING, pick};
            let table = const { &[$(Self::tile::<$packing, $wide, PACKING> as TileFn<Self::Element>),*] };
            (vectors == $wide).then(|| pick(table, rows))
        }

        fn row_packing_kernel(rows: usize, vectors: usize) -> Option<TileFn<Self::Element>> {
            use crate::product::simd::{PACKING_ROWS, pick};
            let table = const { &[$(Self::tile::<$packing, $wide, PACKING_ROWS> as TileFn<Self::Element>),*] };
            (vectors == $wide && rows <= Self::LANES).then(|| pick(table, rows))
        }

        fn most_rows(vectors: usize, flat: bool) -> usize {
            match (vectors, flat) {
                $(
                    ($vectors, true) => const { [$($flat),*].len() },
                    ($vectors, false) => const { [$($strided),*].len() },
                )*
                (_, _) => 0,
            }
        }
    };
}

/// The tile of so many rows from a table that begins with that of one.
#[inline(always)]
pub(super) fn pick<T>(from: &[TileFn<T>], rows: usize) -> TileFn<T> {
    from[rows.clamp(1, from.len()) - 1]
}

pub(super) use {instantiate, tiles};
