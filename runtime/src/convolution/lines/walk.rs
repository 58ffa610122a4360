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
                    tiles::<S>(p, work, &lines, group, &items, to, add);
                }
            }
        }
    }
}

/// Lines of one plane of the window of one image.
struct Segment {
    image: usize,
    z: usize,
    /// The first, and how many.
    y: usize,
    count: usize,
    /// The lines of the block that come before.
    before: usize,
    /// The padded rows that come before.
    slot: usize,
}

/// The segment of a block that begins with `line`; there are `index` before it.
#[inline(always)]
fn segment(p: &Lines, lines: &Range<usize>, line: usize, index: usize) -> Segment {
    let [z, y, _] = p.form.axes.map(|axis| axis.window);
    Segment {
        image: line / y / z,
        z: line / y % z,
        y: line % y,
        count: (y - line % y).min(lines.end - line),
        before: line - lines.start,
        slot: index * p.planes * p.slots,
    }
}

/// Copies the rows of input that some lines see, and the lines themselves where their lanes do not follow one another.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn pack<S: Tiles>(p: &Lines, work: &Work<'_>, lines: &Range<usize>, group: usize) {
    let (form, features) = (&p.form, p.roles.features);
    let [outer, middle, inner] = &p.phases;
    let rows = work.scratch.wrapping_add(p.room.rows).cast::<S::Element>();
    let packed = work.scratch.wrapping_add(p.room.lanes).cast::<S::Element>();
    let lhs = work
        .at
        .lhs
        .cast::<S::Element>()
        .wrapping_offset(group as isize * form.lhs.group);
    let rhs = work.at.rhs.cast::<S::Element>();
    let inside = |at: isize, axis: usize| at >= 0 && (at as usize) < form.axes[axis].input;
    let positions = p.line / features;
    let begin = inner.first.min(0).unsigned_abs().min(positions);
    let end = (form.axes[2].input as isize - inner.first).max(0) as usize;
    let end = end.clamp(begin, positions);
    let at_x = inner.first + begin as isize;
    let (mut line, mut index) = (lines.start, 0);
    while line < lines.end {
        let segment = segment(p, lines, line, index);
        let Segment { image, z, y, .. } = segment;
        let lhs = lhs.wrapping_offset(image as isize * form.lhs.feature);
        let first = y / middle.every;
        let last = (y + segment.count - 1) / middle.every;
        let slots = (last - first) * middle.step + middle.span + 1;
        let planes = outer
            .taps
            .get(z % outer.every)
            .map_or(&[][..], Vec::as_slice);
        for (plane, tap) in planes.iter().enumerate() {
            let at_z = outer.first + (tap.at + z / outer.every * outer.step) as isize;
            for row in 0..slots {
                let mut taps = middle.taps.iter().flatten();
                if !taps.any(|tap| row >= tap.at && (row - tap.at).is_multiple_of(middle.step)) {
                    continue;
                }
                let at_y = middle.first + (first * middle.step + row) as isize;
                let to = rows.wrapping_add((segment.slot + plane * p.slots + row) * p.line);
                if !inside(at_z, 0) || !inside(at_y, 1) {
                    // SAFETY: a row of the room; zeros are 0.
                    unsafe { to.write_bytes(0, p.line) }
                    continue;
                }
                let [step_z, step_y, step_x] = form.lhs.spatial;
                // SAFETY: positions `begin` to `end` are those inside the input, in a row and a plane that are.
                unsafe {
                    to.write_bytes(0, begin * features);
                    to.wrapping_add(end * features)
                        .write_bytes(0, (positions - end) * features);
                    copy::<S>(
                        to.wrapping_add(begin * features),
                        features as isize,
                        lhs.wrapping_offset(at_z * step_z + at_y * step_y + at_x * step_x),
                        features,
                        p.roles.feature,
                        end - begin,
                        step_x,
                    );
                }
            }
        }
        if p.packs {
            let pixels = form.axes[2].window;
            for i in 0..segment.count {
                // SAFETY: a line of the window, and its place in the room.
                unsafe {
                    copy::<S>(
                        packed.wrapping_add((segment.before + i) * pixels * p.pitch),
                        p.pitch as isize,
                        rhs.wrapping_offset(line_start(p, &segment, i, group)),
                        p.roles.lanes,
                        p.roles.lane,
                        pixels,
                        form.rhs.spatial[2],
                    );
                }
            }
        }
        line += segment.count;
        index += 1;
    }
}

/// Where a line of a segment begins in the other operand.
#[inline(always)]
fn line_start(p: &Lines, segment: &Segment, line: usize, group: usize) -> isize {
    let rhs = &p.form.rhs;
    let window = [segment.z, segment.y + line, 0];
    segment.image as isize * rhs.feature_in
        + group as isize * rhs.group
        + along(&window, &rhs.spatial)
}

