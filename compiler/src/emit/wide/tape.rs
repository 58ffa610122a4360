//! Straight-line code over registers of sixteen 32-bit lanes, before it has registers.
//!
//! A tape is what one iteration of a lanes loop does. Its values are assigned once; a constant is not a value but a word in memory that an
//! instruction broadcasts as it reads it, and neither is what the loop around computes once. [`Tape`] is a [`Machine`] on which the recipes
//! write themselves. A comparison is a mask of sixteen bits.
//!
//! What a tape cannot say makes it *refused*, and the loop is emitted in 128 bits instead.

use crate::math::{Machine, Rare, Scaler};

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Arg {
    /// The lanes, or the mask, that an instruction before gave.
    Value(u32),
    /// These bits in every lane.
    Word(u32),
    /// What the loop around hands in at this position, in every lane.
    Uniform(u32),
    /// A register that lives through the loop: partial results of a fold, or what was computed before the loop.
    Partial(u32),
}

/// A mask: the value of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask(pub(super) u32);

impl Mask {
    pub(super) fn arg(self) -> Arg {
        Arg::Value(self.0)
    }
}

/// How the elements of an access lie in memory; lanes hold them extended to 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Word,
    SignedByte,
    Byte,
    SignedShort,
    Short,
    /// One word for all lanes.
    Same,
}

impl Element {
    /// In bytes.
    pub(super) fn size(self) -> u32 {
        match self {
            Element::Word | Element::Same => 4,
            Element::SignedByte | Element::Byte => 1,
            Element::SignedShort | Element::Short => 2,
        }
    }
}

/// The counter's element of a pointer, or one that lies so many elements behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) pointer: u32,
    pub(super) behind: i32,
}

impl From<u32> for At {
    fn from(pointer: u32) -> At {
        At { pointer, behind: 0 }
    }
}

/// What an instruction does. The operands of floats are numbers, those of integers 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    /// The first operand where it is less, else the second.
    Min,
    /// The first operand where it is greater, else the second.
    Max,
    /// The lesser of two numbers, of which -0 is less than +0; of a number and NaN the number.
    Lesser,
    /// The greater of two numbers, likewise.
    Greater,
    /// The first times two to the power of the second, which is an integer, rounded once.
    Scale,
    IntAdd,
    IntSub,
    IntMul,
    SignedMin,
    SignedMax,
    UnsignedMin,
    UnsignedMax,
    And,
    Or,
    Xor,
    /// Shifts by an amount for each lane; by 32 or more they leave nothing, or the sign.
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    Sqrt,
    IntAbs,
    FromSigned,
    FromUnsigned,
    /// By the immediate of `vrndscaleps`.
    Round(u8),
    ShiftLeftBy(u8),
    ShiftRightBy(u8),
    /// The first times the second plus the third, rounded once.
    Fma,
    /// By the immediate of `vcmpps`.
    Compare(u8),
    /// By the immediate of `vpcmpd`.
    CompareSigned(u8),
    CompareUnsigned(u8),
    /// Whether a lane has a bit set.
    Test,
    /// Whether a lane that exists is NaN.
    IsNan,
    /// Sets all bits in the lanes of a mask; the others stay. Into a register that lives through the loop.
    Mark,
    /// The second operand where the first, a mask, is set, the third elsewhere.
    Blend,
    /// The second operand where the first, a mask, is set, zero elsewhere.
    Keep,
    MaskAnd,
    MaskOr,
    MaskXor,
    MaskNot,
    /// The second where the first is not.
    MaskAndNot,
    /// Adjacent elements; under a mask, if the instruction has one, zero elsewhere.
    Load(At, Element),
    /// Adjacent elements; under a mask, if the instruction has one.
    Store(At, Element),
    /// The counter's iteration, counted from the first one, and those behind it.
    Counts,
    /// Asks memory for the elements that lie [`AHEAD`](super::encode::AHEAD) bytes behind those of a pointer.
    Ahead(u32, Element),
    /// The operand as it is.
    Move,
    /// To this place of the block, in bytes.
    Park(u32),
    /// Four lanes from there.
    Unpark(u32),
}

/// What becomes of an instruction's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    Nothing,
    Lanes(u32),
    Mask(u32),
    Partial(u32),
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Inst {
    pub(super) op: Op,
    pub(super) out: Out,
    args: [Arg; 3],
    count: u8,
    /// Under which a load or store is done.
    pub(super) mask: Option<Mask>,
}

