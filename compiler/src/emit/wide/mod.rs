//! Lanes loops at the full width of AVX-512.
//!
//! Cranelift stops at 128 bits. A lanes loop whose body is straight-line code over adjacent elements of at most 32 bits needs no more of a
//! compiler than registers for one iteration, so it is assembled here, in registers of sixteen lanes, as a function that the kernel's
//! Cranelift code calls with the addresses of the first elements. A lane computes the same operations in the same order as in 128 bits, and
//! the sixteen partial results of a fold are the lanes of one register, so not a bit differs.
//!
//! `select.rs` makes a [`tape`] of the body, `allocate.rs` gives it registers, `encode.rs` makes bytes of it, and this file puts the loop
//! around: an unrolled one, one of sixteen lanes, and a tail under a mask.
//!
//! Left to Cranelift: loops around other loops, types of 64 bits, gathers, random words, argmax and argmin, functions with a rare path
//! (sin, cos, tan), loops known to be short, and machines without AVX-512.

use super::analysis::Facts;
use crate::kernel::{Accumulator, Kernel, Loop, LoopKind, Stmt};
use allocate::{Allocated, FOUR, Manner, Pinned, QUARTER, SLOT, TAIL, allocate};
use encode::{
    Assembler, Condition, FREE_POINTERS, Instruction, POINTERS, Place, RBP, RCX, RSI, RSP,
};
use select::{Selected, Stream, Uniform, select, select_rows};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tape::{Arg, Inst, Op, Out, Tape};

mod allocate;
mod call;
mod encode;
mod select;
mod tape;

pub(super) use call::Callee;

/// The lanes of a register.
const LANES: u32 = 16;
/// The trip count, where it is known, from which a call pays.
const LEAST: i64 = 32;
/// The instructions of an unrolled iteration, at most, and how often it is unrolled.
const UNROLLED: usize = 32;
const MOST_UNROLLED: usize = 4;
/// The bytes of a uniform in the block: a register of Cranelift's, whose first word counts.
pub(super) const UNIFORM: u32 = 16;

/// A function that runs a lanes loop, and what it is called with.
///
/// Its one argument is the address of a block: the trip count (at least 1), the pointers, 8 bytes each, of which the caller's own come
/// before those to the first element of each stream, the uniforms, [`UNIFORM`] bytes each, and room for the 16 partial results of each accumulator, which it writes.
pub(super) struct Function<'k> {
    /// The code, position-independent, constants included.
    pub(super) bytes: Vec<u8>,
    /// The accesses.
    pub(super) streams: Vec<Stream<'k>>,
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
    uniforms: usize,
    accumulators: usize,
}

impl Layout {
    fn of(pointers: usize, uniforms: usize, accumulators: usize) -> Layout {
        Layout {
            pointers,
            uniforms,
            accumulators,
        }
    }

    pub(super) fn pointer(self, i: usize) -> u32 {
        8 + 8 * i as u32
    }

    pub(super) fn uniform(self, i: usize) -> u32 {
        self.pointer(self.pointers) + UNIFORM * i as u32
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
    is_candidate(inner) && select(kernel, facts, inner).is_some()
}

fn is_candidate(inner: &Loop) -> bool {
    inner.kind == LoopKind::Lanes && inner.extent.constant().is_none_or(|n| n >= LEAST)
}

/// The function of a lanes loop; `None` if it is left to Cranelift.
pub(super) fn function<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    inner: &'k Loop,
) -> Option<Function<'k>> {
    if !is_candidate(inner) {
        return None;
    }
    let selected = select(kernel, facts, inner)?;
    build(kernel, selected, 0, &inner.accumulators)
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
    build(kernel, selected, rows.accumulators.len(), &[])
}

