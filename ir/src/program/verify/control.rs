//! The rules about steps that run others: which lie in which body, what slices are of, and what loops may leave behind.

use super::super::{Bodies, Copy, Home, Loop, Program, Slice, Step, Stretch, root_of, slices_of};
use super::{Errors, Rule, missing};
use crate::dim::Dim;
use crate::ids::BufferId;
use std::collections::BTreeMap;
use std::ops::Range;

/// So many bodies may lie in one another; whoever walks a verified program may descend that far.
const MOST_NESTED: usize = 64;

/// Which step lies in which bodies. Bodies of a program that breaks [`Rule::Body`] are cut such that they nest.
pub(super) struct Nested {
    /// By position.
    pub(super) bodies: Vec<Bodies>,
    /// By position, the control steps around it, outermost first.
    pub(super) around: Vec<Vec<usize>>,
}

impl Nested {
    /// Whether a step lies in a parallel loop.
    pub(super) fn is_in_parallel(&self, program: &Program, position: usize) -> bool {
        let around = self.around[position].iter();
        around.copied().any(|at| is_parallel(program, at))
    }

    /// The innermost loop around a step, of known length or not.
    pub(super) fn innermost_loop(&self, program: &Program, position: usize) -> Option<usize> {
        let mut around = self.around[position].iter().rev().copied();
        around.find(|at| matches!(program.steps[*at], Step::Loop(_) | Step::While(_)))
    }
}

fn is_parallel(program: &Program, at: usize) -> bool {
    matches!(&program.steps[at], Step::Loop(l) if l.parallel)
}

/// [`Rule::Body`].
pub(super) fn nested(program: &Program, errors: &mut Errors) -> Nested {
    let empty = |position: usize| Bodies {
        first: position + 1..position + 1,
        second: position + 1..position + 1,
    };
    let mut nested = Nested {
        bodies: (0..program.steps.len()).map(empty).collect(),
        around: Vec::with_capacity(program.steps.len()),
    };
    let mut around = Vec::new();
    nest(
        program,
        0..program.steps.len(),
        &mut around,
        &mut nested,
        errors,
    );
    nested
}

fn nest(
    program: &Program,
    range: Range<usize>,
    around: &mut Vec<usize>,
    nested: &mut Nested,
    errors: &mut Errors,
) {
    let mut position = range.start;
    while position < range.end {
        nested.around.push(around.clone());
        let step = &program.steps[position];
        let wanted = step.bodies(position);
        let place = format!("step {position}");
        let is_empty = match step {
            Step::Loop(_) => wanted.first.is_empty(),
            Step::While(_) => wanted.first.is_empty() || wanted.second.is_empty(),
            Step::Branch(_) => wanted.all().is_empty(),
            Step::Kernel(_)
            | Step::Product(_)
            | Step::Convolution(_)
            | Step::Guard(_)
            | Step::Copy(_)
            | Step::Custom(_) => false,
        };
        if is_empty {
            errors.add(Rule::Body, &place, "a body of it has no step");
        }
        let end = wanted.all().end;
        if end > range.end {
            let outer = match around.last() {
                Some(at) => format!("the body of step {at}"),
                None => "the program".into(),
            };
            let message = format!(
                "its body ends at step {end}, and {outer} at step {}",
                range.end
            );
            errors.add(Rule::Body, &place, message);
        }
        position += 1;
        if wanted.all().is_empty() {
            continue;
        }
        if around.len() >= MOST_NESTED {
            let message = format!("it lies within {MOST_NESTED} others, which is the most");
            errors.add(Rule::Body, &place, message);
            continue;
        }
        let cut = |body: &Range<usize>| body.start.min(range.end)..body.end.min(range.end);
        let bodies = Bodies {
            first: cut(&wanted.first),
            second: cut(&wanted.second),
        };
        around.push(position - 1);
        nest(program, bodies.first.clone(), around, nested, errors);
        nest(program, bodies.second.clone(), around, nested, errors);
        around.pop();
        let all = bodies.all();
        nested.bodies[all.start - 1] = bodies;
        position = all.end;
    }
}

