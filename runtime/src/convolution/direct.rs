//! Convolutions of images with windows smaller than they are: forward passes and gradients of inputs.
//!
//! A thread packs the window once, into vectors of lanes for each term. For some rows of outputs at a time it copies the rows of input
//! that they see into scratch that stays in cache: padded, one feature after the other, and pixels that neighbouring outputs see one
//! element apart. Then the terms of every output lie at offsets that depend on the term alone, which a table holds, and the tiles of
//! [`tiles`](super::tiles) need nothing else. There is never a matrix of patches.
//!
//! Nothing here can change a bit: each sum is the chain, or the chains, of the definition.

mod walk;

pub(super) use walk::units;

use super::axis::{Phases, Tap};
use super::tiles::{MOST_VECTORS, Tiles, WIDTHS, cycles, next_vectors};
use super::{Form, Operands, RowOrder};
use crate::product::DEPTH;
use crate::product::pack::cut;
use std::ops::Range;

/// The bytes of packed input, and of results, of a unit: together they stay in L2 beside a strip of the window.
const UNIT_BYTES: usize = 192 * 1024;

/// The bytes of packed input beyond which a row of outputs is cut.
const ROW_BYTES: usize = 512 * 1024;

/// Units for each thread, so that none waits long for another.
const UNITS_EACH: usize = 4;

/// The fewest rows of a unit that is cut for the sake of threads: neighbouring units pack the rows between them twice.
const FEWEST_ROWS: usize = 4;

/// The same for pixels of a row.
const FEWEST_PIXELS: usize = 64;

/// How a convolution is computed.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    form: Form,
    phases: [Phases; 3],
    order: Option<RowOrder>,
    /// Outputs of a unit along the middle and the inner axis, multiples of their phases.
    tall: usize,
    wide: usize,
    /// Units along each axis; a unit has one output of the outer one.
    blocks: [usize; 3],
    /// The remainders of elements along the inner axis that taps see, each with a packed row of its own.
    residues: Vec<Residue>,
    /// Elements from a feature of a packed row to the next.
    pitch: usize,
    /// Elements of all residues and features of a row.
    row: usize,
    /// Which of a plane's rows some output sees.
    rows: Vec<bool>,
    /// By outer phase, then middle, then inner.
    subs: Vec<Sub>,
    /// Whether pixels are lanes.
    across: bool,
    /// The vectors of a tile of pixels that lie across.
    vectors: usize,
    parts: Vec<Part>,
    /// Parts whose results go to their places together.
    bundles: Vec<Range<usize>>,
    /// Elements of the packed window of a group.
    weights: usize,
    room: Room,
}

#[derive(Clone, Debug)]
struct Residue {
    /// The remainder.
    at: usize,
    /// How many outputs ahead its taps look at most.
    ahead: usize,
}

/// The outputs of one phase along each axis.
#[derive(Clone, Debug)]
struct Sub {
    phase: [usize; 3],
    /// The terms that come before its own in the packed window.
    start: usize,
    /// The positions of the window, in order.
    taps: Vec<[usize; 3]>,
    /// Where each term lies in the packed input.
    offsets: Vec<i32>,
    /// The terms of each chain: there is always one, if only an empty one.
    chains: Vec<Range<usize>>,
}

/// Features that one tile computes.
#[derive(Clone, Debug)]
struct Part {
    first: usize,
    count: usize,
    vectors: usize,
    /// Elements of the packed window for each term.
    width: usize,
    /// Where its packed window begins in that of its group.
    at: usize,
}

/// Bytes from the start of the scratch: tiles on their way to the result come first.
#[derive(Clone, Copy, Debug)]
struct Room {
    weights: usize,
    image: usize,
    end: usize,
}

/// One thread's share.
pub(super) struct Work {
    pub(super) at: Operands,
    /// [`Direct::scratch`] bytes, aligned to 64.
    pub(super) scratch: *mut u8,
    pub(super) units: Range<usize>,
}

