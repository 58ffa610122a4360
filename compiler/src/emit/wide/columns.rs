//! The function of a column reduction: a loop over rows, with the partial results of a few vectors of columns in registers.
//!
//! A row is the same code for each vector, under a mask for the last one; then the pointers go on to the next row. What stands before the
//! rows is computed once, and what is the same for a whole row once a row, and both stay in registers. After each block of rows the
//! partial results join the results, which lie in memory, behind pointers of the caller's own.
//!
//! The block holds the number of rows, the pointers, the strides of those of the streams in bytes, and how many columns the last vector has.

use super::allocate::{Allocated, Manner, Pinned, TAIL, allocate};
use super::encode::{Assembler, Condition, RCX, RSI};
use super::fold::Folding;
use super::frame::{Frame, pin, pin_words, write};
use super::select::{Rows, select_columns};
use super::tape::{Arg, Element, Op, Out, Tape};
use super::{Function, LANES, Layout, placed};
use crate::emit::analysis::Facts;
use crate::kernel::{Kernel, Loop, SERIAL_BLOCK, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The most vectors of a function.
const MOST: usize = 16;
/// The registers, at most, that live through the loop but for pinned words.
const REGISTERS: usize = 24;
/// The vectors below which rows are worth reading from left to right only if there are no more.
const FEW: usize = 4;

/// The function for as many vectors as suit so many columns, and their number; `None` if there is none, or if it would read the rows piece
/// by piece.
pub(super) fn function<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    lanes: &'k Loop,
    before: &'k [Stmt],
    rows: &'k Loop,
) -> Option<(Function<'k>, usize)> {
    let columns = lanes.extent.constant().unwrap_or(i64::MAX);
    let needed = usize::try_from(columns.div_euclid(16) + i64::from(columns % 16 != 0)).ok()?;
    let mut most = MOST;
    while most > 0 {
        let vectors = suited(needed, most);
        if vectors < needed.min(FEW) {
            return None;
        }
        if let Some(function) = of_vectors(kernel, facts, lanes, before, rows, vectors) {
            return Some((function, vectors));
        }
        most = vectors - 1;
    }
    None
}

/// The number of vectors, up to `most`, with which so many take the fewest calls: whole ones, and one for each vector that is left.
fn suited(needed: usize, most: usize) -> usize {
    let calls = |vectors: usize| needed / vectors + needed % vectors;
    let by_calls = (1..=most).min_by_key(|v| (calls(*v), std::cmp::Reverse(*v)));
    by_calls.unwrap_or(1)
}

/// The function for exactly so many vectors.
pub(super) fn of_vectors<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    lanes: &'k Loop,
    before: &'k [Stmt],
    rows: &'k Loop,
    vectors: usize,
) -> Option<Function<'k>> {
    let foldings = Folding::all(kernel, &rows.accumulators)?;
    let mut selected = select_columns(kernel, facts, lanes, before, rows)?;
    let results = foldings.len();
    let streams = selected.body.streams.len();
    let layout = Layout::of(
        results + streams,
        streams + 1,
        selected.body.uniforms.len(),
        0,
    );
    placed(&mut selected.body, layout);
    let parts = Parts::of(selected.clone(), &foldings)?;
    let pinned = parts.pinned(vectors)?;
    let code = parts.code(&pinned, vectors)?;
    // A row that goes by way of the stack would better have fewer vectors.
    let spills = code.row.iter().any(|row| row.stack > 0);
    (vectors == 1 || !spills).then(|| Function {
        bytes: code.assemble(&pinned, &layout, results, &selected.strides_are_zero()),
        text: code.text(),
        streams: selected.body.streams,
        strides: selected.strides,
        uniforms: selected.body.uniforms,
        layout,
    })
}

