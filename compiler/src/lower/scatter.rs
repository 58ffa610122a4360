//! Scatters: the base is copied, then the updates join it one after the other.
//!
//! The order of updates is part of the op's meaning, so they run in a serial loop; what lies behind the indexed axis runs in lanes, and
//! what lies before it is independent and may be shared out.

use super::points::{Item, ScatterPoints, evaluate_scatter, visit_operands};
use super::{LowerError, LoweredKernel, count};
use crate::access::unravel;
use crate::fusion::Group;
use crate::kernel::{Expr, Index, Kernel, Loop, LoopId, LoopKind, Stmt, ValueId};
use kiln_ir::ops::Scatter;
use kiln_ir::{Dim, Graph, NodeId};

const GRID: LoopId = LoopId(0);
const COPY: LoopId = LoopId(1);
const UPDATES: LoopId = LoopId(2);
const LANES: LoopId = LoopId(3);

/// The kernel of a scatter node.
pub(super) fn lower_scatter(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    id: NodeId,
    scatter: &Scatter,
) -> Result<LoweredKernel, LowerError> {
    let mut parts = evaluate_scatter(graph, stored, group, id, scatter)?;
    let [before, _, behind, within] = parts.ranks;
    let loops: [(LoopId, Vec<usize>); 4] = [
        (GRID, (0..before).collect()),
        (COPY, (before..before + 1 + behind).collect()),
        (
            UPDATES,
            (before + 1 + behind..before + 1 + behind + within).collect(),
        ),
        (LANES, (before + 1..before + 1 + behind).collect()),
    ];
    let extents = loops.each_ref().map(|(_, axes)| {
        count(
            &axes
                .iter()
                .map(|a| parts.points.axes[*a].clone())
                .collect::<Vec<_>>(),
        )
    });
    let known = |id: LoopId| extents.get(id.index()).cloned();
    // Both phases walk the axes behind the indexed one, each with a loop of its own.
    let counters = |phase: [usize; 2]| {
        let mut by_axis = vec![Index::constant(0); parts.points.axes.len()];
        for (id, axes) in [&loops[0], &loops[phase[0]], &loops[phase[1]]] {
            let shape: Vec<Dim> = axes.iter().map(|a| parts.points.axes[*a].clone()).collect();
            for (axis, index) in axes
                .iter()
                .zip(unravel(&Index::counter(*id), &shape, &known))
            {
                by_axis[*axis] = index;
            }
        }
        by_axis
    };
    let (first, second) = (counters([1, 1]), counters([2, 3]));
    let replace =
        |index: &Index, by: &[Index]| index.substitute(&|id| by[id.index()].clone(), &known);
    for (position, item) in parts.points.items.iter_mut().enumerate() {
        let by = if position < parts.second {
            &first
        } else {
            &second
        };
        if let Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } = item
        {
            *index = replace(index, by);
        }
    }
    let store = |index: Index, value: ValueId, predicate: Option<ValueId>| Stmt::Store {
        param: parts.target,
        index,
        value,
        predicate,
    };
    let mut copy = lets(&parts.points.items[..parts.second], &mut |_| true);
    copy.push(store(
        replace(&parts.copied.0, &first),
        parts.copied.1,
        None,
    ));
    let varies = in_lanes(&parts);
    let items = &parts.points.items[parts.second..];
    let mut update = lets(items, &mut |v| !varies[v.index()]);
    let mut lanes = lets(items, &mut |v| varies[v.index()]);
    let (element, value, inside) = &parts.joined;
    lanes.push(store(replace(element, &second), *value, *inside));
    if behind > 0 {
        update.push(looped(LANES, &extents[3], LoopKind::Lanes, lanes));
    } else {
        update.extend(lanes);
    }
    let mut body = vec![
        looped(COPY, &extents[1], LoopKind::Lanes, copy),
        looped(UPDATES, &extents[2], LoopKind::Serial, update),
    ];
    if before > 0 {
        body = vec![looped(GRID, &extents[0], LoopKind::Grid, body)];
    }
    let elements = &extents[1] + &(&extents[2] * &extents[3]);
    let [total, ..] = extents;
    Ok(LoweredKernel {
        kernel: Kernel {
            name: String::new(),
            params: parts.points.params,
            values: parts.points.values,
            body,
        },
        params: parts.points.sources,
        total,
        grain: 1,
        work: &elements * &Dim::from(2),
    })
}

fn looped(id: LoopId, extent: &Dim, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop {
        id,
        extent: extent.clone(),
        kind,
        accumulators: Vec::new(),
        body,
    })
}

fn lets(items: &[Item], wanted: &mut dyn FnMut(ValueId) -> bool) -> Vec<Stmt> {
    let found = items.iter().filter_map(|item| match item {
        Item::Let { value, expr } if wanted(*value) => Some(Stmt::Let {
            value: *value,
            expr: expr.clone(),
        }),
        Item::Let { .. } | Item::Fold { .. } => None,
    });
    found.collect()
}

/// Which values of the second phase differ from lane to lane, or are read from what other updates have written.
fn in_lanes(parts: &ScatterPoints) -> Vec<bool> {
    let mut varies = vec![false; parts.points.values.len()];
    for item in &parts.points.items[parts.second..] {
        let mut inner = false;
        if let Item::Let {
            expr: Expr::Load { index, param, .. },
            ..
        } = item
        {
            index.visit_loops(&mut |id| inner |= id == LANES);
            inner |= *param == parts.target;
        }
        if let Item::Let {
            expr: Expr::Index(index),
            ..
        } = item
        {
            index.visit_loops(&mut |id| inner |= id == LANES);
        }
        visit_operands(item, &mut |v| inner |= varies[v.index()]);
        varies[item.value().index()] = inner;
    }
    varies
}