impl Direct {
    /// The way for a form of the first summation that has results and terms; `None` where no memory or table is large enough.
    pub(super) fn new<S: Tiles>(form: &Form, threads: usize) -> Option<Direct> {
        let phases = form.axes.map(|axis| axis.phases());
        let [_, middle, inner] = &phases;
        let element = size_of::<S::Element>();
        let residues = residues(inner);
        let outputs = form.axes.map(|axis| axis.output);
        // Bytes of input that so many rows of so many outputs see.
        let pitch = |wide: usize| {
            let ahead = residues.iter().map(|r| r.ahead).max().unwrap_or(0);
            wide.div_ceil(inner.every).checked_add(ahead)
        };
        let planes = phases[0]
            .taps
            .iter()
            .map(Vec::len)
            .max()
            .unwrap_or(0)
            .max(1);
        let slots = |tall: usize| {
            let walked = (tall.div_ceil(middle.every).max(1) - 1).checked_mul(middle.step)?;
            walked.checked_add(middle.span + 1)
        };
        let row = |wide: usize| {
            pitch(wide)?
                .checked_mul(form.features_in)?
                .checked_mul(residues.len().max(1))
        };
        let image = |tall: usize, wide: usize| {
            let rows = slots(tall)?.checked_mul(planes)?;
            rows.checked_mul(row(wide)?)?.checked_mul(element)
        };
        let results = |tall: usize, wide: usize| {
            let rows = tall.saturating_mul(wide).saturating_mul(element);
            rows.saturating_mul(form.groups)
                .saturating_mul(form.features_out)
        };
        let most = |extent: usize, every: usize| extent.div_ceil(every) * every;
        let mut wide = most(outputs[2], inner.every);
        while wide > inner.every * FEWEST_PIXELS && image(middle.every, wide)? > ROW_BYTES {
            wide = most(wide / 2, inner.every);
        }
        let mut tall = most(outputs[1], middle.every);
        while tall > middle.every
            && (image(tall, wide)? > UNIT_BYTES || results(tall, wide) > UNIT_BYTES)
        {
            tall -= middle.every;
        }
        let images = form.batch.checked_mul(outputs[0])?;
        let few = |tall: usize, wide: usize| {
            let each = outputs[1].div_ceil(tall) * outputs[2].div_ceil(wide);
            threads > 1 && images.saturating_mul(each) < UNITS_EACH * threads
        };
        while few(tall, wide) && tall > most(FEWEST_ROWS, middle.every) {
            tall -= middle.every;
        }
        while few(tall, wide) && wide > inner.every * FEWEST_PIXELS {
            wide = most(wide / 2, inner.every);
        }
        // Blocks of equal height.
        let tall = most(outputs[1].div_ceil(outputs[1].div_ceil(tall)), middle.every);
        let blocks = [
            outputs[0],
            outputs[1].div_ceil(tall),
            outputs[2].div_ceil(wide),
        ];
        images.checked_mul(blocks[1])?.checked_mul(blocks[2])?;

        let (pitch, row) = (pitch(wide)?, row(wide)?);
        let slots = slots(tall)?;
        let mut rows = vec![false; slots];
        for tap in middle.taps.iter().flatten() {
            for j in 0..tall.div_ceil(middle.every) {
                if let Some(seen) = rows.get_mut(tap.at + j * middle.step) {
                    *seen = true;
                }
            }
        }
        let lies = Lies {
            residues: &residues,
            pitch,
            row,
            plane: slots.checked_mul(row)?,
        };
        i32::try_from(lies.plane.checked_mul(planes)?).ok()?;
        let subs = subs(form, &phases, &lies);
        let depth = subs.iter().map(|sub| sub.offsets.len()).sum();

        let pixels = wide.min(outputs[2]).div_ceil(inner.every);
        let (across, vectors) = choose::<S>(form, pixels, inner.every, depth / subs.len().max(1));
        let (parts, bundles, weights) = parts::<S>(form, across, vectors, depth)?;
        let tile = MOST_VECTORS * S::LANES * element;
        let round = |elements: usize| elements.checked_mul(element)?.checked_next_multiple_of(64);
        let room_weights = round(weights.checked_mul(form.groups)?)?;
        // Vectors of pixels reach beyond the last row.
        let slack = 8 * S::LANES;
        let room_image = round((lies.plane * planes).checked_add(slack)?)?;
        let room = Room {
            weights: tile,
            image: tile.checked_add(room_weights)?,
            end: tile.checked_add(room_weights)?.checked_add(room_image)?,
        };
        Some(Direct {
            order: form.row_order(),
            form: form.clone(),
            tall,
            wide,
            blocks,
            pitch,
            row,
            rows,
            subs,
            across,
            vectors,
            parts,
            bundles,
            weights,
            room,
            residues,
            phases,
        })
    }

    pub(super) fn scratch(&self) -> usize {
        self.room.end
    }

    pub(super) fn units(&self) -> usize {
        self.form.batch * self.blocks.iter().product::<usize>()
    }

    /// Whether the rows of the result are told of as they are finished.
    pub(super) fn completes_rows(&self) -> bool {
        self.order == Some(RowOrder::ImagesFirst)
    }
}

/// The remainders along the inner axis, in ascending order.
fn residues(inner: &Phases) -> Vec<Residue> {
    let taps = || inner.taps.iter().flatten();
    let mut found: Vec<usize> = taps().map(|tap| tap.at % inner.step).collect();
    found.sort_unstable();
    found.dedup();
    let ahead = |at: usize| {
        let alike = taps().filter(|tap| tap.at % inner.step == at);
        alike.map(|tap| tap.at / inner.step).max().unwrap_or(0)
    };
    found
        .into_iter()
        .map(|at| Residue {
            at,
            ahead: ahead(at),
        })
        .collect()
}

/// Where things lie in the packed input.
struct Lies<'a> {
    residues: &'a [Residue],
    pitch: usize,
    row: usize,
    plane: usize,
}

