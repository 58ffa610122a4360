//! Kernels: typed loop nests over memory, between the groups of a graph and machine code.
//!
//! A kernel says which loads, scalar operations and stores happen at each point of a nest of loops; it says nothing of tensors. It is
//! what the emitter turns into SIMD code, and what identical layers share. A value computed outside the lanes loop is one number; inside
//! it, one number for each lane. What a kernel computes does not depend on how many lanes the machine has: reductions have the order
//! that is defined at [`Accumulator`].

use kiln_ir::ops::{Binary, Compare, Cost, Literal, ReduceKind, Unary};
use kiln_ir::{DType, Dim};
use std::fmt;

mod fold;
mod index;
mod print;
mod verify;

pub(crate) use fold::{fold_op, identity, start};
pub(crate) use index::gcd;
pub use index::{Atom, Index};
pub use kiln_ir::program::Access;
pub(crate) use print::spell;
pub use verify::{KernelError, verify};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the kernel's table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A parameter of a kernel: a pointer to the elements of a buffer.
    ParamId,
    "p"
);
id!(
    /// A loop of a kernel, which is also its counter, an i64 that runs from 0.
    LoopId,
    "i"
);
id!(
    /// A value computed by a kernel.
    ValueId,
    "v"
);

/// A pointer that a kernel is called with.
///
/// Loads and stores happen in the order of the statements, with two liberties: the iterations of a lanes loop interleave, statement by
/// statement, and a load from a parameter that is only read, at an index that does not vary with the lanes, is moved before its lanes loop.
/// A parameter that is read may be the same memory as one that is written wherever these make no difference: an element-wise kernel works
/// in place, a row kernel too if its last sweep is the only one that writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// The element type; `bool` elements are bytes that hold 0 or 1.
    pub dtype: DType,
    /// What happens to the elements.
    pub access: Access,
}

/// A kernel. Two kernels that are equal but for their names compile to the same code.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// A readable name, for dumps and profiles.
    pub name: String,
    /// The pointers, in the order of the call.
    pub params: Vec<Param>,
    /// The type of each value; a [`ValueId`] is a position here.
    pub values: Vec<DType>,
    /// What the kernel does, in order.
    pub body: Vec<Stmt>,
}

/// One statement. A value is visible behind its statement, in the same body and in the loops of that body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// `value = expr`.
    Let {
        /// The value, assigned once.
        value: ValueId,
        /// What it is.
        expr: Expr,
    },
    /// Writes one element for each point (for each lane, inside the lanes loop).
    Store {
        /// Where to.
        param: ParamId,
        /// The element, counted from the start of the buffer.
        index: Index,
        /// What is written, of the parameter's type.
        value: ValueId,
        /// A `bool`: lanes where it is false write nothing.
        predicate: Option<ValueId>,
    },
    /// A loop.
    Loop(Loop),
    /// A function over the elements of a strip.
    Apply(Apply),
    /// A row put in order.
    Sort(SortRow),
}

/// Writes the first `count` elements of a row in order, or their positions: stably, -0 and +0 equal, NaN last, `false` below `true`.
///
/// It stands outside of lanes and strips. What is written is one element after the other, `stride` apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SortRow {
    /// The row: `extent` elements from the parameter's start.
    pub row: ParamId,
    /// Room to work in: [`room`](SortRow::room) u64 elements for each of the row.
    pub room: ParamId,
    /// The first element that is written: of the row's type, or i64 for positions.
    pub target: Element,
    /// The distance of the elements that are written.
    pub stride: Dim,
    /// The elements of the row, fewer than 2^32 where they have less than 64 bits.
    pub extent: Dim,
    /// How many are written; no more than the row has are.
    pub count: Dim,
    /// Whether the largest comes first.
    pub descending: bool,
    /// Whether positions are written rather than elements.
    pub positions: bool,
}