impl Inst {
    pub(super) fn new(op: Op, out: Out, args: &[Arg], mask: Option<Mask>) -> Inst {
        let mut all = [Arg::Word(0); 3];
        let count = args.len().min(3);
        all[..count].copy_from_slice(&args[..count]);
        Inst {
            op,
            out,
            args: all,
            count: count as u8,
            mask,
        }
    }

    pub(super) fn args(&self) -> &[Arg] {
        &self.args[..usize::from(self.count)]
    }

    /// Replaces the operands.
    pub(super) fn replace(&mut self, with: impl Fn(Arg) -> Arg) {
        self.args = self.args.map(with);
    }

    /// The values that are read, the mask among them.
    pub(super) fn values(&self) -> impl Iterator<Item = u32> + '_ {
        let mask = self.mask.map(|m| m.0);
        let args = self.args().iter().filter_map(|arg| match arg {
            Arg::Value(value) => Some(*value),
            Arg::Word(_) | Arg::Uniform(_) | Arg::Partial(_) => None,
        });
        args.chain(mask)
    }
}

/// The code of an iteration.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    pub(super) insts: Vec<Inst>,
    /// The number of values.
    pub(super) values: u32,
    /// Whether something was met that has no instruction here.
    pub(super) refused: bool,
}

impl Tape {
    fn fresh(&mut self) -> u32 {
        self.values += 1;
        self.values - 1
    }

    /// An instruction whose result is lanes.
    pub(super) fn lanes(&mut self, op: Op, args: &[Arg]) -> Arg {
        let out = self.fresh();
        self.insts.push(Inst::new(op, Out::Lanes(out), args, None));
        Arg::Value(out)
    }

    /// An instruction whose result is a mask.
    pub(super) fn mask(&mut self, op: Op, args: &[Arg]) -> Mask {
        let out = self.fresh();
        self.insts.push(Inst::new(op, Out::Mask(out), args, None));
        Mask(out)
    }

    /// Adjacent elements.
    pub(super) fn load(&mut self, at: impl Into<At>, element: Element, mask: Option<Mask>) -> Arg {
        let out = self.fresh();
        let op = Op::Load(at.into(), element);
        self.insts.push(Inst::new(op, Out::Lanes(out), &[], mask));
        Arg::Value(out)
    }

    /// Writes adjacent elements.
    pub(super) fn store(
        &mut self,
        at: impl Into<At>,
        element: Element,
        value: Arg,
        mask: Option<Mask>,
    ) {
        let op = Op::Store(at.into(), element);
        self.insts.push(Inst::new(op, Out::Nothing, &[value], mask));
    }

    /// What made a mask, if it was a comparison of floats by this immediate.
    fn compared(&self, mask: Mask, by: u8) -> Option<(Arg, Arg)> {
        let inst = self
            .insts
            .iter()
            .rev()
            .find(|i| i.out == Out::Mask(mask.0))?;
        match (inst.op, inst.args()) {
            (Op::Compare(how), [a, b]) if how == by => Some((*a, *b)),
            _ => None,
        }
    }

    /// The first where a mask is set, the second elsewhere. Of a comparison of the same two it is one minimum or maximum; the comparison
    /// is dropped with the other dead code.
    pub(super) fn choose(&mut self, mask: Mask, yes: Arg, no: Arg) -> Arg {
        match self.compared(mask, LESS) {
            Some((a, b)) if (a, b) == (yes, no) => return self.lanes(Op::Min, &[yes, no]),
            Some((a, b)) if (b, a) == (yes, no) => return self.lanes(Op::Max, &[yes, no]),
            Some(_) | None => {}
        }
        if no == Arg::Word(0) {
            return self.lanes(Op::Keep, &[mask.arg(), yes]);
        }
        self.lanes(Op::Blend, &[mask.arg(), yes, no])
    }

    /// Drops the instructions whose results nobody reads, but for effects and partial results.
    pub(super) fn drop_dead(&mut self) {
        let mut live = vec![false; self.values as usize];
        let mut kept = Vec::with_capacity(self.insts.len());
        for inst in self.insts.iter().rev() {
            let needed = match inst.out {
                Out::Nothing | Out::Partial(_) => true,
                Out::Lanes(v) | Out::Mask(v) => live[v as usize],
            };
            if needed {
                inst.values().for_each(|v| live[v as usize] = true);
                kept.push(*inst);
            }
        }
        kept.reverse();
        self.insts = kept;
    }
}

