//! The verifier of programs: every invariant that can be decided without numbers for the symbols, all violations at once.
//!
//! [`Rule`] is the list of invariants. A program that passes can be bound, placed and run without a step reading what nobody wrote,
//! writing what is not its own, or leaving a session half updated. Whether strided matrices stay inside their buffers depends on the
//! binding, so the runtime checks it there; what happens inside a kernel is the promise of [`Code`](super::Code).

use super::{Buffer, Home, Launch, Port, Program, Step};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::Role;
use crate::ids::BufferId;
use crate::types::TensorType;
use std::collections::BTreeMap;
use std::fmt;

mod control;
mod convolution;
mod custom;
mod order;
mod product;

use control::{copy, live_through_loops, nested, parallel_loops, slices, stretches};
use convolution::convolution;
use custom::custom;
use order::{guards_first, uses};
use product::product;

/// The invariants of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Every buffer and kernel that is named exists.
    Exists,
    /// Names are unique among inputs and residents, and among outputs.
    UniqueNames,
    /// The buffer of an input, resident or output has its element type and as many elements.
    SignatureType,
    /// Inputs, residents and outputs lie in buffers of these homes, one each, and every such buffer belongs to one of them.
    SignatureHome,
    /// A resident is a param or a state, never an input.
    ResidentRole,
    /// A constant has a fixed number of elements and exactly their bytes; a `bool` of it is 0 or 1.
    ConstantBytes,
    /// No step writes an input or a constant, and none within a loop writes a resident.
    ReadOnly,
    /// A live range lies within the steps and covers every use of its buffer. Where it meets the body of a loop, it lies within the body
    /// or covers the loop and the whole body; that of a buffer with slices covers their loop.
    LiveRange,
    /// What lies in the arena or in an output is written before it is read, and every output is written. What only a step writes that may
    /// not run is not written; a slice that is written counts as all of its buffer, since a loop writes every entry or none is read.
    Written,
    /// Scratch is touched by kernels only, and no kernel merely reads it, since its content does not outlive a launch.
    Scratch,
    /// A guard's condition is one `bool`, and no resident is written before the last guard and the last custom call.
    Guard,
    /// A launch says for each argument what the kernel does with it, and cuts its range at multiples of at least one iteration.
    Launch,
    /// A step that calls kernels calls at least one, and none of them touches what another one writes, scratch aside, of which each
    /// thread has its own.
    Parts,
    /// The matrices of a product have its element type and one stride for each batch axis; the result lies in a buffer of its own,
    /// row-major without gaps.
    Product,
    /// A convolution has one to three axes whose steps are above 0; its views have its element type and a stride for each axis, and the
    /// result fills its part of a buffer of its own without gaps.
    Convolution,
    /// An epilogue counts the rows of the whole batch one by one, and writes neither operand, which other panels still read.
    Epilogue,
    /// A body lies within the program and within the body around it, and has at least one step; a branch has one on either side.
    Body,
    /// The condition of a `while` or a branch is one `bool`.
    Condition,
    /// A slice has the element type of what it is a slice of, which is neither scratch nor moved by the same loop, and as many elements as
    /// an entry; it moves by one entry, and only steps of its loop's body touch it.
    Slice,
    /// A stretch has the element type of what it is a stretch of, which is at home in the arena or local to a thread, and as many elements as are
    /// left between those before and behind it.
    Stretch,
    /// Both parts of a copy have one element type.
    Copy,
    /// The buffers of a custom call have the types and sizes of its tensors, and each result one of its own, which is no resident's.
    Custom,
    /// A parallel loop writes nothing but scratch, what is local to a thread and lives in its body alone, and slices of its own, which are
    /// another entry in each iteration and of whose buffer the body touches nothing else; and there is neither a guard nor a custom call in it.
    Parallel,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Exists => "exists",
            Rule::UniqueNames => "unique-names",
            Rule::SignatureType => "signature-type",
            Rule::SignatureHome => "signature-home",
            Rule::ResidentRole => "resident-role",
            Rule::ConstantBytes => "constant-bytes",
            Rule::ReadOnly => "read-only",
            Rule::LiveRange => "live-range",
            Rule::Written => "written",
            Rule::Scratch => "scratch",
            Rule::Guard => "guard",
            Rule::Launch => "launch",
            Rule::Parts => "parts",
            Rule::Product => "product",
            Rule::Convolution => "convolution",
            Rule::Epilogue => "epilogue",
            Rule::Body => "body",
            Rule::Condition => "condition",
            Rule::Slice => "slice",
            Rule::Stretch => "stretch",
            Rule::Copy => "copy",
            Rule::Custom => "custom",
            Rule::Parallel => "parallel",
        })
    }
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error[{rule}]: {place}: {message}")]
pub struct ProgramError {
    /// The invariant that does not hold.
    pub rule: Rule,
    /// Where: "step 3", "output `loss`", "$4 (dot)".
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

/// All violations of a program, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ProgramErrors(Vec<ProgramError>);

impl ProgramErrors {
    /// The violations, in order of the program.
    pub fn iter(&self) -> impl Iterator<Item = &ProgramError> {
        self.0.iter()
    }
}

impl fmt::Display for ProgramErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl Program {
    /// Checks every [`Rule`].
    ///
    /// # Errors
    /// All violations.
    pub fn verify(&self) -> Result<(), ProgramErrors> {
        let mut errors = Errors::default();
        signature(self, &mut errors);
        buffers(self, &mut errors);
        let nested = nested(self, &mut errors);
        slices(self, &nested, &mut errors);
        stretches(self, &mut errors);
        for (position, step) in self.steps.iter().enumerate() {
            let place = format!("step {position}");
            match step {
                Step::Kernel(calls) => parts(self, calls, &place, &mut errors),
                Step::Product(p) => product(self, p, &place, &mut errors),
                Step::Convolution(c) => convolution(self, c, &place, &mut errors),
                Step::Guard(g) => condition(self, g.condition, Rule::Guard, &place, &mut errors),
                Step::While(w) => {
                    condition(self, w.condition, Rule::Condition, &place, &mut errors);
                }
                Step::Branch(b) => {
                    condition(self, b.condition, Rule::Condition, &place, &mut errors);
                }
                Step::Copy(c) => copy(self, c, &place, &mut errors),
                Step::Custom(c) => custom(self, c, &place, &mut errors),
                Step::Loop(_) => {}
            }
            scratch(self, step, &place, &mut errors);
        }
        live_through_loops(self, &nested, &mut errors);
        parallel_loops(self, &nested, &mut errors);
        uses(self, &nested, &mut errors);
        guards_first(self, &mut errors);
        if errors.0.is_empty() {
            Ok(())
        } else {
            Err(ProgramErrors(errors.0))
        }
    }