/// The tapes of a vector.
struct Parts {
    /// What is computed before the rows.
    once: Tape,
    /// What is the same for all vectors of a row.
    shared: Tape,
    row: Tape,
    /// What partial results begin with.
    begin: Tape,
    /// What results begin with.
    start: Tape,
    /// How partial results join the results.
    join: Tape,
    /// The registers of a vector that live through the loop.
    own: u32,
    /// Those that all vectors have in common; they are numbered from [`COMMON`].
    common: u32,
}

/// Where the numbers of registers begin that are not one vector's.
const COMMON: u32 = 1 << 16;

impl Parts {
    fn of(rows: Rows<'_>, foldings: &[Folding]) -> Option<Parts> {
        let Rows {
            body, before, row, ..
        } = rows;
        let values = body.tape.values;
        let part = |insts: &[_]| Tape {
            insts: insts.to_vec(),
            values,
            refused: false,
        };
        let mut once = part(&body.tape.insts[..before]);
        let mut shared = part(&body.tape.insts[before..row]);
        let mut row = part(&body.tape.insts[row..]);
        let (mut begin, mut start, mut join) = (Tape::default(), Tape::default(), Tape::default());
        for (i, (folding, operand)) in foldings.iter().zip(&body.operands).enumerate() {
            folding.append(&mut row, *operand)?;
            for (register, word) in folding.identities() {
                begin.partial(Op::Move, register, &[Arg::Word(word)]);
            }
            let pointer = i as u32;
            start.store(pointer, Element::Word, Arg::Word(folding.start()), None);
            let partial = folding.settled(&mut join);
            let result = join.load(pointer, Element::Word, None);
            let joined = folding.join(&mut join, result, partial)?;
            join.store(pointer, Element::Word, joined, None);
        }
        row.drop_dead();
        let mut own = Folding::count(foldings);
        keep(&mut once, &mut row, &mut own)?;
        let mut common = COMMON;
        keep(&mut shared, &mut row, &mut common)?;
        once.drop_dead();
        shared.drop_dead();
        Some(Parts {
            once,
            shared,
            row,
            begin,
            start,
            join,
            own,
            common: common - COMMON,
        })
    }

    /// The registers that live through the loop: those of each vector, those of all, and words.
    fn pinned(&self, vectors: usize) -> Option<Pinned> {
        let registers = self.own * vectors as u32;
        if (registers + self.common) as usize > REGISTERS {
            return None;
        }
        let mut pinned = Pinned::new();
        for register in (0..registers).chain(COMMON..COMMON + self.common) {
            pin(&mut pinned, Arg::Partial(register))?;
        }
        let free = allocate(&self.row, &pinned, Manner::Whole)?;
        let shared = allocate(&self.shared, &pinned, Manner::Whole)?;
        // Joining results to partial ones takes a few.
        let pressure = free.pressure.max(shared.pressure).max(4);
        let free = 32_usize.saturating_sub(pinned.len() + pressure);
        pin_words(&[&self.row, &self.shared], free, &mut pinned)?;
        Some(pinned)
    }

    fn code(&self, pinned: &Pinned, vectors: usize) -> Option<Code> {
        let each = |tape: &Tape| {
            let of_vector = |vector| {
                let manner = if vector + 1 == vectors {
                    Manner::Tail
                } else {
                    Manner::Whole
                };
                allocate(tape, &self.of_vector(pinned, vector as u32), manner)
            };
            (0..vectors).map(of_vector).collect::<Option<Vec<_>>>()
        };
        Some(Code {
            once: each(&self.once)?,
            start: each(&self.start)?,
            begin: each(&self.begin)?,
            shared: allocate(&self.shared, pinned, Manner::Whole)?,
            row: each(&self.row)?,
            join: each(&self.join)?,
        })
    }

    /// The registers by the names that the code of the first vector has for them.
    fn of_vector(&self, pinned: &Pinned, vector: u32) -> Pinned {
        let mut named = pinned.clone();
        for register in 0..self.own {
            let (first, own) = (
                Arg::Partial(register),
                Arg::Partial(register + vector * self.own),
            );
            if let (Some(a), Some(b)) = (pinned.get(&first), pinned.get(&own)) {
                named.insert(first, *b);
                named.insert(own, *a);
            }
        }
        named
    }
}

