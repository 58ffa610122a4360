//! The values of a scatter, which has two phases and so two points.

use super::{Evaluator, Points};
use crate::access::{counters, linear};
use crate::fusion::Group;
use crate::kernel::{Access, Atom, Expr, Index, ParamId, ValueId};
use crate::lower::{LowerError, ParamSource};
use kiln_ir::ops::{Binary, Scatter, ScatterKind};
use kiln_ir::{Graph, NodeId};

/// A scatter in two phases over the axes `before x extent x behind x indices`: first the base is copied, then the updates join it.
pub(in crate::lower) struct ScatterPoints {
    pub(in crate::lower) points: Points,
    /// The number of axes of each of the four kinds.
    pub(in crate::lower) ranks: [usize; 4],
    /// Items from here on belong to the second phase.
    pub(in crate::lower) second: usize,
    /// The result, which the second phase reads as well.
    pub(in crate::lower) target: ParamId,
    /// The element that the first phase writes, and its value.
    pub(in crate::lower) copied: (Index, ValueId),
    /// The element that the second phase joins, the joined value, and where it is written.
    pub(in crate::lower) joined: (Index, ValueId, Option<ValueId>),
}

/// Evaluates both phases of a scatter node.
pub(in crate::lower) fn evaluate_scatter(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    scatter: &Scatter,
) -> Result<ScatterPoints, LowerError> {
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
    let base = evaluator.value(node.operands[0], &all[..shape.len()], None)?;
    let copied = (linear(&all[..shape.len()], shape), base);
    let second = evaluator.points.items.len();
    evaluator.known.clear();
    evaluator.exprs.clear();
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
    Ok(ScatterPoints {
        ranks: [before.len(), 1, behind.len(), within.len()],
        points: evaluator.points,
        second,
        target,
        copied,
        joined: (element, joined, inside),
    })
}
