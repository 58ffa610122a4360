//! The walk over a split product: blocks of the contracted axis, strips of lanes, tiles of rows.
//!
//! As in `blocked`, one side gives the rows of tiles and the other the lanes. The side with fewer tiles in a call is the inner one: it is
//! packed first, for a block of depths or for all. The outer one is packed tile by tile to L1, block by block, and meets all tiles of the
//! inner one there. Between blocks the sums wait in the result; where the inner side was packed for all depths, in the scratch.

use super::amx::{self, Ahead, CHUNK, CHUNK_BYTES, Registers, SIDE, TILE, Tile};
use super::pack::{Operand, Side, pack};
use super::place::Place;
use crate::product::blocked::Packing;
use crate::product::{Form, Matrices};
use std::ops::Range;

/// The depths that are packed at a time: a strip of so many takes up half of L1.
const BLOCK: usize = 128;

/// The rows of a tile and the lanes of a strip.
pub(in crate::product) const STRIP: usize = 2 * SIDE;

/// The bytes of a strip, or of the rows of a tile, in a block.
const STRIP_BYTES: usize = BLOCK / CHUNK * CHUNK_BYTES;

/// The bytes of the sums of a tile.
const SUMS_BYTES: usize = 4 * TILE;

/// The most bytes of the inner side that are packed for all depths: they lie in L2. Where depths of the outer side do not follow one another
/// there is no more than a block of them at a time, as each of them lies on a page of its own, and pages have to be looked up.
const INNER_BYTES: usize = 1 << 20;

/// The elements of an operand that does not stay in L2.
const FAR: usize = 128 << 10;

/// The elements of a page. To ask for lines on a page each costs more than it gains.
const PAGE: usize = 1024;

/// How a split product is computed.
#[derive(Clone, Debug)]
pub(in crate::product) struct Split {
    pub(super) form: Form,
    /// Whether the result's rows give the lanes.
    pub(in crate::product) swapped: bool,
    /// What becomes of the lanes.
    pub(in crate::product) packing: Packing,
    /// Whether rows are the outer side, and not lanes.
    rows_outside: bool,
    /// Whether the inner side is packed for all depths, and not block by block.
    deep: bool,
    /// Whether tiles ask for what the outer side packs next.
    asks: bool,
    room: Room,
}

/// Where things lie in the scratch, in bytes from its start; the sums that wait come first.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: usize,
    /// The lanes: all of them, at all depths, where they are packed whole.
    lanes: usize,
    /// All of it, a multiple of 64.
    end: usize,
}

/// One call's share of a product.
pub(in crate::product) struct Work {
    pub(in crate::product) at: Matrices,
    /// Rows of tiles.
    pub(in crate::product) rows: Range<usize>,
    /// Lanes, from a multiple of [`STRIP`] on.
    pub(in crate::product) lanes: Range<usize>,
    pub(in crate::product) scratch: *mut u8,
    /// Where lanes are packed whole, and whether this call does it.
    pub(in crate::product) whole: *mut u8,
    pub(in crate::product) first: bool,
}

impl Split {
    /// For calls of up to `rows` rows and `lanes` lanes; `None` where no memory holds what is packed.
    pub(in crate::product) fn new(
        form: Form,
        swapped: bool,
        packing: Packing,
        [rows, lanes]: [usize; 2],
    ) -> Option<Split> {
        let [rows, lanes] = [rows, lanes].map(|extent| extent.div_ceil(STRIP));
        let rows_outside = rows > lanes;
        let (outer, steps, depth_step) = if rows_outside != swapped {
            (form.m, form.lhs, form.lhs.col)
        } else {
            (form.n, form.rhs, form.rhs.row)
        };
        let inner = rows.min(lanes);
        let block = inner.checked_mul(STRIP_BYTES)?;
        let blocks = form.k.div_ceil(BLOCK);
        let fits = blocks.saturating_mul(block) <= INNER_BYTES;
        let deep = depth_step == 1 && blocks > 1 && fits;
        let (sums, inner_bytes) = if deep {
            (inner * SUMS_BYTES, blocks * block)
        } else {
            (SUMS_BYTES, block)
        };
        let [of_rows, of_lanes] = if rows_outside {
            [STRIP_BYTES, inner_bytes]
        } else {
            [inner_bytes, STRIP_BYTES]
        };
        let lanes = sums.checked_add(of_rows)?;
        let pages = steps.row.unsigned_abs().max(steps.col.unsigned_abs()) < PAGE;
        let far = outer.saturating_mul(form.k) >= FAR;
        let mut split = Split {
            form,
            swapped,
            packing,
            rows_outside,
            deep,
            asks: far && pages,
            room: Room {
                rows: sums,
                lanes,
                end: lanes,
            },
        };
        split.room.end = lanes.checked_add(match packing {
            Packing::Whole => split.packed()?,
            Packing::None | Packing::Strip => of_lanes,
        })?;
        Some(split)
    }

