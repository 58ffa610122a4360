//! Bodies and loops.
//!
//! The lanes loop is the one that has more than one shape: a main loop of four groups and a tail of one. Within it, straight-line code is
//! emitted group after group, so that few registers are alive at a time; what does not vary with the lanes is emitted once, before.
//!
//! Strips are a lanes loop too, whose iterations are cut into strips before they are cut into groups: the folds go on from strip to strip.

use super::EmitError;
use super::analysis::cost;
use super::columns::Columns;
use super::emitter::{Counters, Emitter, Lanes, Point, Slot, Trips};
use super::fold::State;
use crate::kernel::{Accumulator, LANES_BLOCK, Loop, LoopKind, SERIAL_BLOCK, Stmt};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The groups of an iteration of the main loop.
const GROUPS: usize = 4;
/// The cost of a body above which an iteration is one group.
const LONG: usize = 60;

/// What is done for a group behind the last statement of a body.
pub(super) type Behind<'a, 'k, 'f> =
    &'a mut dyn FnMut(&mut Emitter<'k, 'f>, usize) -> Result<(), EmitError>;

impl<'k, 'f> Emitter<'k, 'f> {
    /// Emits statements outside of the lanes.
    pub(super) fn body(&mut self, body: &'k [Stmt]) -> Result<(), EmitError> {
        for stmt in body {
            match stmt {
                Stmt::Let { value, expr } => {
                    let form = self.expr(*value, expr, Point::Uniform)?;
                    self.set(*value, Point::Uniform, form);
                }
                Stmt::Store {
                    param,
                    index,
                    value,
                    predicate,
                } => {
                    self.store(*param, index, *value, *predicate, Point::Uniform)?;
                }
                Stmt::Loop(inner) => self.nested(inner)?,
                Stmt::Sort(sort) => self.sort_row(sort),
                // Not outside of strips, as the verifier has seen to.
                Stmt::Apply(_) => {}
            }
        }
        Ok(())
    }

    fn nested(&mut self, inner: &'k Loop) -> Result<(), EmitError> {
        self.hoist(inner);
        let shared = self.kernel.partition().is_some_and(|l| l.id == inner.id);
        let (range, trips) = if shared {
            ([self.start, self.end], Trips::Unknown)
        } else {
            let range = [self.int(0), self.size(&inner.extent, 1)];
            let trips = inner
                .extent
                .constant()
                .map_or(Trips::Unknown, |n| Trips::Exactly(n.max(0)));
            (range, trips)
        };
        match inner.kind {
            LoopKind::Grid => self.plain(inner, range, trips),
            LoopKind::Serial if inner.accumulators.is_empty() => self.plain(inner, range, trips),
            LoopKind::Serial => self.folding(inner, range, trips),
            LoopKind::Lanes | LoopKind::Strips => self.lanes_loop(inner, range, trips),
        }
    }

