//! From the body of a lanes loop to a tape.
//!
//! The ops mean here what they mean in `emit/arithmetic.rs` and `emit/integer.rs`: each is made of the same operations in the same order,
//! so that a lane has the same bits in both. What differs is that a `bool` is a mask register.

use super::super::analysis::Facts;
use super::super::{form, recipes};
use super::encode::POINTERS;
use super::tape::{self, Arg, Element, Mask, Op, Tape};
use crate::kernel::{Expr, Kernel, Loop, Stmt, ValueId};
use crate::math::Machine;
use kiln_ir::ops::{Binary, Compare, Literal, Unary};
use kiln_ir::{Class, DType};
use std::collections::{BTreeMap, BTreeSet};

mod outside;
mod rows;

pub(in crate::emit) use outside::{Source, Stream, Uniform};
pub(super) use rows::{Rows, select_columns, select_rows};

/// A body as a tape, and what the caller must hand to it.
#[derive(Clone)]
pub(super) struct Selected<'k> {
    pub(super) tape: Tape,
    /// The accesses; the caller's own pointers lie before them.
    pub(super) streams: Vec<Stream<'k>>,
    /// The values from outside, in the order of [`Arg::Uniform`].
    pub(super) uniforms: Vec<Uniform>,
    /// What the iteration gives to each accumulator.
    pub(super) operands: Vec<Arg>,
}

/// What a value is here.
#[derive(Clone, Copy, Debug)]
enum Known {
    Lanes(Arg),
    Mask(Mask),
    /// It is not computed.
    Nothing,
}

/// Selects instructions; `None` if the body holds something that has none here.
pub(super) fn select<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    inner: &'k Loop,
) -> Option<Selected<'k>> {
    let run = |shares: bool| {
        let mut selector = Selector::new(kernel, facts, inner, 0);
        (selector.is_loop, selector.shares) = (true, shares);
        for stmt in &inner.body {
            selector.stmt(stmt)?;
        }
        let mut operands = Vec::with_capacity(inner.accumulators.len());
        for accumulator in &inner.accumulators {
            operands.push(selector.lanes(accumulator.operand)?);
        }
        Some((selector, operands))
    };
    let (mut selector, mut operands) = run(false)?;
    if selector.streams.len() > POINTERS.len() {
        (selector, operands) = run(true)?;
    }
    selector.finish(operands)
}

/// The op that is one instruction; `None` for the others.
pub(super) fn plain(op: Binary, dtype: DType) -> Option<Op> {
    let unsigned = dtype.class() == Class::Unsigned;
    Some(match (op, dtype.is_float()) {
        (Binary::Add, true) => Op::Add,
        (Binary::Sub, true) => Op::Sub,
        (Binary::Mul, true) => Op::Mul,
        (Binary::Div, true) => Op::Div,
        (Binary::Add, false) => Op::IntAdd,
        (Binary::Sub, false) => Op::IntSub,
        (Binary::Mul, false) => Op::IntMul,
        (Binary::Max, false) if unsigned => Op::UnsignedMax,
        (Binary::Min, false) if unsigned => Op::UnsignedMin,
        (Binary::Max, false) => Op::SignedMax,
        (Binary::Min, false) => Op::SignedMin,
        (Binary::And, false) => Op::And,
        (Binary::Or, false) => Op::Or,
        (Binary::Xor, false) => Op::Xor,
        (Binary::Shl, false) => Op::ShiftLeft,
        (Binary::Shr, false) if unsigned => Op::ShiftRight,
        (Binary::Shr, false) => Op::ShiftRightSigned,
        _ => return None,
    })
}

/// The maximum or minimum; NaN if either is NaN, and +0 is above -0.
pub(super) fn extremum(tape: &mut Tape, largest: bool, a: Arg, b: Arg) -> Arg {
    // Asked both ways round, the two answers differ for zeros of two signs and for one NaN only.
    let (raw, joined) = if largest {
        (Op::Max, Op::And)
    } else {
        (Op::Min, Op::Or)
    };
    let one = tape.lanes(raw, &[a, b]);
    let other = tape.lanes(raw, &[b, a]);
    let ordered = tape.lanes(joined, &[one, other]);
    let unordered = tape.mask(Op::Compare(tape::UNORDERED), &[a, b]);
    // A lane of all ones is a NaN.
    tape.lanes(Op::Blend, &[unordered.arg(), Arg::Word(u32::MAX), ordered])
}

