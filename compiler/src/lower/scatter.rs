//! Tensors that parts are written over: scatters and windows that move. The base is copied, then the parts join it.
//!
//! The order of a scatter's updates is part of its meaning, so they run in a serial loop; what lies behind the indexed axis runs in lanes,
//! and what lies before it is independent and may be shared out. Where the result takes the memory of its base ([`Over`]), nothing is
//! copied, and the columns behind the axis may be shared out too: each meets the updates in their order, whoever computes it. The elements
//! of a window are independent.

use super::points::{Item, JoinPoints, evaluate_scatter, evaluate_update, visit_operands};
use super::walks::{Walks, looped};
use super::{LowerError, LoweredKernel, Over, ParamSource};
use crate::fusion::Group;
use crate::kernel::{Expr, Index, Kernel, LoopId, LoopKind, ParamId, Stmt, ValueId};
use kiln_ir::ops::Scatter;
use kiln_ir::{Dim, Graph, NodeId};

const GRID: LoopId = LoopId(0);
const COPY: LoopId = LoopId(1);
const PARTS: LoopId = LoopId(2);
const LANES: LoopId = LoopId(3);
/// The loop over blocks of columns.
const BLOCKS: LoopId = LoopId(4);

/// The columns of a block are a multiple of a register of the widest machine, and no fewer than [`LEAST_COLUMNS`].
const REGISTER: i64 = 16;
const LEAST_COLUMNS: i64 = 32;
/// The blocks that columns are cut into: enough for the threads of a small machine, few enough to read the indices so often.
const BLOCKS_OF_COLUMNS: std::ops::RangeInclusive<i64> = 4..=16;
/// Lanes are shared out among threads in multiples of this.
const LANES_GRAIN: usize = 64;

/// The kernel of a scatter node.
pub(super) fn lower_scatter(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    scatter: &Scatter,
) -> Result<LoweredKernel, LowerError> {
    let parts = evaluate_scatter(graph, stored, group, id, scatter)?;
    let (before, rank) = (scatter.axis, rank(graph, id));
    let walks = Walks::new(
        &parts.points.axes,
        [
            (0..before).collect(),
            (before..rank).collect(),
            (rank..parts.points.axes.len()).collect(),
            (before + 1..rank).collect(),
        ],
    );
    let first = walks.counters(&[GRID, COPY]);
    let second = walks.counters(&[GRID, PARTS, LANES]);
    let copy = copied(&parts, &walks, &first);
    let (update, lanes) = joined(&parts, &walks, &second);
    let each = |lanes: Vec<Stmt>, extent: Dim| {
        if walks.walks(LANES) {
            let lanes = looped(LANES, extent, LoopKind::Lanes, lanes);
            [update.clone(), vec![lanes]].concat()
        } else {
            [update.clone(), lanes].concat()
        }
    };
    let in_order = |each: Vec<Stmt>| walks.looped(PARTS, LoopKind::Serial, each);
    let shared = |body: Vec<Stmt>| {
        if walks.walks(GRID) {
            vec![walks.looped(GRID, LoopKind::Grid, body)]
        } else {
            body
        }
    };
    let columns = walks.extent(LANES);
    let updates = in_order(each(lanes.clone(), columns.clone()));
    let joined = &walks.extent(PARTS) * &columns;
    let elements = &walks.extent(COPY) + &joined;
    let total = walks.extent(GRID);
    let over = match block(&columns).filter(|_| !walks.walks(GRID)) {
        Some(block) => {
            let here = Index::counter(LANES);
            let here = here.plus(&Index::counter(BLOCKS).times(&Dim::from(block)));
            let lanes = lanes.iter().map(|stmt| shifted(stmt, &here)).collect();
            let blocks = columns.floor_div(&Dim::from(block));
            let body = vec![in_order(each(lanes, Dim::from(block)))];
            let body = vec![looped(BLOCKS, blocks.clone(), LoopKind::Grid, body)];
            (body, blocks, &walks.extent(PARTS) * &Dim::from(2 * block))
        }
        None => {
            let body = shared(vec![updates.clone()]);
            (body, total.clone(), &joined * &Dim::from(2))
        }
    };
    let (body, blocks, work) = over;
    let over = in_place(&parts, id, body, [blocks, work], 1);
    let body = shared(vec![walks.looped(COPY, LoopKind::Lanes, copy), updates]);
    let work = &elements * &Dim::from(2);
    Ok(kernel(parts, body, [total, work], over))
}

