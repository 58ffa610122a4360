//! The walk over a product: blocks of the contracted axis, strips of lanes, tiles of rows, and the packing between them.
//!
//! One side of a product gives the rows of tiles, whose elements are broadcast; the other the lanes, which are read as vectors. Either
//! operand may play either part: [`Blocked`] is made by [`choose`](super::choose::choose), which looks at the shape, and this file does what it
//! says. Nothing here can change a bit: whatever the cuts, each sum is one chain for each block of [`DEPTH`], and the blocks are added
//! in order, in the result itself.
//!
//! For each block the rows are packed once into slivers of a tile's rows. Then a group of strips of lanes stays in L2 while one sliver after
//! the other goes past all of them: results are written in the order in which rows lie. Lanes that follow one another are packed by the
//! first tile that reads them, among its multiply-adds, and so are rows that pass few strips. What lies well already is read in place, and lanes
//! that serve several panels are packed once for all of them.

use super::ahead::Ahead;
use super::pack::{cut, pack_lanes, pack_rows, sliver_stride, spread};
use super::simd::{Simd, Then, Tile};
use std::ops::Range;

/// The length of a block of the contracted axis. It is part of the definition of a product's bits.
///
/// The result is read and written again for each block, and large ones come from L3 for it, so blocks are long: 512 was measured to be as
/// good as 256, 320 and 400 or better wherever the operands lie. A strip of 32 lanes of f32 takes up 64 KiB then and is read from L2, at a
/// tenth of what L2 gives.
pub const DEPTH: usize = 512;

/// Bytes at the start of the scratch for tiles whose lanes do not follow one another in the result: the largest tile of any instruction
/// set (28 vectors of 64 bytes), and a square of vectors.
pub(super) const TILE_BYTES: usize = 4096;

/// Strips of lanes up to which the first tile that reads rows packs them. Their copy of its own takes a tenth of such a product; beside more
/// strips it takes little, since it reads more of each depth at once than a tile does.
const FEW_STRIPS: usize = 4;

/// How a product is computed, in terms of rows and lanes. All strides count elements.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    /// The extent of the side that is broadcast.
    pub(super) rows: usize,
    /// The extent of the side that is read as vectors.
    pub(super) lanes: usize,
    /// The contracted extent, above 0.
    pub(super) depth: usize,
    /// From a row to the next in its operand.
    pub(super) row: isize,
    /// From a depth to the next in the rows' operand.
    pub(super) row_depth: isize,
    /// From a lane to the next in its operand.
    pub(super) lane: isize,
    /// From a depth to the next in the lanes' operand.
    pub(super) lane_depth: isize,
    /// From a row to the next in the result.
    pub(super) out_row: isize,
    /// From a lane to the next in the result.
    pub(super) out_lane: isize,
    /// The most rows of a tile.
    pub(super) tile_rows: usize,
    /// The vectors of a strip of lanes, a power of two; the last strips may be narrower.
    pub(super) vectors: usize,
    /// Whether rows are packed. Otherwise they are read in place, flat if they lie one element apart.
    pub(super) pack_rows: bool,
    /// What becomes of the lanes.
    pub(super) packing: Packing,
    /// The strips that each tile's rows pass before the next tile's begin.
    pub(super) group: usize,
    /// The most rows of one call, which the room for slivers is made for.
    pub(super) most_rows: usize,
    /// Whether there is one row and its lanes are folded, as `fold` does it.
    pub(super) folds: bool,
    /// Where things lie in the scratch.
    pub(super) room: Room,
}

/// What becomes of the lanes before tiles read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// They lie one element apart and are read in place.
    None,
    /// Each strip is packed when its turn comes.
    Strip,
    /// All are packed once and serve every call with the same operand: by the first call, or by [`pack_whole`].
    Whole,
}

/// One call's share of a product.
pub(super) struct Work<'a> {
    /// Row 0 at depth 0.
    pub(super) rows_at: *const u8,
    /// Lane 0 at depth 0.
    pub(super) lanes_at: *const u8,
    /// The result of row 0 and lane 0.
    pub(super) out: *mut u8,
    /// The rows to compute.
    pub(super) rows: Range<usize>,
    /// The lanes to compute. Where lanes are packed whole these are all, and otherwise they begin at a multiple of a strip or run
    /// through strips of their own.
    pub(super) lanes: Range<usize>,
    /// As many bytes as [`Blocked::room`] says, aligned to 64.
    pub(super) scratch: *mut u8,
    /// All lanes as [`pack_whole`] leaves them, where they are packed whole.
    pub(super) whole: *mut u8,
    /// Whether this call packs them there.
    pub(super) first: bool,
    /// What the tiles ask for besides their operands.
    pub(super) ahead: Ahead<'a>,
}