    /// The same with all lanes given to each call as [`pack_whole`] leaves them, and the bytes of that.
    pub(in crate::product) fn apart(&self) -> Option<(Split, usize)> {
        let mut split = self.clone();
        split.packing = Packing::Whole;
        split.room.end = split.room.lanes;
        Some((split, self.packed()?))
    }

    /// Where lanes that are packed whole lie in the scratch.
    pub(in crate::product) fn whole(&self) -> usize {
        self.room.lanes
    }

    /// All of the scratch, a multiple of 64.
    pub(in crate::product) fn scratch(&self) -> usize {
        self.room.end
    }

    /// The bytes of all lanes when they are packed whole; `None` where they cannot be counted.
    pub(in crate::product) fn packed(&self) -> Option<usize> {
        let chunks = self.form.k.div_ceil(CHUNK);
        self.extent()
            .div_ceil(STRIP)
            .checked_mul(chunks)?
            .checked_mul(CHUNK_BYTES)
    }

    /// The rows and the lanes.
    pub(super) fn sides(&self, at: &Matrices) -> [Operand; 2] {
        let Form { lhs, rhs, .. } = self.form;
        let left = self.operand(at.lhs, lhs.row, lhs.col);
        let right = self.operand(at.rhs, rhs.col, rhs.row);
        if self.swapped {
            [right, left]
        } else {
            [left, right]
        }
    }

    fn operand(&self, at: *const u8, step: isize, depth_step: isize) -> Operand {
        Operand {
            at: at.cast(),
            step,
            depth_step,
            ahead: if self.asks { 0 } else { STRIP as isize * step },
        }
    }

    /// How many lanes there are.
    fn extent(&self) -> usize {
        if self.swapped {
            self.form.m
        } else {
            self.form.n
        }
    }
}

/// The blocks of a range of depths.
fn blocks(depths: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = depths.end;
    depths
        .step_by(BLOCK)
        .map(move |first| first..end.min(first + BLOCK))
}

/// Where a tile of one side, of which there are `tiles`, lies in a block: block after block, in each of them tile after tile.
fn offset(tiles: usize, block: &Range<usize>, tile: usize) -> usize {
    let chunks = block.len().div_ceil(CHUNK);
    (block.start / CHUNK * tiles + tile * chunks) * CHUNK_BYTES
}

/// Packs the right side to `whole`, of a product whose lanes it is.
///
/// # Safety
/// The machine has tiles; all lanes at all depths are readable, and `whole` is [`Split::packed`] bytes, aligned to 64.
#[target_feature(enable = "avx512f")]
pub(in crate::product) unsafe fn pack_whole(split: &Split, rhs: *const u8, whole: *mut u8) {
    let (extent, steps) = (split.extent(), split.form.rhs);
    let operand = split.operand(rhs, steps.col, steps.row);
    for block in blocks(0..split.form.k) {
        for lane in (0..extent).step_by(STRIP) {
            let tiles = extent.div_ceil(STRIP);
            let to = whole.wrapping_add(offset(tiles, &block, lane / STRIP));
            let from = operand.from(lane, block.start);
            // SAFETY: the lanes are there, and the room is for all strips of all blocks.
            unsafe { pack(Side::Lanes, from, STRIP.min(extent - lane), block.len(), to) }
        }
    }
}

