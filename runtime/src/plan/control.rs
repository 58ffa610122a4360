//! The steps of a plan that run other steps, and what loops move.
//!
//! A slice has no address of its own: each mention of it is a position in the plan's table that its loop writes before every iteration.
//! In a parallel loop every thread needs such positions of its own, so the table holds the whole body's once for each thread, one block
//! behind the other, and a thread adds the distance of its block to every position.

use super::{Context, Plan, PlanError, Resolved, Spot};
use crate::profile::Cost;
use crate::share::PARALLEL_ELEMENTS;
use kiln_ir::program::{
    Access, Bodies, Branch, Copy, Home, Loop, Part, Slice, Step, While, root_of, slices_of,
    stretch_of,
};
use kiln_ir::{BindError, BufferId};
use std::ops::Range;

/// A loop under a binding.
pub(crate) struct LoopCall {
    /// At least one.
    pub(crate) trip: usize,
    /// Where the body ends among the plan's steps.
    pub(crate) end: usize,
    /// Positions in the plan's moves.
    pub(crate) moves: Range<usize>,
    /// The products, positions in the plan's steps, whose right sides are packed before the first iteration.
    pub(crate) packs: Vec<usize>,
    /// How the iterations are shared out, where they are independent.
    pub(crate) parallel: Option<Parallel>,
}

/// How the iterations of a parallel loop are shared out.
pub(crate) struct Parallel {
    /// From a thread's addresses to the next one's.
    pub(crate) stride: usize,
    /// The number of shares, at most one for each thread.
    pub(crate) shares: usize,
}

/// A slice that a loop moves: before each iteration the address of an entry is written to all its targets.
pub(crate) struct Move {
    /// Where the address of the first entry is in the plan's addresses.
    pub(crate) base: usize,
    /// The number of entries, above 0.
    pub(crate) entries: usize,
    /// The entry of iteration 0, below `entries`.
    pub(crate) first: usize,
    /// From an iteration to the next: the bytes of an entry, or as many backwards.
    pub(crate) step: isize,
    /// The bytes of all entries.
    pub(crate) whole: usize,
    /// What brings an offset that left the entries back: `whole` in the other direction.
    pub(crate) wrap: isize,
    /// Positions in the plan's targets, at least one.
    pub(crate) targets: Range<usize>,
}

/// Elements that are copied as they are.
pub(crate) struct CopyCall {
    /// Positions in the plan's addresses, and the bytes from there.
    pub(crate) from: (usize, usize),
    /// The same.
    pub(crate) to: (usize, usize),
    /// The number of bytes.
    pub(crate) bytes: usize,
}

/// A position in the plan's addresses that takes the address of a slice.
#[derive(Clone, Copy)]
pub(super) struct Mention {
    /// The loop that moves the slice.
    pub(super) at: usize,
    pub(super) buffer: BufferId,
    pub(super) position: usize,
}

/// FLOPs that take as long as to touch an element, about: where it is decided whether a parallel loop is worth a fork.
const FLOPS_PER_ELEMENT: u64 = 16;

impl Plan {
    /// Makes room for a step that comes before its bodies but is known after them, and says where.
    fn hold(&mut self, step: usize) -> usize {
        let at = self.steps.len();
        let (condition, end) = (0, at + 1);
        self.steps.push(Resolved::Branch {
            condition,
            otherwise: end,
            end,
        });
        self.costs.push(Cost {
            step,
            ..Cost::default()
        });
        at
    }

    /// Sums up what the bodies of the step at `at` cost, which are the last steps so far and run so many times.
    fn count(&mut self, at: usize, times: u64) -> Cost {
        let (mut bytes, mut flops) = (0u64, 0u64);
        let mut next = at + 1;
        while next < self.steps.len() {
            bytes = bytes.saturating_add(self.costs[next].bytes);
            flops = flops.saturating_add(self.costs[next].flops);
            next = self.steps[next].end(next);
        }
        let cost = &mut self.costs[at];
        cost.bytes = bytes.saturating_mul(times);
        cost.flops = flops.saturating_mul(times);
        *cost
    }

    /// Repeats the positions from `first` on for all threads but one, and returns from a thread's to the next one's.
    fn repeat_spots(&mut self, first: usize, threads: usize) -> usize {
        let last = self.spots.len();
        let stride = last - first;
        for thread in 1..threads {
            for position in first..last {
                let location = self.spots[position].location;
                self.spots.push(Spot { location, thread });
            }
        }
        let copies = |position: usize| {
            let threads = if position >= first { threads } else { 1 };
            (1..threads).map(move |thread| position + thread * stride)
        };
        let feeds = self.feeds.iter();
        let more = feeds.flat_map(|(position, input)| copies(*position).map(|at| (at, *input)));
        let more: Vec<(usize, usize)> = more.collect();
        self.feeds.extend(more);
        let mentions = self.mentions.iter();
        let more = mentions.flat_map(|mention| {
            copies(mention.position).map(|position| Mention {
                position,
                ..*mention
            })
        });
        let more: Vec<Mention> = more.collect();
        self.mentions.extend(more);
        stride
    }
}