/// Where things lie in the scratch, in bytes from its start; tiles on their way to the result come first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    strip: usize,
    rows: usize,
    /// Lanes that are packed whole, the last of all.
    pub(super) whole: usize,
    /// All of it, a multiple of 64.
    pub(super) end: usize,
}

impl Blocked {
    /// The scratch that a thread needs; `None` where no memory could be that large.
    pub(super) fn room<S: Simd>(&self) -> Option<Room> {
        let size = size_of::<S::Element>();
        let depth = self.depth.min(DEPTH);
        let round = |elements: usize| elements.checked_mul(size)?.checked_next_multiple_of(64);
        let strip = if self.is_direct(self.lanes) {
            0
        } else {
            TILE_BYTES
        };
        let rows = match self.packing {
            Packing::Strip => {
                let lanes = self.group.saturating_mul(self.vectors * S::LANES);
                let lanes = lanes.min(self.lanes.checked_next_multiple_of(S::LANES)?);
                strip.checked_add(round(lanes.checked_mul(depth)?)?)?
            }
            Packing::None | Packing::Whole => strip,
        };
        let whole = if self.pack_rows {
            let slivers = self.most_rows.div_ceil(self.tile_rows);
            rows.checked_add(round(slivers.checked_mul(sliver_stride::<S>(depth))?)?)?
        } else {
            rows
        };
        let end = match self.packing {
            Packing::Whole => {
                let lanes = self.lanes.checked_next_multiple_of(S::LANES)?;
                whole.checked_add(round(lanes.checked_mul(self.depth)?)?)?
            }
            Packing::None | Packing::Strip => whole,
        };
        Some(Room {
            strip,
            rows,
            whole,
            end,
        })
    }

    /// How many tiles compute so many rows of so many strips.
    pub(super) fn tiles(&self, rows: usize, strips: usize) -> usize {
        rows.div_ceil(self.tile_rows) * strips * self.depth.div_ceil(DEPTH)
    }

    /// Whether tiles write to the result itself.
    fn is_direct(&self, lanes: usize) -> bool {
        self.out_lane == 1 || lanes == 1
    }

    /// The blocks of the contracted axis.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let depth = self.depth;
        (0..depth)
            .step_by(DEPTH)
            .map(move |first| first..depth.min(first + DEPTH))
    }

    /// The vectors of the next strip where so many lanes are left: never more than hold a lane.
    fn strip_vectors<S: Simd>(&self, lanes: usize) -> usize {
        let left = lanes.div_ceil(S::LANES);
        if left >= self.vectors {
            self.vectors
        } else {
            1 << left.ilog2()
        }
    }
}

/// Computes the share of `work`.
///
/// # Safety
/// The machine has the instruction set. All elements of rows and lanes that `work` names, at all depths, are readable; those of the
/// result are writable, distinct, and nobody else touches them; the scratch is this call's own. There are no more rows than
/// `blocked.most_rows`, and if lanes are packed whole, these lanes are at `work.whole`, or the call is the first and there is room for them.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(blocked: &Blocked, work: &Work) {
    let b = blocked;
    for range in b.blocks() {
        let rows = work.rows.start as isize * b.row + range.start as isize * b.row_depth;
        let lanes = range.start as isize * b.lane_depth;
        let out = work.rows.start as isize * b.out_row;
        let block = Block::<S> {
            b,
            work,
            rows: work.rows_at.cast::<S::Element>().wrapping_offset(rows),
            lanes: work.lanes_at.cast::<S::Element>().wrapping_offset(lanes),
            out: work.out.cast::<S::Element>().wrapping_offset(out),
            tiles: work.rows.len().div_ceil(b.tile_rows),
            copies_rows: copies_rows::<S>(b, work.lanes.len()),
            range,
        };
        // SAFETY: the caller's promise is passed on.
        unsafe { block.multiply() }
    }
}

