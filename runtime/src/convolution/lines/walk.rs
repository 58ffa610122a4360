//! The two passes of a convolution by lines: summing sections, and adding them.

use super::{Lines, Work};
use crate::convolution::copy::copy;
use crate::convolution::tiles::{LinesTile, Tiles};
use crate::convolution::{RowOrder, along};
use crate::pool::split;
use crate::product::pack::cut;
use std::ops::Range;

/// Sums that are added before the rows that they make up are told of: these stay in L1.
const COMBINED_BYTES: usize = 16 * 1024;

/// The first pass: the sums of this share's sections, or this share's part of the only one.
///
/// # Safety
/// The machine has the instruction set. All elements of the operands are readable; the scratch is this call's own, but for the sums of
/// sections, of which each share writes its own.
#[inline(always)]
pub(in crate::convolution) unsafe fn sums<S: Tiles>(p: &Lines, work: &Work<'_>) {
    let sections = p.blocks.sections;
    let (sections, items) = if sections > 1 {
        (split(sections, p.summing(), 1, work.share), 0..p.items())
    } else {
        (0..1, split(p.items(), p.summing(), 1, work.share))
    };
    for section in sections {
        let to = p
            .section(work.all, section, size_of::<S::Element>())
            .cast::<S::Element>();
        let blocks = p.blocks.of(section);
        for block in blocks.clone() {
            let each = p.blocks.lines_each;
            let lines = block * each..((block + 1) * each).min(p.blocks.lines);
            for group in 0..p.roles.groups {
                // SAFETY: the caller's promise is passed on; the lines are those of a block.
                unsafe {
                    pack::<S>(p, work, &lines, group);
                    let add = block > blocks.start;
                    tiles::<S>(p, work, lines.len(), group, &items, to, add);
                }
            }
        }
    }
}

/// Copies the rows of input that some lines see, and notes where each line begins in both operands.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn pack<S: Tiles>(p: &Lines, work: &Work<'_>, lines: &Range<usize>, group: usize) {
    let (form, features) = (&p.form, p.roles.features);
    let [outer, middle, inner] = form.axes;
    let row_lines = work.scratch.cast::<isize>();
    let lane_lines = work.scratch.wrapping_add(p.room.lane_lines).cast::<isize>();
    let rows = work.scratch.wrapping_add(p.room.rows).cast::<S::Element>();
    let packed = work.scratch.wrapping_add(p.room.lanes).cast::<S::Element>();
    let lhs = work.at.lhs.cast::<S::Element>();
    let rhs = work.at.rhs.cast::<S::Element>();
    let mut slot = 0;
    let mut line = lines.start;
    while line < lines.end {
        // The lines of one plane of one image.
        let y = line % middle.window;
        let z = line / middle.window % outer.window;
        let image = line / middle.window / outer.window;
        let count = (middle.window - y).min(lines.end - line);
        let lhs = lhs
            .wrapping_offset(image as isize * form.lhs.feature + group as isize * form.lhs.group);
        let slots = (count - 1) * middle.rhs_dilation + (middle.output - 1) * middle.stride + 1;
        for plane in 0..outer.output {
            let at_z = (plane * outer.stride + z * outer.rhs_dilation) as isize - outer.padding;
            for row in 0..slots {
                let seen = (0..middle.output).any(|o| {
                    let ahead = row.checked_sub(o * middle.stride);
                    ahead.is_some_and(|ahead| ahead.is_multiple_of(middle.rhs_dilation))
                });
                if !seen {
                    continue;
                }
                let at_y = (y * middle.rhs_dilation + row) as isize - middle.padding;
                let to = rows.wrapping_add((slot + plane * p.slots + row) * p.line);
                let inside = |at: isize, extent: usize| at >= 0 && (at as usize) < extent;
                if !inside(at_z, outer.input) || !inside(at_y, middle.input) {
                    // SAFETY: a row of the room; zeros are 0.
                    unsafe { to.write_bytes(0, p.line) }
                    continue;
                }
                let from =
                    lhs.wrapping_offset(at_z * form.lhs.spatial[0] + at_y * form.lhs.spatial[1]);
                let positions = p.line / features;
                let begin = inner.padding.max(0).unsigned_abs().min(positions);
                let end = (inner.input as isize + inner.padding).max(0) as usize;
                let end = end.clamp(begin, positions);
                // SAFETY: positions `begin` to `end` are those inside the input, in a row and a plane that are.
                unsafe {
                    to.write_bytes(0, begin * features);
                    to.wrapping_add(end * features)
                        .write_bytes(0, (positions - end) * features);
                    let at_x = begin as isize - inner.padding;
                    copy::<S>(
                        to.wrapping_add(begin * features),
                        features as isize,
                        from.wrapping_offset(at_x * form.lhs.spatial[2]),
                        features,
                        p.roles.feature,
                        end - begin,
                        form.lhs.spatial[2],
                    );
                }
            }
        }
        for index in 0..count {
            let place = line - lines.start + index;
            let row_line = ((slot + index * middle.rhs_dilation) * p.line) as isize;
            let window = [z as isize, (y + index) as isize, 0];
            let at = image as isize * form.rhs.feature_in
                + group as isize * form.rhs.group
                + window[0] * form.rhs.spatial[0]
                + window[1] * form.rhs.spatial[1];
            let lane_line = if p.packs {
                (place * inner.window * p.pitch) as isize
            } else {
                at
            };
            // SAFETY: the tables have room for the lines of a block, and the packed operand for their pixels; what is packed is a line of
            // the window.
            unsafe {
                row_lines.wrapping_add(place).write(row_line);
                lane_lines.wrapping_add(place).write(lane_line);
                if p.packs {
                    copy::<S>(
                        packed.wrapping_offset(lane_line),
                        p.pitch as isize,
                        rhs.wrapping_offset(at),
                        p.roles.lanes,
                        p.roles.lane,
                        inner.window,
                        form.rhs.spatial[2],
                    );
                }
            }
        }
        slot += outer.output * p.slots;
        line += count;
    }
}