/// Immediates of `vcmpps`: ordered and quiet, but "not equal", which holds of NaN.
pub(super) const EQUAL: u8 = 0x00;
pub(super) const NOT_EQUAL: u8 = 0x04;
pub(super) const LESS: u8 = 0x11;
pub(super) const LESS_EQUAL: u8 = 0x12;
pub(super) const GREATER: u8 = 0x1e;
pub(super) const GREATER_EQUAL: u8 = 0x1d;
pub(super) const UNORDERED: u8 = 0x03;

/// Immediates of `vpcmpd`.
pub(super) const INT_EQUAL: u8 = 0;
pub(super) const INT_LESS: u8 = 1;
pub(super) const INT_LESS_EQUAL: u8 = 2;
pub(super) const INT_NOT_EQUAL: u8 = 4;
pub(super) const INT_GREATER_EQUAL: u8 = 5;
pub(super) const INT_GREATER: u8 = 6;

const SIGN: u32 = 1 << 31;

impl Machine for Tape {
    type Scalar = f32;
    type Word = i32;
    type F = Arg;
    type I = Arg;
    type M = Mask;

    fn float(&mut self, value: f32) -> Arg {
        Arg::Word(value.to_bits())
    }
    fn int(&mut self, value: i32) -> Arg {
        Arg::Word(value.cast_unsigned())
    }
    fn add(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Add, &[a, b])
    }
    fn sub(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Sub, &[a, b])
    }
    fn mul(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Mul, &[a, b])
    }
    fn div(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Div, &[a, b])
    }
    fn fma(&mut self, a: Arg, b: Arg, c: Arg) -> Arg {
        self.lanes(Op::Fma, &[a, b, c])
    }
    fn scaler(&self) -> Option<Scaler<Tape>> {
        Some(|tape, a, n| tape.lanes(Op::Scale, &[a, n]))
    }
    fn sqrt(&mut self, a: Arg) -> Arg {
        self.lanes(Op::Sqrt, &[a])
    }
    fn neg(&mut self, a: Arg) -> Arg {
        self.lanes(Op::Xor, &[a, Arg::Word(SIGN)])
    }
    fn abs(&mut self, a: Arg) -> Arg {
        self.lanes(Op::And, &[a, Arg::Word(!SIGN)])
    }
    fn bits(&mut self, a: Arg) -> Arg {
        a
    }
    fn with_bits(&mut self, a: Arg) -> Arg {
        a
    }
    fn int_to_float(&mut self, a: Arg) -> Arg {
        self.lanes(Op::FromSigned, &[a])
    }
    fn iadd(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::IntAdd, &[a, b])
    }
    fn isub(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::IntSub, &[a, b])
    }
    fn iand(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::And, &[a, b])
    }
    fn ior(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Or, &[a, b])
    }
    fn ixor(&mut self, a: Arg, b: Arg) -> Arg {
        self.lanes(Op::Xor, &[a, b])
    }
    fn shl(&mut self, a: Arg, by: u32) -> Arg {
        self.lanes(Op::ShiftLeftBy(by as u8), &[a])
    }
    fn shr(&mut self, a: Arg, by: u32) -> Arg {
        self.lanes(Op::ShiftRightBy(by as u8), &[a])
    }
    fn ieq(&mut self, a: Arg, b: Arg) -> Mask {
        self.mask(Op::CompareSigned(INT_EQUAL), &[a, b])
    }
    fn igt(&mut self, a: Arg, b: Arg) -> Mask {
        self.mask(Op::CompareSigned(INT_GREATER), &[a, b])
    }
    fn lt(&mut self, a: Arg, b: Arg) -> Mask {
        self.mask(Op::Compare(LESS), &[a, b])
    }
    fn le(&mut self, a: Arg, b: Arg) -> Mask {
        self.mask(Op::Compare(LESS_EQUAL), &[a, b])
    }
    fn eq(&mut self, a: Arg, b: Arg) -> Mask {
        self.mask(Op::Compare(EQUAL), &[a, b])
    }
    fn and(&mut self, a: Mask, b: Mask) -> Mask {
        self.mask(Op::MaskAnd, &[a.arg(), b.arg()])
    }
    fn or(&mut self, a: Mask, b: Mask) -> Mask {
        self.mask(Op::MaskOr, &[a.arg(), b.arg()])
    }
    fn not(&mut self, a: Mask) -> Mask {
        self.mask(Op::MaskNot, &[a.arg()])
    }
    fn select(&mut self, mask: Mask, a: Arg, b: Arg) -> Arg {
        self.choose(mask, a, b)
    }
    fn rare(&mut self, _mask: Mask, usual: Arg, _x: Arg, _function: Rare) -> Arg {
        // There is no call from here.
        self.refused = true;
        usual
    }
}