/// A block of the contracted axis of one call.
struct Block<'a, S: Simd> {
    b: &'a Blocked,
    work: &'a Work<'a>,
    /// The depths.
    range: Range<usize>,
    /// The call's first row at the first depth.
    rows: *const S::Element,
    /// Lane 0 at the first depth.
    lanes: *const S::Element,
    /// The result of the call's first row and lane 0.
    out: *mut S::Element,
    /// Into how many tiles the rows are cut.
    tiles: usize,
    /// Whether tiles pack the rows as they read them, but for those of the first sliver, which may pack lanes.
    copies_rows: bool,
}

/// See [`Block::copies_rows`]. The first strip has the full width then, for which there are such tiles.
#[inline(always)]
fn copies_rows<S: Simd>(b: &Blocked, lanes: usize) -> bool {
    let few = lanes <= FEW_STRIPS * b.vectors * S::LANES;
    let wide = b.strip_vectors::<S>(lanes) == b.vectors;
    few && wide && b.row == 1 && S::row_packing_kernel(b.tile_rows, b.vectors).is_some()
}

/// A strip of lanes.
struct Strip {
    /// Its first lane.
    lane: usize,
    /// Its lanes.
    width: usize,
    /// The vectors that hold them.
    vectors: usize,
    /// From the first lane of its group.
    within: usize,
}

impl<S: Simd> Block<'_, S> {
    /// # Safety
    /// As [`multiply`].
    #[inline(always)]
    unsafe fn multiply(&self) {
        let (b, lanes) = (self.b, &self.work.lanes);
        if b.pack_rows {
            let (rows, depth) = (self.work.rows.len(), self.range.len());
            let (rows, tiles) = if self.copies_rows {
                (cut(rows, self.tiles, 0).len(), 1)
            } else {
                (rows, self.tiles)
            };
            // SAFETY: the rows and depths are those of the work; the room is for as many slivers.
            unsafe { pack_rows::<S>(b, self.sliver(0), self.rows, rows, tiles, depth) }
        }
        let group = b.group.saturating_mul(b.vectors * S::LANES);
        let mut first = lanes.start;
        while first < lanes.end {
            let end = first.saturating_add(group).min(lanes.end);
            for index in 0..self.tiles {
                let mut lane = first;
                while lane < end {
                    let vectors = b.strip_vectors::<S>(lanes.end - lane);
                    let strip = Strip {
                        lane,
                        width: (vectors * S::LANES).min(lanes.end - lane),
                        vectors,
                        within: lane - first,
                    };
                    // SAFETY: the caller's promise is passed on; tiles and strips come in order.
                    unsafe { self.tile(index, &strip) }
                    lane += strip.width;
                }
            }
            first = end;
        }
    }

    /// Where the rows of a tile are packed to.
    #[inline(always)]
    fn sliver(&self, index: usize) -> *mut S::Element {
        let all = self.buffer(self.b.room.rows);
        all.wrapping_add(index * sliver_stride::<S>(self.range.len()))
    }

    /// Where a strip is packed to.
    #[inline(always)]
    fn packed(&self, strip: &Strip) -> *mut S::Element {
        match self.b.packing {
            Packing::None | Packing::Strip => {
                let all = self.buffer(self.b.room.strip);
                all.wrapping_add(strip.within * self.range.len())
            }
            Packing::Whole => {
                let all = self.work.whole.cast::<S::Element>();
                all.wrapping_add(whole_offset::<S>(self.b, &self.range, strip.lane))
            }
        }
    }

    #[inline(always)]
    fn buffer(&self, offset: usize) -> *mut S::Element {
        self.work.scratch.wrapping_add(offset).cast()
    }

    /// One tile of one strip, and the packing that it is the first to need.
    ///
    /// # Safety
    /// As [`multiply`]; the tiles before this one have been computed for this strip, and the strips before it for this tile.
    #[inline(always)]
    unsafe fn tile(&self, index: usize, strip: &Strip) {
        let (b, depth) = (self.b, self.range.len());
        let range = cut(self.work.rows.len(), self.tiles, index);
        let rows_in_place = self.rows.wrapping_offset(range.start as isize * b.row);
        let lanes_in_place = self.lanes.wrapping_offset(strip.lane as isize * b.lane);
        let packed_depth = (strip.vectors * S::LANES) as isize;
        let out = self
            .out
            .wrapping_offset(range.start as isize * b.out_row)
            .wrapping_offset(strip.lane as isize * b.out_lane);
        let flat = b.pack_rows || b.row == 1 || b.rows == 1;
        let mut kernel = S::kernel(range.len(), strip.vectors, flat);
        let mut tile = Tile {
            depth,
            rows: rows_in_place,
            row: b.row,
            row_depth: b.row_depth,
            lanes: lanes_in_place,
            lane_depth: b.lane_depth,
            last: strip.width - (strip.vectors - 1) * S::LANES,
            padded: false,
            copy: std::ptr::null_mut(),
            out,
            out_row: b.out_row,
            then: if self.range.start == 0 {
                Then::Store
            } else {
                Then::Add
            },
            ahead: self.work.ahead.take(depth),
        };
        if b.pack_rows {
            let unpacked = index > 0 && strip.lane == self.work.lanes.start;
            let kernel_that_copies = S::row_packing_kernel(range.len(), strip.vectors);
            match kernel_that_copies.filter(|_| unpacked && self.copies_rows) {
                Some(copies) => (kernel, tile.copy) = (copies, self.sliver(index)),
                None => {
                    (tile.rows, tile.row_depth) = (self.sliver(index), S::SLIVER as isize);
                }
            }
        }
        let unpacked = match b.packing {
            Packing::None => None,
            Packing::Strip => Some(index == 0),
            Packing::Whole => Some(index == 0 && self.work.first),
        };
        if let Some(unpacked) = unpacked {
            let follow = flat && (b.lane == 1 || b.lanes == 1);
            let kernel_that_copies = S::packing_kernel(range.len(), strip.vectors);
            match kernel_that_copies.filter(|_| unpacked && follow) {
                Some(copies) => (kernel, tile.copy) = (copies, self.packed(strip)),
                None => {
                    let to = self.packed(strip);
                    if unpacked {
                        let (width, vectors) = (strip.width, strip.vectors);
                        // SAFETY: these lanes are the work's; the room is for all strips.
                        unsafe { pack_lanes::<S>(b, to, lanes_in_place, depth, width, vectors) }
                    }
                    (tile.lanes, tile.lane_depth) = (to, packed_depth);
                    tile.padded = true;
                }
            }
        }
        if b.is_direct(b.lanes) {
            // SAFETY: rows and lanes are the work's (or packed from them), and so are the results; the room is for what tiles copy.
            unsafe { kernel(&tile) }
            return;
        }
        (tile.out, tile.out_row, tile.then) = (self.buffer(0), packed_depth, Then::Store);
        let (stride, add) = (strip.vectors * S::LANES, self.range.start > 0);
        // SAFETY: as above; the tile fits into its room, from where it goes to the results.
        unsafe {
            kernel(&tile);
            spread::<S>(
                b,
                self.buffer(0),
                stride,
                range.len(),
                strip.width,
                out,
                add,
            );
        }
    }
}

