//! The walk over the units of a direct convolution: packing, and tile after tile.

use super::{Direct, Work};
use crate::convolution::along;
use crate::convolution::copy::{copy, spread};
use crate::convolution::tiles::{Tiles, WindowTile, next_vectors};
use crate::product::DEPTH;
use crate::product::pack::pack;
use std::ops::Range;

/// The outputs of one unit.
struct Unit {
    image: usize,
    z: usize,
    y: Range<usize>,
    x: Range<usize>,
}

impl Direct {
    fn unit(&self, index: usize) -> Unit {
        let [_, _, outputs_x] = self.form.axes.map(|axis| axis.output);
        let outputs_y = self.form.axes[1].output;
        let [z, y, x] = self.blocks;
        let (rest, block_x) = (index / x, index % x);
        let (rest, block_y) = (rest / y, rest % y);
        let span = |block: usize, each: usize, all: usize| {
            (block * each).min(all)..((block + 1) * each).min(all)
        };
        Unit {
            image: rest / z,
            z: rest % z,
            y: span(block_y, self.tall, outputs_y),
            x: span(block_x, self.wide, outputs_x),
        }
    }
}

/// Computes the units of `work`, and calls `done` with the rows of the result as they are finished.
///
/// # Safety
/// The machine has the instruction set. All elements of the operands are readable, those of the result that belong to the units are
/// writable, distinct, and nobody else touches them; the scratch is this call's own.
#[inline(always)]
pub(in crate::convolution) unsafe fn units<S: Tiles>(
    d: &Direct,
    work: &Work,
    done: &mut dyn FnMut(Range<usize>),
) {
    if work.units.is_empty() {
        return;
    }
    let [_, outputs_y, outputs_x] = d.form.axes.map(|axis| axis.output);
    // SAFETY: the caller's promise is passed on; the image's room is zeroed because what lies beside rows is never written again.
    unsafe {
        pack_window::<S>(d, work);
        let image = work.scratch.wrapping_add(d.room.image);
        image.write_bytes(0, d.room.end - d.room.image);
        for index in work.units.clone() {
            let unit = d.unit(index);
            for group in 0..d.form.groups {
                pack_image::<S>(d, work, &unit, group);
                tiles::<S>(d, work, &unit, group);
            }
            if !d.completes_rows() {
                continue;
            }
            let above = (unit.image * d.blocks[0] + unit.z) * outputs_y;
            if unit.x.len() == outputs_x {
                done((above + unit.y.start) * outputs_x..(above + unit.y.end) * outputs_x);
            } else {
                for y in unit.y {
                    let row = (above + y) * outputs_x;
                    done(row + unit.x.start..row + unit.x.end);
                }
            }
        }
    }
}

/// Packs the window of all groups: for each part and phase, the lanes of each term.
///
/// # Safety
/// As [`units`].
#[inline(always)]
unsafe fn pack_window<S: Tiles>(d: &Direct, work: &Work) {
    let rhs = &d.form.rhs;
    for group in 0..d.form.groups {
        let from = work
            .at
            .rhs
            .cast::<S::Element>()
            .wrapping_offset(group as isize * rhs.group);
        let to = work
            .scratch
            .wrapping_add(d.room.weights)
            .cast::<S::Element>()
            .wrapping_add(group * d.weights);
        for part in &d.parts {
            let from = from.wrapping_offset(part.first as isize * rhs.feature_out);
            for sub in &d.subs {
                let mut to = to.wrapping_add(part.at + sub.start * part.width);
                for first in (0..d.form.features_in).step_by(DEPTH) {
                    let depth = DEPTH.min(d.form.features_in - first);
                    for tap in &sub.taps {
                        let from = from
                            .wrapping_offset(first as isize * rhs.feature_in)
                            .wrapping_offset(along(tap, &rhs.spatial));
                        // SAFETY: the features are the part's and the group's, the tap is inside the window, and the room is for
                        // `width` elements of every term, a multiple of the lanes.
                        unsafe {
                            pack::<S>(
                                to,
                                part.width,
                                from,
                                part.count,
                                rhs.feature_out,
                                depth,
                                rhs.feature_in,
                            );
                        }
                        to = to.wrapping_add(depth * part.width);
                    }
                }
            }
        }
    }
}

