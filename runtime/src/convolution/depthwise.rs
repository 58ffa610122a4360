//! Convolutions with one feature in each group, in the first summation: groups are lanes.
//!
//! For some rows of outputs at a time the rows of input that they see are copied into scratch, padded, some groups at a time, with groups
//! one element apart. Each output is then as many multiply-adds of whole vectors as its window has positions. What limits it are loads:
//! an element of the input takes part in one multiply-add for each of its own. Where groups lie one apart already nothing is copied, and
//! elements stay in registers ([`in_place`]).

mod in_place;

use super::axis::{MOST_ENTRIES, Phases};
use super::copy::copy;
use super::tiles::{GroupsTile, Tiles};
use super::{Form, Operands, RowOrder};
use crate::product::pack::cut;
use std::ops::Range;

/// Groups that are copied together: their rows stay in cache, and a piece of a position is four lines.
const GROUPS: usize = 64;

/// The bytes of copied input of a unit.
const UNIT_BYTES: usize = 192 * 1024;

/// Units for each thread.
const UNITS_EACH: usize = 4;

/// The most rows of a unit, in those of one phase.
const MOST_ROWS: usize = 1024;

/// The fewest rows of a unit that is cut for the sake of threads.
const FEWEST_ROWS: usize = 4;

/// How a convolution is computed.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    form: Form,
    phases: [Phases; 3],
    order: Option<RowOrder>,
    /// Outputs of a unit along the middle axis, a multiple of its phases.
    tall: usize,
    /// Units along the middle axis.
    blocks: usize,
    /// Positions of a copied row.
    positions: usize,
    /// Which of a plane's rows some output sees.
    rows: Vec<bool>,
    subs: Vec<Sub>,
    /// Groups that are copied together, at most.
    together: usize,
    /// Groups in whole vectors.
    pitch: usize,
    room: Room,
    /// Where the input is read as it lies, and not copied.
    in_place: Option<in_place::Room>,
}

/// The outputs of one phase along each axis.
#[derive(Clone, Debug)]
struct Sub {
    phase: [usize; 3],
    /// The positions of the window that come before its own in the packed one.
    start: usize,
    taps: Vec<[usize; 3]>,
    /// Where each lies in the copied input: in rows, and in positions along a row.
    places: Vec<[usize; 2]>,
}

/// Bytes from the start of the scratch, where the offsets of terms come first.
#[derive(Clone, Copy, Debug)]
struct Room {
    window: usize,
    image: usize,
    end: usize,
}

/// One thread's share.
pub(super) struct Work {
    pub(super) at: Operands,
    /// [`Depthwise::scratch`] bytes, aligned to 64.
    pub(super) scratch: *mut u8,
    pub(super) units: Range<usize>,
}

