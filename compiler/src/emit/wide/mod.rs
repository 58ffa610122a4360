//! Lanes loops at the full width of AVX-512.
//!
//! Cranelift stops at 128 bits. A lanes loop whose body is straight-line code over adjacent elements of at most 32 bits needs no more of a
//! compiler than registers for one iteration, so it is assembled here, in registers of sixteen lanes, as a function that the kernel's
//! Cranelift code calls with the addresses of the first elements. A lane computes the same operations in the same order as in 128 bits, and
//! the sixteen partial results of a fold are the lanes of one register, so not a bit differs.
//!
//! `select.rs` makes a [`tape`] of the body, `allocate.rs` gives it registers, `encode.rs` makes bytes of it, and `lanes.rs` puts the loop
//! around: an unrolled one, one of sixteen lanes, and a tail under a mask. `columns.rs` does the same for loops over rows.
//!
//! Random words in a row are drawn before, for a strip of iterations at a time, and are read like any other elements.
//!
//! Left to Cranelift: loops around other loops, types of 64 bits, gathers, random words at other positions, argmax and argmin, functions
//! with a rare path (sin, cos, tan), loops known to be very short, and machines without AVX-512.

use super::analysis::Facts;
use crate::kernel::{Kernel, Loop, LoopKind, Stmt};
use fold::Folding;
use kiln_ir::Dim;
use select::{Selected, Stream, Uniform, select, select_rows};
use tape::Arg;

mod allocate;
mod call;
mod columns;
mod encode;
mod fold;
mod frame;
mod lanes;
mod opcode;
mod select;
mod tape;

pub(super) use call::{Callee, Tiles};

/// The lanes of a register.
const LANES: u32 = 16;
/// The trip count, where it is known, from which a call pays.
const LEAST: i64 = 8;
/// The bytes of a uniform in the block: a register of Cranelift's, whose first word counts.
pub(super) const UNIFORM: u32 = 16;

/// A function that runs a lanes loop, and what it is called with.
///
/// Its one argument is the address of a block: the trip count (at least 1), the pointers, 8 bytes each, of which the caller's own come
/// before those to the first element of each stream, the uniforms, [`UNIFORM`] bytes each, and room for the 16 partial results of each
/// accumulator, which it writes. Functions of columns have more words behind the pointers, see `columns.rs`.
pub(super) struct Function<'k> {
    /// The code, position-independent, constants included.
    pub(super) bytes: Vec<u8>,
    /// The accesses.
    pub(super) streams: Vec<Stream<'k>>,
    /// By how many elements each stream goes on from row to row, in a function that goes through rows.
    pub(super) strides: Vec<Dim>,
    /// The values from outside of the loop.
    pub(super) uniforms: Vec<Uniform>,
    /// Where things lie in the block.
    pub(super) layout: Layout,
    /// The instructions, for dumps.
    pub(super) text: String,
}

/// Where things lie in the block of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pointers: usize,
    /// More words of 8 bytes behind the pointers.
    words: usize,
    uniforms: usize,
    accumulators: usize,
}

impl Layout {
    fn of(pointers: usize, words: usize, uniforms: usize, accumulators: usize) -> Layout {
        Layout {
            pointers,
            words,
            uniforms,
            accumulators,
        }
    }

    pub(super) fn pointer(self, i: usize) -> u32 {
        8 + 8 * i as u32
    }

    pub(super) fn word(self, i: usize) -> u32 {
        self.pointer(self.pointers + i)
    }

    pub(super) fn uniform(self, i: usize) -> u32 {
        self.word(self.words) + UNIFORM * i as u32
    }

    pub(super) fn partial(self, i: usize) -> u32 {
        self.uniform(self.uniforms) + 4 * LANES * i as u32
    }

    /// In bytes.
    pub(super) fn size(self) -> u32 {
        self.partial(self.accumulators)
    }
}

/// Whether a lanes loop of a kernel is emitted in full width, on a machine that has it.
pub(crate) fn takes(kernel: &Kernel, facts: &Facts, inner: &Loop) -> bool {
    is_candidate(inner)
        && Folding::all(kernel, &inner.accumulators).is_some()
        && select(kernel, facts, inner).is_some()
}

fn is_candidate(inner: &Loop) -> bool {
    inner.kind == LoopKind::Lanes && inner.extent.constant().is_none_or(|n| n >= LEAST)
}

/// The function of a lanes loop, for a trip count if it is known to be always the same; `None` if it is left to Cranelift.
pub(super) fn function<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    inner: &'k Loop,
    count: Option<i64>,
) -> Option<Function<'k>> {
    if !is_candidate(inner) {
        return None;
    }
    let foldings = Folding::all(kernel, &inner.accumulators)?;
    let selected = select(kernel, facts, inner)?;
    lanes::build(selected, 0, &foldings, count)
}

/// The function that folds some rows of a column reduction onto partial results in memory. Its own pointers, one for each accumulator, are
/// to those of the first column.
pub(super) fn rows_function<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    lanes: &'k Loop,
    before: &'k [Stmt],
    rows: &'k Loop,
    count: usize,
) -> Option<Function<'k>> {
    let selected = select_rows(kernel, facts, lanes, before, rows, count)?;
    lanes::build(selected, rows.accumulators.len(), &[], None)
}

/// Names the uniforms of a body by where they lie in the block.
fn placed(selected: &mut Selected<'_>, layout: Layout) {
    let place = |arg: Arg| match arg {
        Arg::Uniform(i) => Arg::Uniform(layout.uniform(i as usize)),
        Arg::Value(_) | Arg::Word(_) | Arg::Partial(_) => arg,
    };
    for inst in &mut selected.tape.insts {
        inst.replace(place);
    }
    for operand in &mut selected.operands {
        *operand = place(*operand);
    }
}
