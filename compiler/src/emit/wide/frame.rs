//! What stands around the code of an iteration: registers of the caller's that are given back, the stack, pointers, and words that are
//! read often.

use super::Layout;
use super::allocate::{Allocated, Pinned, SLOT};
use super::encode::{Assembler, FREE_POINTERS, POINTERS, Place, RBP, RSP, Scalar};
use super::opcode::moved;
use super::tape::{Arg, Inst, Tape};
use std::collections::BTreeMap;

/// The way in and out of a function.
pub(super) struct Frame {
    /// The bytes of stack.
    stack: u32,
    /// The registers of the caller's.
    saved: &'static [Scalar],
}

impl Frame {
    /// For code in these parts.
    pub(super) fn of<'a>(parts: impl IntoIterator<Item = &'a Allocated>, layout: &Layout) -> Frame {
        let stack = parts.into_iter().map(|part| part.stack).max().unwrap_or(0);
        let pointers = layout.pointers;
        let saved = &POINTERS[FREE_POINTERS.min(pointers)..pointers];
        Frame { stack, saved }
    }

    /// Saves what is the caller's, and loads pointers and pinned words.
    pub(super) fn enter(&self, a: &mut Assembler, layout: &Layout, pinned: &Pinned) {
        if self.stack > 0 {
            a.push(RBP);
            a.copy(RBP, RSP);
        }
        for reg in self.saved {
            a.push(*reg);
        }
        if self.stack > 0 {
            a.add(RSP, -(self.stack as i32));
            a.align(RSP, -(SLOT as i32));
        }
        for (i, reg) in POINTERS.iter().enumerate().take(layout.pointers) {
            a.load(*reg, layout.pointer(i));
        }
        for (arg, reg) in pinned {
            let place = match *arg {
                Arg::Word(word) => Place::Word(word),
                Arg::Uniform(bytes) => Place::Uniform(bytes),
                Arg::Partial(_) | Arg::Value(_) => continue,
            };
            a.instruction(&moved(*reg, place, 0, false));
        }
    }

    /// Gives back what is the caller's, and returns.
    pub(super) fn leave(&self, a: &mut Assembler) {
        if self.stack > 0 {
            a.copy(RSP, RBP);
            a.add(RSP, -8 * self.saved.len() as i32);
        }
        for reg in self.saved.iter().rev() {
            a.pop(*reg);
        }
        if self.stack > 0 {
            a.pop(RBP);
        }
        a.leave();
    }
}

/// Writes the code of a part.
pub(super) fn write(a: &mut Assembler, part: &Allocated) {
    for instruction in &part.code {
        a.instruction(instruction);
    }
}

/// The next register for something that lives through the loop: from the last one downwards.
pub(super) fn pin(pinned: &mut Pinned, arg: Arg) -> Option<()> {
    let reg = 31_u8.checked_sub(u8::try_from(pinned.len()).ok()?)?;
    pinned.insert(arg, reg);
    Some(())
}

/// Gives registers that are free all through the loop to the words that are read most.
pub(super) fn pin_words(tapes: &[&Tape], free: usize, pinned: &mut Pinned) -> Option<()> {
    let mut reads: BTreeMap<Arg, usize> = BTreeMap::new();
    let insts = tapes.iter().flat_map(|tape| &tape.insts);
    for arg in insts.flat_map(Inst::args) {
        if matches!(arg, Arg::Word(_) | Arg::Uniform(_)) {
            *reads.entry(*arg).or_default() += 1;
        }
    }
    let mut order: Vec<(usize, Arg)> = reads.into_iter().map(|(arg, n)| (n, arg)).collect();
    order.sort_by_key(|(n, arg)| (std::cmp::Reverse(*n), *arg));
    for (_, arg) in order.into_iter().take(free) {
        pin(pinned, arg)?;
    }
    Some(())
}
