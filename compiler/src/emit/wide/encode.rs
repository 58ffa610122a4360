//! Instructions in bytes: EVEX for lanes, VEX for masks, and the few scalar ones around them.
//!
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapters 2.3 (VEX), 2.7 (EVEX) and the pages of the
//! instructions. A memory operand is relative to the instruction pointer (constants), to the block that the caller hands over (uniforms),
//! to the stack, or an element: a pointer and the counter, scaled.

use super::LANES;
use super::tape::{At, Element};
use row::Row;

pub(super) mod row;

/// A general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) u8);

pub(super) const RCX: Scalar = Scalar(1);
pub(super) const RSP: Scalar = Scalar(4);
pub(super) const RBP: Scalar = Scalar(5);
pub(super) const RSI: Scalar = Scalar(6);
pub(super) const RDI: Scalar = Scalar(7);

/// The registers that hold pointers. Those from the sixth on belong to the caller, who gets them back.
pub(super) const POINTERS: [Scalar; 11] = [
    Scalar(0),
    Scalar(2),
    Scalar(8),
    Scalar(9),
    Scalar(10),
    Scalar(11),
    Scalar(3),
    Scalar(12),
    Scalar(13),
    Scalar(14),
    Scalar(15),
];
/// How far ahead of a stream memory is asked for, in bytes: what arrives within the latency of DRAM.
pub(super) const AHEAD: u32 = 2048;
/// How many of [`POINTERS`] may be overwritten.
pub(super) const FREE_POINTERS: usize = 6;

/// The last operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A vector register, or a mask register of a mask instruction.
    Register(u8),
    /// A word of the constants, in every lane.
    Word(u32),
    /// A word of the caller's block, at this many bytes, in every lane.
    Uniform(u32),
    /// Sixteen words of the caller's block, at this many bytes.
    Block(u32),
    /// An element of a pointer.
    Element(At, Element),
    /// The counter.
    Counter,
    /// The numbers of the lanes.
    Counts,
    /// So many bytes above the stack pointer.
    Stack(u32),
}

/// An instruction with registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Instruction {
    /// `reg = row(second, place)` under a mask register, 0 for all lanes, the others kept or zero.
    Lanes {
        row: Row,
        reg: u8,
        second: u8,
        place: Place,
        mask: u8,
        zeroing: bool,
        immediate: Option<u8>,
    },
    /// `reg = op(second, third)` of mask registers.
    Masks {
        op: MaskOp,
        reg: u8,
        second: u8,
        third: u8,
    },
    /// A mask register to or from the stack.
    SaveMask {
        reg: u8,
        stack: u32,
    },
    RestoreMask {
        reg: u8,
        stack: u32,
    },
    /// Asks for the counter's element of a pointer, [`AHEAD`] bytes on, which need not exist.
    Prefetch {
        pointer: u32,
        element: Element,
    },
}

/// An op of mask registers, with its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MaskOp {
    And = 0x41,
    AndNot = 0x42,
    Not = 0x44,
    Or = 0x45,
    Xor = 0x47,
}

/// What stands behind the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Constant {
    Word(u32),
    /// Sixteen words that count from this one on.
    Counts(u32),
}

impl Constant {
    fn words(self) -> Vec<u32> {
        match self {
            Constant::Word(word) => vec![word],
            Constant::Counts(first) => (first..first + LANES).collect(),
        }
    }
}

/// How code is written, with the constants that it needs behind it.
#[derive(Default)]
pub(super) struct Assembler {
    pub(super) bytes: Vec<u8>,
    words: Vec<u32>,
    /// Where a displacement lies, where its instruction ends, and the constants that it leads to.
    references: Vec<(usize, usize, Constant)>,
    /// Where a jump's displacement lies and its label, and where the labels are.
    jumps: Vec<(usize, Label)>,
    labels: Vec<Option<usize>>,
    /// How far the elements lie behind those of the counter.
    pub(super) ahead: u32,
}

/// A place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// When a jump is taken, with its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal = 0x84,
    LessEqual = 0x8e,
    Greater = 0x8f,
}

impl Assembler {
    pub(super) fn instruction(&mut self, instruction: &Instruction) {
        match *instruction {
            Instruction::Lanes {
                row,
                reg,
                second,
                place,
                mask,
                zeroing,
                immediate,
            } => {
                let broadcast =
                    matches!(place, Place::Word(_) | Place::Uniform(_)) && row != row::BROADCAST;
                self.evex(
                    row,
                    reg,
                    second,
                    place,
                    (mask, zeroing, broadcast),
                    immediate,
                );
            }
            Instruction::Masks {
                op,
                reg,
                second,
                third,
            } => {
                let (second, length) = if op == MaskOp::Not {
                    (0, 0)
                } else {
                    (second, 1)
                };
                let vex = 0x80 | (!second & 15) << 3 & 0x78 | length << 2;
                self.bytes
                    .extend([0xc5, vex, op as u8, 0xc0 | reg << 3 | third]);
            }
            Instruction::SaveMask { reg, stack } => {
                self.bytes.extend([0xc5, 0xf8, 0x91]);
                self.stack_operand(reg, stack);
            }
            Instruction::Prefetch { pointer, element } => {
                let (size, pointer) = (element.size(), POINTERS[pointer as usize]);
                if pointer.0 >= 8 {
                    self.bytes.push(0x41);
                }
                self.bytes.extend([0x0f, 0x18]);
                let scale = Some(size.trailing_zeros() as u8);
                // A short displacement would count single bytes.
                self.displaced(1 << 3, pointer, scale, AHEAD + self.ahead * size, u32::MAX);
            }
            Instruction::RestoreMask { reg, stack } => {
                self.bytes.extend([0xc5, 0xf8, 0x90]);
                self.stack_operand(reg, stack);
            }
        }
    }

