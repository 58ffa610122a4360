//! Convolutions with windows that are images: gradients of windows.
//!
//! Each line of the window is a run of pixels, and what it adds to the result is an outer product at each of them: features of the input
//! at some positions by features of the other operand. All sums of a tile stay in registers over the lines of a block. The positions
//! that neighbouring results see are neighbours in a padded copy of the input's rows, so the rows of a tile run through positions and
//! features alike.
//!
//! Sections of the definition are shared out among threads, each summed into memory of its own; then the sections are added, in order.
//! A dilated input cuts the pixels of a line into phases, as it does outputs elsewhere: a position of the result meets those of one phase.
//!
//! Where the result is large there is only one section, and its parts are shared out instead. Which thread does what changes no bit.

mod walk;

pub(super) use walk::{combine, sums};

use super::axis::{Axis, Phases};
use super::tiles::{Tiles, WIDTHS, cycles, next_vectors};
use super::{Blocks, Form, Operands, RowOrder};

/// Sections whose sums are fewer than this are added on one thread.
const PARALLEL_SUMS: usize = 64 * 1024;

/// What the axes of a form are to this way.
///
/// Where each group has one feature on either side, groups are what rows run through and lanes at once, each lane for itself.
#[derive(Clone, Debug)]
struct Roles {
    /// Whether a lane meets its own row only.
    depthwise: bool,
    /// What is walked one after the other.
    groups: usize,
    /// What lies together at a position of the input, and from one to the next.
    features: usize,
    feature: isize,
    /// The lanes, and from one to the next in the other operand and in the result.
    lanes: usize,
    lane: isize,
    out_lane: isize,
    /// Rows of sums at a position of the result.
    rows: usize,
}

/// How a convolution is computed.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    form: Form,
    roles: Roles,
    /// The axes with window and result exchanged: the pixels of a line by phase, and which positions of the result each phase sees.
    phases: [Phases; 3],
    blocks: Blocks,
    order: Option<RowOrder>,
    threads: usize,
    /// The positions along the inner axis of the result, cut into those that tiles may run through.
    runs: Vec<Run>,
    /// Elements of a padded row of the input.
    line: usize,
    /// Padded rows of a plane, and planes, that the lines of a block see at most in one plane of the window of one image.
    slots: usize,
    planes: usize,
    parts: Vec<Part>,
    /// Sums of a position and a feature of the input, in whole vectors.
    pitch: usize,
    /// Sums of a section.
    sums: usize,
    /// Whether the other operand is packed: its features do not follow one another.
    packs: bool,
    room: Room,
}

/// Features of the other operand that are the lanes of tiles.
#[derive(Clone, Debug)]
struct Part {
    first: usize,
    count: usize,
    vectors: usize,
}

/// Positions of the result along the inner axis that follow one another evenly in the input.
#[derive(Clone, Debug)]
struct Run {
    first: usize,
    count: usize,
    /// Where the first lies in a padded row, and from one to the next, in positions.
    at: usize,
    step: usize,
    /// The pixels that they meet: how many, and the first; none where the input has no element there.
    pixels: usize,
    phase: usize,
}

/// Bytes from the start of the scratch: where lines begin in the one operand comes first.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Where lines begin in the other operand.
    lane_lines: usize,
    /// The padded rows of the input.
    rows: usize,
    /// The other operand, if packed.
    lanes: usize,
    /// The sums of sections.
    sums: usize,
    end: usize,
}

/// One thread's share of either pass.
pub(super) struct Work<'a> {
    pub(super) at: Operands,
    /// This thread's scratch: [`Lines::scratch`] bytes, aligned to 64.
    pub(super) scratch: *mut u8,
    /// That of each thread.
    pub(super) all: &'a dyn Fn(usize) -> *mut u8,
    /// Which of the pass's shares.
    pub(super) share: usize,
}

impl Lines {
    /// The way for a form of the second summation that has results and terms; `None` where no memory is large
    /// enough.
    pub(super) fn new<S: Tiles>(form: &Form, threads: usize) -> Option<Lines> {
        let blocks = form.blocks();
        let element = size_of::<S::Element>();
        let roles = roles(form);
        let windows = form.axes.map(|axis| axis.window);
        let phases = form.axes.map(|axis| axis.exchanged().phases());
        let [outer, middle, inner] = &phases;
        let positions = (windows[2] - 1) / inner.every * inner.step + inner.span + 1;
        let line = positions.checked_mul(roles.features)?;
        let tall = blocks.lines_each.min(windows[1]);
        // A block may begin anywhere in its phases.
        let walked = (tall - 1) / middle.every + usize::from(middle.every > 1);
        let slots = walked
            .checked_mul(middle.step)?
            .checked_add(middle.span + 1)?;
        let planes = outer.taps.iter().map(Vec::len).max().unwrap_or(0);
        let segments = (blocks.lines_each - 1) / windows[1] + 2;
        let segments = segments.min(blocks.lines_each);
        let runs = runs(&form.axes[2], inner, roles.depthwise);
        let widest = if roles.depthwise {
            1
        } else {
            let longest = runs.iter().map(|run| run.count).max().unwrap_or(1);
            widest::<S>(roles.features * longest, roles.lanes)
        };
        let mut parts = Vec::new();
        let mut first = 0;
        while first < roles.lanes {
            let left = roles.lanes - first;
            let vectors = next_vectors::<S>(left, widest);
            let count = left.min(vectors * S::LANES);
            parts.push(Part {
                first,
                count,
                vectors,
            });
            first += count;
        }
        let pitch = roles.lanes.checked_next_multiple_of(S::LANES)?;
        let packs = roles.lane != 1 && roles.lanes > 1;
        let sums = roles
            .groups
            .checked_mul(form.positions()?)?
            .checked_mul(roles.rows)?
            .checked_mul(pitch)?;
        let round = |elements: usize| elements.checked_mul(element)?.checked_next_multiple_of(64);
        let table = (blocks.lines_each * size_of::<isize>()).next_multiple_of(64);
        let rows = segments
            .checked_mul(planes)?
            .checked_mul(slots)?
            .checked_mul(line)?;
        let lanes = if packs {
            let pixels = blocks.lines_each.checked_mul(windows[2])?;
            pixels.checked_mul(pitch)?
        } else {
            0
        };
        let held = sums.checked_mul(blocks.sections.div_ceil(threads.max(1)))?;
        let mut room = Room {
            lane_lines: table,
            rows: 2 * table,
            lanes: 0,
            sums: 0,
            end: 0,
        };
        room.lanes = room.rows.checked_add(round(rows)?)?;
        room.sums = room.lanes.checked_add(round(lanes)?)?;
        room.end = room.sums.checked_add(round(held)?)?;
        Some(Lines {
            order: form.row_order(),
            form: form.clone(),
            roles,
            blocks,
            threads: threads.max(1),
            runs,
            line,
            slots,
            planes,
            phases,
            parts,
            pitch,
            sums,
            packs,
            room,
        })
    }

