//! The function of a lanes loop: an unrolled loop, one of sixteen lanes, and a tail under a mask.
//!
//! The main loops fold at once. In the unrolled one, free folds have registers of their own for each copy of the body, so that a copy need
//! not wait for the one before. The tail folds at once what may be folded in any order; what has one order it puts aside, and four lanes
//! of it at a time are folded onto the first four partial results.

use super::allocate::{Allocated, FOUR, Manner, Pinned, QUARTER, TAIL, allocate};
use super::encode::{Assembler, Condition, Instruction, Label, MaskOp, RCX, RSI};
use super::fold::Folding;
use super::frame::{Frame, pin, pin_words, write};
use super::select::Selected;
use super::tape::{Arg, Op, Out, Tape};
use super::{Function, LANES, Layout, placed};
use std::fmt::Write as _;

/// The instructions of an unrolled iteration, at most, and how often it is unrolled.
const UNROLLED: usize = 32;
const MOST_UNROLLED: usize = 4;
/// The registers that are left to the code between those of free folds.
const LEFT: usize = 8;

/// The parts of a function.
struct Code {
    /// The registers' first contents.
    begin: Allocated,
    /// An iteration of the main loop, for each copy in the unrolled one.
    main: Vec<Allocated>,
    /// What the registers of the other copies begin with, and what joins them to the first.
    copies: Allocated,
    joined: Allocated,
    tail: Allocated,
    /// The folds of the tail's quarters, if there are folds that have an order.
    quarters: Vec<Allocated>,
    /// The way of the partial results to the block.
    end: Allocated,
    /// The trip count, where it is known.
    count: Option<i64>,
}

/// The function of a body, with so many pointers of the caller's own, for any trip count or for one that is known.
pub(super) fn build<'k>(
    mut selected: Selected<'k>,
    own: usize,
    foldings: &[Folding],
    count: Option<i64>,
) -> Option<Function<'k>> {
    let layout = Layout::of(
        own + selected.streams.len(),
        0,
        selected.uniforms.len(),
        foldings.len(),
    );
    placed(&mut selected, layout);
    let folds = || foldings.iter().zip(&selected.operands).enumerate();
    let registers = Folding::count(foldings);

    let mut main = selected.tape.clone();
    let mut tail = selected.tape;
    let mut begin = Tape::default();
    let mut end = Tape::default();
    for (i, (folding, operand)) in folds() {
        folding.append(&mut main, *operand)?;
        if folding.is_free() {
            folding.append(&mut tail, *operand)?;
        } else {
            tail.effect(Op::Park(layout.partial(i)), &[*operand]);
        }
        for (register, word) in folding.identities() {
            begin.partial(Op::Move, register, &[Arg::Word(word)]);
        }
        let settled = folding.settled(&mut end);
        end.effect(Op::Park(layout.partial(i)), &[settled]);
    }
    let mut quarters = Vec::new();
    if foldings.iter().any(|f| !f.is_free()) {
        for quarter in 0..4 {
            let mut tape = Tape::default();
            for (i, (folding, _)) in folds().filter(|(_, (f, _))| !f.is_free()) {
                let operand = tape.lanes(Op::Unpark(layout.partial(i) + 16 * quarter), &[]);
                folding.append(&mut tape, operand)?;
            }
            quarters.push(tape);
        }
    }
    main.drop_dead();
    tail.drop_dead();

    let mut pinned = Pinned::new();
    for register in 0..registers {
        pin(&mut pinned, Arg::Partial(register))?;
    }
    let free = allocate(&main, &pinned, Manner::Whole)?;
    let iterations = count.map_or(usize::MAX, |n| n as usize / LANES as usize);
    let most = MOST_UNROLLED.min(iterations.max(1));
    let unrolled = (UNROLLED / free.code.len().max(1)).clamp(1, most);
    let of_copies: Vec<&Folding> = foldings.iter().filter(|f| f.is_free()).collect();
    let more = of_copies.iter().flat_map(|f| f.identities()).count() * (unrolled - 1);
    let fits = free.pressure + pinned.len() + more + LEFT <= 32;
    let mut copies = Tape::default();
    let mut joined = Tape::default();
    for copy in (1..unrolled as u32).filter(|_| fits) {
        for folding in &of_copies {
            for (register, word) in folding.identities() {
                let register = register + copy * registers;
                pin(&mut pinned, Arg::Partial(register))?;
                copies.partial(Op::Move, register, &[Arg::Word(word)]);
            }
            folding.append_copy(&mut joined, copy * registers)?;
        }
    }
    // A word that is read once or twice would better stay in memory.
    if iterations > 1 {
        let free = 32 - pinned.len() - free.pressure.max(1);
        pin_words(&[&main], free, &mut pinned)?;
    }
    let mut mains = Vec::with_capacity(unrolled);
    for copy in 0..unrolled as u32 {
        let mut pinned = pinned.clone();
        for (register, _) in of_copies.iter().flat_map(|f| f.identities()) {
            let (first, own) = (register, register + copy * registers);
            let at = |i| pinned.get(&Arg::Partial(i)).copied();
            if let (Some(a), Some(b)) = (at(first), at(own)) {
                pinned.insert(Arg::Partial(first), b);
                pinned.insert(Arg::Partial(own), a);
            }
        }
        mains.push(allocate(&main, &pinned, Manner::Whole)?);
    }
    let whole = |tape: &Tape| allocate(tape, &pinned, Manner::Whole);
    let code = Code {
        begin: whole(&begin)?,
        main: mains,
        copies: whole(&copies)?,
        joined: whole(&joined)?,
        tail: allocate(&tail, &pinned, Manner::Tail)?,
        quarters: quarters
            .iter()
            .map(|tape| allocate(tape, &pinned, Manner::Fold))
            .collect::<Option<_>>()?,
        end: whole(&end)?,
        count,
    };
    Some(Function {
        bytes: code.assemble(&pinned, &layout),
        text: code.text(),
        streams: selected.streams,
        strides: Vec::new(),
        uniforms: selected.uniforms,
        layout,
    })
}

