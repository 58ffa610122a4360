//! One node for each result: what is output or stored twice, or is a source or a constant itself, gets a node of its own.
//!
//! After this, every output and every update has a computed node that is no other's, so the planner can give each its final buffer
//! without copies on the side. The copies are `stop_gradient` nodes, which are the identity.

use kiln_ir::ops::{Op, StopGradient};
use kiln_ir::{Graph, Node, NodeId, Output, Update};

/// The same graph with separate sinks. An update of a slot with its own value is dropped.
pub(crate) fn separate_sinks(graph: &Graph) -> Graph {
    let mut separated = Graph::empty(&graph.name);
    for (_, node) in graph.nodes() {
        separated.push(node.clone());
    }
    for slot in graph.slots() {
        separated.push_slot(slot.clone());
    }
    let mut taken = vec![false; graph.len()];
    for update in graph.updates().iter().filter(|u| u.target != u.value) {
        let value = own(&mut separated, &mut taken, update.value);
        separated.push_update(Update {
            target: update.target,
            value,
        });
    }
    for output in graph.outputs() {
        let node = own(&mut separated, &mut taken, output.node);
        separated.push_output(Output {
            name: output.name.clone(),
            node,
        });
    }
    separated
}

/// The node itself if it is computed and nobody's yet, or a copy of it.
fn own(graph: &mut Graph, taken: &mut [bool], id: NodeId) -> NodeId {
    let Some(node) = graph.node(id).cloned() else {
        return id;
    };
    let given = matches!(node.op, Op::Source(_) | Op::Constant(_));
    let free = taken.get(id.index()).is_some_and(|t| !t);
    if !given && free {
        taken[id.index()] = true;
        return id;
    }
    graph.push(Node {
        op: StopGradient.into(),
        operands: vec![id],
        ty: node.ty,
        provenance: node.provenance,
    })
}