/// The function of a body, with so many pointers of the caller's own.
fn build<'k>(
    kernel: &Kernel,
    selected: Selected<'k>,
    own: usize,
    accumulators: &[Accumulator],
) -> Option<Function<'k>> {
    let count = accumulators.len();
    let pointers = own + selected.streams.len();
    let layout = Layout::of(pointers, selected.uniforms.len(), count);
    let placed = |arg: Arg| match arg {
        Arg::Uniform(i) => Arg::Uniform(layout.uniform(i as usize)),
        Arg::Value(_) | Arg::Word(_) | Arg::Partial(_) => arg,
    };
    let mut body = selected.tape;
    for inst in &mut body.insts {
        inst.replace(placed);
    }
    let operands: Vec<Arg> = selected.operands.into_iter().map(placed).collect();

    // The main loop folds at once; the tail puts its operands aside, and they are folded four lanes at a time.
    let mut main = body.clone();
    let mut tail = body;
    let mut folds = Vec::new();
    for (i, (accumulator, operand)) in accumulators.iter().zip(&operands).enumerate() {
        let i = i as u32;
        select::fold(&mut main, kernel, accumulator, i, *operand, Op::Move)?;
        tail.insts
            .push(Inst::new(Op::Park(i), Out::Nothing, &[*operand], None));
    }
    for quarter in 0..4 {
        let mut fold = Tape::default();
        for (i, accumulator) in accumulators.iter().enumerate() {
            let i = i as u32;
            let operand = fold.lanes(Op::Unpark(i, quarter), &[]);
            select::fold(&mut fold, kernel, accumulator, i, operand, Op::Merge)?;
        }
        folds.push(fold);
    }
    for tape in [&mut main, &mut tail].into_iter().chain(&mut folds) {
        tape.drop_dead();
    }

    let mut pinned = Pinned::new();
    for i in 0..count {
        pinned.insert(Arg::Partial(i as u32), 31_u8.checked_sub(i as u8)?);
    }
    let parked = SLOT * count as u32;
    let assign = |tape: &Tape, pinned: &Pinned, manner| {
        allocate(&tape.insts, tape.values, pinned, manner, parked)
    };
    let free = assign(&main, &pinned, Manner::Whole)?;
    pin_words(&main, 32 - count - free.pressure, &mut pinned);
    let code = Code {
        main: assign(&main, &pinned, Manner::Whole)?,
        tail: assign(&tail, &pinned, Manner::Tail)?,
        folds: folds
            .iter()
            .map(|fold| assign(fold, &pinned, Manner::Fold))
            .collect::<Option<_>>()?,
    };
    let mut identities = Vec::with_capacity(count);
    for accumulator in accumulators {
        identities.push(select::identity(kernel, accumulator)?);
    }
    Some(Function {
        bytes: assemble(&code, &pinned, layout, &identities),
        text: code.text(),
        streams: selected.streams,
        uniforms: selected.uniforms,
        layout,
    })
}

/// Gives registers that are free all through the loop to the words that are read most.
fn pin_words(tape: &Tape, free: usize, pinned: &mut Pinned) {
    let mut reads: BTreeMap<Arg, usize> = BTreeMap::new();
    for arg in tape.insts.iter().flat_map(Inst::args) {
        if matches!(arg, Arg::Word(_) | Arg::Uniform(_)) {
            *reads.entry(*arg).or_default() += 1;
        }
    }
    let mut order: Vec<(usize, Arg)> = reads.into_iter().map(|(arg, n)| (n, arg)).collect();
    order.sort_by_key(|(n, arg)| (std::cmp::Reverse(*n), *arg));
    let taken = pinned.len();
    for (i, (_, arg)) in order.into_iter().take(free).enumerate() {
        pinned.insert(arg, (31 - taken - i) as u8);
    }
}

/// The parts of a function.
struct Code {
    main: Allocated,
    tail: Allocated,
    /// The folds of the tail's quarters.
    folds: Vec<Allocated>,
}

impl Code {
    fn stack(&self) -> u32 {
        let parts = [&self.main, &self.tail].into_iter().chain(&self.folds);
        parts.map(|part| part.stack).max().unwrap_or(0)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, part) in [("main", &self.main), ("tail", &self.tail)] {
            let _ = writeln!(text, "{name}:");
            for instruction in &part.code {
                let _ = writeln!(text, "  {instruction}");
            }
        }
        text
    }
}

