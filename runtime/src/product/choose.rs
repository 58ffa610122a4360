//! From the form of a product to the way it is computed: which operand gives the lanes, how large tiles and panels are, what is packed.
//!
//! Everything here is about time; no choice changes a bit. Both ways round are described, an estimate of cycles picks one, and that
//! happens once for a binding. The constants of the estimate were measured on a Zen 5 with AVX-512; they need only be right about which
//! of two ways is much better.

use super::blocked::{Blocked, DEPTH, Packing, Room};
use super::simd::Simd;
use super::{Form, Strides};
use std::ops::Range;

/// The bytes of the result's panel that stay in L2 until its epilogue has read them.
const PANEL_BYTES: usize = 384 * 1024;

/// The same for products of several blocks of the contracted axis, whose panels have as many rows as a panel in L2 may have, or more. Each
/// panel reads all lanes again, from L3 or further, which costs more than an epilogue that finds some of its panel in L3.
const DEEP_PANEL_BYTES: usize = 2 * PANEL_BYTES;

/// The rows of such a panel.
const HOT_ROWS: Range<usize> = 128..256;

/// The rows of a panel that is too wide for L2 anyway: the more, the seldomer the lanes are packed again.
const COLD_ROWS: usize = 768;

/// The most bytes of lanes that are packed whole: they share L2 with the panel.
const WHOLE_BYTES: usize = 512 * 1024;

/// The same of split products, to pack which takes longer.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const SPLIT_WHOLE_BYTES: usize = 2 * WHOLE_BYTES;

/// The bytes of the strips that each tile's rows pass before the next tile's begin. They come from L2, in the order of the result's rows;
/// strip by strip a large result would be written in pieces of a line or two, each on a page of its own.
const GROUP_BYTES: usize = 384 * 1024;

/// The most columns of a result whose columns may give the rows of tiles: all of them are rows of one panel.
const FEW_COLUMNS: usize = 128;

/// The most vectors of rows of a result that may give the lanes while any number of columns give the rows of tiles.
const FEW_LANES: usize = 4;

/// Strips that read the rows in place before packing them pays.
const STRIPS_IN_PLACE: usize = 6;

/// Strips that read rows in place that lie one element apart, before packing them pays: a tile reads a line or two for each depth, which no
/// prefetcher of the machine foresees.
const STRIPS_IN_PLACE_FLAT: usize = 2;

/// Tiles that read the lanes in place before packing them pays.
const TILES_IN_PLACE: usize = 2;

/// Rows for each thread, up to which the columns are shared out in place of the rows.
const FEW_ROWS: usize = 16;

/// The same for products that contract at least [`DEEP`]: with 128 rows on two threads these were measured to gain a twentieth.
const FEW_ROWS_DEEP: usize = 64;

/// See [`FEW_ROWS_DEEP`].
const DEEP: usize = 256;

/// A product in blocks, and how its result is cut.
pub(super) struct Choice {
    pub(super) blocked: Blocked,
    /// Whether the result's rows give the lanes.
    pub(super) swapped: bool,
    /// Rows of the result that one call computes.
    pub(super) panel: usize,
    /// Into how many parts the result's columns are cut.
    pub(super) parts: usize,
}

/// How a product of this form, all of whose extents are above 0, is computed by one of `threads` threads (1 where it is too small to be
/// shared out).
pub(super) fn choose<S: Simd>(form: &Form, batch: usize, threads: usize) -> Choice {
    let panel = panel::<S>(form, batch, threads);
    let panels = form.m.div_ceil(panel);
    let straight = Side {
        rows: form.m,
        lanes: form.n,
        depth: form.k,
        row: form.lhs,
        lane: Strides {
            row: form.rhs.col,
            col: form.rhs.row,
        },
        out: form.dst,
    };
    let parts = parts::<S>(form, batch, threads, panels);
    let (most_rows, panels) = if parts > 1 {
        (form.m, 1)
    } else {
        (panel, panels)
    };
    let calls = (panels * batch).div_ceil(threads);
    let (blocked, cost) = straight.blocked::<S>(most_rows, form.n.div_ceil(parts), calls);
    let swapped = Side {
        rows: form.n,
        lanes: form.m,
        depth: form.k,
        row: Strides {
            row: form.rhs.col,
            col: form.rhs.row,
        },
        lane: form.lhs,
        out: Strides {
            row: form.dst.col,
            col: form.dst.row,
        },
    };
    if form.n <= FEW_COLUMNS {
        // Panels are lanes here, so they are cut where a strip ends.
        let whole = panel.next_multiple_of(4 * S::LANES);
        let (other, other_cost) = swapped.blocked::<S>(form.n, whole.min(form.m), 1);
        if other_cost < cost {
            let strip = other.vectors * S::LANES;
            return Choice {
                blocked: other,
                swapped: true,
                panel: panel.next_multiple_of(strip),
                parts: 1,
            };
        }
    } else if form.m <= FEW_LANES * S::LANES && form.rhs.col != 1 && (panels == 1 || parts > 1) {
        // A right side whose columns lie along the contracted axis would be transposed for a few rows; as the rows of tiles it is read
        // where it is.
        let (other, other_cost) = swapped.blocked::<S>(form.n.div_ceil(parts), form.m, 1);
        if !other.pack_rows && other_cost < cost {
            return Choice {
                blocked: other,
                swapped: true,
                panel: form.m,
                parts,
            };
        }
    }
    Choice {
        blocked,
        swapped: false,
        panel: most_rows,
        parts,
    }
}

