//! What a step runs, in order, and which updates are written in place.
//!
//! An update is written over the old value where every other reader of the old value can run before it, and no guard and no
//! custom call waits for what it computes. The other values of updates are copied when all else is done. The order of the groups is that of `order.rs`; a guard follows
//! its condition.

use super::alias::may_alias;
use super::needs::Needs;
use super::order::{Edges, order};
use crate::kernel::ParamId;
use crate::likely::likely;
use crate::lower::{LoweredGroup, ParamSource};
use crate::options::{Options, Order};
use kiln_ir::ops::{Effect, Op, Region};
use kiln_ir::program::Guard;
use kiln_ir::{Graph, NodeId, Update};

/// One thing to run.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Groups, by position: one with a product, or kernels that run as one launch since none of them depends on another.
    Groups(Vec<usize>),
    /// A guard: the node of its condition, and its words.
    Guard(NodeId, Guard),
    /// The copies of updates' values to their targets, when all else is done.
    Writes(Vec<Update>),
}

/// The order of a step.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) items: Vec<Item>,
    /// For each node that is an update's value and is written in place: the target.
    pub(super) in_place: Vec<Option<NodeId>>,
}

pub(super) fn schedule(
    graph: &Graph,
    groups: &[LoweredGroup],
    needs: &Needs,
    options: &Options,
) -> Schedule {
    let mut edges = Edges::new(groups.len());
    for (node, readers) in needs.readers.iter().enumerate() {
        if let Some(writer) = needs.writer[node] {
            for reader in readers {
                edges.add(writer, *reader);
            }
        }
    }
    for (rows, rest) in &needs.finishes {
        edges.add(*rows, *rest);
    }
    let guards = guards(graph);
    let conditions = guards.iter().map(|(condition, _)| condition);
    let conditions = conditions.filter_map(|condition| needs.writer[condition.index()]);
    let calls = groups.iter().enumerate().filter(|(_, group)| {
        let node = group.compound.as_ref().and_then(|c| graph.node(c.node));
        node.is_some_and(|node| may_call(&node.op))
    });
    // What may refuse the step: no resident is written before all of it has run.
    let guarding: Vec<usize> = conditions.chain(calls.map(|(group, _)| group)).collect();
    let mut in_place: Vec<Option<NodeId>> = vec![None; graph.len()];
    for update in graph.updates() {
        if let Some(writer) = needs.writer[update.value.index()]
            && fits_in_place(groups, needs, writer, update.value, update.target)
        {
            let readers = &needs.readers[update.target.index()];
            let first: Vec<usize> = readers
                .iter()
                .chain(&guarding)
                .copied()
                .filter(|r| *r != writer)
                .collect();
            let guards_itself = guarding.contains(&writer);
            let behind = edges.reached(writer);
            if !guards_itself && first.iter().all(|r| !behind[*r]) {
                for reader in first {
                    edges.add(reader, writer);
                }
                in_place[update.value.index()] = Some(update.target);
            }
        }
    }
    // Launches are shared where kernels are fused, in the order that is meant to be run.
    let join = options.fuse && options.order == Order::LeastMemory;
    let steps = order(graph, groups, needs, edges, &in_place, options.order, join);
    let mut items = Vec::new();
    let mut open: Vec<(NodeId, Guard)> = guards;
    for step in steps {
        // A guard follows its condition at once; everything that writes a resident in place waits for all conditions.
        let (ready, waiting) = open.into_iter().partition(|(condition, _)| {
            needs.writer[condition.index()].is_some_and(|writer| step.contains(&writer))
        });
        open = waiting;
        items.push(Item::Groups(step));
        items.extend(ready.into_iter().map(|(c, g)| Item::Guard(c, g)));
    }
    // What is left waits for a condition that was fed, and comes first of all.
    let fed = open.into_iter().map(|(c, g)| Item::Guard(c, g));
    items.splice(0..0, fed);
    let copied = graph.updates().iter().copied();
    let copied: Vec<Update> = copied
        .filter(|u| in_place[u.value.index()].is_none())
        .collect();
    if join && !copied.is_empty() {
        items.push(Item::Writes(copied));
    } else {
        items.extend(copied.into_iter().map(|u| Item::Writes(vec![u])));
    }
    Schedule { items, in_place }
}

/// The conditions of fallible nodes.
fn guards(graph: &Graph) -> Vec<(NodeId, Guard)> {
    let fallible = graph
        .nodes()
        .filter(|(_, n)| n.op.rules().effect() == Effect::Fallible);
    fallible
        .filter_map(|(_, node)| {
            let Op::Require(require) = &node.op else {
                return None;
            };
            let (message, condition) = (require.message.clone(), *node.operands.get(1)?);
            let guard = Guard {
                condition: kiln_ir::BufferId::new(0),
                message,
                location: node.provenance.place(),
            };
            Some((condition, guard))
        })
        .collect()
}

/// Whether an op calls a custom op, or one of its regions does.
fn may_call(op: &Op) -> bool {
    let regions = op.as_compound().map_or(Vec::new(), |c| c.regions());
    let inside = |region: &Region| region.nodes().any(|(_, node)| may_call(&node.op));
    matches!(op, Op::CustomCall(_)) || regions.into_iter().any(inside)
}

/// Whether the group that computes a value can write it over the old value of the target.
fn fits_in_place(
    groups: &[LoweredGroup],
    needs: &Needs,
    writer: usize,
    value: NodeId,
    target: NodeId,
) -> bool {
    let group = &groups[writer];
    // A product reads its operands for as long as panels are written.
    if needs.traffic[writer].operands.contains(&target) {
        return false;
    }
    let written_by_product = group.product.as_ref().is_some_and(|p| p.node() == value);
    let Some(lowered) = &group.kernel else {
        return written_by_product;
    };
    let param = |node: NodeId| {
        let wanted = ParamSource::Node(node);
        let at = lowered.params.iter().position(|s| *s == wanted)?;
        Some(ParamId(at as u32))
    };
    match (param(target), param(value)) {
        (None, _) => true,
        (Some(_), _) if written_by_product => false,
        (Some(from), Some(to)) => {
            let over = lowered.over.as_ref();
            let meant = over.is_some_and(|o| (o.base, o.target) == (target, value));
            meant || may_alias(&lowered.kernel, from, to)
        }
        (Some(_), None) => false,
    }
}

/// The number of bytes of a node under likely sizes.
pub(super) fn likely_bytes(graph: &Graph, node: NodeId) -> i64 {
    let Some(node) = graph.node(node) else {
        return 0;
    };
    let elements = node.ty.shape.elements();
    likely(&elements).saturating_mul(node.ty.dtype.size() as i64)
}
