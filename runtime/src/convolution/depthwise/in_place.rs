//! Depthwise convolutions that read the input where it lies: groups one element apart, and no dilated input.
//!
//! The positions of the window that follow one another along the innermost axis are a *run*; each run reads one row of the input, or zeros
//! where the row is padding. A tile computes some neighbouring outputs in a vector of groups, and keeps what a run sees of its row in
//! registers, so that an element is loaded once for all outputs that it takes part in. Tiles at the ends of a row see padding beside the
//! elements: what they see is copied first, a vector for each position.

use super::{Depthwise, Unit, Work};
use crate::convolution::tiles::{RowsTile, SeenRow, Tiles};
use std::ops::Range;

/// Bytes from the start of the scratch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The rows of a tile inside the input.
    rows: usize,
    /// The rows of a tile at an end, as they were copied.
    copies: usize,
    /// Zeros for the groups that are computed together.
    zeros: usize,
    /// What a tile at an end sees.
    edge: usize,
}

/// The outputs of the widest tile; of narrower ones where a row has fewer.
const WIDTHS: [usize; 3] = [8, 4, 1];

/// The room, from `start` on, and where it ends; `None` where the form is not computed in this way, or no memory is large enough.
pub(super) fn room<S: Tiles>(d: &Depthwise, start: usize) -> Option<(Room, usize)> {
    let form = &d.form;
    if form.lhs.group != 1 || form.axes.iter().any(|axis| axis.lhs_dilation != 1) {
        return None;
    }
    let element = size_of::<S::Element>();
    let round = |bytes: usize| bytes.checked_next_multiple_of(64);
    let [z, y, _] = form.axes.map(|axis| axis.window);
    let runs = z.checked_mul(y)?;
    let table = round(runs.checked_mul(size_of::<SeenRow<S::Element>>())?)?;
    let zeros = round((d.together + S::LANES).checked_mul(element)?)?;
    let seen = runs.checked_mul(seen(d, width(d)))?.checked_mul(S::LANES)?;
    let (rows, copies) = (start, start.checked_add(table)?);
    let zeros_at = copies.checked_add(table)?;
    let edge = zeros_at.checked_add(zeros)?;
    let end = edge.checked_add(round(seen.checked_mul(element)?)?)?;
    let room = Room {
        rows,
        copies,
        zeros: zeros_at,
        edge,
    };
    Some((room, end))
}

/// The outputs of a tile.
fn width(d: &Depthwise) -> usize {
    let outputs = d.form.axes[2].output;
    WIDTHS.into_iter().find(|w| *w <= outputs).unwrap_or(1)
}

/// The positions along a row that so many neighbouring outputs see.
fn seen(d: &Depthwise, outputs: usize) -> usize {
    let axis = &d.form.axes[2];
    let walk = (outputs - 1).saturating_mul(axis.stride);
    walk.saturating_add((axis.window - 1).saturating_mul(axis.rhs_dilation) + 1)
}

