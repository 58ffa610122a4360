//! The values of running folds and of rows that are put in order.

use super::{Evaluator, Points};
use crate::access::{counters, linear};
use crate::fusion::Group;
use crate::kernel::{Access, Expr, Index, ParamId, SortRow, ValueId, fold_op};
use crate::lower::{LowerError, ParamSource, count};
use kiln_ir::ops::{Cumulative, ReduceKind};
use kiln_ir::{DType, Dim, Graph, NodeId};

/// One step of a running fold, at a point of the operand.
pub(in crate::lower) struct RunningPoints {
    pub(in crate::lower) points: Points,
    /// What is folded so far: an element for each place behind the axis.
    pub(in crate::lower) state: ParamId,
    pub(in crate::lower) dtype: DType,
    /// The state's element, and its next value.
    pub(in crate::lower) next: (Index, ValueId),
    /// The result's parameter and element, and its value.
    pub(in crate::lower) result: (ParamId, Index, ValueId),
}

/// Evaluates a running fold.
pub(in crate::lower) fn evaluate_running(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    op: &Cumulative,
) -> Result<RunningPoints, LowerError> {
    let mut evaluator = Evaluator::new(graph, stored, group, Vec::new());
    let node = evaluator.node(id)?;
    let shape = &node.ty.shape;
    evaluator.points.axes = shape.to_vec();
    let mut index = counters(shape.len());
    let behind = op.axis + 1..shape.len();
    let within = linear(&index[behind.clone()], &shape[behind.clone()]);
    if op.reverse {
        let last = &shape[op.axis] - &Dim::from(1);
        index[op.axis] = index[op.axis].times(&Dim::from(-1)).offset(&last);
    }
    let value = evaluator.value(node.operands[0], &index, None)?;
    let dtype = op.accumulator(node.ty.dtype);
    let value = evaluator.converted(value, dtype);
    let row = ParamSource::Scratch(dtype, count(&shape[behind]));
    let state = evaluator.new_param(row, dtype, Access::ReadWrite);
    let load = Expr::Load {
        param: state,
        index: within.clone(),
        predicate: None,
    };
    let so_far = evaluator.bind(dtype, load);
    let fold = fold_op(ReduceKind::from(op.kind));
    let next = evaluator.bind(dtype, Expr::Binary(fold, so_far, value));
    let result = evaluator.converted(next, node.ty.dtype);
    let target = evaluator.param(ParamSource::Node(id), node.ty.dtype, Access::Write);
    Ok(RunningPoints {
        points: evaluator.points,
        state,
        dtype,
        next: (within, next),
        result: (target, linear(&index, shape), result),
    })
}

/// A row that is put in order, at a point of the operand.
pub(in crate::lower) struct RowPoints {
    pub(in crate::lower) points: Points,
    /// The row, the room to work in, and the result.
    pub(in crate::lower) params: [ParamId; 3],
    /// The element at the point.
    pub(in crate::lower) value: ValueId,
}

/// Evaluates the rows of a node along an axis.
pub(in crate::lower) fn evaluate_row(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    axis: usize,
) -> Result<RowPoints, LowerError> {
    let mut evaluator = Evaluator::new(graph, stored, group, Vec::new());
    let node = evaluator.node(id)?;
    let from = evaluator.node(node.operands[0])?.ty;
    evaluator.points.axes = from.shape.to_vec();
    let value = evaluator.value(node.operands[0], &counters(from.rank()), None)?;
    let extent = &from.shape[axis];
    let row = ParamSource::Scratch(from.dtype, extent.clone());
    let row = evaluator.new_param(row, from.dtype, Access::ReadWrite);
    let words = extent * &Dim::from(SortRow::room(from.dtype));
    let room = ParamSource::Scratch(DType::U64, words);
    let room = evaluator.new_param(room, DType::U64, Access::ReadWrite);
    let target = evaluator.param(ParamSource::Node(id), node.ty.dtype, Access::Write);
    Ok(RowPoints {
        points: evaluator.points,
        params: [row, room, target],
        value,
    })
}
