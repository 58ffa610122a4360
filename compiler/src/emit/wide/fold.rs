//! Folds: the registers that their partial results have all through a loop, and how an operand is folded onto them.
//!
//! A sum of floats has one order, which `kernel::Accumulator` defines. A maximum or minimum, and whatever is folded of integers, has the
//! same bits in any order: such a fold is *free*, and may have several registers of partial results side by side, or take the operands of
//! the tail as they come.
//!
//! The maximum of floats is two folds. One instruction gives the larger of two numbers with its zeros in order, but forgets of NaN; hence
//! a second register, in whose lanes all bits are set once a NaN was met.

use super::select::{extremum, plain};
use super::tape::{Arg, Inst, Op, Out, Tape};
use crate::kernel::{Accumulator, Fold, Kernel};
use kiln_ir::DType;
use kiln_ir::ops::{Binary, ReduceKind};

/// The fold of an accumulator, and the first of its registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folding {
    op: Binary,
    dtype: DType,
    first: u32,
}

impl Folding {
    /// The folds of a loop, with their registers in a row; `None` if one has none here.
    pub(super) fn all(kernel: &Kernel, accumulators: &[Accumulator]) -> Option<Vec<Folding>> {
        let mut first = 0;
        let mut all = Vec::with_capacity(accumulators.len());
        for accumulator in accumulators {
            let dtype = kernel.values[accumulator.operand.index()];
            let op = match accumulator.fold {
                Fold::Reduce(ReduceKind::Sum) => Binary::Add,
                Fold::Reduce(ReduceKind::Prod) => Binary::Mul,
                Fold::Reduce(ReduceKind::Max) => Binary::Max,
                Fold::Reduce(ReduceKind::Min) => Binary::Min,
                Fold::Reduce(ReduceKind::Any | ReduceKind::All)
                | Fold::ArgMax(_)
                | Fold::ArgMin(_) => {
                    return None;
                }
            };
            if !matches!(dtype, DType::F32 | DType::I32 | DType::U32) {
                return None;
            }
            let folding = Folding { op, dtype, first };
            first += folding.registers();
            all.push(folding);
        }
        Some(all)
    }

    /// How many registers a list of folds has.
    pub(super) fn count(all: &[Folding]) -> u32 {
        all.iter().map(|f| f.registers()).sum()
    }

    /// The instruction of a maximum or minimum of floats.
    fn ordered(self) -> Option<Op> {
        match (self.op, self.dtype) {
            (Binary::Max, DType::F32) => Some(Op::Greater),
            (Binary::Min, DType::F32) => Some(Op::Lesser),
            _ => None,
        }
    }

    /// Whether the order of the operands does not matter.
    pub(super) fn is_free(self) -> bool {
        self.dtype != DType::F32 || self.ordered().is_some()
    }

    fn registers(self) -> u32 {
        if self.ordered().is_some() { 2 } else { 1 }
    }

    /// The registers, and the bits that each lane begins with.
    pub(super) fn identities(self) -> impl Iterator<Item = (u32, u32)> {
        [self.identity(), 0]
            .into_iter()
            .take(self.registers() as usize)
            .zip(self.first..)
            .map(|(word, register)| (register, word))
    }

    /// A number that leaves every other as it is, as the bits of a lane.
    pub(super) fn identity(self) -> u32 {
        match (self.op, self.dtype) {
            (Binary::Add, DType::F32) => (-0.0_f32).to_bits(),
            (Binary::Mul, DType::F32) => 1.0_f32.to_bits(),
            (Binary::Max, DType::F32) => f32::NEG_INFINITY.to_bits(),
            (Binary::Min, DType::F32) => f32::INFINITY.to_bits(),
            (Binary::Mul, _) => 1,
            (Binary::Max, DType::I32) => i32::MIN.cast_unsigned(),
            (Binary::Min, DType::I32) => i32::MAX.cast_unsigned(),
            (Binary::Min, _) => u32::MAX,
            _ => 0,
        }
    }

    /// What the result begins with: the identity, but +0 for a sum of floats.
    pub(super) fn start(self) -> u32 {
        match self.op {
            Binary::Add => 0,
            _ => self.identity(),
        }
    }

    /// Appends the fold of an operand onto the registers.
    pub(super) fn append(self, tape: &mut Tape, operand: Arg) -> Option<()> {
        let op = match self.ordered() {
            Some(op) => op,
            None => plain(self.op, self.dtype)?,
        };
        tape.partial(op, self.first, &[Arg::Partial(self.first), operand]);
        if self.ordered().is_some() {
            let nan = tape.mask(Op::IsNan, &[operand]);
            tape.partial(Op::Mark, self.first + 1, &[nan.arg()]);
        }
        Some(())
    }

    /// Appends the fold of registers that were filled beside these, `distance` behind them, if the fold is free.
    pub(super) fn append_copy(self, tape: &mut Tape, distance: u32) -> Option<()> {
        let op = match self.ordered() {
            Some(op) => op,
            None => plain(self.op, self.dtype)?,
        };
        for (i, op) in [op, Op::Or].into_iter().enumerate() {
            if i < self.registers() as usize {
                let into = self.first + i as u32;
                let args = [Arg::Partial(into), Arg::Partial(into + distance)];
                tape.partial(op, into, &args);
            }
        }
        Some(())
    }

    /// Appends what makes one number of the registers.
    pub(super) fn settled(self, tape: &mut Tape) -> Arg {
        let number = Arg::Partial(self.first);
        match self.ordered() {
            Some(_) => tape.lanes(Op::Or, &[number, Arg::Partial(self.first + 1)]),
            None => number,
        }
    }

    /// Two numbers as one.
    pub(super) fn join(self, tape: &mut Tape, a: Arg, b: Arg) -> Option<Arg> {
        Some(match self.ordered() {
            Some(_) => extremum(tape, self.op == Binary::Max, a, b),
            None => tape.lanes(plain(self.op, self.dtype)?, &[a, b]),
        })
    }
}

impl Tape {
    /// An instruction whose result is a register that lives through the loop.
    pub(super) fn partial(&mut self, op: Op, register: u32, args: &[Arg]) {
        self.insts
            .push(Inst::new(op, Out::Partial(register), args, None));
    }
}