/// Gives registers to the values of a tape that another one reads; `None` if one is a mask.
fn keep(from: &mut Tape, to: &mut Tape, next: &mut u32) -> Option<()> {
    let (mut numbers, mut masks) = (BTreeSet::new(), BTreeSet::new());
    for inst in &from.insts {
        match inst.out {
            Out::Lanes(value) => numbers.insert(value),
            Out::Mask(value) => masks.insert(value),
            Out::Nothing | Out::Partial(_) => false,
        };
    }
    let mut kept = BTreeMap::new();
    for value in to.insts.iter().flat_map(|inst| inst.values()) {
        if masks.contains(&value) {
            return None;
        }
        if numbers.contains(&value) && !kept.contains_key(&value) {
            kept.insert(value, *next);
            from.partial(Op::Move, *next, &[Arg::Value(value)]);
            *next += 1;
        }
    }
    for inst in &mut to.insts {
        inst.replace(|arg| match arg {
            Arg::Value(value) => kept.get(&value).map_or(arg, |r| Arg::Partial(*r)),
            Arg::Word(_) | Arg::Uniform(_) | Arg::Partial(_) => arg,
        });
    }
    Some(())
}

/// The parts with registers, for each vector.
struct Code {
    once: Vec<Allocated>,
    start: Vec<Allocated>,
    begin: Vec<Allocated>,
    shared: Allocated,
    row: Vec<Allocated>,
    join: Vec<Allocated>,
}

impl Code {
    fn text(&self) -> String {
        let mut text = String::new();
        let first = [
            ("once", &self.once[0]),
            ("for each row", &self.shared),
            ("for each vector of a row", &self.row[0]),
            ("behind a block", &self.join[0]),
        ];
        for (name, part) in first {
            let _ = writeln!(text, "{name}, {} vectors:", self.row.len());
            for instruction in &part.code {
                let _ = writeln!(text, "  {instruction}");
            }
        }
        text
    }

    fn assemble(
        &self,
        pinned: &Pinned,
        layout: &Layout,
        results: usize,
        still: &[bool],
    ) -> Vec<u8> {
        let mut a = Assembler::default();
        let all = [&self.once, &self.start, &self.begin, &self.row, &self.join];
        let parts = all.into_iter().flatten().chain([&self.shared]);
        let frame = Frame::of(parts, layout);
        frame.enter(&mut a, layout, pinned);
        a.load(RSI, layout.word(still.len()));
        a.low_bits(RSI, RSI);
        a.mask_from(TAIL, RSI);
        a.set(RCX, 0);
        for part in [&self.once, &self.start, &self.begin] {
            write_all(&mut a, part);
        }
        let (block, row, done) = (a.label(), a.label(), a.label());
        a.load(RSI, 0);
        a.compare(RSI, RCX);
        a.jump(Condition::LessEqual, done);
        a.place(block);
        a.set(RSI, SERIAL_BLOCK as u32);
        a.least(RSI, 0);
        a.subtract_in(0, RSI);
        a.place(row);
        write(&mut a, &self.shared);
        write_all(&mut a, &self.row);
        for (i, _) in still.iter().enumerate().filter(|(_, still)| !**still) {
            a.add_from(super::encode::POINTERS[results + i], layout.word(i));
        }
        a.add(RSI, -1);
        a.jump(Condition::Greater, row);
        for part in [&self.join, &self.begin] {
            write_all(&mut a, part);
        }
        a.load(RSI, 0);
        a.compare(RSI, RCX);
        a.jump(Condition::Greater, block);
        a.place(done);
        frame.leave(&mut a);
        a.finish()
    }
}

/// A part for all vectors, one behind the other.
fn write_all(a: &mut Assembler, parts: &[Allocated]) {
    for (vector, part) in parts.iter().enumerate() {
        a.ahead = LANES * vector as u32;
        write(a, part);
    }
    a.ahead = 0;
}