/// The sums of one block over what is packed.
///
/// # Safety
/// As [`sums`]; `to` are the sums of a section.
#[inline(always)]
unsafe fn tiles<S: Tiles>(
    p: &Lines,
    work: &Work<'_>,
    lines: usize,
    group: usize,
    items: &Range<usize>,
    to: *mut S::Element,
    add: bool,
) {
    let (form, features) = (&p.form, p.roles.features);
    let [outer, middle, inner] = form.axes;
    let above = outer.output * middle.output;
    let rows = work.scratch.wrapping_add(p.room.rows).cast::<S::Element>();
    let (lanes, lane_step) = if p.packs {
        let packed = work.scratch.wrapping_add(p.room.lanes);
        (packed.cast::<S::Element>().cast_const(), p.pitch as isize)
    } else {
        (work.at.rhs.cast::<S::Element>(), form.rhs.spatial[2])
    };
    // What a tile's rows run through: positions and features together, features alone, or positions if lanes are groups.
    let (runs, run) = match (p.roles.depthwise, p.joined) {
        (true, _) => (1, inner.output),
        (false, true) => (1, features * inner.output),
        (false, false) => (inner.output, features),
    };
    let ahead = (inner.stride * features) as isize;
    for item in items.clone() {
        let Some(part) = p.parts.get(item / above) else {
            continue;
        };
        let position = item % above;
        let (z, y) = (position / middle.output, position % middle.output);
        let rows = rows.wrapping_add((z * p.slots + y * middle.stride) * p.line);
        let most = if p.roles.depthwise {
            S::MOST_GROUPS
        } else {
            S::most_lines(part.vectors).max(1)
        };
        for index in 0..runs {
            let rows = rows.wrapping_offset(index as isize * ahead);
            let first = ((group * above + position) * inner.output + index) * p.roles.rows;
            let tiles = run.div_ceil(most);
            for tile in 0..tiles {
                let range = cut(run, tiles, tile);
                let (kernel, rows) = if p.roles.depthwise {
                    let at = range.start as isize * ahead + part.first as isize;
                    (S::group_lines(range.len()), rows.wrapping_offset(at))
                } else {
                    let kernel = S::lines(range.len(), part.vectors);
                    (kernel, rows.wrapping_add(range.start))
                };
                let tile = LinesTile {
                    lines,
                    pixels: inner.window,
                    rows,
                    row: ahead,
                    row_lines: work.scratch.cast::<isize>(),
                    row_step: (inner.rhs_dilation * features) as isize,
                    lanes: lanes.wrapping_add(part.first),
                    lane_lines: work.scratch.wrapping_add(p.room.lane_lines).cast::<isize>(),
                    lane_step,
                    last: part.count - (part.vectors - 1) * S::LANES,
                    out: to.wrapping_add((first + range.start) * p.pitch + part.first),
                    out_row: p.pitch as isize,
                    add,
                };
                // SAFETY: the rows run through packed positions, the lanes through those of the part, and the sums are the section's.
                unsafe { kernel(&tile) }
            }
        }
    }
}

