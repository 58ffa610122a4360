//! The values of ops that write parts over a tensor, which have two phases and so two points.

use super::{Evaluator, Item, Points};
use crate::access::{counters, linear};
use crate::fusion::Group;
use crate::kernel::{Access, Atom, Expr, Index, ParamId, ValueId};
use crate::lower::{LowerError, ParamSource};
use kiln_ir::ops::{Binary, Scatter, ScatterKind};
use kiln_ir::{Graph, NodeId};

/// A tensor in two phases, over its axes and those of the parts: first the base is copied, then the parts join it.
pub(in crate::lower) struct JoinPoints {
    pub(in crate::lower) points: Points,
    /// Items from here on belong to the second phase.
    pub(in crate::lower) second: usize,
    /// The result, which the second phase may read as well.
    pub(in crate::lower) target: ParamId,
    /// The element that the first phase writes, and its value.
    pub(in crate::lower) copied: (Index, ValueId),
    /// The element that the second phase joins, the joined value, and where it is written.
    pub(in crate::lower) joined: (Index, ValueId, Option<ValueId>),
    /// The parameter that the base is, where the first phase copies it element for element and the second does not read it.
    pub(in crate::lower) base: Option<ParamId>,
}

/// Evaluates both phases of a scatter node, over the axes `before x extent x behind x indices`.
pub(in crate::lower) fn evaluate_scatter(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    scatter: &Scatter,
) -> Result<JoinPoints, LowerError> {
    let mut evaluator = Evaluator::new(graph, stored, group, Vec::new());
    let node = evaluator.node(id)?;
    let indices = evaluator.node(node.operands[1])?.ty.shape;
    let shape = &node.ty.shape;
    evaluator.points.axes = [&shape[..], &indices].concat();
    let all = counters(shape.len() + indices.len());
    let (before, rest) = all.split_at(scatter.axis);
    let (behind, within) = (&rest[1..shape.len() - scatter.axis], &all[shape.len()..]);
    let dtype = node.ty.dtype;
    let target = evaluator.param(ParamSource::Node(id), dtype, Access::ReadWrite);
    let copied = evaluator.copied(node.operands[0], shape)?;
    let second = evaluator.points.items.len();
    let at = evaluator.value(node.operands[1], within, None)?;
    let extent = &shape[scatter.axis];
    let (at, inside) = evaluator.position(at, extent, scatter.out_of_range, None);
    let update = evaluator.value(node.operands[2], &[before, within, behind].concat(), None)?;
    let element = [before, &[Index::atom(Atom::Value(at))], behind].concat();
    let element = linear(&element, shape);
    let joined = match scatter.kind {
        ScatterKind::Set => update,
        ScatterKind::Add | ScatterKind::Max => {
            let op = if scatter.kind == ScatterKind::Add {
                Binary::Add
            } else {
                Binary::Max
            };
            let load = Expr::Load {
                param: target,
                index: element.clone(),
                predicate: inside,
            };
            let old = evaluator.bind(dtype, load);
            evaluator.bind(dtype, Expr::Binary(op, old, update))
        }
    };
    Ok(evaluator.joined(second, target, copied, (element, joined, inside)))
}

/// Evaluates both phases of a `dynamic_update_slice` node, over the axes `operand x update`.
pub(in crate::lower) fn evaluate_update(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
) -> Result<JoinPoints, LowerError> {
    let mut evaluator = Evaluator::new(graph, stored, group, Vec::new());
    let node = evaluator.node(id)?;
    let window = evaluator.node(node.operands[1])?.ty.shape;
    let shape = &node.ty.shape;
    evaluator.points.axes = [&shape[..], &window].concat();
    let within = counters(shape.len() + window.len()).split_off(shape.len());
    let target = evaluator.param(ParamSource::Node(id), node.ty.dtype, Access::ReadWrite);
    let copied = evaluator.copied(node.operands[0], shape)?;
    let second = evaluator.points.items.len();
    let element = evaluator.shifted(&node, 2, &within, shape, &window, None)?;
    let update = evaluator.value(node.operands[1], &within, None)?;
    let element = linear(&element, shape);
    Ok(evaluator.joined(second, target, copied, (element, update, None)))
}

impl Evaluator<'_> {
    /// The base at its own place, and a clean slate for the second phase.
    fn copied(
        &mut self,
        base: NodeId,
        shape: &[kiln_ir::Dim],
    ) -> Result<(Index, ValueId), LowerError> {
        let own = counters(shape.len());
        let value = self.value(base, &own, None)?;
        self.known.clear();
        self.exprs.clear();
        Ok((linear(&own, shape), value))
    }

    fn joined(
        self,
        second: usize,
        target: ParamId,
        copied: (Index, ValueId),
        joined: (Index, ValueId, Option<ValueId>),
    ) -> JoinPoints {
        let load = |item: &Item| match item {
            Item::Let {
                value,
                expr:
                    Expr::Load {
                        param,
                        index,
                        predicate: None,
                    },
            } if *value == copied.1 && *index == copied.0 => Some(*param),
            Item::Let { .. } | Item::Fold { .. } => None,
        };
        let base = self.points.items[..second].iter().find_map(load);
        let again = |item: &Item| match item {
            Item::Let {
                expr: Expr::Load { param, .. },
                ..
            } => Some(*param) == base,
            Item::Let { .. } | Item::Fold { .. } => false,
        };
        let base = base.filter(|_| !self.points.items[second..].iter().any(again));
        JoinPoints {
            points: self.points,
            second,
            target,
            copied,
            joined,
            base,
        }
    }
}