    fn stack_operand(&mut self, reg: u8, stack: u32) {
        self.bytes.extend([0x84 | reg << 3, 0x24]);
        self.bytes.extend(stack.to_le_bytes());
    }

    fn evex(
        &mut self,
        row: Row,
        reg: u8,
        second: u8,
        place: Place,
        (mask, zeroing, broadcast): (u8, bool, bool),
        immediate: Option<u8>,
    ) {
        // The upper bits of the operands' numbers are stored inverted.
        let (rm_high, rm_higher) = match place {
            Place::Register(r) => (r >> 3 & 1, r >> 4 & 1),
            Place::Element(at, _) => (POINTERS[at.pointer as usize].0 >> 3 & 1, 0),
            Place::Word(_) | Place::Uniform(_) | Place::Block(_) | Place::Stack(_) => (0, 0),
            Place::Counter | Place::Counts => (0, 0),
        };
        let p0 = (!reg >> 3 & 1) << 7
            | (rm_higher ^ 1) << 6
            | (rm_high ^ 1) << 5
            | (!reg >> 4 & 1) << 4
            | row.map as u8;
        let p1 = (!second & 15) << 3 | 4 | row.prefix as u8;
        let p2 = u8::from(zeroing) << 7
            | (row.length as u8) << 5
            | u8::from(broadcast) << 4
            | (!second >> 4 & 1) << 3
            | mask;
        self.bytes.extend([0x62, p0, p1, p2, row.opcode]);
        let unit = if broadcast { 4 } else { u32::from(row.unit) };
        let field = (reg & 7) << 3;
        let mut reference = None;
        match place {
            Place::Register(r) => self.bytes.push(0xc0 | field | r & 7),
            Place::Counter => self.bytes.push(0xc0 | field | RCX.0),
            Place::Word(word) => reference = Some(self.constant(field, Constant::Word(word))),
            Place::Counts => reference = Some(self.constant(field, Constant::Counts(self.ahead))),
            Place::Uniform(bytes) | Place::Block(bytes) => {
                self.displaced(field, RDI, None, bytes, unit);
            }
            Place::Stack(bytes) => self.displaced(field, RSP, None, bytes, unit),
            Place::Element(at, element) => {
                let size = element.size();
                let pointer = POINTERS[at.pointer as usize];
                let behind = self.ahead.wrapping_add_signed(at.behind);
                self.displaced(
                    field,
                    pointer,
                    Some(size.trailing_zeros() as u8),
                    behind.wrapping_mul(size),
                    unit,
                );
            }
        }
        self.bytes.extend(immediate);
        if let Some((at, constant)) = reference {
            self.references.push((at, self.bytes.len(), constant));
        }
    }

    /// The operand bytes of a constant, with room for the way to it, and where that is.
    fn constant(&mut self, field: u8, constant: Constant) -> (usize, Constant) {
        self.bytes.push(field | 5);
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        (at, constant)
    }

    /// The operand bytes of memory at a register, the scaled counter, and a displacement.
    fn displaced(
        &mut self,
        field: u8,
        base: Scalar,
        scale: Option<u8>,
        displacement: u32,
        unit: u32,
    ) {
        let short = (displacement.is_multiple_of(unit) && displacement / unit < 128)
            .then(|| (displacement / unit) as u8);
        let mode = if short.is_some() { 0x40 } else { 0x80 };
        match scale {
            Some(scale) => {
                self.bytes.push(mode | field | 4);
                self.bytes.push(scale << 6 | RCX.0 << 3 | base.0 & 7);
            }
            // The stack pointer can only be said with a second byte.
            None if base == RSP => self.bytes.extend([mode | field | 4, 0x24]),
            None => self.bytes.push(mode | field | base.0 & 7),
        }
        match short {
            Some(short) => self.bytes.push(short),
            None => self.bytes.extend(displacement.to_le_bytes()),
        }
    }

    fn rex(&mut self, reg: Scalar, rm: Scalar) {
        self.bytes.push(0x48 | (reg.0 >> 3) << 2 | rm.0 >> 3);
    }

    /// `to = [block + bytes]`.
    pub(super) fn load(&mut self, to: Scalar, bytes: u32) {
        self.in_block(0x8b, to, bytes);
    }

    /// An instruction with a register and a word of the block.
    fn in_block(&mut self, opcode: u8, reg: Scalar, bytes: u32) {
        self.rex(reg, RDI);
        self.bytes.extend([opcode, 0x80 | (reg.0 & 7) << 3 | RDI.0]);
        self.bytes.extend(bytes.to_le_bytes());
    }