/// Copies the input that a unit sees.
///
/// # Safety
/// As [`units`].
#[inline(always)]
unsafe fn pack_image<S: Tiles>(d: &Direct, work: &Work, unit: &Unit, group: usize) {
    let form = &d.form;
    let [outer, middle, inner] = &d.phases;
    let image = work.scratch.wrapping_add(d.room.image).cast::<S::Element>();
    let lhs =
        work.at.lhs.cast::<S::Element>().wrapping_offset(
            unit.image as isize * form.lhs.batch + group as isize * form.lhs.group,
        );
    let [step_z, step_y, step_x] = form.lhs.spatial;
    let inside = |at: isize, axis: usize| at >= 0 && (at as usize) < form.axes[axis].input;
    let Some(planes) = outer.taps.get(unit.z % outer.every) else {
        return;
    };
    let outputs_y = unit.y.len().div_ceil(middle.every);
    let outputs_x = unit.x.len().div_ceil(inner.every);
    let first_y = middle.first + (unit.y.start / middle.every * middle.step) as isize;
    let first_x = inner.first + (unit.x.start / inner.every * inner.step) as isize;
    let slots = (outputs_y.max(1) - 1) * middle.step + middle.span + 1;
    for (plane, tap) in planes.iter().enumerate() {
        let z = outer.first + (tap.at + unit.z / outer.every * outer.step) as isize;
        for (slot, seen) in d.rows.iter().enumerate().take(slots) {
            if !seen {
                continue;
            }
            let y = first_y + slot as isize;
            let to = image.wrapping_add((plane * d.rows.len() + slot) * d.row);
            if !inside(z, 0) || !inside(y, 1) {
                // SAFETY: a row of the room; zeros are 0.
                unsafe { to.write_bytes(0, d.row) }
                continue;
            }
            let from = lhs.wrapping_offset(z * step_z + y * step_y);
            for (place, residue) in d.residues.iter().enumerate() {
                let to = to.wrapping_add(place * form.features_in * d.pitch);
                let length = outputs_x + residue.ahead;
                let x = first_x + residue.at as isize;
                let begin = if x < 0 {
                    x.unsigned_abs().div_ceil(inner.step).min(length)
                } else {
                    0
                };
                let end = (form.axes[2].input as isize - x).max(0) as usize;
                let end = end.div_ceil(inner.step).clamp(begin, length);
                if d.blocks[2] > 1 {
                    // What lies beside the elements is elsewhere in other blocks.
                    for feature in 0..form.features_in {
                        let to = to.wrapping_add(feature * d.pitch);
                        // SAFETY: `begin` and `end` are within the length, which the pitch has room for.
                        unsafe {
                            to.write_bytes(0, begin);
                            to.wrapping_add(end).write_bytes(0, length - end);
                        }
                    }
                }
                let x = x + (begin * inner.step) as isize;
                // SAFETY: elements `begin` to `end` are those inside the input, whose rows and planes are inside too.
                unsafe {
                    copy::<S>(
                        to.wrapping_add(begin),
                        d.pitch as isize,
                        from.wrapping_offset(x * step_x),
                        end - begin,
                        inner.step as isize * step_x,
                        form.features_in,
                        form.lhs.feature,
                    );
                }
            }
        }
    }
}