impl Code {
    fn parts(&self) -> impl Iterator<Item = &Allocated> {
        let around = [&self.begin, &self.copies, &self.joined, &self.tail];
        around
            .into_iter()
            .chain(&self.main)
            .chain(&self.quarters)
            .chain([&self.end])
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, part) in [("main", &self.main[0]), ("tail", &self.tail)] {
            let _ = writeln!(text, "{name}:");
            for instruction in &part.code {
                let _ = writeln!(text, "  {instruction}");
            }
        }
        text
    }

    fn assemble(&self, pinned: &Pinned, layout: &Layout) -> Vec<u8> {
        let mut a = Assembler::default();
        let frame = Frame::of(self.parts(), layout);
        frame.enter(&mut a, layout, pinned);
        write(&mut a, &self.begin);
        a.set(RCX, 0);
        a.load(RSI, 0);

        // The limit is the last counter with which an iteration is whole. Where the count is known, so is the way.
        let whole = LANES as i32;
        let step = whole * self.main.len() as i32;
        let more = step - whole;
        let (single, rest, done) = (a.label(), a.label(), a.label());
        let mut left = self.count;
        a.add(RSI, -step);
        if more > 0 && left.is_none_or(|n| n >= i64::from(step)) {
            if left.is_none() {
                a.compare(RCX, RSI);
                a.jump(Condition::Greater, single);
            }
            write(&mut a, &self.copies);
            repeat(&mut a, &self.main);
            write(&mut a, &self.joined);
            left = left.map(|n| n % i64::from(step));
        }
        a.place(single);
        a.add(RSI, more);
        if left.is_none_or(|n| n >= i64::from(whole)) {
            if left.is_none() {
                a.compare(RCX, RSI);
                a.jump(Condition::Greater, rest);
            }
            repeat(&mut a, &self.main[..1]);
            left = left.map(|n| n % i64::from(whole));
        }
        a.place(rest);
        if left != Some(0) {
            self.fold_tail(&mut a, done);
        }
        a.place(done);
        write(&mut a, &self.end);
        frame.leave(&mut a);
        a.finish()
    }

    /// The lanes behind the last sixteen, of which there are some or none.
    fn fold_tail(&self, a: &mut Assembler, done: Label) {
        a.add(RSI, LANES as i32);
        a.subtract(RSI, RCX);
        if self.count.is_none() {
            a.jump(Condition::Equal, done);
        }
        a.low_bits(RSI, RSI);
        a.mask_from(TAIL, RSI);
        write(a, &self.tail);
        if !self.quarters.is_empty() {
            a.set(RSI, 15);
            a.mask_from(FOUR, RSI);
        }
        for (quarter, fold) in self.quarters.iter().enumerate() {
            a.shift_mask(QUARTER, TAIL, 4 * quarter as u8);
            a.instruction(&Instruction::Masks {
                op: MaskOp::And,
                reg: QUARTER,
                second: QUARTER,
                third: FOUR,
            });
            write(a, fold);
        }
    }
}

/// Iterations of as many times sixteen lanes as there are copies, while the counter is not above the limit; the first one is due.
fn repeat(a: &mut Assembler, copies: &[Allocated]) {
    let again: Label = a.label();
    a.place(again);
    for (i, copy) in copies.iter().enumerate() {
        a.ahead = LANES * i as u32;
        write(a, copy);
    }
    a.ahead = 0;
    a.add(RCX, LANES as i32 * copies.len() as i32);
    a.compare(RCX, RSI);
    a.jump(Condition::LessEqual, again);
}

impl Tape {
    /// An instruction that is there for its effect.
    pub(super) fn effect(&mut self, op: Op, args: &[Arg]) {
        self.insts
            .push(super::tape::Inst::new(op, Out::Nothing, args, None));
    }
}