/// [`Rule::Slice`] but for where slices are touched, and [`Rule::LiveRange`] of what they are of.
pub(super) fn slices(program: &Program, nested: &Nested, errors: &mut Errors) {
    for (index, buffer) in program.buffers.iter().enumerate() {
        let Some(slice) = buffer.home.slice() else {
            continue;
        };
        let place = program.describe(BufferId::new(index));
        let Slice {
            of,
            at,
            entries,
            first: _,
            step,
        } = slice;
        if !matches!(step, 1 | -1) {
            let message = format!("it moves by {step} entries, and not by 1 or -1");
            errors.add(Rule::Slice, &place, message);
        }
        let is_loop = matches!(program.steps.get(*at), Some(Step::Loop(_)));
        if !is_loop {
            let message = format!("step {at} is to move it, which is no loop");
            errors.add(Rule::Slice, &place, message);
        }
        let Some(whole) = program.buffer(*of) else {
            missing(*of, &place, errors);
            continue;
        };
        if whole.dtype != buffer.dtype || whole.elements != entries * &buffer.elements {
            let message = format!(
                "{entries} entries of {}[{}] do not make up {}, {}[{}]",
                buffer.dtype,
                buffer.elements,
                program.describe(*of),
                whole.dtype,
                whole.elements
            );
            errors.add(Rule::Slice, &place, message);
        }
        let memory = match whole.home.stretch() {
            Some(stretch) => program.buffer(stretch.of).unwrap_or(whole),
            None => whole,
        };
        match &memory.home {
            Home::Scratch => {
                let message = format!("it is a slice of scratch, {}", program.describe(*of));
                errors.add(Rule::Slice, &place, message);
            }
            Home::Slice(outer) => {
                let around = nested.around.get(*at);
                if !around.is_some_and(|around| around.contains(&outer.at)) {
                    let message = format!(
                        "{} is moved by step {}, which is no loop around step {at}",
                        program.describe(*of),
                        outer.at
                    );
                    errors.add(Rule::Slice, &place, message);
                }
            }
            Home::Arena(live) | Home::Local(live) if is_loop => {
                let last = nested.bodies[*at].all().end - 1;
                if live.first > *at || live.last < last {
                    let message = format!(
                        "{} lives {}..={}, and not throughout the loop at steps {at} to {last}",
                        program.describe(*of),
                        live.first,
                        live.last
                    );
                    errors.add(Rule::LiveRange, &place, message);
                }
            }
            Home::Arena(_)
            | Home::Local(_)
            | Home::Input
            | Home::Resident
            | Home::Output
            | Home::Constant(_)
            | Home::Stretch(_) => {}
        }
    }
}

/// [`Rule::Stretch`].
pub(super) fn stretches(program: &Program, errors: &mut Errors) {
    for (index, buffer) in program.buffers.iter().enumerate() {
        let Some(Stretch { of, skip, rest }) = buffer.home.stretch() else {
            continue;
        };
        let place = program.describe(BufferId::new(index));
        let Some(whole) = program.buffer(*of) else {
            missing(*of, &place, errors);
            continue;
        };
        let all = &(skip + &buffer.elements) + rest;
        if whole.dtype != buffer.dtype || whole.elements != all {
            let message = format!(
                "{}[{}] between {skip} and {rest} others do not make up {}, {}[{}]",
                buffer.dtype,
                buffer.elements,
                program.describe(*of),
                whole.dtype,
                whole.elements
            );
            errors.add(Rule::Stretch, &place, message);
        }
        if !matches!(whole.home, Home::Arena(_) | Home::Local(_)) {
            let name = program.describe(*of);
            let message = format!("it is a stretch of {name}, {}", whole.home);
            errors.add(Rule::Stretch, &place, message);
        }
    }
}

/// [`Rule::LiveRange`] in loops: what an iteration finds there must not be what another buffer left.
pub(super) fn live_through_loops(program: &Program, nested: &Nested, errors: &mut Errors) {
    for (index, buffer) in program.buffers.iter().enumerate() {
        let (Home::Arena(live) | Home::Local(live)) = &buffer.home else {
            continue;
        };
        for (at, step) in program.steps.iter().enumerate() {
            let body = nested.bodies[at].all();
            if !matches!(step, Step::Loop(_) | Step::While(_)) || body.is_empty() {
                continue;
            }
            let last = body.end - 1;
            let meets = live.first <= last && live.last >= body.start;
            let within = live.first >= body.start && live.last <= last;
            let around = live.first <= at && live.last >= last;
            if meets && !within && !around {
                let message = format!(
                    "it lives {}..={}, neither within the body of the loop at steps {at} to {last} nor throughout",
                    live.first, live.last
                );
                let place = program.describe(BufferId::new(index));
                errors.add(Rule::LiveRange, &place, message);
            }
        }
    }
}

/// [`Rule::Parallel`].
pub(super) fn parallel_loops(program: &Program, nested: &Nested, errors: &mut Errors) {
    for (index, buffer) in program.buffers.iter().enumerate() {
        let Home::Local(live) = &buffer.home else {
            continue;
        };
        let holds = |at: usize| {
            let body = nested.bodies[at].all();
            body.contains(&live.first) && body.contains(&live.last)
        };
        if !(0..program.steps.len()).any(|at| is_parallel(program, at) && holds(at)) {
            let message = format!(
                "it is local and lives {}..={}, not within the body of one parallel loop",
                live.first, live.last
            );
            let place = program.describe(BufferId::new(index));
            errors.add(Rule::Parallel, &place, message);
        }
    }
    for (at, step) in program.steps.iter().enumerate() {
        match step {
            Step::Loop(l) if l.parallel => parallel(program, at, l, nested, errors),
            Step::Loop(_)
            | Step::Kernel(_)
            | Step::Product(_)
            | Step::Convolution(_)
            | Step::Guard(_)
            | Step::While(_)
            | Step::Branch(_)
            | Step::Copy(_)
            | Step::Custom(_) => {}
        }
    }
}

