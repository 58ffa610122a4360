//! Registers for a tape.
//!
//! Code without branches needs no graph: registers are given out in order, and where none is left, the value whose next use is farthest
//! goes to the stack (Belady 1966). Constants and uniforms need no register but where an instruction takes no memory operand; those that
//! are used most get one all the same while registers are free, see [`Pinned`].

use super::encode::{Instruction, MaskOp, Place, row};
use super::opcode::{binary, is_symmetric, lanes, moved, unary};
use super::tape::{self, Arg, Element, Inst, Mask, Op, Out, Tape};
use std::collections::BTreeMap;

mod fma;

/// The mask register of the tail: the lanes that exist.
pub(super) const TAIL: u8 = 1;
/// The mask register with the lowest four lanes set, while the tail is folded.
pub(super) const FOUR: u8 = 2;
/// The mask register of the four lanes that the tail's fold is at.
pub(super) const QUARTER: u8 = 3;
/// The bytes of a vector.
pub(super) const SLOT: u32 = 64;

/// What lies in a register all through the loop: partial results, and words that are read often.
pub(super) type Pinned = BTreeMap<Arg, u8>;

/// How a tape is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// All sixteen lanes.
    Whole,
    /// The lanes of [`TAIL`] touch memory and what lives through the loop.
    Tail,
    /// The tail's operands are folded: [`FOUR`] and [`QUARTER`] are in use.
    Fold,
}

/// Code with registers.
pub(super) struct Allocated {
    pub(super) code: Vec<Instruction>,
    /// The bytes of stack.
    pub(super) stack: u32,
    /// The most vector registers in use at once, without those pinned.
    pub(super) pressure: usize,
}

/// Gives registers to a tape. `None` if an instruction needs more registers than are free.
pub(super) fn allocate(tape: &Tape, pinned: &Pinned, manner: Manner) -> Option<Allocated> {
    let mut uses = vec![Vec::new(); tape.values as usize];
    for (at, inst) in tape.insts.iter().enumerate().rev() {
        inst.values().for_each(|v| uses[v as usize].push(at));
    }
    let mut lanes = vec![None; 32];
    for reg in pinned.values() {
        lanes[usize::from(*reg)] = Some(Holder::Pinned);
    }
    let mut masks = vec![None; 8];
    // k0 as a predicate means all lanes; the tail's mask stays as it is.
    let reserved = match manner {
        Manner::Whole | Manner::Tail => TAIL + 1,
        Manner::Fold => QUARTER + 1,
    };
    masks[..usize::from(reserved)].fill(Some(Holder::Pinned));
    let mut allocator = Allocator {
        pinned,
        manner,
        files: [lanes, masks],
        places: vec![Where::default(); tape.values as usize],
        uses,
        locked: Vec::new(),
        scratch: Vec::new(),
        code: Vec::new(),
        stack: 0,
        pressure: 0,
    };
    for (at, inst) in tape.insts.iter().enumerate() {
        allocator.inst(inst, at)?;
    }
    Some(Allocated {
        code: allocator.code,
        stack: allocator.stack,
        pressure: allocator.pressure,
    })
}

/// Vector registers or mask registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Lanes = 0,
    Masks = 1,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Value(u32),
    Scratch,
    Pinned,
}

/// Where a value is: in a register, on the stack, or both.
#[derive(Clone, Copy, Debug, Default)]
struct Where {
    register: Option<(File, u8)>,
    slot: Option<u32>,
    mask: bool,
}

struct Allocator<'p> {
    pinned: &'p Pinned,
    manner: Manner,
    files: [Vec<Option<Holder>>; 2],
    places: Vec<Where>,
    /// The instructions that read a value, the next one last.
    uses: Vec<Vec<usize>>,
    /// The registers that the instruction at hand reads.
    locked: Vec<(File, u8)>,
    /// Those that only it needs.
    scratch: Vec<(File, u8)>,
    code: Vec<Instruction>,
    stack: u32,
    pressure: usize,
}