/// The kernel of a `dynamic_update_slice` node.
pub(super) fn lower_update(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
) -> Result<LoweredKernel, LowerError> {
    let parts = evaluate_update(graph, stored, group, id)?;
    let (axes, rank) = (&parts.points.axes, rank(graph, id));
    // Rows lie together as far as the window has all of what lies behind.
    let mut row = rank.saturating_sub(1);
    while row > 0 && axes[row] == axes[rank + row] {
        row -= 1;
    }
    let walks = Walks::new(
        axes,
        [
            Vec::new(),
            (0..rank).collect(),
            (rank..rank + row).collect(),
            (rank + row..axes.len()).collect(),
        ],
    );
    let copy = copied(&parts, &walks, &walks.counters(&[COPY]));
    let rows = walks.extent(PARTS);
    let single = rows == Dim::from(1);
    let around: &[LoopId] = if single { &[LANES] } else { &[PARTS, LANES] };
    let (starts, lanes) = joined(&parts, &walks, &walks.counters(around));
    let written = |kind: LoopKind| {
        let lanes = walks.looped(LANES, LoopKind::Lanes, lanes.clone());
        if single {
            return vec![lanes];
        }
        vec![walks.looped(PARTS, kind, vec![lanes])]
    };
    let columns = walks.extent(LANES);
    let (shared, grain) = if single {
        ([columns.clone(), Dim::from(2)], LANES_GRAIN)
    } else {
        ([rows.clone(), &columns * &Dim::from(2)], 1)
    };
    let (before, within): (Vec<Stmt>, Vec<Stmt>) = (starts, written(LoopKind::Grid));
    let over = in_place(&parts, id, [before.clone(), within].concat(), shared, grain);
    let elements = &walks.extent(COPY) + &(&rows * &columns);
    let copy = walks.looped(COPY, LoopKind::Lanes, copy);
    let body = [before, vec![copy], written(LoopKind::Serial)].concat();
    let once = [Dim::from(1), &elements * &Dim::from(2)];
    Ok(kernel(parts, body, once, over))
}

fn rank(graph: &Graph, id: NodeId) -> usize {
    graph.node(id).map_or(0, |n| n.ty.rank())
}

/// The columns of a block, where they can be cut into equal ones.
fn block(columns: &Dim) -> Option<i64> {
    let columns = columns.constant()?;
    let blocks = BLOCKS_OF_COLUMNS
        .filter(|n| columns % n == 0)
        .map(|n| columns / n);
    blocks
        .into_iter()
        .find(|block| block % REGISTER == 0 && *block >= LEAST_COLUMNS)
}

/// The first phase at its loops.
fn copied(parts: &JoinPoints, walks: &Walks, by_axis: &[Index]) -> Vec<Stmt> {
    let items = &parts.points.items[..parts.second];
    let mut copy = lets(items, walks, by_axis, &|_| true);
    copy.push(Stmt::Store {
        param: parts.target,
        index: walks.replaced(&parts.copied.0, by_axis),
        value: parts.copied.1,
        predicate: None,
    });
    copy
}

/// The second phase at its loops: what is one for all lanes, and what is done in the lanes.
fn joined(parts: &JoinPoints, walks: &Walks, by_axis: &[Index]) -> (Vec<Stmt>, Vec<Stmt>) {
    let varies = in_lanes(parts, walks, by_axis);
    let items = &parts.points.items[parts.second..];
    let outside = lets(items, walks, by_axis, &|v| !varies[v.index()]);
    let mut lanes = lets(items, walks, by_axis, &|v| varies[v.index()]);
    let (element, value, inside) = &parts.joined;
    lanes.push(Stmt::Store {
        param: parts.target,
        index: walks.replaced(element, by_axis),
        value: *value,
        predicate: *inside,
    });
    (outside, lanes)
}