/// The second pass: adds the sums of the sections for this share's rows of the result, and calls `done` with them as they are finished.
///
/// # Safety
/// As [`sums`], and the first pass is over; the rows of the result are writable and nobody else touches them.
#[inline(always)]
pub(in crate::convolution) unsafe fn combine<S: Tiles>(
    p: &Lines,
    work: &Work<'_>,
    done: &mut dyn FnMut(Range<usize>),
) {
    let form = &p.form;
    let order = p.order.unwrap_or(RowOrder::PositionsFirst);
    let rows = split(p.rows(), p.combining(), 1, work.share);
    let element = size_of::<S::Element>();
    let each = (COMBINED_BYTES / (p.roles.groups * p.pitch * element)).max(1);
    let section = |index: usize| {
        let at = p.section(work.all, index, element);
        at.cast::<S::Element>().cast_const()
    };
    let lone = work.scratch.cast::<S::Element>();
    let mut first = rows.start;
    while first < rows.end {
        let last = rows.end.min(first + each);
        for row in first..last {
            let (image, outputs) = form.outputs(order, row);
            let dst = work
                .at
                .dst
                .cast::<S::Element>()
                .wrapping_offset(image as isize * form.dst.batch)
                .wrapping_offset(along(&outputs, &form.dst.spatial));
            for group in 0..p.roles.groups {
                let dst = dst.wrapping_offset(group as isize * form.dst.group);
                let [_, y, x] = form.axes.map(|axis| axis.output);
                let position = (outputs[0] * y + outputs[1]) * x + outputs[2];
                let positions = form.axes[0].output * y * x;
                let from = ((group * positions + position) * p.roles.rows + image) * p.pitch;
                for lane in (0..p.roles.lanes).step_by(S::LANES) {
                    let lanes = S::LANES.min(p.roles.lanes - lane);
                    // SAFETY: whole vectors of sums are there; the results are the row's. A vector that does not lie as the result does goes
                    // through the start of the scratch, which is this call's own and holds nothing that this pass needs.
                    unsafe {
                        let mut sum = S::load(section(0).wrapping_add(from + lane));
                        for index in 1..p.blocks.sections {
                            let other = S::load(section(index).wrapping_add(from + lane));
                            sum = S::add(sum, other);
                        }
                        let to = dst.wrapping_offset(lane as isize * p.roles.out_lane);
                        if p.roles.out_lane == 1 {
                            S::store_masked(to, sum, S::mask(lanes));
                        } else {
                            S::store(lone, sum);
                            for lane in 0..lanes {
                                to.wrapping_offset(lane as isize * p.roles.out_lane)
                                    .write(lone.wrapping_add(lane).read());
                            }
                        }
                    }
                }
            }
        }
        if p.completes_rows() {
            done(first..last);
        }
        first = last;
    }
}