impl SortRow {
    /// The u64 elements of room that an element of a row needs: a key beside its position, which share 64 bits where the key has 32.
    pub fn room(dtype: DType) -> i64 {
        if dtype.size() == 8 { 2 } else { 1 }
    }
}

/// `target = function(operands)` for every element of the strip around it, from memory to memory, at the full width of the machine: what a
/// lanes loop over the strip would do that loads the operands, computes and stores, to the bit.
///
/// Elements are adjacent: each index walks with the counter of the application in steps of 1. The target is an operand's element or
/// overlaps none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Apply {
    /// The counter, which runs over the strip as that of a lanes loop does.
    pub id: LoopId,
    /// What is computed; [`wide::position`](crate::math::wide::position) knows which functions there are.
    pub function: Function,
    /// Where to.
    pub target: Element,
    /// As many as the function takes.
    pub operands: Vec<Operand>,
    /// What the phases of the next strip will touch, at most [`AHEAD`] of them: the elements that lie [`STRIP`] behind these are asked for
    /// while this strip is computed, so that memory does not wait for the functions. It is a hint: nothing is read or written, and they
    /// need not exist.
    pub ahead: Vec<Element>,
}

/// An operand of a function over a strip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// An element for each of the strip.
    Element(Element),
    /// One number for all.
    Value(ValueId),
}

/// A function that runs over strips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Of one operand.
    Unary(Unary),
    /// Of two operands of one type.
    Binary(Binary),
}

impl Function {
    /// The function that an expression is.
    pub fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Unary(op, _) => Some(Function::Unary(*op)),
            Expr::Binary(op, ..) => Some(Function::Binary(*op)),
            Expr::Load { .. }
            | Expr::Const(_)
            | Expr::Index(_)
            | Expr::Compare(..)
            | Expr::Select(..)
            | Expr::Fma(..)
            | Expr::Convert(_)
            | Expr::Bitcast(_)
            | Expr::Philox { .. } => None,
        }
    }

    /// What it costs in line.
    pub fn cost(self) -> Cost {
        match self {
            Function::Unary(op) => op.cost(),
            Function::Binary(op) => op.cost(),
        }
    }
}

/// An element of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    /// The parameter.
    pub param: ParamId,
    /// The element, counted from the start of the buffer.
    pub index: Index,
}

/// How the iterations of a loop relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    /// Independent iterations. Never inside a loop of another kind.
    Grid,
    /// Independent iterations, run in lanes. Never inside another lanes loop.
    Lanes,
    /// In order.
    Serial,
    /// A lanes loop in several phases. Its range is cut into strips of [`STRIP`] elements, the last one short, and the counter is the first
    /// element of a strip. The body holds lanes loops and [`Apply`]s only, which run one after the other over the elements of the strip:
    /// their counters begin at that of the strips, and the lanes loops have the same extent and no accumulators of their own. The
    /// accumulators fold what the last lanes loop computes, in the order of one lanes loop over the whole range. Never inside a lanes
    /// loop or other strips.
    Strips,
}

/// A loop from 0 to its extent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loop {
    /// The loop and its counter.
    pub id: LoopId,
    /// The trip count.
    pub extent: Dim,
    /// How the iterations relate.
    pub kind: LoopKind,
    /// What the iterations are folded into. A grid loop has none.
    pub accumulators: Vec<Accumulator>,
    /// What an iteration does.
    pub body: Vec<Stmt>,
}

