//! The order of groups, and which updates are written in place.
//!
//! The order is greedy: of the groups that are ready, the one that leaves the least live memory comes next, and the first in the graph's
//! order among equals. So a gradient is consumed by its update as soon as it is there. An update is written over the old value where
//! every other reader of the old value can run before it, and no guard waits for what it computes.

use super::alias::may_alias;
use super::needs::{Needs, Traffic};
use crate::kernel::ParamId;
use crate::lower::{LoweredGroup, ParamSource};
use crate::options::Order;
use kiln_ir::ops::{Effect, Op};
use kiln_ir::program::Guard;
use kiln_ir::{Bindings, Dim, Graph, NodeId};

/// What symbols are taken to be where sizes are compared before a binding.
const LIKELY: i64 = 32;

/// One thing to run.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A group, by position.
    Group(usize),
    /// A guard: the node of its condition, and its words.
    Guard(NodeId, Guard),
    /// The copy of an update's value to its target, when all else is done.
    Write {
        /// The value.
        value: NodeId,
        /// The param or state.
        target: NodeId,
    },
}

/// The order of a step.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) items: Vec<Item>,
    /// For each node that is an update's value and is written in place: the target.
    pub(super) in_place: Vec<Option<NodeId>>,
}

/// Dependencies among groups, by position.
struct Edges {
    after: Vec<Vec<usize>>,
    before: Vec<usize>,
}

impl Edges {
    fn add(&mut self, first: usize, second: usize) {
        if first != second && !self.after[first].contains(&second) {
            self.after[first].push(second);
            self.before[second] += 1;
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.after.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if at == to {
                return true;
            }
            if !std::mem::replace(&mut seen[at], true) {
                open.extend(&self.after[at]);
            }
        }
        false
    }
}

pub(super) fn schedule(
    graph: &Graph,
    groups: &[LoweredGroup],
    needs: &Needs,
    by: Order,
) -> Schedule {
    let mut edges = Edges {
        after: vec![Vec::new(); groups.len()],
        before: vec![0; groups.len()],
    };
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
    let guarding: Vec<usize> = guards
        .iter()
        .filter_map(|(condition, _)| needs.writer[condition.index()])
        .collect();
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
            if !guards_itself && first.iter().all(|r| !edges.reaches(writer, *r)) {
                for reader in first {
                    edges.add(reader, writer);
                }
                in_place[update.value.index()] = Some(update.target);
            }
        }
    }
    let order = order(graph, needs, edges, &in_place, by);
    let mut items = Vec::new();
    let mut open: Vec<(NodeId, Guard)> = guards;
    for group in order {
        items.push(Item::Group(group));
        // A guard follows its condition at once; everything that writes a resident in place waits for all conditions.
        let (ready, waiting) = open
            .into_iter()
            .partition(|(condition, _)| needs.writer[condition.index()] == Some(group));
        open = waiting;
        items.extend(ready.into_iter().map(|(c, g)| Item::Guard(c, g)));
    }
    // What is left waits for a condition that was fed, and comes first of all.
    let fed = open.into_iter().map(|(c, g)| Item::Guard(c, g));
    items.splice(0..0, fed);
    for update in graph.updates() {
        if in_place[update.value.index()].is_none() {
            items.push(Item::Write {
                value: update.value,
                target: update.target,
            });
        }
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
            let at = &node.provenance;
            let location = if at.scope.is_empty() {
                at.location.to_string()
            } else {
                format!("{} in \"{}\"", at.location, at.scope)
            };
            let guard = Guard {
                condition: kiln_ir::BufferId::new(0),
                message,
                location,
            };
            Some((condition, guard))
        })
        .collect()
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
    let written_by_product = group.product.as_ref().is_some_and(|p| p.node == value);
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
        (Some(from), Some(to)) => may_alias(&lowered.kernel, from, to),
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

fn likely(dim: &Dim) -> i64 {
    let mut bindings = Bindings::new();
    for symbol in dim.symbols() {
        bindings.insert(symbol, LIKELY);
    }
    dim.eval(&bindings).unwrap_or(i64::MAX)
}

fn order(
    graph: &Graph,
    needs: &Needs,
    mut edges: Edges,
    in_place: &[Option<NodeId>],
    by: Order,
) -> Vec<usize> {
    let count = edges.after.len();
    let sinks: Vec<NodeId> = graph
        .outputs()
        .iter()
        .map(|o| o.node)
        .chain(graph.updates().iter().map(|u| u.value))
        .collect();
    let bytes: Vec<i64> = (0..graph.len())
        .map(|i| {
            let id = NodeId::new(i);
            let transient =
                needs.writer[i].is_some() && (!sinks.contains(&id)) && in_place[i].is_none();
            if transient {
                likely_bytes(graph, id)
            } else {
                0
            }
        })
        .collect();
    let mut left: Vec<usize> = needs.readers.iter().map(Vec::len).collect();
    let reads: Vec<Vec<NodeId>> = needs.traffic.iter().map(Traffic::reads).collect();
    let mut order = Vec::with_capacity(count);
    let mut ready: Vec<usize> = (0..count).filter(|g| edges.before[*g] == 0).collect();
    while !ready.is_empty() {
        let growth = |group: &usize| {
            let traffic = &needs.traffic[*group];
            let made: i64 = traffic.writes.iter().map(|n| bytes[n.index()]).sum();
            let freed: i64 = reads[*group]
                .iter()
                .filter(|n| left[n.index()] == 1)
                .map(|n| bytes[n.index()])
                .sum();
            made.saturating_sub(freed)
        };
        let cost = |i: &usize| match by {
            Order::LeastMemory => (growth(&ready[*i]), ready[*i]),
            Order::Topological => (0, ready[*i]),
        };
        let Some(at) = (0..ready.len()).min_by_key(cost) else {
            break;
        };
        let group = ready.swap_remove(at);
        order.push(group);
        // A group is not among the readers of what it writes itself.
        for node in &reads[group] {
            if needs.writer[node.index()] != Some(group) {
                left[node.index()] -= 1;
            }
        }
        for next in std::mem::take(&mut edges.after[group]) {
            edges.before[next] -= 1;
            if edges.before[next] == 0 {
                ready.push(next);
            }
        }
    }
    order
}
