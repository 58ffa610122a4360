//! The rules about what happens to each buffer in the order of the steps.

use super::super::{Access, Home, Program, Step, root_of, slices_of};
use super::control::Nested;
use super::{Errors, Rule};
use crate::ids::BufferId;
use std::ops::Range;

/// [`Rule::ReadOnly`], [`Rule::LiveRange`], [`Rule::Written`], and [`Rule::Slice`] about where slices are touched.
pub(super) fn uses(program: &Program, nested: &Nested, errors: &mut Errors) {
    let none = vec![false; program.buffers.len()];
    let mut walk = Walk {
        program,
        nested,
        errors,
        written: none.clone(),
        ever: none.clone(),
        sliced: none,
    };
    walk.steps(0..program.steps.len());
    let Walk { written, ever, .. } = walk;
    for port in &program.outputs {
        let at = port.buffer.index();
        let message = match (written.get(at), ever.get(at)) {
            (Some(false), Some(true)) => "only steps that may not run write it",
            (Some(false), _) => "no step writes it",
            (Some(true) | None, _) => continue,
        };
        let place = format!("output `{}`", port.name);
        errors.add(Rule::Written, &place, message);
    }
}

/// The walk over the steps in the order in which they run, bodies once. All lists are by buffer, and slices and stretches count for what has
/// their memory.
struct Walk<'a> {
    program: &'a Program,
    nested: &'a Nested,
    errors: &'a mut Errors,
    /// Written by a step that runs before this one in any case.
    written: Vec<bool>,
    /// Written by some step before this one.
    ever: Vec<bool>,
    /// Written through a slice.
    sliced: Vec<bool>,
}

impl Walk<'_> {
    fn steps(&mut self, range: Range<usize>) {
        let (program, nested) = (self.program, self.nested);
        let mut position = range.start;
        while position < range.end {
            self.step(position);
            let bodies = &nested.bodies[position];
            match &program.steps[position] {
                Step::Loop(l) => {
                    let before = self.written.clone();
                    let outermost = l.parallel && !nested.is_in_parallel(program, position);
                    if outermost {
                        self.forget_scratch();
                    }
                    self.steps(bodies.first.clone());
                    if outermost {
                        self.forget_scratch();
                    }
                    if l.trip.constant().is_none_or(|trip| trip < 1) {
                        for (id, before) in before.into_iter().enumerate() {
                            self.written[id] = before || self.written[id] && self.sliced[id];
                        }
                    }
                }
                Step::While(w) => {
                    let condition = root_of(&program.buffers, w.condition).index();
                    if let Some(written) = self.written.get_mut(condition) {
                        *written = false;
                    }
                    self.steps(bodies.first.clone());
                    if self.written.get(condition) == Some(&false) {
                        let message = format!(
                            "its test does not write the condition {}",
                            program.describe(w.condition)
                        );
                        let place = format!("step {position}");
                        self.errors.add(Rule::Written, &place, message);
                    }
                    let tested = self.written.clone();
                    self.steps(bodies.second.clone());
                    self.written = tested;
                }
                Step::Branch(_) => {
                    let before = self.written.clone();
                    self.steps(bodies.first.clone());
                    let then = std::mem::replace(&mut self.written, before);
                    self.steps(bodies.second.clone());
                    for (written, then) in self.written.iter_mut().zip(then) {
                        *written &= then;
                    }
                }
                Step::Kernel(_)
                | Step::Product(_)
                | Step::Convolution(_)
                | Step::Guard(_)
                | Step::Copy(_)
                | Step::Custom(_) => {}
            }
            position = bodies.all().end;
        }
    }

    /// What was in scratch before a parallel loop or an iteration of it is not there within.
    fn forget_scratch(&mut self) {
        for (buffer, written) in self.program.buffers.iter().zip(&mut self.written) {
            *written &= !matches!(buffer.home, Home::Scratch | Home::Local(_));
        }
    }

    /// What a step itself touches.
    fn step(&mut self, position: usize) {
        let step = &self.program.steps[position];
        // A `while` reads its condition when its test has run.
        let reads_later = matches!(step, Step::While(_));
        for phase in step.phases() {
            for (id, access) in &phase {
                self.touch(position, *id, *access, reads_later);
            }
            for (id, _) in phase.into_iter().filter(|(_, access)| access.writes()) {
                let root = root_of(&self.program.buffers, id);
                if let Some(written) = self.written.get_mut(root.index()) {
                    *written = true;
                    self.ever[root.index()] = true;
                    self.sliced[root.index()] |= root != id;
                }
            }
        }
    }

    fn touch(&mut self, position: usize, id: BufferId, access: Access, reads_later: bool) {
        let (program, nested) = (self.program, self.nested);
        let place = format!("step {position}");
        let slice = slices_of(&program.buffers, id).next();
        if let Some(slice) = slice
            && !nested.around[position].contains(&slice.at)
        {
            let message = format!(
                "it uses {}, a slice that only steps in the loop at step {} have",
                program.describe(id),
                slice.at
            );
            self.errors.add(Rule::Slice, &place, message);
        }
        let root = root_of(&program.buffers, id);
        let Some(buffer) = program.buffer(root) else {
            return;
        };
        let name = if root == id {
            program.describe(id)
        } else {
            let kind = if slice.is_some() { "slice" } else { "stretch" };
            format!(
                "{}, a {kind} of {}",
                program.describe(id),
                program.describe(root)
            )
        };
        let reads = access == Access::Read && !reads_later && !self.written[root.index()];
        let unwritten = if self.ever[root.index()] {
            "which may not have been written"
        } else {
            "which nothing has written yet"
        };
        match &buffer.home {
            Home::Input | Home::Constant(_) if access.writes() => {
                let message = format!("it writes {name}, {}", buffer.home);
                self.errors.add(Rule::ReadOnly, &place, message);
            }
            Home::Resident if access.writes() => {
                if let Some(at) = nested.innermost_loop(program, position) {
                    let message = format!("it writes {name}, resident, in the loop at step {at}");
                    self.errors.add(Rule::ReadOnly, &place, message);
                }
            }
            Home::Arena(live) | Home::Local(live)
                if slice.is_none() && !(live.first..=live.last).contains(&position) =>
            {
                let (first, last) = (live.first, live.last);
                let message = format!("it uses {name}, which lives {first}..={last}");
                self.errors.add(Rule::LiveRange, &place, message);
            }
            Home::Arena(_) | Home::Local(_) | Home::Output if reads => {
                let message = format!("it reads {name}, {unwritten}");
                self.errors.add(Rule::Written, &place, message);
            }
            Home::Input
            | Home::Constant(_)
            | Home::Arena(_)
            | Home::Local(_)
            | Home::Output
            | Home::Resident
            | Home::Scratch
            | Home::Slice(_)
            | Home::Stretch(_) => {}
        }
    }
}