/// Into how many parts the columns are cut, where rows would be cut into so many panels.
///
/// Few rows are not cut where the columns can be: each cut would pack the lanes again. The epilogue then waits for all columns, which a deep
/// product makes up for.
fn parts<S: Simd>(form: &Form, batch: usize, threads: usize, panels: usize) -> usize {
    let few = if form.k >= DEEP {
        FEW_ROWS_DEEP
    } else {
        FEW_ROWS
    };
    let narrow = batch < threads && form.m <= few.saturating_mul(threads);
    let wide = form.n.div_ceil(4 * S::LANES).min(threads);
    if narrow && wide >= panels.min(threads) {
        wide
    } else {
        1
    }
}

/// How a split product is cut and packed.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) struct SplitChoice {
    /// Whether the result's rows give the lanes.
    pub(super) swapped: bool,
    /// What becomes of the lanes.
    pub(super) packing: Packing,
    /// Rows of the result that one call computes.
    pub(super) panel: usize,
    /// Into how many parts the result's columns are cut.
    pub(super) parts: usize,
}

/// The same as [`choose`] for split products, in strips of `strip` lanes. Both sides are always packed, so that it matters little which is
/// which: lanes are those that follow one another in the result.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) fn choose_split<S: Simd>(
    form: &Form,
    batch: usize,
    threads: usize,
    strip: usize,
) -> SplitChoice {
    let panel = panel::<S>(form, batch, threads).next_multiple_of(strip);
    let panels = form.m.div_ceil(panel);
    let parts = parts::<S>(form, batch, threads, panels);
    let swapped = form.dst.col != 1 && form.dst.row == 1;
    let (panel, panels) = if parts > 1 {
        (form.m, 1)
    } else {
        (panel, panels)
    };
    let calls = (panels * batch).div_ceil(threads);
    let bytes = form.n.saturating_mul(form.k).saturating_mul(6);
    let packing = if !swapped && calls > 1 && bytes <= SPLIT_WHOLE_BYTES {
        Packing::Whole
    } else {
        Packing::Strip
    };
    SplitChoice {
        swapped,
        packing,
        panel,
        parts,
    }
}

/// Rows of the result in a panel, such that the panels of all matrices are shared out evenly.
fn panel<S: Simd>(form: &Form, batch: usize, threads: usize) -> usize {
    let row = form.n.saturating_mul(size_of::<S::Element>()).max(1);
    let (hot, enough) = if form.k > DEPTH {
        (DEEP_PANEL_BYTES / row, HOT_ROWS.end)
    } else {
        (PANEL_BYTES / row, HOT_ROWS.start)
    };
    let most = if hot >= enough {
        hot.min(HOT_ROWS.end)
    } else {
        COLD_ROWS
    };
    let least = 2 * S::most_rows(S::WIDE, true);
    let fewest = form.m.div_ceil(most);
    let even = |panels: usize| batch.saturating_mul(panels).is_multiple_of(threads);
    let panels = (fewest..fewest + threads)
        .find(|panels| even(*panels) || batch.saturating_mul(*panels) >= 4 * threads)
        .unwrap_or(fewest);
    form.m.div_ceil(panels).max(least.min(form.m))
}

/// One way round: rows and lanes with their strides, `col` being the step along the contracted axis.
struct Side {
    rows: usize,
    lanes: usize,
    depth: usize,
    row: Strides,
    lane: Strides,
    out: Strides,
}

