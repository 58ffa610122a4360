//! One node for each result: what is output or stored twice, or is a source or a constant itself, gets a node of its own.
//!
//! After this, every output, every update and every condition of a guard has a computed node that is no other's, so the planner can give
//! each its final buffer without copies on the side. The copies are `stop_gradient` nodes, which are the identity. Conditions of more than
//! one element become their conjunction.

use kiln_ir::ops::{Op, Reduce, ReduceKind, StopGradient};
use kiln_ir::{Graph, Node, NodeId, Output, Slot, TensorType, Update};
use std::collections::BTreeMap;

/// The same graph with separate sinks. An update of a slot with its own value is dropped.
pub(crate) fn separate_sinks(graph: &Graph) -> Graph {
    let mut separated = Graph::empty(&graph.name);
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.len());
    // Each result of a control op has one node.
    let mut parts: BTreeMap<(NodeId, usize), NodeId> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        let mut node = node.clone();
        for operand in &mut node.operands {
            *operand = moved[operand.index()];
        }
        if let (Op::Part(part), [of]) = (&node.op, node.operands.as_slice()) {
            let place = (*of, part.index);
            let id = parts.entry(place).or_insert_with(|| separated.push(node));
            moved.push(*id);
            continue;
        }
        if let (Op::Require(_), [_, condition]) = (&node.op, node.operands.as_mut_slice()) {
            *condition = conjunction(&mut separated, *condition);
        }
        moved.push(separated.push(node));
    }
    for slot in graph.slots() {
        separated.push_slot(Slot {
            name: slot.name.clone(),
            role: slot.role.clone(),
            node: moved[slot.node.index()],
        });
    }
    let mut taken = vec![false; separated.len()];
    for update in graph.updates().iter().filter(|u| u.target != u.value) {
        let value = own(&mut separated, &mut taken, moved[update.value.index()]);
        separated.push_update(Update {
            target: moved[update.target.index()],
            value,
        });
    }
    for output in graph.outputs() {
        let node = own(&mut separated, &mut taken, moved[output.node.index()]);
        separated.push_output(Output {
            name: output.name.clone(),
            node,
        });
    }
    separated
}

/// A condition as one computed truth value.
fn conjunction(graph: &mut Graph, condition: NodeId) -> NodeId {
    let Some(node) = graph.node(condition).cloned() else {
        return condition;
    };
    if node.ty.rank() == 0 {
        return copy(graph, condition, node);
    }
    graph.push(Node {
        op: Op::Reduce(Reduce {
            kind: ReduceKind::All,
            axes: (0..node.ty.rank()).collect(),
            accumulate: None,
        }),
        operands: vec![condition],
        ty: TensorType::new(node.ty.dtype, ()),
        provenance: node.provenance,
    })
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
    copy(graph, id, node)
}

fn copy(graph: &mut Graph, id: NodeId, node: Node) -> NodeId {
    graph.push(Node {
        op: StopGradient.into(),
        operands: vec![id],
        ty: node.ty,
        provenance: node.provenance,
    })
}