/// The part of [`Rule::Guard`] about order, which holds of custom calls too: whatever may refuse a step comes before all that a step leaves.
pub(super) fn guards_first(program: &Program, errors: &mut Errors) {
    let resident = |id: &BufferId| {
        program
            .buffer(root_of(&program.buffers, *id))
            .is_some_and(|b| matches!(b.home, Home::Resident))
    };
    let mut first_write: Option<(usize, BufferId)> = None;
    for (position, step) in program.steps.iter().enumerate() {
        match (step, first_write) {
            (Step::Guard(guard), Some((before, id))) => errors.add(
                Rule::Guard,
                &format!("step {position}"),
                format!(
                    "the guard {:?} comes after step {before}, which writes {}",
                    guard.message,
                    program.describe(id)
                ),
            ),
            (Step::Custom(custom), Some((before, id))) => errors.add(
                Rule::Guard,
                &format!("step {position}"),
                format!(
                    "the custom call {:?} comes after step {before}, which writes {}",
                    custom.name,
                    program.describe(id)
                ),
            ),
            (Step::Kernel(_) | Step::Product(_) | Step::Convolution(_) | Step::Copy(_), None) => {
                let accesses = step.phases().into_iter().flatten();
                first_write = accesses
                    .filter(|(id, access)| access.writes() && resident(id))
                    .map(|(id, _)| (position, id))
                    .next();
            }
            // What their bodies write comes behind them.
            (
                Step::Guard(_) | Step::Loop(_) | Step::While(_) | Step::Branch(_) | Step::Custom(_),
                None,
            )
            | (
                Step::Kernel(_)
                | Step::Product(_)
                | Step::Convolution(_)
                | Step::Loop(_)
                | Step::While(_)
                | Step::Branch(_)
                | Step::Copy(_),
                Some(_),
            ) => {}
        }
    }
}