fn parallel(program: &Program, at: usize, l: &Loop, nested: &Nested, errors: &mut Errors) {
    // By what has the memory: the entries of it that an iteration writes.
    let mut written: BTreeMap<BufferId, Vec<(BufferId, &Slice)>> = BTreeMap::new();
    let touched = |position: usize| program.steps[position].phases().into_iter().flatten();
    let moved = |id: BufferId| slices_of(&program.buffers, id).find(|slice| slice.at == at);
    let body = nested.bodies[at].all();
    for position in body.clone() {
        let place = format!("step {position}");
        let refusing = match &program.steps[position] {
            Step::Guard(_) => Some("guard"),
            Step::Custom(_) => Some("custom call"),
            Step::Kernel(_)
            | Step::Product(_)
            | Step::Convolution(_)
            | Step::Loop(_)
            | Step::While(_)
            | Step::Branch(_)
            | Step::Copy(_) => None,
        };
        if let Some(what) = refusing {
            let message = format!("a {what} in the parallel loop at step {at}");
            errors.add(Rule::Parallel, &place, message);
        }
        for (id, _) in touched(position).filter(|(_, access)| access.writes()) {
            let root = program.buffer(root_of(&program.buffers, id));
            if root.is_none_or(|b| matches!(b.home, Home::Scratch | Home::Local(_))) {
                continue;
            }
            match moved(id) {
                Some(slice) if differs(slice, &l.trip) => {
                    let root = root_of(&program.buffers, id);
                    written.entry(root).or_default().push((id, slice));
                }
                Some(_) | None => {
                    let message = format!(
                        "it writes {}, which is not another entry in each iteration of the parallel loop at step {at}, nor local to a thread",
                        program.describe(id)
                    );
                    errors.add(Rule::Parallel, &place, message);
                }
            }
        }
    }
    for position in body {
        for (id, _) in touched(position) {
            let mut others = written
                .get(&root_of(&program.buffers, id))
                .into_iter()
                .flatten();
            let meets = |(other, slice): &(BufferId, &Slice)| {
                moved(id) != Some(*slice) && !outer_apart(program, id, *other)
            };
            if others.any(meets) {
                let message = format!(
                    "it touches {}, which other iterations of the parallel loop at step {at} write",
                    program.describe(id)
                );
                errors.add(Rule::Parallel, &format!("step {position}"), message);
            }
        }
    }
}

/// Whether two buffers lie in what an iteration of an outer loop finds of a carry, and in what it leaves.
fn outer_apart(program: &Program, one: BufferId, other: BufferId) -> bool {
    let outermost = |id| slices_of(&program.buffers, id).last();
    let (Some(one), Some(other)) = (outermost(one), outermost(other)) else {
        return false;
    };
    let together = |s: &Slice| (s.of, s.at, s.step, s.entries.clone());
    let distance = one.first.clone() - other.first.clone();
    let enough = match program.steps.get(one.at) {
        Some(Step::Loop(l)) => {
            one.entries == Dim::from(2) || one.entries == &l.trip + &Dim::from(1)
        }
        Some(_) | None => false,
    };
    together(one) == together(other) && matches!(distance.constant(), Some(1 | -1)) && enough
}

/// Whether a slice is another entry in each iteration.
fn differs(slice: &Slice, trip: &Dim) -> bool {
    let last = trip.clone() - Dim::from(1);
    let forward = slice.step == 1 && slice.first.constant() == Some(0);
    let backward = slice.step == -1 && slice.first == last;
    slice.entries == *trip && (forward || backward)
}

/// [`Rule::Copy`].
pub(super) fn copy(program: &Program, copy: &Copy, place: &str, errors: &mut Errors) {
    let [from, to] = [copy.from.buffer, copy.to.buffer].map(|id| {
        let found = program.buffer(id);
        if found.is_none() {
            missing(id, place, errors);
        }
        found
    });
    if let (Some(from), Some(to)) = (from, to)
        && from.dtype != to.dtype
    {
        let message = format!(
            "it copies {} to {}, {} to {}",
            program.describe(copy.from.buffer),
            program.describe(copy.to.buffer),
            from.dtype,
            to.dtype
        );
        errors.add(Rule::Copy, place, message);
    }
}