impl Allocator<'_> {
    /// A free register, by way of the stack if there is none.
    fn acquire(&mut self, file: File, holder: Holder) -> Option<u8> {
        let free = self.files[file as usize].iter().position(Option::is_none);
        let reg = match free {
            Some(reg) => reg as u8,
            None => self.evict(file)?,
        };
        self.files[file as usize][usize::from(reg)] = Some(holder);
        if file == File::Lanes {
            let held = self.files[0]
                .iter()
                .filter(|h| matches!(h, Some(Holder::Value(_) | Holder::Scratch)));
            self.pressure = self.pressure.max(held.count());
        }
        Some(reg)
    }

    fn evict(&mut self, file: File) -> Option<u8> {
        let candidates = self.files[file as usize].iter().enumerate();
        let farthest = candidates.filter_map(|(reg, holder)| match holder {
            Some(Holder::Value(v)) if !self.locked.contains(&(file, reg as u8)) => {
                let next = self.uses[*v as usize].last().copied();
                Some((next.unwrap_or(usize::MAX), reg as u8, *v))
            }
            Some(Holder::Value(_) | Holder::Scratch | Holder::Pinned) | None => None,
        });
        let (_, reg, value) = farthest.max()?;
        let place = &mut self.places[value as usize];
        place.register = None;
        if place.slot.is_none() {
            place.slot = Some(self.stack);
            place.mask = file == File::Masks;
            self.code.push(match file {
                File::Lanes => lanes(row::STORE, reg, 0, Place::Stack(self.stack)),
                File::Masks => Instruction::SaveMask {
                    reg,
                    stack: self.stack,
                },
            });
            self.stack += SLOT;
        }
        Some(reg)
    }

    /// The register of a value, brought back from the stack if it is there.
    fn register(&mut self, value: u32) -> Option<u8> {
        let place = self.places[value as usize];
        let (file, reg) = match place.register {
            Some(found) => found,
            None => {
                let file = if place.mask { File::Masks } else { File::Lanes };
                let stack = place.slot?;
                let reg = self.acquire(file, Holder::Value(value))?;
                self.code.push(match file {
                    File::Lanes => lanes(row::LOAD, reg, 0, Place::Stack(stack)),
                    File::Masks => Instruction::RestoreMask { reg, stack },
                });
                self.places[value as usize].register = Some((file, reg));
                (file, reg)
            }
        };
        self.locked.push((file, reg));
        Some(reg)
    }

    /// An operand, in a register or in memory.
    fn operand(&mut self, arg: Arg) -> Option<Place> {
        if let Some(reg) = self.pinned.get(&arg) {
            return Some(Place::Register(*reg));
        }
        match arg {
            Arg::Value(value) => self.register(value).map(Place::Register),
            Arg::Word(word) => Some(Place::Word(word)),
            Arg::Uniform(bytes) => Some(Place::Uniform(bytes)),
            Arg::Partial(_) => None,
        }
    }

    /// An operand that must be in a register.
    fn in_register(&mut self, arg: Arg) -> Option<u8> {
        let place = self.operand(arg)?;
        self.load(place)
    }

    fn load(&mut self, place: Place) -> Option<u8> {
        if let Place::Register(reg) = place {
            return Some(reg);
        }
        let reg = self.acquire(File::Lanes, Holder::Scratch)?;
        self.scratch.push((File::Lanes, reg));
        self.code.push(lanes(row::BROADCAST, reg, 0, place));
        Some(reg)
    }

    /// Frees the registers whose values have been read for the last time, and those of this instruction alone.
    fn release(&mut self, inst: &Inst, at: usize) {
        for value in inst.values() {
            let uses = &mut self.uses[value as usize];
            while uses.last() == Some(&at) {
                uses.pop();
            }
            if uses.is_empty()
                && let Some((file, reg)) = self.places[value as usize].register.take()
            {
                self.files[file as usize][usize::from(reg)] = None;
            }
        }
        for (file, reg) in self.scratch.drain(..) {
            self.files[file as usize][usize::from(reg)] = None;
        }
    }

    /// The register of the result. Registers that were just released may be it.
    fn result(&mut self, out: Out) -> Option<u8> {
        let (file, value) = match out {
            Out::Nothing => return Some(0),
            Out::Partial(i) => return self.pinned.get(&Arg::Partial(i)).copied(),
            Out::Lanes(value) => (File::Lanes, value),
            Out::Mask(value) => (File::Masks, value),
        };
        let reg = self.acquire(file, Holder::Value(value))?;
        self.places[value as usize].register = Some((file, reg));
        // Nobody reads it: only the effect of the instruction counts.
        if self.uses[value as usize].is_empty() {
            self.files[file as usize][usize::from(reg)] = None;
        }
        Some(reg)
    }

    fn inst(&mut self, inst: &Inst, at: usize) -> Option<()> {
        self.locked.clear();
        let args = inst.args();
        match (inst.op, args) {
            (Op::Fma, [a, b, c]) => return self.fma(inst, at, [*a, *b, *c]),
            (Op::Counts, _) => {
                let reg = self.result(inst.out)?;
                self.code.push(moved(reg, Place::Counter, 0, false));
                self.code.push(lanes(row::INT_ADD, reg, reg, Place::Counts));
            }
            (Op::Load(from, element), _) => {
                let (mask, zeroing) = self.memory_mask(inst.mask)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                let row = match element {
                    Element::Word => row::LOAD,
                    Element::SignedByte => row::LOAD_SIGNED_BYTES,
                    Element::Byte => row::LOAD_BYTES,
                    Element::SignedShort => row::LOAD_SIGNED_SHORTS,
                    Element::Short => row::LOAD_SHORTS,
                    Element::Same => row::BROADCAST,
                };
                self.code.push(Instruction::Lanes {
                    row,
                    reg,
                    second: 0,
                    place: Place::Element(from, element),
                    mask,
                    zeroing,
                    immediate: None,
                });
            }
            (Op::Store(to, element), [value]) => {
                let reg = self.in_register(*value)?;
                let (mask, _) = self.memory_mask(inst.mask)?;
                self.release(inst, at);
                let row = match element {
                    Element::Word | Element::Same => row::STORE,
                    Element::SignedByte | Element::Byte => row::STORE_BYTES,
                    Element::SignedShort | Element::Short => row::STORE_SHORTS,
                };
                self.code.push(Instruction::Lanes {
                    row,
                    reg,
                    second: 0,
                    place: Place::Element(to, element),
                    mask,
                    zeroing: false,
                    immediate: None,
                });
            }
            (Op::Park(bytes), [value]) => {
                let reg = self.in_register(*value)?;
                self.release(inst, at);
                self.code
                    .push(lanes(row::STORE, reg, 0, Place::Block(bytes)));
            }
            (Op::Ahead(pointer, element), _) => {
                self.code.push(Instruction::Prefetch { pointer, element });
            }
            (Op::Unpark(bytes), _) => {
                let reg = self.result(inst.out)?;
                let place = Place::Block(bytes);
                self.code.push(lanes(row::LOAD_FOUR, reg, 0, place));
            }
            (Op::Move, [value]) => {
                let place = self.operand(*value)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(moved(reg, place, 0, false));
            }
            (Op::IsNan, [value]) => {
                let second = self.in_register(*value)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(Instruction::Lanes {
                    row: row::COMPARE,
                    reg,
                    second,
                    place: Place::Register(second),
                    mask: self.existing(),
                    zeroing: false,
                    immediate: Some(tape::UNORDERED),
                });
            }
            (Op::Mark, [mask]) => {
                let mask = self.in_register(*mask)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(Instruction::Lanes {
                    row: row::TERNARY,
                    reg,
                    second: reg,
                    place: Place::Register(reg),
                    mask,
                    zeroing: false,
                    immediate: Some(u8::MAX),
                });
            }
            (Op::Blend, [mask, yes, no]) => {
                let mask = self.in_register(*mask)?;
                let no = self.in_register(*no)?;
                let place = self.operand(*yes)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(Instruction::Lanes {
                    row: row::BLEND,
                    reg,
                    second: no,
                    place,
                    mask,
                    zeroing: false,
                    immediate: None,
                });
            }
            (Op::Keep, [mask, value]) => {
                let mask = self.in_register(*mask)?;
                let place = self.operand(*value)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(moved(reg, place, mask, true));
            }
            (Op::MaskNot, [a]) => {
                let third = self.in_register(*a)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(Instruction::Masks {
                    op: MaskOp::Not,
                    reg,
                    second: 0,
                    third,
                });
            }
            (Op::MaskAnd | Op::MaskOr | Op::MaskXor | Op::MaskAndNot, [a, b]) => {
                let op = match inst.op {
                    Op::MaskAnd => MaskOp::And,
                    Op::MaskOr => MaskOp::Or,
                    Op::MaskXor => MaskOp::Xor,
                    _ => MaskOp::AndNot,
                };
                let (second, third) = (self.in_register(*a)?, self.in_register(*b)?);
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(Instruction::Masks {
                    op,
                    reg,
                    second,
                    third,
                });
            }
            (_, [a]) => {
                let place = self.operand(*a)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                self.code.push(unary(inst.op, reg, place)?);
            }
            (_, [a, b]) => {
                let (mut a, mut b) = (self.operand(*a)?, self.operand(*b)?);
                if is_symmetric(inst.op) && !matches!(a, Place::Register(_)) {
                    std::mem::swap(&mut a, &mut b);
                }
                let second = self.load(a)?;
                self.release(inst, at);
                let reg = self.result(inst.out)?;
                let (row, immediate) = binary(inst.op)?;
                let mask = match inst.out {
                    Out::Partial(_) => self.existing(),
                    Out::Nothing | Out::Lanes(_) | Out::Mask(_) => 0,
                };
                self.code.push(Instruction::Lanes {
                    row,
                    reg,
                    second,
                    place: b,
                    mask,
                    zeroing: false,
                    immediate,
                });
            }
            _ => return None,
        }
        Some(())
    }

    /// The mask register of the lanes that exist, 0 for all.
    fn existing(&self) -> u8 {
        match self.manner {
            Manner::Whole => 0,
            Manner::Tail => TAIL,
            Manner::Fold => QUARTER,
        }
    }

    /// The mask register of an access, and whether lanes without it become zero.
    fn memory_mask(&mut self, mask: Option<Mask>) -> Option<(u8, bool)> {
        match (mask, self.manner) {
            (None, Manner::Tail) => Some((TAIL, true)),
            (None, Manner::Whole | Manner::Fold) => Some((0, false)),
            (Some(mask), Manner::Whole | Manner::Fold) => Some((self.register(mask.0)?, true)),
            (Some(mask), Manner::Tail) => {
                let third = self.register(mask.0)?;
                let reg = self.acquire(File::Masks, Holder::Scratch)?;
                self.scratch.push((File::Masks, reg));
                self.code.push(Instruction::Masks {
                    op: MaskOp::And,
                    reg,
                    second: TAIL,
                    third,
                });
                Some((reg, true))
            }
        }
    }
}
