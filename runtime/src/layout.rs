//! Where every buffer of a program lies under a binding: which block, and at which offset.
//!
//! The arena and scratch are placed by [`kiln_ir::program::place`]; params with state, outputs and constants follow one another in the
//! order of the program, each aligned. Behind the arena's buffers lie operands that are packed for the time of a loop. What matrix products and convolutions pack lies behind the program's own scratch, the same room for all of them.
//! This file knows offsets and no addresses.

mod hoist;

pub(crate) use hoist::Hoist;

use crate::convolution;
use crate::form::{self, evaluate};
use crate::product::{Method, ProductType};
use crate::report::MemoryReport;
use kiln_ir::program::{ALIGNMENT, Home, Port, Program, Step, place};
use kiln_ir::{BindError, Bindings, BufferId, DType, Role};

/// The place of a buffer. Offsets count bytes from the start of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// The feed at this position.
    Input(usize),
    /// In the block of params and state.
    Resident(usize),
    /// In the block of outputs.
    Output(usize),
    /// In the executable's block of constants.
    Constant(usize),
    /// In the arena.
    Arena(usize),
    /// In the scratch of the thread that asks.
    Scratch(usize),
    /// Wherever the loop that moves the slice says.
    Slice,
}

/// All places under one binding.
pub(crate) struct Layout {
    /// The place of each buffer.
    pub(crate) locations: Vec<Location>,
    /// The bytes of each buffer.
    pub(crate) bytes: Vec<usize>,
    /// How each step that is a product is computed; `None` for other steps, and where the numbers are too large for any memory.
    pub(crate) methods: Vec<Option<Method>>,
    /// The same for steps that are convolutions.
    pub(crate) convolutions: Vec<Option<convolution::Method>>,
    /// Where products find their right side packed, by step.
    pub(crate) hoists: Vec<Option<Hoist>>,
    /// Where that begins in the arena.
    pub(crate) hoisted: usize,
    /// Where the scratch of products and convolutions begins.
    pub(crate) product_scratch: usize,
    /// How large the blocks are.
    pub(crate) report: MemoryReport,
}

/// The part of a block that a tensor of the signature takes up, and its extents.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Where it begins in its block.
    pub(crate) offset: usize,
    /// Its size in bytes.
    pub(crate) bytes: usize,
    /// The extents.
    pub(crate) shape: Vec<usize>,
}

/// Lays out a verified program for `threads` threads.
///
/// # Errors
/// A size that is unbound, negative or too large.
pub(crate) fn lay_out(
    program: &Program,
    bindings: &Bindings,
    threads: usize,
) -> Result<Layout, BindError> {
    let placement = place(&program.buffers, bindings)?;
    let threads_of = threads_of(program, threads);
    let mut methods = methods(program, bindings, &threads_of)?;
    let (hoists, packed_in_loops) = hoist::hoists(program, bindings, &mut methods)?;
    let hoisted = placement.arena.next_multiple_of(ALIGNMENT);
    let product_scratch = placement.scratch.next_multiple_of(ALIGNMENT);
    let convolutions = convolutions(program, bindings, &threads_of)?;
    let of_products = methods.iter().flatten().map(Method::scratch);
    let of_convolutions = convolutions.iter().flatten().map(|m| m.scratch());
    let packed = of_products.chain(of_convolutions).max();
    let scratch = match packed {
        Some(bytes @ 1..) => product_scratch.saturating_add(bytes),
        Some(0) | None => placement.scratch,
    };
    let mut report = MemoryReport {
        arena: match packed_in_loops {
            0 => placement.arena,
            bytes => hoisted.saturating_add(bytes),
        },
        live_peak: placement.live_peak,
        scratch,
        threads,
        ..MemoryReport::default()
    };
    let is_arena = |id: BufferId| {
        let whole = program.buffers.get(id.index());
        whole.is_some_and(|b| matches!(b.home, Home::Arena(_)))
    };
    // Scratch comes first as a stand-in; the signature and the homes below assign every buffer of a verified program.
    let mut locations: Vec<Location> = program
        .buffers
        .iter()
        .zip(&placement.offsets)
        .map(|(buffer, offset)| match (&buffer.home, offset) {
            (Home::Arena(_), Some(offset)) => Location::Arena(*offset),
            (Home::Slice(_), _) => Location::Slice,
            (Home::Stretch(stretch), Some(offset)) if is_arena(stretch.of) => {
                Location::Arena(*offset)
            }
            (_, offset) => Location::Scratch(offset.unwrap_or(0)),
        })
        .collect();
    let bytes = placement.bytes;
    let room = |id: BufferId| {
        bytes
            .get(id.index())
            .map_or(0, |b| b.next_multiple_of(ALIGNMENT))
    };
    let mut assign = |id: BufferId, location: Location| {
        if let Some(slot) = locations.get_mut(id.index()) {
            *slot = location;
        }
    };
    for (index, port) in program.inputs.iter().enumerate() {
        assign(port.buffer, Location::Input(index));
        report.inputs = report.inputs.saturating_add(room(port.buffer));
    }
    let residents = lay_out_residents(program, bindings).map_err(|(_, error)| error)?;
    for (resident, span) in program.residents.iter().zip(&residents.spans) {
        assign(resident.buffer, Location::Resident(span.offset));
    }
    (report.params, report.state) = (residents.params, residents.state);
    for port in &program.outputs {
        assign(port.buffer, Location::Output(report.outputs));
        report.outputs = report.outputs.saturating_add(room(port.buffer));
    }
    for constant in constants(program) {
        assign(constant.id, Location::Constant(constant.offset));
        report.constants = constant.end();
    }
    Ok(Layout {
        locations,
        bytes,
        methods,
        convolutions,
        hoists,
        hoisted,
        product_scratch,
        report,
    })
}