    pub(super) fn scratch(&self) -> usize {
        self.room.end
    }

    /// Outer positions of the result by parts of lanes.
    fn items(&self) -> usize {
        self.form.axes[0].output * self.form.axes[1].output * self.parts.len()
    }

    /// The shares of the first pass, which sums sections.
    pub(super) fn summing(&self) -> usize {
        if self.blocks.sections > 1 {
            self.threads.min(self.blocks.sections)
        } else {
            self.threads.min(self.items())
        }
    }

    /// The shares of the second pass, which adds them.
    pub(super) fn combining(&self) -> usize {
        if self.sums * self.blocks.sections < PARALLEL_SUMS {
            1
        } else {
            self.threads.min(self.rows())
        }
    }

    /// Rows of the result.
    fn rows(&self) -> usize {
        let outputs: usize = self.form.axes.iter().map(|axis| axis.output).product();
        outputs * self.form.batch
    }

    /// Whether the rows of the result are told of as they are finished.
    pub(super) fn completes_rows(&self) -> bool {
        self.order.is_some()
    }

    /// The sums of a section; sections lie in turns in the scratch of each thread.
    fn section(&self, all: &dyn Fn(usize) -> *mut u8, section: usize, element: usize) -> *mut u8 {
        let before = section / self.threads * self.sums * element;
        all(section % self.threads).wrapping_add(self.room.sums + before)
    }
}

/// The positions of the result along the inner axis, cut where they do not follow one another; `inner` are the phases of its pixels.
fn runs(axis: &Axis, inner: &Phases, depthwise: bool) -> Vec<Run> {
    // One phase that sees every position sees them evenly apart.
    if let [taps] = &inner.taps[..]
        && let [first, others @ ..] = &taps[..]
        && taps.len() == axis.output
    {
        let step = others.first().map_or(1, |next| next.at - first.at);
        if depthwise || step == 1 {
            return vec![Run {
                first: 0,
                count: axis.output,
                at: first.at,
                step,
                pixels: inner.among(0, axis.window),
                phase: 0,
            }];
        }
    }
    let run = |position: usize| {
        let met = inner.taps.iter().enumerate().find_map(|(phase, taps)| {
            let tap = taps.iter().find(|tap| tap.window == position)?;
            Some((phase, tap.at, inner.among(phase, axis.window)))
        });
        let (phase, at, pixels) = met.unwrap_or((0, 0, 0));
        Run {
            first: position,
            count: 1,
            at,
            step: 0,
            pixels,
            phase,
        }
    };
    (0..axis.output).map(run).collect()
}

fn roles(form: &Form) -> Roles {
    if form.batch == 1 && form.features_out == 1 && form.groups > 1 {
        Roles {
            depthwise: true,
            groups: 1,
            features: form.groups,
            feature: form.lhs.group,
            lanes: form.groups,
            lane: form.rhs.group,
            out_lane: form.dst.group,
            rows: 1,
        }
    } else {
        Roles {
            depthwise: false,
            groups: form.groups,
            features: form.batch,
            feature: form.lhs.batch,
            lanes: form.features_out,
            lane: form.rhs.feature_out,
            out_lane: form.dst.feature,
            rows: form.batch,
        }
    }
}

/// The widest tile that pays for rows of so many elements by so many lanes.
fn widest<S: Tiles>(run: usize, lanes: usize) -> usize {
    let vectors = lanes.div_ceil(S::LANES);
    let cost = |width: usize| {
        let most = S::most_lines(width);
        if most == 0 || width > vectors {
            return None;
        }
        let tiles = run.div_ceil(most);
        let each = cycles(run as f64 / tiles as f64, width, 1.0);
        Some((width, each * (tiles * vectors.div_ceil(width)) as f64))
    };
    WIDTHS
        .into_iter()
        .filter_map(cost)
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .map_or(1, |(width, _)| width)
}