fn lets(
    items: &[Item],
    walks: &Walks,
    by_axis: &[Index],
    wanted: &dyn Fn(ValueId) -> bool,
) -> Vec<Stmt> {
    let found = items.iter().filter_map(|item| match item {
        Item::Let { value, expr } if wanted(*value) => Some(Stmt::Let {
            value: *value,
            expr: expr.map(&|v| v, &|index| walks.replaced(index, by_axis)),
        }),
        Item::Let { .. } | Item::Fold { .. } => None,
    });
    found.collect()
}

/// Which values of the second phase differ from lane to lane or from part to part of a row, or are read from what other updates have
/// written.
fn in_lanes(parts: &JoinPoints, walks: &Walks, by_axis: &[Index]) -> Vec<bool> {
    let mut varies = vec![false; parts.points.values.len()];
    for item in &parts.points.items[parts.second..] {
        let mut inner = false;
        if let Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } = item
        {
            let index = walks.replaced(index, by_axis);
            index.visit_loops(&mut |id| inner |= id == LANES);
        }
        if let Item::Let {
            expr: Expr::Load { param, .. },
            ..
        } = item
        {
            inner |= *param == parts.target;
        }
        visit_operands(item, &mut |v| inner |= varies[v.index()]);
        varies[item.value().index()] = inner;
    }
    varies
}

/// A statement of the lanes with their counter moved.
fn shifted(stmt: &Stmt, to: &Index) -> Stmt {
    let moved = |index: &Index| {
        let by = |id: LoopId| {
            if id == LANES {
                to.clone()
            } else {
                Index::counter(id)
            }
        };
        index.substitute(&by, &|_| None)
    };
    match stmt {
        Stmt::Let { value, expr } => Stmt::Let {
            value: *value,
            expr: expr.map(&|v| v, &moved),
        },
        Stmt::Store {
            param,
            index,
            value,
            predicate,
        } => Stmt::Store {
            param: *param,
            index: moved(index),
            value: *value,
            predicate: *predicate,
        },
        Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => stmt.clone(),
    }
}

fn kernel(
    parts: JoinPoints,
    body: Vec<Stmt>,
    [total, work]: [Dim; 2],
    over: Option<Box<Over>>,
) -> LoweredKernel {
    LoweredKernel {
        kernel: Kernel {
            name: String::new(),
            params: parts.points.params,
            values: parts.points.values,
            body,
        },
        params: parts.points.sources,
        total,
        grain: 1,
        work,
        over,
    }
}

/// The second phase alone, for where the result takes the memory of its base.
fn in_place(
    parts: &JoinPoints,
    target: NodeId,
    body: Vec<Stmt>,
    [total, work]: [Dim; 2],
    grain: usize,
) -> Option<Box<Over>> {
    let param = parts.base?;
    let ParamSource::Node(base) = parts.points.sources[param.index()] else {
        return None;
    };
    let mut points = parts.points.clone();
    points.params.remove(param.index());
    points.sources.remove(param.index());
    let kernel = Kernel {
        name: String::new(),
        params: points.params,
        values: points.values,
        body: without(&body, param),
    };
    let lowered = LoweredKernel {
        kernel,
        params: points.sources,
        total,
        grain,
        work,
        over: None,
    };
    Some(Box::new(Over {
        base,
        target,
        lowered,
    }))
}

/// The statements with the parameters behind `gone`, which they do not mention, moved up.
fn without(body: &[Stmt], gone: ParamId) -> Vec<Stmt> {
    let up = |param: ParamId| ParamId(param.0 - u32::from(param > gone));
    let each = body.iter().map(|stmt| match stmt {
        Stmt::Let {
            value,
            expr:
                Expr::Load {
                    param,
                    index,
                    predicate,
                },
        } => Stmt::Let {
            value: *value,
            expr: Expr::Load {
                param: up(*param),
                index: index.clone(),
                predicate: *predicate,
            },
        },
        Stmt::Store {
            param,
            index,
            value,
            predicate,
        } => Stmt::Store {
            param: up(*param),
            index: index.clone(),
            value: *value,
            predicate: *predicate,
        },
        Stmt::Loop(inner) => {
            let mut inner = inner.clone();
            inner.body = without(&inner.body, gone);
            Stmt::Loop(inner)
        }
        Stmt::Let { .. } | Stmt::Apply(_) | Stmt::Sort(_) => stmt.clone(),
    });
    each.collect()
}
