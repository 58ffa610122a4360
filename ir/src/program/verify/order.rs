//! The rules about what happens to each buffer in the order of the steps.

use super::super::{Access, Home, Program, Step};
use super::{Errors, Rule};
use crate::ids::BufferId;

/// [`Rule::ReadOnly`], [`Rule::LiveRange`] and [`Rule::Written`].
pub(super) fn uses(program: &Program, errors: &mut Errors) {
    let mut written = vec![false; program.buffers.len()];
    for (position, step) in program.steps.iter().enumerate() {
        let place = format!("step {position}");
        for phase in step.phases() {
            for (id, access) in &phase {
                let Some(buffer) = program.buffer(*id) else {
                    continue;
                };
                let refuse = match &buffer.home {
                    Home::Input | Home::Constant(_) if access.writes() => Some((
                        Rule::ReadOnly,
                        format!("it writes {}, {}", program.describe(*id), buffer.home),
                    )),
                    Home::Arena(live) if !(live.first..=live.last).contains(&position) => Some((
                        Rule::LiveRange,
                        format!(
                            "it uses {}, which lives {}..={}",
                            program.describe(*id),
                            live.first,
                            live.last
                        ),
                    )),
                    Home::Arena(_) | Home::Output
                        if *access == Access::Read && !written[id.index()] =>
                    {
                        Some((
                            Rule::Written,
                            format!(
                                "it reads {}, which nothing has written yet",
                                program.describe(*id)
                            ),
                        ))
                    }
                    Home::Input
                    | Home::Constant(_)
                    | Home::Arena(_)
                    | Home::Output
                    | Home::Resident
                    | Home::Scratch => None,
                };
                if let Some((rule, message)) = refuse {
                    errors.add(rule, &place, message);
                }
            }
            for (id, access) in phase {
                if let Some(written) = written.get_mut(id.index()) {
                    *written |= access.writes();
                }
            }
        }
    }
    for port in &program.outputs {
        if written.get(port.buffer.index()) == Some(&false) {
            let place = format!("output `{}`", port.name);
            errors.add(Rule::Written, &place, "no step writes it");
        }
    }
}

/// The part of [`Rule::Guard`] about order.
pub(super) fn guards_first(program: &Program, errors: &mut Errors) {
    let resident = |id: &BufferId| {
        program
            .buffer(*id)
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
            (Step::Kernel(_) | Step::Product(_) | Step::Convolution(_), None) => {
                let accesses = step.phases().into_iter().flatten();
                first_write = accesses
                    .filter(|(id, access)| access.writes() && resident(id))
                    .map(|(id, _)| (position, id))
                    .next();
            }
            (Step::Guard(_), None)
            | (Step::Kernel(_) | Step::Product(_) | Step::Convolution(_), Some(_)) => {}
        }
    }
}