    fn describe(&self, id: BufferId) -> String {
        match self.buffer(id) {
            Some(buffer) => format!("{id} ({})", buffer.name),
            None => id.to_string(),
        }
    }
}

#[derive(Default)]
struct Errors(Vec<ProgramError>);

impl Errors {
    fn add(&mut self, rule: Rule, place: &str, message: impl Into<String>) {
        self.0.push(ProgramError {
            rule,
            place: place.to_owned(),
            message: message.into(),
        });
    }
}

/// Whether a condition is one `bool`.
fn condition(program: &Program, id: BufferId, rule: Rule, place: &str, errors: &mut Errors) {
    match program.buffer(id) {
        None => missing(id, place, errors),
        Some(b) if b.dtype != DType::Bool || b.elements.constant() != Some(1) => errors.add(
            rule,
            place,
            format!(
                "the condition {id} is {}[{}], and not one bool",
                b.dtype, b.elements
            ),
        ),
        Some(_) => {}
    }
}

fn missing(id: BufferId, place: &str, errors: &mut Errors) {
    errors.add(Rule::Exists, place, format!("there is no buffer {id}"));
}

/// What a buffer of the signature must be at home in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Input,
    Resident,
    Output,
}

fn kind(home: &Home) -> Option<Kind> {
    match home {
        Home::Input => Some(Kind::Input),
        Home::Resident => Some(Kind::Resident),
        Home::Output => Some(Kind::Output),
        Home::Constant(_)
        | Home::Arena(_)
        | Home::Scratch
        | Home::Local(_)
        | Home::Slice(_)
        | Home::Stretch(_) => None,
    }
}

fn signature(program: &Program, errors: &mut Errors) {
    let port = |kind: Kind, word: &'static str| {
        move |p: &Port| {
            let place = format!("{word} `{}`", p.name);
            (kind, place, p.name.clone(), p.ty.clone(), p.buffer)
        }
    };
    let residents = program.residents.iter().map(|r| {
        let place = format!("resident `{}`", r.name);
        (
            Kind::Resident,
            place,
            r.name.clone(),
            r.ty.clone(),
            r.buffer,
        )
    });
    let entries: Vec<(Kind, String, String, TensorType, BufferId)> = program
        .inputs
        .iter()
        .map(port(Kind::Input, "input"))
        .chain(residents)
        .chain(program.outputs.iter().map(port(Kind::Output, "output")))
        .collect();

    let mut names: BTreeMap<(bool, &str), &str> = BTreeMap::new();
    let mut owners: BTreeMap<BufferId, &str> = BTreeMap::new();
    for (wanted, place, name, ty, id) in &entries {
        if let Some(other) = names.insert((*wanted == Kind::Output, name), place) {
            errors.add(
                Rule::UniqueNames,
                place,
                format!("{other} has the same name"),
            );
        }
        if let Some(other) = owners.insert(*id, place) {
            errors.add(
                Rule::SignatureHome,
                place,
                format!("{id} belongs to {other} already"),
            );
        }
        let Some(buffer) = program.buffer(*id) else {
            missing(*id, place, errors);
            continue;
        };
        if kind(&buffer.home) != Some(*wanted) {
            let message = format!("{id} is at home in {}", buffer.home);
            errors.add(Rule::SignatureHome, place, message);
        }
        if buffer.dtype != ty.dtype || buffer.elements != ty.shape.elements() {
            let message = format!(
                "it is {ty}, but {id} holds {}[{}]",
                buffer.dtype, buffer.elements
            );
            errors.add(Rule::SignatureType, place, message);
        }
    }
    for (i, buffer) in program.buffers.iter().enumerate() {
        let id = BufferId::new(i);
        if kind(&buffer.home).is_some() && !owners.contains_key(&id) {
            let message = format!("it is at home in {}, but nothing there has it", buffer.home);
            errors.add(Rule::SignatureHome, &program.describe(id), message);
        }
    }
    for resident in &program.residents {
        match resident.role {
            Role::Param(_) | Role::State(_) => {}
            Role::Input => errors.add(
                Rule::ResidentRole,
                &format!("resident `{}`", resident.name),
                "its role is input",
            ),
        }
    }
}