/// Notes where the lines of a block begin in both operands that meet the input at a position of the result along the outer axes, and
/// returns how many these are.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn note(
    p: &Lines,
    work: &Work<'_>,
    lines: &Range<usize>,
    group: usize,
    [at_z, at_y]: [usize; 2],
) -> usize {
    let [outer, middle, _] = &p.phases;
    let row_lines = work.scratch.cast::<isize>();
    let lane_lines = work.scratch.wrapping_add(p.room.lane_lines).cast::<isize>();
    let (mut line, mut index, mut noted) = (lines.start, 0, 0);
    while line < lines.end {
        let segment = segment(p, lines, line, index);
        line += segment.count;
        index += 1;
        let planes = outer.taps.get(segment.z % outer.every);
        let Some(plane) = planes.and_then(|t| t.iter().position(|tap| tap.window == at_z)) else {
            continue;
        };
        let first = segment.y / middle.every;
        for i in 0..segment.count {
            let y = segment.y + i;
            let taps = middle.taps.get(y % middle.every);
            let Some(tap) = taps.and_then(|t| t.iter().find(|tap| tap.window == at_y)) else {
                continue;
            };
            let row = tap.at + (y / middle.every - first) * middle.step;
            let slot = segment.slot + plane * p.slots + row;
            let lane_line = if p.packs {
                ((segment.before + i) * p.form.axes[2].window * p.pitch) as isize
            } else {
                line_start(p, &segment, i, group)
            };
            // SAFETY: the tables have room for the lines of a block.
            unsafe {
                row_lines
                    .wrapping_add(noted)
                    .write((slot * p.line) as isize);
                lane_lines.wrapping_add(noted).write(lane_line);
            }
            noted += 1;
        }
    }
    noted
}

/// The sums of one block over what is packed.
///
/// # Safety
/// As [`sums`]; `to` are the sums of a section.
#[inline(always)]
unsafe fn tiles<S: Tiles>(
    p: &Lines,
    work: &Work<'_>,
    lines: &Range<usize>,
    group: usize,
    items: &Range<usize>,
    to: *mut S::Element,
    add: bool,
) {
    let (form, features) = (&p.form, p.roles.features);
    let inner = &p.phases[2];
    let [outputs_z, outputs_y, outputs_x] = form.axes.map(|axis| axis.output);
    let rows = work.scratch.wrapping_add(p.room.rows).cast::<S::Element>();
    let (lanes, pixel) = if p.packs {
        let packed = work.scratch.wrapping_add(p.room.lanes);
        (packed.cast::<S::Element>().cast_const(), p.pitch as isize)
    } else {
        (work.at.rhs.cast::<S::Element>(), form.rhs.spatial[2])
    };
    let (mut noted, mut count) = (None, 0);
    for item in items.clone() {
        let position = item / p.parts.len();
        let Some(part) = p.parts.get(item % p.parts.len()) else {
            continue;
        };
        if noted != Some(position) {
            noted = Some(position);
            let at = [position / outputs_y, position % outputs_y];
            // SAFETY: the caller's promise is passed on.
            count = unsafe { note(p, work, lines, group, at) };
        }
        for run in &p.runs {
            let rows = rows.wrapping_add(run.at * features);
            let step = run.step * features;
            // What the rows of tiles run through: positions if lanes are groups, and otherwise the features at each too.
            let (length, most) = if p.roles.depthwise {
                (run.count, S::MOST_GROUPS)
            } else {
                (run.count * features, S::most_lines(part.vectors).max(1))
            };
            let first = (group * outputs_z * outputs_y + position) * outputs_x + run.first;
            let tiles = length.div_ceil(most);
            for tile in 0..tiles {
                let range = cut(length, tiles, tile);
                let (kernel, rows) = if p.roles.depthwise {
                    let kernel = S::group_lines(range.len());
                    (kernel, rows.wrapping_add(range.start * step + part.first))
                } else {
                    let kernel = S::lines(range.len(), part.vectors);
                    (kernel, rows.wrapping_add(range.start))
                };
                let tile = LinesTile {
                    lines: count,
                    pixels: run.pixels,
                    rows,
                    row: step as isize,
                    row_lines: work.scratch.cast::<isize>(),
                    row_step: (inner.step * features) as isize,
                    lanes: lanes
                        .wrapping_offset(run.phase as isize * pixel)
                        .wrapping_add(part.first),
                    lane_lines: work.scratch.wrapping_add(p.room.lane_lines).cast::<isize>(),
                    lane_step: inner.every as isize * pixel,
                    last: part.count - (part.vectors - 1) * S::LANES,
                    out: to
                        .wrapping_add((first * p.roles.rows + range.start) * p.pitch + part.first),
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