/// Packs all lanes to `whole`.
///
/// # Safety
/// As [`multiply`], for all lanes at all depths; `whole` has room for a multiple of a vector's lanes at all depths and is aligned to 64.
#[inline(always)]
pub(super) unsafe fn pack_whole<S: Simd>(blocked: &Blocked, lanes: *const u8, whole: *mut u8) {
    let b = blocked;
    let whole = whole.cast::<S::Element>();
    for block in b.blocks() {
        let mut lane = 0;
        while lane < b.lanes {
            let vectors = b.strip_vectors::<S>(b.lanes - lane);
            let width = (vectors * S::LANES).min(b.lanes - lane);
            let from = lanes
                .cast::<S::Element>()
                .wrapping_offset(block.start as isize * b.lane_depth)
                .wrapping_offset(lane as isize * b.lane);
            let to = whole.wrapping_add(whole_offset::<S>(b, &block, lane));
            // SAFETY: the lanes are there, and the room is for all strips of all blocks.
            unsafe { pack_lanes::<S>(b, to, from, block.len(), width, vectors) }
            lane += width;
        }
    }
}

/// Where the strip that begins at `lane` lies among all strips of all blocks.
#[inline(always)]
fn whole_offset<S: Simd>(b: &Blocked, block: &Range<usize>, lane: usize) -> usize {
    block.start * b.lanes.next_multiple_of(S::LANES) + lane * block.len()
}