impl Depthwise {
    /// The way for a form of the first summation with one feature on either side of each group, that has results and terms; `None` where
    /// no memory or table is large enough.
    pub(super) fn new<S: Tiles>(form: &Form, threads: usize) -> Option<Depthwise> {
        let phases = form.axes.map(|axis| axis.phases());
        let [outer, middle, inner] = &phases;
        let element = size_of::<S::Element>();
        let outputs = form.axes.map(|axis| axis.output);
        let walked = |phases: &Phases, outputs: usize| {
            let walk = (outputs.div_ceil(phases.every).max(1) - 1).checked_mul(phases.step)?;
            walk.checked_add(phases.span + 1)
        };
        let positions = walked(inner, outputs[2])?;
        let together = form.groups.min(GROUPS);
        let planes = outer.taps.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let image = |tall: usize| {
            let rows = walked(middle, tall)?.checked_mul(planes)?;
            rows.checked_mul(positions)?.checked_mul(together)
        };
        let most = |extent: usize| extent.div_ceil(middle.every) * middle.every;
        let mut tall = most(outputs[1].min(middle.every.saturating_mul(MOST_ROWS)));
        while tall > middle.every && image(tall)?.checked_mul(element)? > UNIT_BYTES {
            tall -= middle.every;
        }
        let images = form.batch.checked_mul(outputs[0])?;
        let few = |tall: usize| {
            threads > 1 && images.saturating_mul(outputs[1].div_ceil(tall)) < UNITS_EACH * threads
        };
        while few(tall) && tall > most(FEWEST_ROWS) {
            tall -= middle.every;
        }
        let tall = most(outputs[1].div_ceil(outputs[1].div_ceil(tall)));
        let blocks = outputs[1].div_ceil(tall);
        images.checked_mul(blocks)?;

        let image = image(tall)?;
        // Everything is within reach of the offsets, and the tables are no larger.
        i32::try_from(image).ok()?;
        let slots = walked(middle, tall)?;
        if slots > MOST_ENTRIES {
            return None;
        }
        let mut rows = vec![false; slots];
        for tap in middle.taps.iter().flatten() {
            for j in 0..tall.div_ceil(middle.every) {
                if let Some(seen) = rows.get_mut(tap.at + j * middle.step) {
                    *seen = true;
                }
            }
        }
        let mut subs: Vec<Sub> = Vec::new();
        let mut start = 0;
        for (z, outer_taps) in outer.taps.iter().enumerate() {
            for (y, middle_taps) in middle.taps.iter().enumerate() {
                for (x, inner_taps) in inner.taps.iter().enumerate() {
                    let (mut taps, mut places) = (Vec::new(), Vec::new());
                    for (plane, tap_z) in outer_taps.iter().enumerate() {
                        for tap_y in middle_taps {
                            for tap_x in inner_taps {
                                taps.push([tap_z.window, tap_y.window, tap_x.window]);
                                places.push([plane * slots + tap_y.at, tap_x.at]);
                            }
                        }
                    }
                    let count = taps.len();
                    subs.push(Sub {
                        phase: [z, y, x],
                        start,
                        taps,
                        places,
                    });
                    start += count;
                }
            }
        }
        let terms = subs.iter().map(|sub| sub.taps.len()).max().unwrap_or(0);
        let pitch = form.groups.checked_next_multiple_of(S::LANES)?;
        let round = |bytes: usize| bytes.checked_next_multiple_of(64);
        let table = round(terms.checked_mul(size_of::<i32>())?)?;
        let window = round(start.checked_mul(pitch)?.checked_mul(element)?)?;
        // Whole vectors reach beyond the last groups of the last position.
        let image = round(image.checked_add(S::LANES)?.checked_mul(element)?)?;
        let room = Room {
            window: table,
            image: table.checked_add(window)?,
            end: table.checked_add(window)?.checked_add(image)?,
        };
        let mut plan = Depthwise {
            order: form.row_order(),
            form: form.clone(),
            tall,
            blocks,
            positions,
            rows,
            subs,
            together,
            pitch,
            room,
            phases,
            in_place: None,
        };
        if let Some((place, end)) = in_place::room::<S>(&plan, room.image) {
            plan.in_place = Some(place);
            plan.room.end = end;
        }
        Some(plan)
    }

    pub(super) fn scratch(&self) -> usize {
        self.room.end
    }

    pub(super) fn units(&self) -> usize {
        self.form.batch * self.form.axes[0].output * self.blocks
    }

    /// Whether the rows of the result are told of as they are finished.
    pub(super) fn completes_rows(&self) -> bool {
        self.order == Some(RowOrder::ImagesFirst)
    }
}

/// The outputs of one unit.
struct Unit {
    image: usize,
    z: usize,
    y: Range<usize>,
}