impl Side {
    /// The best tiles for this way round, and an estimate of the cycles of one call of `rows` rows and `lanes` lanes, per row and lane.
    fn blocked<S: Simd>(&self, rows: usize, lanes: usize, calls: usize) -> (Blocked, f64) {
        let lies_flat = self.row.row == 1 || self.rows == 1;
        let vectors = lanes.div_ceil(S::LANES);
        let lanes_follow = self.lane.row == 1 || self.lanes == 1;
        let tile = |width: usize| {
            let strips = vectors.div_ceil(width);
            let in_place = if lies_flat {
                STRIPS_IN_PLACE_FLAT
            } else {
                STRIPS_IN_PLACE
            };
            let pack = self.rows > 1 && strips > in_place;
            let most = S::most_rows(width, lies_flat || pack);
            (strips, pack, most)
        };
        // Cycles for each depth.
        let cycles = |width: usize| {
            let (_, _, most) = tile(width);
            let tiles = rows.div_ceil(most.max(1));
            let each = rows as f64 / tiles as f64;
            let wide = width as f64;
            let one = (each * wide / 2.0).max((each + wide) / 2.0).max(4.0);
            tiles as f64 * one * vectors as f64 / wide
        };
        // The width of the tile that keeps the units busy.
        let wide = |width: usize| {
            if lies_flat || tile(width).1 {
                S::WIDE
            } else {
                S::WIDE_STRIDED
            }
        };
        let widths = [S::WIDE_STRIDED, S::WIDE, 1, 2, 4, 8].into_iter();
        let width = widths
            .filter(|width| {
                let most = tile(*width).2;
                let fits = *width <= vectors || *width == 1;
                // A strip wider than the best tile falls out of L1 between tiles, so it is for one tile, or where it spares a second
                // reading of rows in place.
                let worth = lanes_follow && rows <= most
                    || !lies_flat && *width <= 2 * S::WIDE && tile(*width).0 == 1;
                fits && most > 0 && (*width <= wide(*width) || worth)
            })
            .reduce(|best, next| {
                let once = !lies_flat && tile(next).0 == 1 && tile(best).0 > 1;
                if cycles(next) < 0.99 * cycles(best) || once && cycles(next) < 1.01 * cycles(best)
                {
                    next
                } else {
                    best
                }
            })
            .unwrap_or(1);
        let (_, pack_rows, tile_rows) = tile(width);
        let tiles = rows.div_ceil(tile_rows);
        let bytes = self
            .lanes
            .next_multiple_of(S::LANES)
            .saturating_mul(self.depth)
            .saturating_mul(size_of::<S::Element>());
        let packing = if lanes_follow && tiles <= TILES_IN_PLACE {
            Packing::None
        } else if calls > 1 && bytes <= WHOLE_BYTES {
            Packing::Whole
        } else {
            Packing::Strip
        };
        let direct = self.out.col_is_one(self.lanes);
        let (rows_f, depth) = (rows as f64, self.depth as f64);
        let square = |step: isize, depth_step: isize, extent: f64| {
            let vectors = extent * depth / S::LANES as f64;
            match (step, depth_step) {
                (1, _) => 1.5 * vectors,
                (_, 1) => 2.5 * vectors,
                (_, _) => 2.0 * extent * depth,
            }
        };
        let folds =
            self.rows == 1 && direct && !lanes_follow && self.lane.col == 1 && self.row.col == 1;
        let packing = if folds { Packing::None } else { packing };
        let mut cost = cycles(width) * depth;
        if pack_rows {
            cost += square(self.row.row, self.row.col, rows_f);
        }
        cost += match packing {
            Packing::None => 0.0,
            Packing::Strip => square(self.lane.row, self.lane.col, lanes as f64),
            Packing::Whole => {
                square(self.lane.row, self.lane.col, lanes as f64) / calls.max(1) as f64
            }
        };
        let results = rows_f * lanes as f64 / S::LANES as f64;
        let blocks = self.depth.div_ceil(DEPTH) as f64;
        cost += blocks * results * if direct { 1.5 } else { 6.0 };
        let strip = width * S::LANES * self.depth.min(DEPTH) * size_of::<S::Element>();
        let group = match packing {
            Packing::None => 1,
            Packing::Strip => (GROUP_BYTES / strip).max(1),
            Packing::Whole => usize::MAX,
        };
        let blocked = Blocked {
            rows: self.rows,
            lanes: self.lanes,
            depth: self.depth,
            row: self.row.row,
            row_depth: self.row.col,
            lane: self.lane.row,
            lane_depth: self.lane.col,
            out_row: self.out.row,
            out_lane: self.out.col,
            tile_rows,
            vectors: width,
            pack_rows,
            packing,
            most_rows: rows,
            group,
            folds,
            room: Room::default(),
        };
        (blocked, cost / (rows_f * lanes as f64))
    }
}

impl Strides {
    fn col_is_one(self, cols: usize) -> bool {
        self.col == 1 || cols == 1
    }
}