    pub(super) fn push(&mut self, reg: Scalar) {
        if reg.0 >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.push(0x50 | reg.0 & 7);
    }

    pub(super) fn pop(&mut self, reg: Scalar) {
        if reg.0 >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.push(0x58 | reg.0 & 7);
    }

    /// `to = from`.
    pub(super) fn copy(&mut self, to: Scalar, from: Scalar) {
        self.rex(from, to);
        self.bytes
            .extend([0x89, 0xc0 | (from.0 & 7) << 3 | to.0 & 7]);
    }

    /// `to += by`.
    pub(super) fn add(&mut self, to: Scalar, by: i32) {
        self.rex(Scalar(0), to);
        self.bytes.extend([0x81, 0xc0 | to.0 & 7]);
        self.bytes.extend(by.to_le_bytes());
    }

    /// `to += [block + bytes]`.
    pub(super) fn add_from(&mut self, to: Scalar, bytes: u32) {
        self.in_block(0x03, to, bytes);
    }

    /// `[block + bytes] -= by`.
    pub(super) fn subtract_in(&mut self, bytes: u32, by: Scalar) {
        self.in_block(0x29, by, bytes);
    }

    /// `to = min(to, [block + bytes])`, of signed numbers.
    pub(super) fn least(&mut self, to: Scalar, bytes: u32) {
        self.in_block(0x3b, to, bytes);
        self.rex(to, RDI);
        self.bytes
            .extend([0x0f, 0x4f, 0x80 | (to.0 & 7) << 3 | RDI.0]);
        self.bytes.extend(bytes.to_le_bytes());
    }

    /// `to -= by`.
    pub(super) fn subtract(&mut self, to: Scalar, by: Scalar) {
        self.rex(by, to);
        self.bytes.extend([0x29, 0xc0 | (by.0 & 7) << 3 | to.0 & 7]);
    }

    /// `to &= mask`.
    pub(super) fn align(&mut self, to: Scalar, mask: i32) {
        self.rex(Scalar(0), to);
        self.bytes.extend([0x81, 0xe0 | to.0 & 7]);
        self.bytes.extend(mask.to_le_bytes());
    }

    /// `to = value`, below 2^31.
    pub(super) fn set(&mut self, to: Scalar, value: u32) {
        self.bytes.push(0xb8 | to.0 & 7);
        self.bytes.extend(value.to_le_bytes());
    }

    /// Compares two registers.
    pub(super) fn compare(&mut self, a: Scalar, b: Scalar) {
        self.rex(b, a);
        self.bytes.extend([0x39, 0xc0 | (b.0 & 7) << 3 | a.0 & 7]);
    }

    /// `to` with as many of the lowest bits set as `count` says; both are among the first eight registers.
    pub(super) fn low_bits(&mut self, to: Scalar, count: Scalar) {
        let vex = 0x80 | (!count.0 & 15) << 3 & 0x78;
        self.bytes
            .extend([0xc4, 0xe2, vex & 0x7f, 0xf5, to.0 << 3 | 5]);
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        let all = Constant::Word(u32::MAX);
        self.references.push((at, self.bytes.len(), all));
    }

    /// A mask register from a general one, which is among the first eight.
    pub(super) fn mask_from(&mut self, mask: u8, from: Scalar) {
        self.bytes
            .extend([0xc5, 0xf8, 0x92, 0xc0 | mask << 3 | from.0]);
    }

    /// A mask register shifted right.
    pub(super) fn shift_mask(&mut self, to: u8, from: u8, by: u8) {
        self.bytes
            .extend([0xc4, 0xe3, 0xf9, 0x30, 0xc0 | to << 3 | from, by]);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    pub(super) fn jump(&mut self, condition: Condition, label: Label) {
        self.bytes.extend([0x0f, condition as u8]);
        self.jumps.push((self.bytes.len(), label));
        self.bytes.extend([0; 4]);
    }

    /// Leaves the function, with the upper halves of the vector registers clean.
    pub(super) fn leave(&mut self) {
        self.bytes.extend([0xc5, 0xf8, 0x77, 0xc3]);
    }

    /// The code, with its constants behind it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        for (at, end, constant) in std::mem::take(&mut self.references) {
            let wanted = constant.words();
            let mut known = self.words.windows(wanted.len());
            let position = match known.position(|words| *words == wanted) {
                Some(position) => position,
                None => {
                    let next = self.words.len();
                    self.words.extend(wanted);
                    next
                }
            };
            let target = self.bytes.len() + 4 * position;
            self.patch(at, target - end);
        }
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label.0].unwrap_or(at + 4);
            self.patch(at, target.wrapping_sub(at + 4));
        }
        for word in &self.words {
            self.bytes.extend(word.to_le_bytes());
        }
        self.bytes
    }

    fn patch(&mut self, at: usize, distance: usize) {
        self.bytes[at..at + 4].copy_from_slice(&(distance as u32).to_le_bytes());
    }
}

mod display;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