/// Computes the units of `work`, and calls `done` with the rows of the result as they are finished.
///
/// # Safety
/// As [`direct::units`](super::direct::units).
#[inline(always)]
pub(super) unsafe fn units<S: Tiles>(
    d: &Depthwise,
    work: &Work,
    done: &mut dyn FnMut(Range<usize>),
) {
    if work.units.is_empty() {
        return;
    }
    let [outputs_z, outputs_y, outputs_x] = d.form.axes.map(|axis| axis.output);
    // SAFETY: the caller's promise is passed on.
    unsafe {
        pack_window::<S>(d, work);
        for index in work.units.clone() {
            let (above, block) = (index / d.blocks, index % d.blocks);
            let unit = Unit {
                image: above / outputs_z,
                z: above % outputs_z,
                y: block * d.tall..((block + 1) * d.tall).min(outputs_y),
            };
            for first in (0..d.form.groups).step_by(d.together) {
                let groups = first..d.form.groups.min(first + d.together);
                if let Some(room) = &d.in_place {
                    in_place::tiles::<S>(d, room, work, &unit, &groups);
                } else {
                    copy_image::<S>(d, work, &unit, &groups);
                    tiles::<S>(d, work, &unit, &groups);
                }
            }
            if d.completes_rows() {
                let row = above * outputs_y;
                done((row + unit.y.start) * outputs_x..(row + unit.y.end) * outputs_x);
            }
        }
    }
}

/// Packs the window: for each phase and position, all groups.
///
/// # Safety
/// As [`units`].
#[inline(always)]
unsafe fn pack_window<S: Tiles>(d: &Depthwise, work: &Work) {
    let rhs = &d.form.rhs;
    let [_, y, x] = d.form.axes.map(|axis| axis.window as isize);
    let [step_z, step_y, step_x] = rhs.spatial;
    let dense = step_y == x * step_x && (step_z == y * step_y || d.form.axes[0].window == 1);
    let from = work.at.rhs.cast::<S::Element>();
    let to = work.scratch.wrapping_add(d.room.window);
    // SAFETY: the room is for all positions of all phases; what lies beyond the last group is zero and not counted.
    unsafe {
        to.write_bytes(0, d.room.image - d.room.window);
        if let ([sub], true) = (d.subs.as_slice(), dense) {
            let (to, positions) = (to.cast::<S::Element>(), sub.taps.len());
            let (pitch, groups) = (d.pitch as isize, d.form.groups);
            copy::<S>(to, pitch, from, groups, rhs.group, positions, step_x);
            return;
        }
        for sub in &d.subs {
            for (index, tap) in sub.taps.iter().enumerate() {
                let to = to
                    .cast::<S::Element>()
                    .wrapping_add((sub.start + index) * d.pitch);
                let from = from.wrapping_offset(super::along(tap, &rhs.spatial));
                copy::<S>(to, 0, from, d.form.groups, rhs.group, 1, 0);
            }
        }
    }
}

/// Copies the input of some groups that a unit sees.
///
/// # Safety
/// As [`units`].
#[inline(always)]
unsafe fn copy_image<S: Tiles>(d: &Depthwise, work: &Work, unit: &Unit, groups: &Range<usize>) {
    let form = &d.form;
    let [outer, middle, inner] = &d.phases;
    let count = groups.len();
    let row = d.positions * count;
    let image = work.scratch.wrapping_add(d.room.image).cast::<S::Element>();
    let lhs = work.at.lhs.cast::<S::Element>().wrapping_offset(
        unit.image as isize * form.lhs.batch + groups.start as isize * form.lhs.group,
    );
    let inside = |at: isize, axis: usize| at >= 0 && (at as usize) < form.axes[axis].input;
    let Some(planes) = outer.taps.get(unit.z % outer.every) else {
        return;
    };
    let outputs = unit.y.len().div_ceil(middle.every);
    let slots = (outputs.max(1) - 1) * middle.step + middle.span + 1;
    let first = middle.first + (unit.y.start / middle.every * middle.step) as isize;
    for (plane, tap) in planes.iter().enumerate() {
        let z = outer.first + (tap.at + unit.z / outer.every * outer.step) as isize;
        for (slot, seen) in d.rows.iter().enumerate().take(slots) {
            if !seen {
                continue;
            }
            let y = first + slot as isize;
            let to = image.wrapping_add((plane * d.rows.len() + slot) * row);
            if !inside(z, 0) || !inside(y, 1) {
                // SAFETY: a row of the room; zeros are 0.
                unsafe { to.write_bytes(0, row) }
                continue;
            }
            let begin = inner.first.min(0).unsigned_abs().min(d.positions);
            let end = (form.axes[2].input as isize - inner.first).max(0) as usize;
            let end = end.clamp(begin, d.positions);
            let x = inner.first + begin as isize;
            let [step_z, step_y, step_x] = form.lhs.spatial;
            // SAFETY: positions `begin` to `end` are those inside the input, in a row and a plane that are.
            unsafe {
                to.write_bytes(0, begin * count);
                to.wrapping_add(end * count)
                    .write_bytes(0, (d.positions - end) * count);
                copy::<S>(
                    to.wrapping_add(begin * count),
                    count as isize,
                    lhs.wrapping_offset(z * step_z + y * step_y + x * step_x),
                    count,
                    form.lhs.group,
                    end - begin,
                    step_x,
                );
            }
        }
    }
}