    /// A loop without accumulators.
    fn plain(&mut self, inner: &'k Loop, range: [Value; 2], trips: Trips) -> Result<(), EmitError> {
        self.counted(range, 1, trips, Vec::new(), &mut |e, counter, _| {
            e.iteration(inner, counter, &mut |_, _| Ok(()))?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// One iteration of a grid or serial loop, for the groups of the lanes loop around it if there is one.
    pub(super) fn iteration(
        &mut self,
        inner: &'k Loop,
        counter: Value,
        behind: Behind<'_, 'k, 'f>,
    ) -> Result<(), EmitError> {
        self.counters.insert(inner.id, counter);
        self.depth += 1;
        match self.lanes {
            Some(lanes) => self.lanes_body(&inner.body, lanes.groups, behind)?,
            None => {
                self.body(&inner.body)?;
                behind(self, 0)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A serial loop with accumulators, in blocks: each from the identity, then folded onto the result.
    fn folding(
        &mut self,
        inner: &'k Loop,
        range: [Value; 2],
        trips: Trips,
    ) -> Result<(), EmitError> {
        let groups = self.lanes.map_or(1, |lanes| lanes.groups);
        let accumulators = &inner.accumulators;
        let identities = self.identities(accumulators, groups)?;
        let starts = self.starts(accumulators, groups)?;
        let (blocks, within) = match trips {
            Trips::Exactly(n) if n <= SERIAL_BLOCK => (Trips::Exactly(n.min(1)), trips),
            Trips::Exactly(n) => (
                Trips::Exactly((n + SERIAL_BLOCK - 1) / SERIAL_BLOCK),
                Trips::AtLeastOne,
            ),
            Trips::Unknown | Trips::AtLeastOne => (trips, Trips::AtLeastOne),
        };
        let results = self.counted(
            range,
            SERIAL_BLOCK,
            blocks,
            starts,
            &mut |e, first, results| {
                let end = e.block_end(first, range[1], SERIAL_BLOCK, blocks);
                let block = e.counted(
                    [first, end],
                    1,
                    within,
                    identities.clone(),
                    &mut |e, counter, partial| {
                        let mut next = State::unpack(e, accumulators, groups, partial);
                        e.iteration(inner, counter, &mut |e, group| {
                            let point = if e.lanes.is_some() {
                                Point::Group(group)
                            } else {
                                Point::Uniform
                            };
                            for (accumulator, states) in accumulators.iter().zip(&mut next) {
                                let operand = e.operand(accumulator, point);
                                states[group] = e.fold(accumulator, states[group], operand);
                            }
                            Ok(())
                        })?;
                        Ok(State::pack(&next))
                    },
                )?;
                Ok(e.fold_all(accumulators, groups, results, &block))
            },
        )?;
        let states = State::unpack(self, accumulators, groups, &results);
        for (accumulator, states) in accumulators.iter().zip(states) {
            for (group, state) in states.into_iter().enumerate() {
                let point = if self.lanes.is_some() {
                    Point::Group(group)
                } else {
                    Point::Uniform
                };
                let form = self.result(state);
                self.set(accumulator.value, point, form);
            }
        }
        Ok(())
    }

    /// Where a block ends that begins at `first`.
    pub(super) fn block_end(
        &mut self,
        first: Value,
        end: Value,
        block: i64,
        blocks: Trips,
    ) -> Value {
        if blocks == Trips::Exactly(1) {
            return end;
        }
        let next = self.b.ins().iadd_imm_s(first, block);
        self.b.ins().smin(next, end)
    }

    fn lanes_loop(
        &mut self,
        inner: &'k Loop,
        range: [Value; 2],
        trips: Trips,
    ) -> Result<(), EmitError> {
        let accumulators = &inner.accumulators;
        let starts = self.starts(accumulators, 1)?;
        let [from, to] = range;
        let results = match trips {
            Trips::Exactly(0) => starts,
            Trips::Exactly(_) | Trips::AtLeastOne => {
                self.lanes_blocks(inner, range, trips, starts)?
            }
            Trips::Unknown => {
                let any = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
                let otherwise = starts.clone();
                self.guarded(any, &otherwise, &mut |e| {
                    e.lanes_blocks(inner, range, Trips::AtLeastOne, starts.clone())
                })?
            }
        };
        let states = State::unpack(self, accumulators, 1, &results);
        for (accumulator, states) in accumulators.iter().zip(states) {
            let form = self.result(states[0]);
            self.set(accumulator.value, Point::Uniform, form);
        }
        Ok(())
    }

    /// The blocks of a lanes loop that has at least one iteration.
    fn lanes_blocks(
        &mut self,
        inner: &'k Loop,
        range: [Value; 2],
        trips: Trips,
        starts: Vec<Value>,
    ) -> Result<Vec<Value>, EmitError> {
        self.depth += 1;
        self.once(inner)?;
        if let Some(columns) = Columns::of(inner)
            && self.columns(columns, range, trips)?
        {
            self.depth -= 1;
            return Ok(Vec::new());
        }
        let accumulators = &inner.accumulators;
        let results = if accumulators.is_empty() {
            self.block(inner, range, trips, Vec::new())?
        } else {
            let (blocks, within) = match trips {
                Trips::Exactly(n) if n <= LANES_BLOCK => (Trips::Exactly(1), trips),
                Trips::Exactly(n) => (
                    Trips::Exactly((n + LANES_BLOCK - 1) / LANES_BLOCK),
                    Trips::AtLeastOne,
                ),
                Trips::Unknown | Trips::AtLeastOne => (trips, Trips::AtLeastOne),
            };
            let partial = self.identities(accumulators, GROUPS)?;
            self.counted(
                range,
                LANES_BLOCK,
                blocks,
                starts,
                &mut |e, first, results| {
                    let end = e.block_end(first, range[1], LANES_BLOCK, blocks);
                    let folded = e.block(inner, [first, end], within, partial.clone())?;
                    let block = e.combine(accumulators, &folded);
                    Ok(e.fold_all(accumulators, 1, results, &block))
                },
            )?
        };
        self.depth -= 1;
        Ok(results)
    }

    /// The values directly in a lanes loop that do not vary with the lanes.
    pub(super) fn once(&mut self, inner: &'k Loop) -> Result<(), EmitError> {
        for stmt in &inner.body {
            if let Stmt::Let { value, expr } = stmt
                && !self.facts.varies(*value)
            {
                let form = self.expr(*value, expr, Point::Uniform)?;
                self.set(*value, Point::Uniform, form);
            }
        }
        Ok(())
    }

    /// A block of a fold, or all iterations where nothing is folded; carries the sixteen partial results of each accumulator.
    fn block(
        &mut self,
        inner: &'k Loop,
        range: [Value; 2],
        trips: Trips,
        partial: Vec<Value>,
    ) -> Result<Vec<Value>, EmitError> {
        let accumulators = &inner.accumulators;
        if inner.kind != LoopKind::Strips {
            if let Some(partial) = self.full_width(inner, range, trips)? {
                return Ok(partial);
            }
            return self.sweep(inner, accumulators, range, trips, partial);
        }
        self.strips(inner, range, trips, partial)
    }

    /// The main loop and the tail; carries the sixteen partial results of each accumulator.
    pub(super) fn sweep(
        &mut self,
        inner: &'k Loop,
        accumulators: &'k [Accumulator],
        [from, to]: [Value; 2],
        trips: Trips,
        partial: Vec<Value>,
    ) -> Result<Vec<Value>, EmitError> {
        // Random words in a row are drawn for four groups at once, however long the body is.
        let long = cost(self.kernel, &inner.body) > LONG && !self.facts.draws_in_a_row(&inner.body);
        let groups = if long { 1 } else { GROUPS };
        let step = 4 * groups as i64;
        // Folds take whole sixteens even where an iteration is one group: the partial results then change places.
        let unit = if accumulators.is_empty() { step } else { 16 };
        let known = match trips {
            Trips::Exactly(n) => Some(n),
            Trips::Unknown | Trips::AtLeastOne => None,
        };
        let cut = |e: &mut Self, from: Value, unit: i64, left: Option<i64>| match left {
            Some(n) if n % unit == 0 => to,
            Some(n) if n < unit => from,
            Some(_) | None => {
                let count = e.b.ins().isub(to, from);
                let whole = e.b.ins().band_imm_s(count, -unit);
                e.b.ins().iadd(from, whole)
            }
        };
        let main_end = cut(self, from, unit, known);
        let main_trips = known.map_or(Trips::Unknown, |n| Trips::Exactly(n / unit * (unit / step)));
        let mut partial = self.counted(
            [from, main_end],
            step,
            main_trips,
            partial,
            &mut |e, first, carried| {
                let mut states = State::unpack(e, accumulators, GROUPS, carried);
                let lanes = Lanes {
                    id: inner.id,
                    groups,
                    counters: Counters::Full { first },
                };
                e.groups(inner, accumulators, lanes, first, &mut states)?;
                if groups == 1 {
                    states.iter_mut().for_each(|s| s.rotate_left(1));
                }
                Ok(State::pack(&states))
            },
        )?;
        // Where the number of iterations is known, whole groups behind the main loop need no care either.
        let mut tail_from = main_end;
        let mut left = known.map(|n| n % unit);
        if let Some(n) = left.filter(|n| *n >= 4) {
            let end = cut(self, main_end, 4, left);
            partial = self.counted(
                [main_end, end],
                4,
                Trips::Exactly(n / 4),
                partial,
                &mut |e, first, carried| {
                    let mut states = State::unpack(e, accumulators, GROUPS, carried);
                    let lanes = Lanes {
                        id: inner.id,
                        groups: 1,
                        counters: Counters::Full { first },
                    };
                    e.groups(inner, accumulators, lanes, first, &mut states)?;
                    Ok(State::pack(&states))
                },
            )?;
            tail_from = end;
            left = Some(n % 4);
        }
        let tail_trips = left.map_or(Trips::Unknown, |n| Trips::Exactly((n + 3) / 4));
        let last = self.b.ins().iadd_imm_s(to, -1);
        self.counted(
            [tail_from, to],
            4,
            tail_trips,
            partial,
            &mut |e, first, carried| {
                let mut states = State::unpack(e, accumulators, GROUPS, carried);
                let lanes = Lanes {
                    id: inner.id,
                    groups: 1,
                    counters: Counters::Tail { first, last },
                };
                e.groups(inner, accumulators, lanes, first, &mut states)?;
                Ok(State::pack(&states))
            },
        )
    }

    /// One iteration of a lanes loop, folded onto the first partial results.
    fn groups(
        &mut self,
        inner: &'k Loop,
        accumulators: &'k [Accumulator],
        lanes: Lanes,
        first: Value,
        states: &mut [Vec<State>],
    ) -> Result<(), EmitError> {
        self.counters.insert(inner.id, first);
        self.lanes = Some(lanes);
        self.lanes_body(&inner.body, lanes.groups, &mut |e, group| {
            for (accumulator, states) in accumulators.iter().zip(states.iter_mut()) {
                let mut operand = e.operand(accumulator, Point::Group(group));
                if let Counters::Tail { first, last } = lanes.counters {
                    let live = e.live_lanes(first, last);
                    let identity = e.identity(accumulator)?;
                    operand = e.choose_state(live, operand, identity);
                }
                states[group] = e.fold(accumulator, states[group], operand);
            }
            Ok(())
        })?;
        self.lanes = None;
        Ok(())
    }

    /// Emits the statements of a body within the lanes, group after group between the loops.
    fn lanes_body(
        &mut self,
        body: &'k [Stmt],
        groups: usize,
        behind: Behind<'_, 'k, 'f>,
    ) -> Result<(), EmitError> {
        let mut rest = body;
        loop {
            let run = rest
                .iter()
                .position(|s| matches!(s, Stmt::Loop(_)))
                .unwrap_or(rest.len());
            let (straight, following) = rest.split_at(run);
            self.still(straight)?;
            for group in 0..groups {
                self.straight(straight, group)?;
                if following.is_empty() {
                    behind(self, group)?;
                }
            }
            let Some((Stmt::Loop(inner), following)) = following.split_first() else {
                return Ok(());
            };
            self.nested(inner)?;
            rest = following;
        }
    }

    /// The values of straight-line code that do not vary with the lanes. Directly in the lanes loop they were computed before it.
    pub(super) fn still(&mut self, straight: &'k [Stmt]) -> Result<(), EmitError> {
        let direct = self
            .lanes
            .is_some_and(|l| self.depth_of(l.id) == self.depth);
        if direct {
            return Ok(());
        }
        for stmt in straight {
            if let Stmt::Let { value, expr } = stmt
                && !self.facts.varies(*value)
            {
                let form = self.expr(*value, expr, Point::Uniform)?;
                self.set(*value, Point::Uniform, form);
            }
        }
        Ok(())
    }

    fn depth_of(&self, id: crate::kernel::LoopId) -> usize {
        self.facts.depth(&crate::kernel::Atom::Loop(id))
    }

    pub(super) fn straight(&mut self, straight: &'k [Stmt], group: usize) -> Result<(), EmitError> {
        for stmt in straight {
            match stmt {
                Stmt::Let { value, expr } => {
                    if self.facts.varies(*value) {
                        if group == 0 {
                            self.values[value.index()] = Slot::Unset;
                        }
                        let form = self.expr(*value, expr, Point::Group(group))?;
                        self.set(*value, Point::Group(group), form);
                    }
                }
                Stmt::Store {
                    param,
                    index,
                    value,
                    predicate,
                } => {
                    self.store(*param, index, *value, *predicate, Point::Group(group))?;
                }
                Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => {}
            }
        }
        Ok(())
    }
}