/// The outputs by phase, with their terms in the order of the definition.
fn subs(form: &Form, phases: &[Phases; 3], lies: &Lies<'_>) -> Vec<Sub> {
    let [outer, middle, inner] = phases;
    let mut found: Vec<Sub> = Vec::new();
    let mut start = 0;
    for (z, outer_taps) in outer.taps.iter().enumerate() {
        for (y, middle_taps) in middle.taps.iter().enumerate() {
            for (x, inner_taps) in inner.taps.iter().enumerate() {
                let mut taps = Vec::new();
                let mut bases = Vec::new();
                for (plane, tap_z) in outer_taps.iter().enumerate() {
                    for tap_y in middle_taps {
                        for tap_x in inner_taps {
                            taps.push([tap_z.window, tap_y.window, tap_x.window]);
                            let inside = inner_offset(form, inner, lies, tap_x);
                            bases.push(plane * lies.plane + tap_y.at * lies.row + inside);
                        }
                    }
                }
                let mut offsets = Vec::new();
                let mut chains = Vec::new();
                for first in (0..form.features_in).step_by(DEPTH) {
                    let features = first..form.features_in.min(first + DEPTH);
                    let chain = offsets.len();
                    for base in &bases {
                        let terms = features.clone().map(|f| base + f * lies.pitch);
                        // The whole of the packed input was found to be within reach of 31 bits.
                        offsets.extend(terms.map(|offset| offset as i32));
                    }
                    chains.push(chain..offsets.len());
                }
                let length = offsets.len();
                found.push(Sub {
                    phase: [z, y, x],
                    start,
                    taps,
                    offsets,
                    chains,
                });
                start += length;
            }
        }
    }
    found
}

/// Where feature 0 at a tap of the inner axis lies in a packed row.
fn inner_offset(form: &Form, inner: &Phases, lies: &Lies<'_>, tap: &Tap) -> usize {
    let residue = tap.at % inner.step;
    let place = lies.residues.iter().position(|r| r.at == residue);
    place.unwrap_or(0) * form.features_in * lies.pitch + tap.at / inner.step
}

/// Whether pixels are lanes, and how many vectors wide tiles are: by an estimate of cycles for a row of `pixels` outputs.
fn choose<S: Tiles>(form: &Form, pixels: usize, every: usize, depth: usize) -> (bool, usize) {
    let features = form.features_out;
    let lanes_of = |count: usize| count.div_ceil(S::LANES);
    // A result that does not lie as a tile does is moved a vector at a time.
    let moved = |direct: bool| {
        let vectors = (lanes_of(features) * pixels).min(lanes_of(pixels) * features);
        let each = if direct { 1.0 } else { 5.0 };
        each * vectors as f64
    };
    let straight = WIDTHS.iter().filter_map(|width| {
        let most = S::most_straight(*width);
        let strips = lanes_of(features).div_ceil(*width);
        if most == 0 || *width > lanes_of(features) {
            return None;
        }
        let tiles = pixels.div_ceil(most);
        let rows = pixels as f64 / tiles as f64;
        let one = cycles(rows, *width, 1.0) * (tiles * strips) as f64;
        let direct = form.dst.feature == 1;
        Some((false, *width, one * depth as f64 + moved(direct)))
    });
    let across = WIDTHS.iter().filter_map(|width| {
        let most = S::most_across(*width).min(S::LANES);
        if most == 0 || *width > lanes_of(pixels) {
            return None;
        }
        let tiles = lanes_of(pixels).div_ceil(*width);
        let groups =
            features / S::LANES * S::LANES.div_ceil(most) + (features % S::LANES).div_ceil(most);
        let rows = features as f64 / groups as f64;
        // A vector that begins anywhere crosses a line.
        let one = cycles(rows, *width, 2.0) * (tiles * groups) as f64;
        let direct = form.dst.spatial[2] * every as isize == 1;
        Some((true, *width, one * depth as f64 + moved(direct)))
    });
    straight
        .chain(across)
        .reduce(|best, next| if next.2 < best.2 { next } else { best })
        .map_or((false, 1), |(across, width, _)| (across, width))
}

/// The features that tiles compute, which of them go to the result together, and the elements of the packed window.
fn parts<S: Tiles>(
    form: &Form,
    across: bool,
    vectors: usize,
    depth: usize,
) -> Option<(Vec<Part>, Vec<Range<usize>>, usize)> {
    let (mut parts, mut bundles) = (Vec::new(), Vec::new());
    let mut at = 0usize;
    let mut first = 0;
    while first < form.features_out {
        let left = form.features_out - first;
        let begun = parts.len();
        let count = if across {
            let count = left.min(S::LANES);
            let tiles = count.div_ceil(S::most_across(vectors).clamp(1, S::LANES));
            for index in 0..tiles {
                let range = cut(count, tiles, index);
                parts.push(Part {
                    first: first + range.start,
                    count: range.len(),
                    vectors,
                    width: S::LANES,
                    at,
                });
                at = at.checked_add(S::LANES.checked_mul(depth)?)?;
            }
            count
        } else {
            let vectors = next_vectors::<S>(left, vectors);
            let count = left.min(vectors * S::LANES);
            let width = vectors * S::LANES;
            parts.push(Part {
                first,
                count,
                vectors,
                width,
                at,
            });
            at = at.checked_add(width.checked_mul(depth)?)?;
            count
        };
        bundles.push(begun..parts.len());
        first += count;
    }
    Some((parts, bundles, at))
}