/// Computes the outputs of a unit in some groups.
///
/// # Safety
/// As [`units`]; the window is packed and the input copied.
#[inline(always)]
unsafe fn tiles<S: Tiles>(d: &Depthwise, work: &Work, unit: &Unit, groups: &Range<usize>) {
    let form = &d.form;
    let [outer, middle, inner] = &d.phases;
    let count = groups.len();
    let row = d.positions * count;
    let offsets = work.scratch.cast::<i32>();
    let buffer = |offset: usize| work.scratch.wrapping_add(offset).cast::<S::Element>();
    let dst = work.at.dst.cast::<S::Element>().wrapping_offset(
        unit.image as isize * form.dst.batch
            + groups.start as isize
            + unit.z as isize * form.dst.spatial[0],
    );
    let pixel = inner.every as isize * form.dst.spatial[2];
    for sub in &d.subs {
        let [phase_z, phase_y, phase_x] = sub.phase;
        if unit.z % outer.every != phase_z {
            continue;
        }
        for (term, [rows, along]) in sub.places.iter().enumerate() {
            // SAFETY: the table has room for the terms of any phase; all of the copied input is within reach of 31 bits.
            unsafe {
                offsets
                    .wrapping_add(term)
                    .write((rows * row + along * count) as i32);
            }
        }
        let pixels = inner.among(phase_x, form.axes[2].output);
        for index in 0..middle.among(phase_y, unit.y.len()) {
            let y = unit.y.start + phase_y + index * middle.every;
            let dst = dst
                .wrapping_offset(y as isize * form.dst.spatial[1])
                .wrapping_offset(phase_x as isize * form.dst.spatial[2]);
            let image = buffer(d.room.image).wrapping_add(index * middle.step * row);
            let weights = buffer(d.room.window).wrapping_add(sub.start * d.pitch + groups.start);
            for lane in (0..count).step_by(S::LANES) {
                let tiles = pixels.div_ceil(S::MOST_GROUPS);
                for tile in 0..tiles {
                    let range = cut(pixels, tiles, tile);
                    let kernel = S::groups(range.len());
                    let tile = GroupsTile {
                        depth: sub.taps.len(),
                        offsets,
                        image: image.wrapping_add(range.start * inner.step * count + lane),
                        pixel: (inner.step * count) as isize,
                        weights: weights.wrapping_add(lane),
                        weights_step: d.pitch,
                        last: S::LANES.min(count - lane),
                        out: dst.wrapping_offset(range.start as isize * pixel + lane as isize),
                        out_row: pixel,
                    };
                    // SAFETY: the terms lie inside the copied input, behind which there is room for a vector, and inside the packed
                    // window; the results are the unit's.
                    unsafe { kernel(&tile) }
                }
            }
        }
    }
}