/// The fold of a value over the iterations of a loop; visible behind the loop.
///
/// The order is part of the language, so that fused and unfused code agree bit for bit:
/// - *Over a lanes loop* of `n` iterations: the iterations are cut into blocks of [`LANES_BLOCK`], the last one short. Within a block
///   there are 16 partial results, each begun with the identity. Iteration `r` of the block goes to partial result `r mod 16` while
///   whole sixteens last; the rest, `r mod 16 = 0..`, goes four at a time to partial results 0 to 3 (`r mod 4`). Then partial result
///   `j` of 0..4 becomes `(j + (j+4)) + ((j+8) + (j+12))`, and the block is `(0 + 2) + (1 + 3)` of these. The result is
///   `start + block 0 + block 1 + ...`, from the left.
/// - *Over a serial loop*: blocks of [`SERIAL_BLOCK`], each folded from the identity in order, then the blocks in order from the start.
///   `lower/blocks.rs` makes two kernels of it, to the bit.
///
/// The start is the interpreter's identity, so the fold of nothing is the same on both sides. The identity of partial results is the same
/// too, except that it is -0.0 for a floating sum, which leaves every number as it is where +0.0 would turn -0.0 around.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// The result.
    pub value: ValueId,
    /// How two partial results combine.
    pub fold: Fold,
    /// What is folded: a value of the loop's body.
    pub operand: ValueId,
}

/// How an accumulator combines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// A reduction; the result has the operand's type.
    Reduce(ReduceKind),
    /// The position (an i64 value of the body) of the largest operand; NaN is larger than all, and of equal ones the least position wins.
    ArgMax(ValueId),
    /// The position of the smallest operand; NaN is smaller than all, and of equal ones the least position wins.
    ArgMin(ValueId),
}

/// The block of a fold over lanes, in iterations.
pub const LANES_BLOCK: i64 = 4096;
/// The elements of a strip: a multiple of every group of lanes, and a divisor of [`LANES_BLOCK`], so that folds keep their order.
pub const STRIP: i64 = 1024;
/// The streams that an application can ask for ahead.
pub const AHEAD: usize = 2;
/// The block of a fold in order, in iterations.
pub const SERIAL_BLOCK: i64 = 128;

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// An element of a parameter. Where the predicate, a `bool`, is false, nothing is read and the value is zero.
    Load {
        /// From where.
        param: ParamId,
        /// The element, counted from the start of the buffer.
        index: Index,
        /// The lanes that read.
        predicate: Option<ValueId>,
    },
    /// A constant of the value's type.
    Const(Literal),
    /// An index as an i64 value.
    Index(Index),
    /// An op of one operand.
    Unary(Unary, ValueId),
    /// An op of two operands of one type.
    Binary(Binary, ValueId, ValueId),
    /// A comparison, a `bool`.
    Compare(Compare, ValueId, ValueId),
    /// The second where the first, a `bool`, holds, else the third.
    Select(ValueId, ValueId, ValueId),
    /// `a * b + c`, rounded once.
    Fma(ValueId, ValueId, ValueId),
    /// The operand converted to the value's type, as the op `convert` does.
    Convert(ValueId),
    /// The operand's bits as the value's type, of the same width.
    Bitcast(ValueId),
    /// Word `position mod 4` of the Philox4x32-10 block with counter `(position / 4 low, position / 4 high, counter 0, counter 1)`: u32.
    Philox {
        /// The key, two u32 values.
        key: [ValueId; 2],
        /// The upper half of the counter, two u32 values.
        counter: [ValueId; 2],
        /// The row-major index of the element, an i64 value.
        position: ValueId,
    },
}

impl Expr {
    /// The expression with its values and indices replaced.
    pub fn map(
        &self,
        value: &impl Fn(ValueId) -> ValueId,
        index: &impl Fn(&Index) -> Index,
    ) -> Expr {
        match self {
            Expr::Load {
                param,
                index: at,
                predicate,
            } => Expr::Load {
                param: *param,
                index: index(at),
                predicate: predicate.map(value),
            },
            Expr::Const(literal) => Expr::Const(*literal),
            Expr::Index(at) => Expr::Index(index(at)),
            Expr::Unary(op, a) => Expr::Unary(*op, value(*a)),
            Expr::Binary(op, a, b) => Expr::Binary(*op, value(*a), value(*b)),
            Expr::Compare(op, a, b) => Expr::Compare(*op, value(*a), value(*b)),
            Expr::Select(a, b, c) => Expr::Select(value(*a), value(*b), value(*c)),
            Expr::Fma(a, b, c) => Expr::Fma(value(*a), value(*b), value(*c)),
            Expr::Convert(a) => Expr::Convert(value(*a)),
            Expr::Bitcast(a) => Expr::Bitcast(value(*a)),
            Expr::Philox {
                key,
                counter,
                position,
            } => Expr::Philox {
                key: key.map(value),
                counter: counter.map(value),
                position: value(*position),
            },
        }
    }

