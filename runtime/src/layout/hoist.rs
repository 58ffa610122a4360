//! Products in loops whose right side no iteration changes: it is packed once, before the first iteration, and lies behind the arena.
//!
//! A right side is packed for the outermost loop that leaves it alone and has more than one iteration. Loops that follow one another use
//! the same room. Parallel loops are left out: their products belong to one thread and are small.

use crate::product::Method;
use kiln_ir::program::{ALIGNMENT, Product, Program, Step, root_of, slices_of};
use kiln_ir::{BindError, Bindings};
use std::collections::BTreeMap;

/// The most bytes that are worth a second copy: beyond, the product waits for memory in any case.
const MOST_BYTES: usize = 16 << 20;

/// Where a product's packed right side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hoist {
    /// The loop before which it is packed.
    pub(crate) at: usize,
    /// In bytes from the end of the arena's buffers.
    pub(crate) offset: usize,
}

/// Which products of a verified program find their right side packed, and the room for all of them. Their methods are exchanged for ones
/// that do.
///
/// # Errors
/// A symbol without a value, or a number out of range.
pub(super) fn hoists(
    program: &Program,
    bindings: &Bindings,
    methods: &mut [Option<Method>],
) -> Result<(Vec<Option<Hoist>>, usize), BindError> {
    let mut found = vec![None; program.steps.len()];
    // By outermost loop, how much room its products take up so far.
    let mut rooms: BTreeMap<usize, usize> = BTreeMap::new();
    let is_control = |at: &usize| !program.steps[*at].bodies(*at).all().is_empty();
    let control: Vec<usize> = (0..program.steps.len()).filter(is_control).collect();
    for (position, step) in program.steps.iter().enumerate() {
        let (Step::Product(product), Some(method)) = (step, &mut methods[position]) else {
            continue;
        };
        let around = control.iter().copied();
        let around = around.filter(|at| program.steps[*at].bodies(*at).all().contains(&position));
        let around: Vec<usize> = around.collect();
        let Some(outermost) = around.first() else {
            continue;
        };
        let mut matrices = product.batch.iter().map(|extent| extent.eval(bindings));
        if matrices.any(|extent| extent != Ok(1)) {
            continue;
        }
        let Some(at) = invariant_in(program, bindings, product, &around)? else {
            continue;
        };
        let Some((apart, bytes)) = method.apart().filter(|(_, bytes)| *bytes <= MOST_BYTES) else {
            continue;
        };
        let room = rooms.entry(*outermost).or_default();
        *method = apart;
        found[position] = Some(Hoist { at, offset: *room });
        *room = room.saturating_add(bytes.next_multiple_of(ALIGNMENT));
    }
    Ok((found, rooms.into_values().max().unwrap_or(0)))
}

/// The outermost of the steps `around` a product that repeats it with the same right side, but none where iterations run in parallel.
fn invariant_in(
    program: &Program,
    bindings: &Bindings,
    product: &Product,
    around: &[usize],
) -> Result<Option<usize>, BindError> {
    let rhs = product.rhs.buffer;
    let root = root_of(&program.buffers, rhs);
    let mut found = None;
    for at in around {
        let step = &program.steps[*at];
        let Step::Loop(l) = step else {
            continue;
        };
        if l.parallel {
            return Ok(None);
        }
        let body = step.bodies(*at).all();
        let moved = slices_of(&program.buffers, rhs).any(|slice| slice.at >= *at);
        let accesses = program.steps[body].iter().flat_map(Step::phases).flatten();
        let written = accesses
            .filter(|(_, access)| access.writes())
            .any(|(id, _)| root_of(&program.buffers, id) == root);
        if found.is_none() && !moved && !written && l.trip.eval(bindings)? > 1 {
            found = Some(*at);
        }
    }
    Ok(found)
}
