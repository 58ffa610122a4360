//! An imported graph without what nothing needs: masks that nobody asked for, loops that were unrolled after all, params that only they read.

use kiln_ir::ops::Op;
use kiln_ir::{Graph, Node, NodeId, Output, Role, Slot};
use std::collections::BTreeMap;

/// The nodes that outputs need, all inputs, and all guards, which act whether or not something needs them. An imported graph has no updates.
pub(super) fn live(graph: &Graph) -> Graph {
    let mut needed = vec![false; graph.len()];
    let mut open: Vec<NodeId> = graph.outputs().iter().map(|o| o.node).collect();
    let inputs = graph.slots().iter().filter(|s| s.role == Role::Input);
    open.extend(inputs.map(|s| s.node));
    let guards = graph
        .nodes()
        .filter(|(_, n)| matches!(n.op, Op::Require(_)));
    open.extend(guards.map(|(id, _)| id));
    while let Some(id) = open.pop() {
        let new = needed.get_mut(id.index()).filter(|n| !**n);
        if let (Some(new), Some(node)) = (new, graph.node(id)) {
            *new = true;
            open.extend(&node.operands);
        }
    }
    let mut all = Graph::empty(&graph.name);
    let mut moved: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for (id, node) in graph.nodes().filter(|(id, _)| needed[id.index()]) {
        let operands = node.operands.iter().filter_map(|o| moved.get(o).copied());
        let node = Node {
            operands: operands.collect(),
            ..node.clone()
        };
        moved.insert(id, all.push(node));
    }
    for slot in graph.slots() {
        if let Some(node) = moved.get(&slot.node) {
            all.push_slot(Slot {
                node: *node,
                ..slot.clone()
            });
        }
    }
    for output in graph.outputs() {
        if let Some(node) = moved.get(&output.node) {
            all.push_output(Output {
                node: *node,
                ..output.clone()
            });
        }
    }
    all
}