impl Resolved {
    /// Where the step behind this one and its bodies is, of the one at `at`.
    pub(crate) fn end(&self, at: usize) -> usize {
        match self {
            Resolved::Loop(l) => l.end,
            Resolved::While { end, .. } | Resolved::Branch { end, .. } => *end,
            Resolved::Kernel(_)
            | Resolved::Product(_)
            | Resolved::Convolution(_)
            | Resolved::Guard { .. }
            | Resolved::Copy(_)
            | Resolved::Custom(_) => at + 1,
        }
    }
}

impl Context<'_> {
    /// A loop with its body; nothing where it has no iteration.
    pub(super) fn repeat(
        &self,
        plan: &mut Plan,
        l: &Loop,
        body: Range<usize>,
        position: usize,
    ) -> Result<(), PlanError> {
        let trip = l.trip.eval_size(self.bindings)?;
        if trip == 0 {
            return Ok(());
        }
        let within = Context {
            threads: if l.parallel { 1 } else { self.threads },
            ..*self
        };
        let first = plan.spots.len();
        let at = plan.hold(position);
        within.steps(plan, body)?;
        let moves = within.moves(plan, position, trip)?;
        let Cost { bytes, flops, .. } = plan.count(at, trip as u64);
        let parallel = l.parallel.then(|| {
            let elements = bytes / size_of::<f32>() as u64 + flops / FLOPS_PER_ELEMENT;
            let shares = if elements < PARALLEL_ELEMENTS as u64 {
                1
            } else {
                self.threads.min(trip)
            };
            let stride = plan.repeat_spots(first, shares);
            Parallel { stride, shares }
        });
        let packed_here = |index: &usize| match &plan.steps[*index] {
            Resolved::Product(product) => product.packed.is_some_and(|p| p.at == position),
            Resolved::Kernel(_)
            | Resolved::Convolution(_)
            | Resolved::Guard { .. }
            | Resolved::Copy(_)
            | Resolved::Custom(_)
            | Resolved::Loop(_)
            | Resolved::While { .. }
            | Resolved::Branch { .. } => false,
        };
        let end = plan.steps.len();
        let packs = (at + 1..end).filter(packed_here).collect();
        if !l.parallel {
            plan.ask_ahead(at + 1..end, moves.clone());
        }
        plan.steps[at] = Resolved::Loop(Box::new(LoopCall {
            trip,
            end,
            moves,
            packs,
            parallel,
        }));
        Ok(())
    }

    /// A `while` with its test and its body.
    pub(super) fn repeat_while(
        &self,
        plan: &mut Plan,
        w: &While,
        bodies: Bodies,
        position: usize,
    ) -> Result<(), PlanError> {
        let at = plan.hold(position);
        let condition = self.spot(plan, w.condition, 0);
        self.steps(plan, bodies.first)?;
        let test = plan.steps.len();
        self.steps(plan, bodies.second)?;
        let end = plan.steps.len();
        plan.count(at, 1);
        plan.steps[at] = Resolved::While {
            condition,
            test,
            end,
        };
        Ok(())
    }

    /// A branch with both sides.
    pub(super) fn branch(
        &self,
        plan: &mut Plan,
        branch: &Branch,
        bodies: Bodies,
        position: usize,
    ) -> Result<(), PlanError> {
        let at = plan.hold(position);
        let condition = self.spot(plan, branch.condition, 0);
        self.steps(plan, bodies.first)?;
        let otherwise = plan.steps.len();
        self.steps(plan, bodies.second)?;
        let end = plan.steps.len();
        plan.count(at, 1);
        plan.steps[at] = Resolved::Branch {
            condition,
            otherwise,
            end,
        };
        Ok(())
    }

    /// What the loop at `at` moves, which runs `trip` times: every slice that was mentioned in its body.
    fn moves(&self, plan: &mut Plan, at: usize, trip: usize) -> Result<Range<usize>, PlanError> {
        let mentions = std::mem::take(&mut plan.mentions);
        let (mut own, others): (Vec<Mention>, Vec<Mention>) =
            mentions.into_iter().partition(|mention| mention.at == at);
        plan.mentions = others;
        own.sort_by_key(|mention| mention.buffer);
        let begin = plan.moves.len();
        for mentions in own.chunk_by(|a, b| a.buffer == b.buffer) {
            let id = mentions[0].buffer;
            let buffer = &self.loaded.program.buffers[id.index()];
            let Home::Slice(slice) = &buffer.home else {
                continue;
            };
            let entries = slice.entries.eval_size(self.bindings)?;
            let [bytes, whole] = [id, slice.of].map(|id| self.layout.bytes[id.index()]);
            if entries == 0 || entries.checked_mul(bytes) != Some(whole) {
                return Err(PlanError::Entries {
                    step: at,
                    trip,
                    slice: buffer.name.clone(),
                    entries,
                    bytes,
                    whole,
                });
            }
            let targets = plan.targets.len();
            plan.targets.extend(mentions.iter().map(|m| m.position));
            // A buffer is at most isize::MAX bytes.
            let forward = bytes as isize;
            let (step, wrap) = if slice.step < 0 {
                (-forward, whole as isize)
            } else {
                (forward, -(whole as isize))
            };
            let first = i128::from(slice.first.eval(self.bindings)?);
            let one = Move {
                base: self.spot(plan, slice.of, 0),
                entries,
                first: first.rem_euclid(entries as i128) as usize,
                step,
                whole,
                wrap,
                targets: targets..plan.targets.len(),
            };
            plan.moves.push(one);
        }
        Ok(begin..plan.moves.len())
    }

    /// `None` where there is nothing to copy.
    pub(super) fn copy(
        &self,
        plan: &mut Plan,
        copy: &Copy,
        step: usize,
    ) -> Result<Option<Resolved>, PlanError> {
        let elements = copy.elements.eval_size(self.bindings)?;
        if elements == 0 {
            return Ok(None);
        }
        let mut part = |verb, part: &Part| {
            let size = self.loaded.program.buffers[part.buffer.index()]
                .dtype
                .size();
            let held = self.layout.bytes[part.buffer.index()] / size;
            let entry = i128::from(part.entry.eval(self.bindings)?);
            // Neither passes 64 bits, so the product does not pass 128.
            let first = entry * elements as i128;
            let last = first + (elements as i128 - 1);
            if first < 0 || last >= held as i128 {
                return Err(PlanError::CopyOutOfBounds {
                    copy: copy.name.clone(),
                    step,
                    verb,
                    first,
                    last,
                    elements: held,
                });
            }
            let position = self.spot(plan, part.buffer, 0);
            // The part lies inside a buffer, whose bytes were counted.
            Ok((position, first as usize * size, elements * size))
        };
        let (from, from_offset, bytes) = part("reads", &copy.from)?;
        let (to, to_offset, _) = part("writes", &copy.to)?;
        Ok(Some(Resolved::Copy(CopyCall {
            from: (from, from_offset),
            to: (to, to_offset),
            bytes,
        })))
    }

    /// Whether a step that writes a buffer touches no part of it under another name. Copies may: they are done by one thread, as if by way
    /// of a third place.
    ///
    /// # Errors
    /// [`PlanError::Overlap`], where two slices may be the same entry, or one lies in the other.
    pub(super) fn check_apart(&self, step: &Step, position: usize) -> Result<(), PlanError> {
        let buffers = &self.loaded.program.buffers;
        let touched: Vec<(BufferId, Access)> = match step {
            Step::Kernel(_) | Step::Product(_) | Step::Convolution(_) | Step::Custom(_) => {
                step.phases().into_iter().flatten().collect()
            }
            Step::Guard(_) | Step::Loop(_) | Step::While(_) | Step::Branch(_) | Step::Copy(_) => {
                return Ok(());
            }
        };
        for (one, _) in touched.iter().filter(|(_, access)| access.writes()) {
            let root = root_of(buffers, *one);
            for (other, _) in touched.iter().filter(|(other, _)| other != one) {
                let may_meet =
                    root_of(buffers, *other) == root && self.layout.bytes[root.index()] > 0;
                if may_meet && !self.are_apart(*one, *other)? {
                    let name = |id: &BufferId| buffers[id.index()].name.clone();
                    return Err(PlanError::Overlap {
                        step: position,
                        one: name(one),
                        other: name(other),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether two slices of one buffer are different entries of it in every iteration. Of a whole and its stretches that is not known.
    fn are_apart(&self, one: BufferId, other: BufferId) -> Result<bool, BindError> {
        let buffers = &self.loaded.program.buffers;
        if stretch_of(buffers, one) != stretch_of(buffers, other) {
            return Ok(false);
        }
        let chain = |id: BufferId| {
            let mut slices: Vec<&Slice> = slices_of(buffers, id).collect();
            slices.reverse();
            slices
        };
        for (a, b) in chain(one).into_iter().zip(chain(other)) {
            let entries = a.entries.eval(self.bindings)?;
            if a.at != b.at || a.step != b.step || b.entries.eval(self.bindings)? != entries {
                return Ok(false);
            }
            let (first, second) = (a.first.eval(self.bindings)?, b.first.eval(self.bindings)?);
            let distance = i128::from(first) - i128::from(second);
            if entries > 0 && distance.rem_euclid(i128::from(entries)) != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