/// Computes the share of `work`.
///
/// # Safety
/// The machine has tiles. All elements of the rows and lanes that `work` names are readable at all depths; those of the result are writable,
/// distinct, and nobody else touches them; the scratch is this call's own, as many bytes as [`Split::scratch`] says, aligned to 64. If
/// lanes are packed whole, they are at `work.whole`, or the call is the first, names all of them, and there is room for them. There
/// are no more rows than the split was made for, and something is contracted.
#[target_feature(enable = "avx512f")]
pub(in crate::product) unsafe fn multiply(split: &Split, work: &Work) {
    let [rows, lanes] = split.sides(&work.at);
    // SAFETY: the machine has tiles, and this function does not call itself.
    let _registers = unsafe { Registers::new() };
    let call = Call {
        split,
        work,
        rows,
        lanes,
    };
    // SAFETY: the caller's promise is passed on; blocks come in order.
    unsafe {
        if split.deep {
            call.depths(0..split.form.k);
        } else {
            blocks(0..split.form.k).for_each(|block| call.depths(block));
        }
    }
}

/// One call.
struct Call<'a> {
    split: &'a Split,
    work: &'a Work,
    rows: Operand,
    lanes: Operand,
}

impl Call<'_> {
    /// Adds the terms of these depths: all or those of a block.
    ///
    /// # Safety
    /// As [`multiply`]; those of the depths before have been added.
    #[target_feature(enable = "avx512f")]
    unsafe fn depths(&self, depths: Range<usize>) {
        let each_row = || self.work.rows.clone().step_by(STRIP);
        let each_lane = || self.work.lanes.clone().step_by(STRIP);
        let blocks = || blocks(depths.clone());
        // SAFETY: the caller's promise is passed on; what tiles read is packed before, and stays until the next one takes its place.
        unsafe {
            if self.split.rows_outside {
                for block in blocks() {
                    each_lane().for_each(|lane| self.pack_lanes(lane, &depths, &block));
                }
                for row in each_row() {
                    for block in blocks() {
                        self.pack_rows(row, &depths, &block);
                        each_lane().for_each(|lane| self.tile(row, lane, &depths, &block));
                    }
                }
            } else {
                for block in blocks() {
                    each_row().for_each(|row| self.pack_rows(row, &depths, &block));
                }
                for lane in each_lane() {
                    for block in blocks() {
                        self.pack_lanes(lane, &depths, &block);
                        each_row().for_each(|row| self.tile(row, lane, &depths, &block));
                    }
                }
            }
        }
    }

    /// Where a tile's rows are packed to.
    fn sliver(&self, row: usize, depths: &Range<usize>, block: &Range<usize>) -> *mut u8 {
        let slivers = self.work.scratch.wrapping_add(self.split.room.rows);
        if self.split.rows_outside {
            return slivers;
        }
        slivers.wrapping_add(inner_offset(&self.work.rows, row, depths, block))
    }

    /// Where a strip of lanes is packed to.
    fn strip(&self, lane: usize, depths: &Range<usize>, block: &Range<usize>) -> *mut u8 {
        if self.split.packing == Packing::Whole {
            let at = offset(self.split.extent().div_ceil(STRIP), block, lane / STRIP);
            return self.work.whole.wrapping_add(at);
        }
        let strips = self.work.scratch.wrapping_add(self.split.room.lanes);
        if !self.split.rows_outside {
            return strips;
        }
        strips.wrapping_add(inner_offset(&self.work.lanes, lane, depths, block))
    }

    /// # Safety
    /// As [`multiply`].
    #[target_feature(enable = "avx512f")]
    unsafe fn pack_rows(&self, row: usize, depths: &Range<usize>, block: &Range<usize>) {
        let count = STRIP.min(self.work.rows.end - row);
        let from = self.rows.from(row, block.start);
        let to = self.sliver(row, depths, block);
        // SAFETY: the rows are the work's, and there is room for them.
        unsafe { pack(Side::Rows, from, count, block.len(), to) }
    }

    /// # Safety
    /// As [`multiply`].
    #[target_feature(enable = "avx512f")]
    unsafe fn pack_lanes(&self, lane: usize, depths: &Range<usize>, block: &Range<usize>) {
        if self.split.packing == Packing::Whole && !self.work.first {
            return;
        }
        let count = STRIP.min(self.work.lanes.end - lane);
        let from = self.lanes.from(lane, block.start);
        let to = self.strip(lane, depths, block);
        // SAFETY: the lanes are the work's, and there is room for them.
        unsafe { pack(Side::Lanes, from, count, block.len(), to) }
    }

    /// What a tile asks for: each of the first four of the inner side for a quarter of what the outer side packs next.
    fn ahead(
        &self,
        row: usize,
        lane: usize,
        depths: &Range<usize>,
        block: &Range<usize>,
    ) -> Option<Ahead> {
        let (operand, outer, inner, first) = if self.split.rows_outside {
            (self.rows, row, lane, self.work.lanes.start)
        } else {
            (self.lanes, lane, row, self.work.rows.start)
        };
        // The next block of the same tile, or the first one of the next tile.
        let (outer, depth) = if block.end < depths.end {
            (outer, block.end)
        } else {
            (outer + STRIP, depths.start)
        };
        let quarter = (inner - first) / STRIP;
        if !self.split.asks || quarter >= BLOCK / CHUNK {
            return None;
        }
        let next = operand.from(outer, depth + quarter * CHUNK);
        let step = if operand.depth_step == 1 {
            operand.step
        } else {
            operand.depth_step
        };
        Some(Ahead {
            at: next.at,
            stride: step.wrapping_mul(size_of::<f32>() as isize),
        })
    }

    /// # Safety
    /// As [`multiply`]; rows and lanes are packed, and the terms of the depths before the block have been added.
    #[target_feature(enable = "avx512f")]
    unsafe fn tile(&self, row: usize, lane: usize, depths: &Range<usize>, block: &Range<usize>) {
        let work = self.work;
        let inner = match (self.split.deep, self.split.rows_outside) {
            (true, true) => lane - work.lanes.start,
            (true, false) => row - work.rows.start,
            (false, _) => 0,
        };
        let sums = work.scratch.wrapping_add(inner / STRIP * SUMS_BYTES);
        let place = Place {
            split: self.split,
            at: work.at,
            rows: row..(row + STRIP).min(work.rows.end),
            lanes: lane..(lane + STRIP).min(work.lanes.end),
            sums: sums.cast(),
        };
        let tile = Tile {
            rows: self.sliver(row, depths, block),
            lanes: self.strip(lane, depths, block),
            chunks: block.len().div_ceil(CHUNK),
            sums: place.sums,
            stride: (STRIP * size_of::<f32>()) as isize,
            add: block.start > 0,
            swapped: self.split.swapped,
            ahead: self.ahead(row, lane, depths, block),
        };
        let (two_rows, two_lanes) = (place.rows.len() > SIDE, place.lanes.len() > SIDE);
        let last = block.end == self.split.form.k;
        // SAFETY: the caller's promise is passed on; the sums are the result's or, in the scratch, of this tile alone.
        unsafe {
            if let Some((sums, stride)) = place.in_place().filter(|_| !self.split.deep) {
                let tile = Tile {
                    sums,
                    stride,
                    ..tile
                };
                amx::tile(&tile, two_rows, two_lanes);
                if last && !place.is_finite() {
                    place.mend();
                }
                return;
            }
            if !self.split.deep && tile.add {
                place.fetch();
            }
            amx::tile(&tile, two_rows, two_lanes);
            if last || !self.split.deep {
                let finite = place.store();
                if last && !finite {
                    place.mend();
                }
            }
        }
    }
}

/// Where a block of a tile of the inner side lies, whose rows or lanes are `all`.
fn inner_offset(
    all: &Range<usize>,
    at: usize,
    depths: &Range<usize>,
    block: &Range<usize>,
) -> usize {
    let within = block.start - depths.start..block.end - depths.start;
    offset(all.len().div_ceil(STRIP), &within, (at - all.start) / STRIP)
}