struct Selector<'k, 'f> {
    kernel: &'k Kernel,
    facts: &'f Facts,
    inner: &'k Loop,
    tape: Tape,
    known: BTreeMap<ValueId, Known>,
    /// The pointers of the caller's own, which come first.
    own: usize,
    streams: Vec<Stream<'k>>,
    uniforms: Vec<Uniform>,
    /// Whether it is a lanes loop by itself: the caller draws random words, and the counter counts its iterations.
    is_loop: bool,
    /// Whether accesses at constant distances share a pointer.
    shares: bool,
    /// The row at hand, and the values that differ from row to row but not from lane to lane.
    row: usize,
    local: Option<BTreeSet<ValueId>>,
}

impl<'k, 'f> Selector<'k, 'f> {
    fn new(kernel: &'k Kernel, facts: &'f Facts, inner: &'k Loop, own: usize) -> Self {
        Selector {
            kernel,
            facts,
            inner,
            tape: Tape::default(),
            known: BTreeMap::new(),
            own,
            streams: Vec::new(),
            uniforms: Vec::new(),
            is_loop: false,
            shares: false,
            row: 0,
            local: None,
        }
    }

    fn finish(self, operands: Vec<Arg>) -> Option<Selected<'k>> {
        let pointers = self.own + self.streams.len();
        (!self.tape.refused && pointers <= POINTERS.len()).then_some(Selected {
            tape: self.tape,
            streams: self.streams,
            uniforms: self.uniforms,
            operands,
        })
    }

    fn dtype(&self, value: ValueId) -> DType {
        self.kernel.values[value.index()]
    }

    fn stmt(&mut self, stmt: &'k Stmt) -> Option<()> {
        match stmt {
            Stmt::Let { value, expr } => {
                if self.facts.varies(*value) {
                    let known = self.expr(*value, expr)?;
                    self.known.insert(*value, known);
                } else if let Some(local) = &mut self.local {
                    local.insert(*value);
                }
            }
            Stmt::Store {
                param,
                index,
                value,
                predicate,
            } => {
                let pointer = self.pointer(*param, index)?;
                let mask = match predicate {
                    Some(p) => Some(self.mask(*p)?),
                    None => None,
                };
                let dtype = self.kernel.params[param.index()].dtype;
                let stored = if dtype == DType::Bool {
                    let truth = self.mask(*value)?;
                    self.tape.lanes(Op::Keep, &[truth.arg(), Arg::Word(1)])
                } else {
                    self.lanes(*value)?
                };
                self.tape.store(pointer, element(dtype)?, stored, mask);
            }
            Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => return None,
        }
        Some(())
    }

    /// A number of at most 32 bits.
    fn lanes(&mut self, value: ValueId) -> Option<Arg> {
        let dtype = self.dtype(value);
        if dtype == DType::Bool || form::is_wide(dtype) {
            return None;
        }
        form::register_type(dtype)?;
        match self.known.get(&value) {
            Some(Known::Lanes(arg)) => return Some(*arg),
            Some(Known::Mask(_) | Known::Nothing) => return None,
            None if self.facts.varies(value) => return None,
            None => {}
        }
        Some(match self.facts.literal(value) {
            Some(literal) => Arg::Word(form::lane_bits(dtype, literal) as u32),
            None => self.uniform(value),
        })
    }

    /// A `bool`.
    fn mask(&mut self, value: ValueId) -> Option<Mask> {
        if self.dtype(value) != DType::Bool {
            return None;
        }
        match self.known.get(&value) {
            Some(Known::Mask(mask)) => return Some(*mask),
            Some(Known::Lanes(_) | Known::Nothing) => return None,
            None if self.facts.varies(value) => return None,
            None => {}
        }
        // A mask from outside is lanes of all ones or zeros.
        let arg = match self.facts.literal(value) {
            Some(literal) => Arg::Word(form::lane_bits(DType::Bool, literal) as u32),
            None => self.uniform(value),
        };
        Some(self.tape.mask(Op::Test, &[arg, arg]))
    }

    fn expr(&mut self, value: ValueId, expr: &'k Expr) -> Option<Known> {
        let dtype = self.dtype(value);
        match expr {
            Expr::Load {
                param,
                index,
                predicate,
            } => {
                let mask = match predicate {
                    Some(p) => Some(self.mask(*p)?),
                    None => None,
                };
                let pointer = self.pointer(*param, index)?;
                let loaded = self.tape.load(pointer, element(dtype)?, mask);
                if dtype == DType::Bool {
                    return Some(Known::Mask(self.tape.mask(Op::Test, &[loaded, loaded])));
                }
                Some(Known::Lanes(loaded))
            }
            Expr::Unary(op, a) => self.unary(*op, *a),
            Expr::Binary(op, a, b) => self.binary(*op, *a, *b),
            Expr::Compare(op, a, b) => self.compare(*op, *a, *b).map(Known::Mask),
            Expr::Select(condition, yes, no) => {
                let mask = self.mask(*condition)?;
                if dtype == DType::Bool {
                    let (yes, no) = (self.mask(*yes)?, self.mask(*no)?);
                    let yes = self.tape.and(mask, yes);
                    let no = self.tape.mask(Op::MaskAndNot, &[mask.arg(), no.arg()]);
                    return Some(Known::Mask(self.tape.or(yes, no)));
                }
                let (yes, no) = (self.lanes(*yes)?, self.lanes(*no)?);
                Some(Known::Lanes(self.tape.choose(mask, yes, no)))
            }
            Expr::Fma(a, b, c) if dtype == DType::F32 => {
                let [a, b, c] = [self.lanes(*a)?, self.lanes(*b)?, self.lanes(*c)?];
                Some(Known::Lanes(self.tape.fma(a, b, c)))
            }
            Expr::Convert(a) => self.convert(*a, dtype),
            Expr::Bitcast(a) => {
                let from = self.dtype(*a);
                let words = [DType::F32, DType::I32, DType::U32];
                let same = words.contains(&from) && words.contains(&dtype);
                let lanes = self.lanes(*a)?;
                same.then_some(Known::Lanes(lanes))
            }
            // They are drawn beforehand, as many as are read.
            Expr::Philox { .. } if self.is_loop && self.facts.in_a_row(value).is_some() => {
                let pointer = self.stream(Source::Words(value));
                Some(Known::Lanes(self.tape.load(pointer, Element::Word, None)))
            }
            // The position of random words has no use but theirs, and others are used by conversion to a narrower type.
            Expr::Index(_) => Some(Known::Nothing),
            Expr::Const(_) | Expr::Fma(..) | Expr::Philox { .. } => None,
        }
    }

    fn unary(&mut self, op: Unary, operand: ValueId) -> Option<Known> {
        let dtype = self.dtype(operand);
        if dtype == DType::Bool {
            let mask = self.mask(operand)?;
            return (op == Unary::Not).then(|| Known::Mask(self.tape.not(mask)));
        }
        let a = self.lanes(operand)?;
        let tape = &mut self.tape;
        let result = match (op, dtype) {
            (Unary::IsFinite, DType::F32) => {
                let magnitude = tape.abs(a);
                let infinity = tape.float(f32::INFINITY);
                return Some(Known::Mask(tape.lt(magnitude, infinity)));
            }
            (Unary::Neg, DType::F32) => tape.neg(a),
            (Unary::Abs, DType::F32) => tape.abs(a),
            (Unary::Sqrt, DType::F32) => tape.sqrt(a),
            (Unary::Floor, DType::F32) => tape.lanes(Op::Round(0x9), &[a]),
            (Unary::Ceil, DType::F32) => tape.lanes(Op::Round(0xa), &[a]),
            (Unary::Round, DType::F32) => tape.lanes(Op::Round(0x8), &[a]),
            (Unary::Sign, DType::F32) => {
                let magnitude = tape.abs(a);
                let zero = tape.float(0.0);
                let counts = tape.lt(zero, magnitude);
                let sign = tape.lanes(Op::And, &[a, Arg::Word(1 << 31)]);
                let unit = tape.lanes(Op::Or, &[sign, Arg::Word(1.0_f32.to_bits())]);
                tape.choose(counts, unit, a)
            }
            (_, DType::F32) => recipes::unary32(tape, op, a)?,
            (Unary::Neg, DType::I32 | DType::U32) => tape.isub(Arg::Word(0), a),
            (Unary::Abs, DType::I32) => tape.lanes(Op::IntAbs, &[a]),
            (Unary::Not, DType::I32 | DType::U32) => tape.ixor(a, Arg::Word(u32::MAX)),
            _ => return None,
        };
        Some(Known::Lanes(result))
    }

    fn binary(&mut self, op: Binary, left: ValueId, right: ValueId) -> Option<Known> {
        let dtype = self.dtype(left);
        if dtype == DType::Bool {
            let (a, b) = (self.mask(left)?, self.mask(right)?);
            let op = match op {
                Binary::And | Binary::Min => Op::MaskAnd,
                Binary::Or | Binary::Max => Op::MaskOr,
                Binary::Xor => Op::MaskXor,
                _ => return None,
            };
            return Some(Known::Mask(self.tape.mask(op, &[a.arg(), b.arg()])));
        }
        // Narrow integers would have to be wrapped.
        if !matches!(dtype, DType::F32 | DType::I32 | DType::U32) {
            return None;
        }
        let (a, b) = (self.lanes(left)?, self.lanes(right)?);
        let tape = &mut self.tape;
        if let Some(op) = plain(op, dtype) {
            return Some(Known::Lanes(tape.lanes(op, &[a, b])));
        }
        if dtype != DType::F32 {
            return None;
        }
        let is_plain = |v| self.facts.literal(v).is_some_and(is_plain_number);
        let result = match op {
            Binary::Max | Binary::Min => {
                let largest = op == Binary::Max;
                let raw = if largest { Op::Max } else { Op::Min };
                // Of a number that is neither zero nor NaN one instruction does: the other operand is kept if it is NaN.
                if is_plain(right) {
                    tape.lanes(raw, &[b, a])
                } else if is_plain(left) {
                    tape.lanes(raw, &[a, b])
                } else {
                    extremum(tape, largest, a, b)
                }
            }
            _ => recipes::binary32(tape, op, a, b)?,
        };
        Some(Known::Lanes(result))
    }

    fn compare(&mut self, op: Compare, left: ValueId, right: ValueId) -> Option<Mask> {
        let dtype = self.dtype(left);
        let (a, b) = (self.lanes(left)?, self.lanes(right)?);
        let (float, int) = match op {
            Compare::Eq => (tape::EQUAL, tape::INT_EQUAL),
            Compare::Ne => (tape::NOT_EQUAL, tape::INT_NOT_EQUAL),
            Compare::Lt => (tape::LESS, tape::INT_LESS),
            Compare::Le => (tape::LESS_EQUAL, tape::INT_LESS_EQUAL),
            Compare::Gt => (tape::GREATER, tape::INT_GREATER),
            Compare::Ge => (tape::GREATER_EQUAL, tape::INT_GREATER_EQUAL),
        };
        let op = match dtype.class() {
            Class::Float => Op::Compare(float),
            Class::Unsigned => Op::CompareUnsigned(int),
            Class::Signed | Class::Bool => Op::CompareSigned(int),
        };
        Some(self.tape.mask(op, &[a, b]))
    }

    fn convert(&mut self, operand: ValueId, to: DType) -> Option<Known> {
        let from = self.dtype(operand);
        if from == DType::Bool {
            let mask = self.mask(operand)?;
            let one = match to {
                DType::Bool => return Some(Known::Mask(mask)),
                DType::F32 => Arg::Word(1.0_f32.to_bits()),
                _ if form::is_wide(to) || form::register_type(to).is_none() => return None,
                _ => Arg::Word(1),
            };
            return Some(Known::Lanes(self.tape.lanes(Op::Keep, &[mask.arg(), one])));
        }
        if let (DType::I64, DType::I32 | DType::U32) = (from, to) {
            return self.counted(operand);
        }
        let a = self.lanes(operand)?;
        let tape = &mut self.tape;
        match (from.class(), to.class()) {
            _ if from == to => Some(Known::Lanes(a)),
            (Class::Float, Class::Bool) => Some(Known::Mask(
                tape.mask(Op::Compare(tape::NOT_EQUAL), &[a, Arg::Word(0)]),
            )),
            (_, Class::Bool) => Some(Known::Mask(tape.mask(Op::Test, &[a, a]))),
            (Class::Signed, Class::Float) if to == DType::F32 => {
                Some(Known::Lanes(tape.int_to_float(a)))
            }
            (Class::Unsigned, Class::Float) if to == DType::F32 => {
                Some(Known::Lanes(tape.lanes(Op::FromUnsigned, &[a])))
            }
            // From 8 or 16 bits, and between those of 32, the lanes are what they were.
            (Class::Signed | Class::Unsigned, Class::Signed | Class::Unsigned)
                if to.size() == 4 =>
            {
                Some(Known::Lanes(a))
            }
            _ => None,
        }
    }
}

/// Where something is in a list, at the end of which it is put if it is not there.
fn position<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    match list.iter().position(|other| *other == item) {
        Some(position) => position,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

/// How elements of a type lie in memory.
fn element(dtype: DType) -> Option<Element> {
    match dtype {
        DType::F32 | DType::I32 | DType::U32 => Some(Element::Word),
        DType::I8 => Some(Element::SignedByte),
        DType::U8 | DType::Bool => Some(Element::Byte),
        DType::I16 => Some(Element::SignedShort),
        DType::U16 => Some(Element::Short),
        DType::F64 | DType::I64 | DType::U64 | DType::BF16 | DType::F16 => None,
    }
}

/// Whether a literal is a number other than zero.
fn is_plain_number(literal: Literal) -> bool {
    super::super::arithmetic::plain(Some(literal))
}
