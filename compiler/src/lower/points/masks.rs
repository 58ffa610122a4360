//! Reads that do not happen everywhere or whose place is computed: pads, concatenations, gathers and windows that move.
//!
//! They become predicates on the loads below them: where an index falls outside its operand nothing is read. A window that moves is within
//! its operand wherever it is, and needs none.

use super::{Evaluator, PointStore, own_index};
use crate::access::linear;
use crate::fusion::Level;
use crate::kernel::{Access, Atom, Expr, Index, LoopId, ValueId};
use crate::lower::{LowerError, ParamSource};
use kiln_ir::ops::{Binary, Compare, Concat, Gather, Literal, OutOfRange, Pad};
use kiln_ir::{DType, Dim, Node, NodeId};

impl Evaluator<'_> {
    /// Whether `0 <= at < high`, and the predicate.
    pub(super) fn within(
        &mut self,
        at: &Index,
        high: &Dim,
        predicate: Option<ValueId>,
    ) -> Option<ValueId> {
        let at = self.bind(DType::I64, Expr::Index(at.clone()));
        self.value_within(at, high, predicate)
    }

    /// Whether `0 <= at < high`, and the predicate.
    fn value_within(
        &mut self,
        at: ValueId,
        high: &Dim,
        predicate: Option<ValueId>,
    ) -> Option<ValueId> {
        let zero = self.bind(DType::I64, Expr::Const(Literal::Int(0)));
        let high = self.bind(DType::I64, Expr::Index(Index::constant(high.clone())));
        let above = self.bind(DType::Bool, Expr::Compare(Compare::Ge, at, zero));
        let below = self.bind(DType::Bool, Expr::Compare(Compare::Lt, at, high));
        let inside = self.bind(DType::Bool, Expr::Binary(Binary::And, above, below));
        Some(self.both(inside, predicate))
    }

    fn both(&mut self, a: ValueId, b: Option<ValueId>) -> ValueId {
        match b {
            Some(b) => self.bind(DType::Bool, Expr::Binary(Binary::And, a, b)),
            None => a,
        }
    }

    /// The operand where the index falls on one of its elements, the padding value elsewhere.
    pub(super) fn pad(
        &mut self,
        node: &Node,
        pad: &Pad,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let from = self.node(node.operands[0])?.ty.shape;
        let axes = self.points.axes.clone();
        let extent = |id: LoopId| axes.get(id.index()).cloned();
        let zero = Dim::from(0);
        let mut inner = Vec::new();
        let mut inside = predicate;
        for (axis, at) in index.iter().enumerate() {
            let untouched =
                pad.low[axis] == zero && pad.high[axis] == zero && pad.interior[axis] == 0;
            if untouched {
                inner.push(at.clone());
                continue;
            }
            let shifted = at.offset(&-&pad.low[axis]);
            let step = Dim::from(pad.interior[axis].saturating_add(1));
            if pad.interior[axis] > 0 {
                let remainder = shifted.modulo(&step, &extent);
                inside = self.within(&remainder, &Dim::from(1), inside);
            }
            let element = shifted.floor_div(&step, &extent);
            inside = self.within(&element, &from[axis], inside);
            inner.push(element);
        }
        let value = self.operand(node, 0, &inner, inside)?;
        let Some(inside) = inside.filter(|_| inside != predicate) else {
            return Ok(value);
        };
        let padding = self.operand(node, 1, &[], predicate)?;
        Ok(self.bind(node.ty.dtype, Expr::Select(inside, value, padding)))
    }

    /// The operand on whose stretch of the axis the index falls.
    pub(super) fn concat(
        &mut self,
        node: &Node,
        concat: &Concat,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let mut start = Dim::from(0);
        let mut chosen: Option<ValueId> = None;
        for (position, operand) in node.operands.iter().enumerate() {
            let size = self.node(*operand)?.ty.shape[concat.axis].clone();
            let mut inner = index.to_vec();
            inner[concat.axis] = inner[concat.axis].offset(&-&start);
            let inside = self.within(&inner[concat.axis].clone(), &size, predicate);
            let value = self.operand(node, position, &inner, inside)?;
            chosen = Some(match (chosen, inside) {
                (Some(before), Some(inside)) => {
                    self.bind(node.ty.dtype, Expr::Select(inside, value, before))
                }
                (_, _) => value,
            });
            start = &start + &size;
        }
        chosen.ok_or_else(|| LowerError {
            node: node.operands.first().copied().unwrap_or(NodeId::new(0)),
            reason: "a concatenation of nothing".into(),
        })
    }

    /// Stores the parts of a concatenation where they lie in the whole.
    pub(super) fn parts(&mut self, id: NodeId, node: &Node, axis: usize) -> Result<(), LowerError> {
        let param = self.param(ParamSource::Node(id), node.ty.dtype, Access::Write);
        let mut start = Dim::from(0);
        for part in &node.operands {
            let shape = self.node(*part)?.ty.shape;
            let own = own_index(&self.group.space, &shape, Level::Point);
            let value = self.value(*part, &own, None)?;
            let mut whole = own;
            whole[axis] = whole[axis].offset(&start);
            let index = linear(&whole, &node.ty.shape);
            let store = PointStore {
                param,
                index,
                value,
            };
            self.points.stores.push(store);
            start = &start + &shape[axis];
        }
        Ok(())
    }

    pub(super) fn gather(
        &mut self,
        node: &Node,
        gather: &Gather,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let rank = self.node(node.operands[1])?.ty.rank();
        let behind = gather.axis + rank;
        let at = self.operand(node, 1, &index[gather.axis..behind], predicate)?;
        let extent = self.node(node.operands[0])?.ty.shape[gather.axis].clone();
        let (at, inside) = self.position(at, &extent, gather.out_of_range, predicate);
        let mut inner = index[..gather.axis].to_vec();
        inner.push(Index::atom(Atom::Value(at)));
        inner.extend_from_slice(&index[behind..]);
        let value = self.operand(node, 0, &inner, inside)?;
        match (gather.out_of_range, inside) {
            (OutOfRange::Skip | OutOfRange::Fail, Some(inside)) => {
                let literal = if node.ty.dtype.is_float() {
                    Literal::Float(0f64.to_bits())
                } else {
                    Literal::Int(0)
                };
                let zero = self.bind(node.ty.dtype, Expr::Const(literal));
                Ok(self.bind(node.ty.dtype, Expr::Select(inside, value, zero)))
            }
            (OutOfRange::Clamp | OutOfRange::Skip | OutOfRange::Fail, _) => Ok(value),
        }
    }

    /// The element of the window that begins at the operands behind the first.
    pub(super) fn dynamic_slice(
        &mut self,
        node: &Node,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let from = self.node(node.operands[0])?.ty.shape;
        let inner = self.shifted(node, 1, index, &from, &node.ty.shape, predicate)?;
        self.operand(node, 0, &inner, predicate)
    }

    /// An index in a window of the extents `window` as one of the tensor that it moves in; its starts are the operands from `first` on.
    pub(super) fn shifted(
        &mut self,
        node: &Node,
        first: usize,
        index: &[Index],
        extents: &[Dim],
        window: &[Dim],
        predicate: Option<ValueId>,
    ) -> Result<Vec<Index>, LowerError> {
        let mut moved = Vec::new();
        for (axis, at) in index.iter().enumerate() {
            // A window as large as the axis does not move.
            if extents[axis] == window[axis] {
                moved.push(at.clone());
                continue;
            }
            let start = self.operand(node, first + axis, &[], predicate)?;
            let start = self.as_i64(start);
            let start = self.clamped(start, &(&extents[axis] - &window[axis]));
            moved.push(at.plus(&Index::atom(Atom::Value(start))));
        }
        Ok(moved)
    }

    /// A computed index as an i64.
    fn as_i64(&mut self, at: ValueId) -> ValueId {
        let mut at = at;
        if self.points.values[at.index()] == DType::U64 {
            // What does not fit an i64 is out of range on either reading; as the largest i64 it is still above.
            let most = self.bind(DType::U64, Expr::Const(Literal::Int(i64::MAX)));
            at = self.bind(DType::U64, Expr::Binary(Binary::Min, at, most));
        }
        self.converted(at, DType::I64)
    }

    /// The nearest of `0..=last`, which is 0 where there is none.
    fn clamped(&mut self, at: ValueId, last: &Dim) -> ValueId {
        let zero = self.bind(DType::I64, Expr::Const(Literal::Int(0)));
        let last = self.bind(DType::I64, Expr::Index(Index::constant(last.clone())));
        let at = self.bind(DType::I64, Expr::Binary(Binary::Min, at, last));
        self.bind(DType::I64, Expr::Binary(Binary::Max, at, zero))
    }

    /// A computed index as an i64 below `extent`, and where it is one.
    pub(super) fn position(
        &mut self,
        at: ValueId,
        extent: &Dim,
        out_of_range: OutOfRange,
        predicate: Option<ValueId>,
    ) -> (ValueId, Option<ValueId>) {
        let at = self.as_i64(at);
        match out_of_range {
            OutOfRange::Skip | OutOfRange::Fail => (at, self.value_within(at, extent, predicate)),
            OutOfRange::Clamp => {
                let zero = self.bind(DType::I64, Expr::Const(Literal::Int(0)));
                let last = Index::constant(extent - &Dim::from(1));
                let last = self.bind(DType::I64, Expr::Index(last));
                let at = self.bind(DType::I64, Expr::Binary(Binary::Min, at, last));
                // An axis without elements has no nearest one, and then nothing is read.
                let inside = match extent.constant() {
                    Some(1..) => predicate,
                    Some(_) | None => {
                        let some = self.bind(DType::Bool, Expr::Compare(Compare::Ge, last, zero));
                        Some(self.both(some, predicate))
                    }
                };
                (
                    self.bind(DType::I64, Expr::Binary(Binary::Max, at, zero)),
                    inside,
                )
            }
        }
    }
}