    /// Calls `visit` with every value that the expression is computed from.
    pub fn visit_values(&self, visit: &mut dyn FnMut(ValueId)) {
        match self {
            Expr::Load {
                index, predicate, ..
            } => {
                index.visit_values(visit);
                if let Some(p) = predicate {
                    visit(*p);
                }
            }
            Expr::Index(index) => index.visit_values(visit),
            Expr::Const(_) => {}
            Expr::Unary(_, a) | Expr::Convert(a) | Expr::Bitcast(a) => visit(*a),
            Expr::Binary(_, a, b) | Expr::Compare(_, a, b) => {
                visit(*a);
                visit(*b);
            }
            Expr::Select(a, b, c) | Expr::Fma(a, b, c) => {
                visit(*a);
                visit(*b);
                visit(*c);
            }
            Expr::Philox {
                key,
                counter,
                position,
            } => {
                for v in key.iter().chain(counter).chain([position]) {
                    visit(*v);
                }
            }
        }
    }
}

impl Apply {
    /// The elements that are read, then the one that is written.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        let read = self.operands.iter().filter_map(|operand| match operand {
            Operand::Element(element) => Some(element),
            Operand::Value(_) => None,
        });
        read.chain([&self.target])
    }
}

impl Kernel {
    /// The symbolic sizes that the code is called with, each once, in the order of first mention.
    pub fn sizes(&self) -> Vec<Dim> {
        let mut found = Vec::new();
        visit_dims(&self.body, &mut |dim| {
            if dim.constant().is_none() && !found.contains(dim) {
                found.push(dim.clone());
            }
        });
        found
    }

    /// The loop whose range may be cut and shared out: a grid loop, or lanes or strips that fold nothing, behind which nothing follows and
    /// before which only values are computed, once for each call.
    ///
    /// A kernel without one is called with the range `0..1`.
    pub fn partition(&self) -> Option<&Loop> {
        let (last, before) = self.body.split_last()?;
        let Stmt::Loop(last) = last else { return None };
        let only_values = before.iter().all(|s| matches!(s, Stmt::Let { .. }));
        let free = last.kind != LoopKind::Serial && last.accumulators.is_empty();
        (only_values && free).then_some(last)
    }
}

fn visit_dims(body: &[Stmt], visit: &mut impl FnMut(&Dim)) {
    for stmt in body {
        match stmt {
            Stmt::Let { expr, .. } => match expr {
                Expr::Load { index, .. } | Expr::Index(index) => index.visit_dims(visit),
                Expr::Const(_)
                | Expr::Unary(..)
                | Expr::Binary(..)
                | Expr::Compare(..)
                | Expr::Select(..)
                | Expr::Fma(..)
                | Expr::Convert(_)
                | Expr::Bitcast(_)
                | Expr::Philox { .. } => {}
            },
            Stmt::Store { index, .. } => index.visit_dims(visit),
            Stmt::Loop(inner) => {
                visit(&inner.extent);
                visit_dims(&inner.body, visit);
            }
            Stmt::Apply(apply) => {
                for element in apply.elements().chain(&apply.ahead) {
                    element.index.visit_dims(visit);
                }
            }
            Stmt::Sort(sort) => {
                sort.target.index.visit_dims(visit);
                visit(&sort.stride);
                visit(&sort.extent);
                visit(&sort.count);
            }
        }
    }
}