/// The function around the code of an iteration.
fn assemble(code: &Code, pinned: &Pinned, layout: Layout, identities: &[u32]) -> Vec<u8> {
    let mut a = Assembler::default();
    let saved = &POINTERS[FREE_POINTERS.min(layout.pointers)..layout.pointers];
    a.push(RBP);
    a.copy(RBP, RSP);
    for reg in saved {
        a.push(*reg);
    }
    a.add(RSP, -(code.stack() as i32));
    a.align(RSP, -(SLOT as i32));
    for (i, reg) in POINTERS.iter().enumerate().take(layout.pointers) {
        a.load(*reg, layout.pointer(i));
    }
    for (arg, reg) in pinned {
        let place = match *arg {
            Arg::Word(word) => Place::Word(word),
            Arg::Uniform(bytes) => Place::Uniform(bytes),
            Arg::Partial(i) => Place::Word(identities[i as usize]),
            Arg::Value(_) => continue,
        };
        a.instruction(&broadcast(*reg, place));
    }
    a.set(RCX, 0);
    a.load(RSI, 0);

    // The limit is the last counter with which an iteration is whole.
    let unrolled = (UNROLLED / code.main.code.len().max(1)).clamp(1, MOST_UNROLLED) as u32;
    let whole = LANES as i32;
    let (single, rest, done) = (a.label(), a.label(), a.label());
    a.add(RSI, -whole);
    if unrolled > 1 {
        let more = (unrolled as i32 - 1) * whole;
        a.add(RSI, -more);
        iterations(&mut a, &code.main, unrolled, single);
        a.place(single);
        a.add(RSI, more);
    } else {
        a.place(single);
    }
    iterations(&mut a, &code.main, 1, rest);
    a.place(rest);
    a.add(RSI, whole);
    a.subtract(RSI, RCX);
    a.jump(Condition::Equal, done);
    a.low_bits(RSI, RSI);
    a.mask_from(TAIL, RSI);
    write(&mut a, &code.tail);
    if !identities.is_empty() {
        a.set(RSI, 15);
        a.mask_from(FOUR, RSI);
        for (quarter, fold) in code.folds.iter().enumerate() {
            a.shift_mask(QUARTER, TAIL, 4 * quarter as u8);
            a.instruction(&Instruction::Masks {
                op: encode::MaskOp::And,
                reg: QUARTER,
                second: QUARTER,
                third: FOUR,
            });
            write(&mut a, fold);
        }
    }
    a.place(done);
    for i in 0..identities.len() {
        if let Some(reg) = pinned.get(&Arg::Partial(i as u32)) {
            a.instruction(&Instruction::Lanes {
                row: encode::STORE,
                reg: *reg,
                second: 0,
                place: Place::Block(layout.partial(i)),
                mask: 0,
                zeroing: false,
                immediate: None,
            });
        }
    }
    a.copy(RSP, RBP);
    a.add(RSP, -8 * saved.len() as i32);
    for reg in saved.iter().rev() {
        a.pop(*reg);
    }
    a.pop(RBP);
    a.leave();
    a.finish()
}

/// Iterations of so many times sixteen lanes while the counter is not above the limit; `done` follows.
fn iterations(a: &mut Assembler, main: &Allocated, times: u32, done: encode::Label) {
    a.compare(RCX, RSI);
    a.jump(Condition::Greater, done);
    let again = a.label();
    a.place(again);
    for i in 0..times {
        a.ahead = LANES * i;
        write(a, main);
    }
    a.ahead = 0;
    a.add(RCX, (LANES * times) as i32);
    a.compare(RCX, RSI);
    a.jump(Condition::LessEqual, again);
}

fn write(a: &mut Assembler, part: &Allocated) {
    for instruction in &part.code {
        a.instruction(instruction);
    }
}

fn broadcast(reg: u8, place: Place) -> Instruction {
    Instruction::Lanes {
        row: encode::BROADCAST,
        reg,
        second: 0,
        place,
        mask: 0,
        zeroing: false,
        immediate: None,
    }
}