/// Computes the outputs of a unit in some groups.
///
/// # Safety
/// As [`super::units`]; the window is packed, and the room is the scratch's.
#[inline(always)]
pub(super) unsafe fn tiles<S: Tiles>(
    d: &Depthwise,
    room: &Room,
    work: &Work,
    unit: &Unit,
    groups: &Range<usize>,
) {
    let form = &d.form;
    let [axis_z, axis_y, axis_x] = &form.axes;
    let count = groups.len();
    let at = |offset: usize| work.scratch.wrapping_add(offset);
    let (rows, copies) = (
        at(room.rows).cast::<SeenRow<S::Element>>(),
        at(room.copies).cast::<SeenRow<S::Element>>(),
    );
    let (zeros, edge) = (
        at(room.zeros).cast::<S::Element>(),
        at(room.edge).cast::<S::Element>(),
    );
    let lhs = work
        .at
        .lhs
        .cast::<S::Element>()
        .wrapping_offset(unit.image as isize * form.lhs.batch + groups.start as isize);
    let dst = work.at.dst.cast::<S::Element>().wrapping_offset(
        unit.image as isize * form.dst.batch
            + groups.start as isize
            + unit.z as isize * form.dst.spatial[0],
    );
    let weights = at(d.room.window)
        .cast::<S::Element>()
        .wrapping_add(groups.start);
    let width = width(d);
    let seen = seen(d, width);
    let runs = axis_z.window * axis_y.window;
    let kernel = S::rows(width, axis_x.window, axis_x.stride, axis_x.rhs_dilation);
    // SAFETY: the tables have an entry for each run, and the copies room for what a tile sees of each; zeros are 0.
    unsafe {
        zeros.write_bytes(0, count + S::LANES);
        for run in 0..runs {
            copies.wrapping_add(run).write(SeenRow {
                at: edge.wrapping_add(run * seen * S::LANES),
                position: S::LANES as isize,
            });
        }
    }
    for y in unit.y.clone() {
        for run in 0..runs {
            let (tap_z, tap_y) = (run / axis_y.window, run % axis_y.window);
            let inside = |element: Option<isize>, extent: usize| {
                element.filter(|at| *at >= 0 && (*at as usize) < extent)
            };
            let z = inside(axis_z.element(unit.z, tap_z), axis_z.input);
            let y = inside(axis_y.element(y, tap_y), axis_y.input);
            let row = match (z, y) {
                (Some(z), Some(y)) => SeenRow {
                    at: lhs.wrapping_offset(z * form.lhs.spatial[0] + y * form.lhs.spatial[1]),
                    position: form.lhs.spatial[2],
                },
                _ => SeenRow {
                    at: zeros.cast_const(),
                    position: 0,
                },
            };
            // SAFETY: the table has an entry for each run.
            unsafe { rows.wrapping_add(run).write(row) }
        }
        let dst = dst.wrapping_offset(y as isize * form.dst.spatial[1]);
        for x in (0..axis_x.output).step_by(width) {
            // The last tile of a row computes some outputs again rather than fewer.
            let x = x.min(axis_x.output - width);
            let first = (x * axis_x.stride) as isize - axis_x.padding;
            let end = first + seen as isize > axis_x.input as isize;
            for lane in (0..count).step_by(S::LANES) {
                let last = S::LANES.min(count - lane);
                let mut tile = RowsTile {
                    rows: rows.cast_const(),
                    runs,
                    first,
                    lane,
                    taps: axis_x.window,
                    dilation: axis_x.rhs_dilation,
                    stride: axis_x.stride,
                    weights: weights.wrapping_add(lane).cast_const(),
                    weights_step: d.pitch,
                    last,
                    out: dst.wrapping_offset(x as isize * form.dst.spatial[2] + lane as isize),
                    out_row: form.dst.spatial[2],
                };
                // SAFETY: a tile that is not at an end sees elements of the input alone, in rows that are inside it or zeros. What one at
                // an end sees is copied, position by position. The results are the unit's.
                unsafe {
                    if first < 0 || end {
                        copy_seen::<S>(&tile, seen, axis_x.input, edge);
                        (tile.rows, tile.first, tile.lane) = (copies.cast_const(), 0, 0);
                    }
                    kernel(&tile);
                }
            }
        }
    }
}

/// Copies what a tile at an end of its rows sees: for each run and position a vector of groups, zeros beside the input.
///
/// # Safety
/// The machine has the instruction set; the elements of the rows are readable, and `edge` has room.
#[inline(always)]
unsafe fn copy_seen<S: Tiles>(
    t: &RowsTile<S::Element>,
    seen: usize,
    input: usize,
    edge: *mut S::Element,
) {
    // SAFETY: positions inside the input are read only, and as many groups as count.
    unsafe {
        let mask = S::mask(t.last);
        let mut to = edge;
        for run in 0..t.runs {
            let row = &*t.rows.wrapping_add(run);
            for position in 0..seen {
                let position = t.first + position as isize;
                let vector = if position >= 0 && (position as usize) < input {
                    let from = row.at.wrapping_add(t.lane);
                    S::load_masked(from.wrapping_offset(position * row.position), mask)
                } else {
                    S::zero()
                };
                S::store(to, vector);
                to = to.wrapping_add(S::LANES);
            }
        }
    }
}