fn buffers(program: &Program, errors: &mut Errors) {
    for (i, buffer) in program.buffers.iter().enumerate() {
        let place = program.describe(BufferId::new(i));
        match &buffer.home {
            Home::Constant(bytes) => {
                let size = Dim::from(buffer.dtype.size());
                let held = Dim::from(bytes.len());
                if buffer.elements.constant().is_none() || &buffer.elements * &size != held {
                    errors.add(
                        Rule::ConstantBytes,
                        &place,
                        format!(
                            "{}[{}] has {} bytes",
                            buffer.dtype,
                            buffer.elements,
                            bytes.len()
                        ),
                    );
                }
                if buffer.dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
                    let message = "a byte of a bool is neither 0 nor 1";
                    errors.add(Rule::ConstantBytes, &place, message);
                }
            }
            Home::Arena(live) | Home::Local(live) => {
                if live.first > live.last || live.last >= program.steps.len() {
                    let message = format!(
                        "it lives {}..={} in a program of {} steps",
                        live.first,
                        live.last,
                        program.steps.len()
                    );
                    errors.add(Rule::LiveRange, &place, message);
                }
            }
            Home::Input
            | Home::Resident
            | Home::Output
            | Home::Scratch
            | Home::Slice(_)
            | Home::Stretch(_) => {}
        }
    }
}

fn parts(program: &Program, parts: &[Launch], place: &str, errors: &mut Errors) {
    if parts.is_empty() {
        errors.add(Rule::Parts, place, "it calls no kernel");
    }
    // The first part that touches a buffer, and whether it writes it.
    let mut touched: BTreeMap<BufferId, (usize, bool)> = BTreeMap::new();
    for (number, part) in parts.iter().enumerate() {
        if parts.len() == 1 {
            launch(program, part, place, errors);
        } else {
            launch(program, part, &format!("part {number} of {place}"), errors);
        }
        for (id, access) in part.accesses() {
            let scratch = |b: &Buffer| matches!(b.home, Home::Scratch);
            if program.buffer(id).is_none_or(scratch) {
                continue;
            }
            let (first, written) = touched.entry(id).or_insert((number, false));
            if *first == number {
                *written |= access.writes();
            } else if *written || access.writes() {
                let message = format!(
                    "part {number} touches {}, and so does part {first}, but one of them writes it",
                    program.describe(id)
                );
                errors.add(Rule::Parts, place, message);
            }
        }
    }
}

fn launch(program: &Program, launch: &Launch, place: &str, errors: &mut Errors) {
    if program.kernels.get(launch.kernel.index()).is_none() {
        let message = format!("there is no kernel {}", launch.kernel);
        errors.add(Rule::Exists, place, message);
    }
    for id in &launch.arguments {
        if program.buffer(*id).is_none() {
            missing(*id, place, errors);
        }
    }
    if launch.access.len() != launch.arguments.len() {
        let message = format!(
            "{} arguments, but {} of them with an access",
            launch.arguments.len(),
            launch.access.len()
        );
        errors.add(Rule::Launch, place, message);
    }
    if launch.grain == 0 {
        errors.add(Rule::Launch, place, "the grain is 0");
    }
}

/// Scratch belongs to one thread within one launch, so matrices, copies and conditions cannot lie there.
fn scratch(program: &Program, step: &Step, place: &str, errors: &mut Errors) {
    let is_scratch = |id: &BufferId| {
        program
            .buffer(*id)
            .is_some_and(|b| matches!(b.home, Home::Scratch))
    };
    for (id, access) in step.calls().iter().flat_map(Launch::accesses) {
        if is_scratch(&id) && !access.writes() {
            let message = format!("the kernel only reads scratch, {}", program.describe(id));
            errors.add(Rule::Scratch, place, message);
        }
    }
    let outside_kernels = match step {
        Step::Kernel(_) | Step::Loop(_) => Vec::new(),
        Step::Product(p) => vec![p.lhs.buffer, p.rhs.buffer, p.dst.buffer],
        Step::Convolution(c) => vec![c.lhs.buffer, c.rhs.buffer, c.dst.buffer],
        Step::Guard(_) | Step::While(_) | Step::Branch(_) | Step::Copy(_) | Step::Custom(_) => {
            step.buffers()
        }
    };
    for id in outside_kernels.into_iter().filter(is_scratch) {
        let message = format!(
            "{} is scratch, which only kernels have",
            program.describe(id)
        );
        errors.add(Rule::Scratch, place, message);
    }
}