/// Computes the outputs of a unit in one group.
///
/// # Safety
/// As [`units`]; window and image are packed.
#[inline(always)]
unsafe fn tiles<S: Tiles>(d: &Direct, work: &Work, unit: &Unit, group: usize) {
    let form = &d.form;
    let [outer, middle, inner] = &d.phases;
    let buffer = |offset: usize| work.scratch.wrapping_add(offset).cast::<S::Element>();
    let weights = buffer(d.room.weights).wrapping_add(group * d.weights);
    let image = buffer(d.room.image);
    let tile = buffer(0);
    let [out_z, out_y, out_x] = form.dst.spatial;
    let dst = work
        .at
        .dst
        .cast::<S::Element>()
        .wrapping_offset(unit.image as isize * form.dst.batch + group as isize * form.dst.group)
        .wrapping_offset(unit.z as isize * out_z);
    let pixel = inner.every as isize * out_x;
    // Whether tiles write to the result itself.
    let direct = if d.across {
        pixel == 1
    } else {
        form.dst.feature == 1
    };
    for bundle in &d.bundles {
        let parts = &d.parts[bundle.clone()];
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            continue;
        };
        let features = last.first + last.count - first.first;
        for sub in &d.subs {
            let [phase_z, phase_y, phase_x] = sub.phase;
            if unit.z % outer.every != phase_z {
                continue;
            }
            let rows = middle.among(phase_y, unit.y.len());
            let pixels = inner.among(phase_x, unit.x.len());
            for row in 0..rows {
                let y = unit.y.start + phase_y + row * middle.every;
                let image = image.wrapping_add(row * middle.step * d.row);
                let dst = dst
                    .wrapping_offset(y as isize * out_y)
                    .wrapping_offset((unit.x.start + phase_x) as isize * out_x)
                    .wrapping_offset(first.first as isize * form.dst.feature);
                let mut x = 0;
                while x < pixels {
                    // The pixels of this tile, and the vectors that they are if they lie across.
                    let left = pixels - x;
                    let (count, vectors) = if d.across {
                        let vectors = next_vectors::<S>(left, d.vectors);
                        (left.min(vectors * S::LANES), vectors)
                    } else {
                        let most = S::most_straight(first.vectors).max(1);
                        (left.div_ceil(left.div_ceil(most)), first.vectors)
                    };
                    let dst = dst.wrapping_offset(x as isize * pixel);
                    for part in parts {
                        let (kernel, lanes) = if d.across {
                            (S::across(part.count, vectors), count)
                        } else {
                            (S::straight(count, vectors), part.count)
                        };
                        let offset = (part.first - first.first) as isize;
                        let (out, out_row) = match (direct, d.across) {
                            (true, true) => {
                                let at = offset * form.dst.feature;
                                (dst.wrapping_offset(at), form.dst.feature)
                            }
                            (true, false) => (dst, pixel),
                            (false, _) => {
                                let stride = (vectors * S::LANES) as isize;
                                (tile.wrapping_offset(offset * stride), stride)
                            }
                        };
                        for chain in &sub.chains {
                            let term = sub.start + chain.start;
                            let tile = WindowTile {
                                depth: chain.len(),
                                offsets: sub.offsets.as_ptr().wrapping_add(chain.start),
                                image: image.wrapping_add(x),
                                weights: weights.wrapping_add(part.at + term * part.width),
                                last: lanes - (vectors - 1) * S::LANES,
                                out,
                                out_row,
                                add: chain.start > 0,
                            };
                            // SAFETY: the terms lie inside the packed image, behind which there is room for whole vectors, and inside
                            // the packed window; the results are the unit's, or the room for a tile.
                            unsafe { kernel(&tile) }
                        }
                    }
                    if !direct {
                        let (rows, width) = if d.across {
                            (features, count)
                        } else {
                            (count, features)
                        };
                        let (out_row, out_lane) = if d.across {
                            (form.dst.feature, pixel)
                        } else {
                            (pixel, form.dst.feature)
                        };
                        let stride = vectors * S::LANES;
                        // SAFETY: the tile is in its room, and its results are the unit's.
                        unsafe { spread::<S>(tile, stride, rows, width, dst, out_row, out_lane) }
                    }
                    x += count;
                }
            }
        }
    }
}