/// How many threads share each step out: one in a parallel loop, whose iterations run whole on a thread.
fn threads_of(program: &Program, threads: usize) -> Vec<usize> {
    let mut found = vec![threads; program.steps.len()];
    for (position, step) in program.steps.iter().enumerate() {
        if matches!(step, Step::Loop(l) if l.parallel) {
            let body = found.get_mut(step.bodies(position).all());
            body.unwrap_or_default().fill(1);
        }
    }
    found
}

/// How the products among the steps are computed, each by so many threads.
fn methods(
    program: &Program,
    bindings: &Bindings,
    threads: &[usize],
) -> Result<Vec<Option<Method>>, BindError> {
    let method = |(step, threads): (&Step, &usize)| match step {
        Step::Product(product) => {
            let evaluated = evaluate(product, bindings)?;
            let dtype = ProductType::of(product.dtype, product.accumulate);
            Ok(dtype.and_then(|dtype| evaluated.method(dtype, *threads)))
        }
        Step::Kernel(_)
        | Step::Convolution(_)
        | Step::Guard(_)
        | Step::Loop(_)
        | Step::While(_)
        | Step::Branch(_)
        | Step::Copy(_)
        | Step::Custom(_) => Ok(None),
    };
    program.steps.iter().zip(threads).map(method).collect()
}

/// How the convolutions among the steps are computed.
fn convolutions(
    program: &Program,
    bindings: &Bindings,
    threads: &[usize],
) -> Result<Vec<Option<convolution::Method>>, BindError> {
    let method = |(step, threads): (&Step, &usize)| match step {
        Step::Convolution(c) => match ProductType::of(c.dtype, c.accumulate) {
            Some(dtype) => {
                let evaluated = form::convolution::evaluate(c, dtype, bindings)?;
                Ok(evaluated.method(*threads))
            }
            None => Ok(None),
        },
        Step::Kernel(_)
        | Step::Product(_)
        | Step::Guard(_)
        | Step::Loop(_)
        | Step::While(_)
        | Step::Branch(_)
        | Step::Copy(_)
        | Step::Custom(_) => Ok(None),
    };
    program.steps.iter().zip(threads).map(method).collect()
}

/// Where params and state lie, in the order of the program, and how much there is of each.
pub(crate) struct Residents {
    pub(crate) spans: Vec<Span>,
    pub(crate) params: usize,
    pub(crate) state: usize,
}

/// Lays out params and state alone.
///
/// # Errors
/// The position of the first one whose size has no value under the bindings, and why.
pub(crate) fn lay_out_residents(
    program: &Program,
    bindings: &Bindings,
) -> Result<Residents, (usize, BindError)> {
    let mut found = Residents {
        spans: Vec::with_capacity(program.residents.len()),
        params: 0,
        state: 0,
    };
    for (position, resident) in program.residents.iter().enumerate() {
        let at = |error| (position, error);
        let extents = resident.ty.shape.iter().map(|d| d.eval_size(bindings));
        let shape = extents.collect::<Result<_, _>>().map_err(at)?;
        let bytes = program.bytes(resident.buffer, bindings).map_err(at)?;
        found.spans.push(Span {
            offset: found.params.saturating_add(found.state),
            bytes,
            shape,
        });
        let kind = match resident.role {
            Role::Param(_) => &mut found.params,
            Role::State(_) | Role::Input => &mut found.state,
        };
        *kind = kind.saturating_add(bytes.next_multiple_of(ALIGNMENT));
    }
    Ok(found)
}

/// A constant of a program and where it lies in the block of constants, whatever the binding.
pub(crate) struct Constant<'p> {
    pub(crate) id: BufferId,
    pub(crate) dtype: DType,
    pub(crate) bytes: &'p [u8],
    pub(crate) offset: usize,
}

impl Constant<'_> {
    /// Where the next one begins.
    pub(crate) fn end(&self) -> usize {
        self.offset
            .saturating_add(self.bytes.len().next_multiple_of(ALIGNMENT))
    }
}

/// The constants in order.
pub(crate) fn constants(program: &Program) -> Vec<Constant<'_>> {
    let mut found: Vec<Constant<'_>> = Vec::new();
    for (index, buffer) in program.buffers.iter().enumerate() {
        if let Home::Constant(bytes) = &buffer.home {
            found.push(Constant {
                id: BufferId::new(index),
                dtype: buffer.dtype,
                bytes,
                offset: found.last().map_or(0, Constant::end),
            });
        }
    }
    found
}

impl Layout {
    /// The place of a buffer of a verified program.
    pub(crate) fn location(&self, id: BufferId) -> Location {
        self.locations
            .get(id.index())
            .copied()
            .unwrap_or(Location::Scratch(0))
    }

    /// The span of an input or output; an input begins where the caller has it.
    pub(crate) fn span(&self, port: &Port, bindings: &Bindings) -> Result<Span, BindError> {
        let offset = match self.location(port.buffer) {
            Location::Resident(offset)
            | Location::Output(offset)
            | Location::Constant(offset)
            | Location::Arena(offset)
            | Location::Scratch(offset) => offset,
            // No output is a slice.
            Location::Input(_) | Location::Slice => 0,
        };
        Ok(Span {
            offset,
            bytes: self.bytes.get(port.buffer.index()).copied().unwrap_or(0),
            shape: port
                .ty
                .shape
                .iter()
                .map(|d| d.eval_size(bindings))
                .collect::<Result<_, _>>()?,
        })
    }
}
