//! Running folds and rows put in order: kernels that go through an axis in its own order.
//!
//! A running fold is serial along its axis; what lies behind the axis runs in lanes, what lies before it is independent and may be shared
//! out. So is every row that is put in order: it is gathered into a row of scratch, and sorted from there to its place.

use super::points::{Item, Points, evaluate_row, evaluate_running};
use super::walks::Walks;
use super::{LowerError, LoweredKernel};
use crate::access::linear;
use crate::fusion::Group;
use crate::kernel::{
    Element, Expr, Index, Kernel, LoopId, LoopKind, SortRow, Stmt, ValueId, identity,
};
use kiln_ir::ops::{Cumulative, ReduceKind};
use kiln_ir::{Dim, Graph, NodeId};

const GRID: LoopId = LoopId(0);
const ALONG: LoopId = LoopId(1);
const LANES: LoopId = LoopId(2);
/// The loop over the lanes before the first step.
const BEGIN: LoopId = LoopId(3);

/// The kernel of a `cumulative` node.
pub(super) fn lower_running(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    op: &Cumulative,
) -> Result<LoweredKernel, LowerError> {
    let mut parts = evaluate_running(graph, stored, group, id, op)?;
    let rank = parts.points.axes.len();
    let behind: Vec<usize> = (op.axis + 1..rank).collect();
    let walks = Walks::new(
        &parts.points.axes,
        [
            (0..op.axis).collect(),
            vec![op.axis],
            behind.clone(),
            behind,
        ],
    );
    let by_axis = walks.counters(&[GRID, ALONG, LANES]);
    let mut step = lets(&parts.points.items, &walks, &by_axis);
    let (state, next) = parts.next;
    step.push(Stmt::Store {
        param: parts.state,
        index: walks.replaced(&state, &by_axis),
        value: next,
        predicate: None,
    });
    let (param, index, value) = parts.result;
    step.push(Stmt::Store {
        param,
        index: walks.replaced(&index, &by_axis),
        value,
        predicate: None,
    });
    // Nothing is changed by what stands for nothing, not even the sign of a zero.
    let nothing = parts.points.new_value(parts.dtype);
    let kind = ReduceKind::from(op.kind);
    let mut body = vec![Stmt::Let {
        value: nothing,
        expr: Expr::Const(identity(parts.dtype, kind)),
    }];
    let mut begin = vec![Stmt::Store {
        param: parts.state,
        index: Index::constant(0),
        value: nothing,
        predicate: None,
    }];
    if walks.walks(LANES) {
        if let Some(Stmt::Store { index, .. }) = begin.first_mut() {
            *index = Index::counter(BEGIN);
        }
        begin = vec![walks.looped(BEGIN, LoopKind::Lanes, begin)];
        step = vec![walks.looped(LANES, LoopKind::Lanes, step)];
    }
    body.extend(begin);
    body.push(walks.looped(ALONG, LoopKind::Serial, step));
    let inner = &walks.extent(ALONG) * &walks.extent(LANES);
    Ok(finished(parts.points, &walks, body, &inner * &Dim::from(2)))
}

/// The kernel of a `sort` or `argsort` node along an axis.
pub(super) fn lower_rows(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    axis: usize,
    descending: bool,
    positions: bool,
) -> Result<LoweredKernel, LowerError> {
    let parts = evaluate_row(graph, stored, group, id, axis)?;
    let rank = parts.points.axes.len();
    let others = (0..rank).filter(|a| *a != axis).collect();
    let walks = Walks::new(&parts.points.axes, [others, Vec::new(), vec![axis]]);
    let by_axis = walks.counters(&[GRID, LANES]);
    let [row, room, target] = parts.params;
    let mut fill = lets(&parts.points.items, &walks, &by_axis);
    fill.push(Stmt::Store {
        param: row,
        index: Index::counter(LANES),
        value: parts.value,
        predicate: None,
    });
    let shape = graph.node(id).map(|n| n.ty.shape.clone());
    let shape = shape.ok_or_else(|| LowerError {
        node: id,
        reason: "it does not exist".into(),
    })?;
    let first = linear(&walks.counters(&[GRID]), &shape);
    let sort = SortRow {
        row,
        room,
        target: Element {
            param: target,
            index: first,
        },
        stride: super::count(&shape[axis + 1..]),
        extent: walks.extent(LANES),
        count: shape[axis].clone(),
        descending,
        positions,
    };
    let body = vec![walks.looped(LANES, LoopKind::Lanes, fill), Stmt::Sort(sort)];
    // A comparison for each doubling, about, of rows that are not short.
    let work = &walks.extent(LANES) * &Dim::from(16);
    Ok(finished(parts.points, &walks, body, work))
}

/// The kernel of a body that runs for each iteration of the grid.
fn finished(points: Points, walks: &Walks, mut body: Vec<Stmt>, work: Dim) -> LoweredKernel {
    if walks.walks(GRID) {
        body = vec![walks.looped(GRID, LoopKind::Grid, body)];
    }
    LoweredKernel {
        kernel: Kernel {
            name: String::new(),
            params: points.params,
            values: points.values,
            body,
        },
        params: points.sources,
        total: walks.extent(GRID),
        grain: 1,
        work,
        over: None,
    }
}

/// Items over axes as statements within loops.
fn lets(items: &[Item], walks: &Walks, by_axis: &[Index]) -> Vec<Stmt> {
    let same = |value: ValueId| value;
    let found = items.iter().filter_map(|item| match item {
        Item::Let { value, expr } => Some(Stmt::Let {
            value: *value,
            expr: expr.map(&same, &|index| walks.replaced(index, by_axis)),
        }),
        Item::Fold { .. } => None,
    });
    found.collect()
}
