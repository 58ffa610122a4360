//! What a graph computes without any gradient.

use crate::passes::live_part;
use kiln_ir::{Graph, Origin};

/// The graph without its gradients: the outputs and updates that depend on no node of a vjp rule, and what they need.
///
/// The builder differentiates while it traces, so this is the nearest to what the user's forward code alone would have traced.
pub fn traced(graph: &Graph) -> Graph {
    let mut differentiated = vec![false; graph.len()];
    for (id, node) in graph.nodes() {
        let through = node
            .operands
            .iter()
            .any(|o| differentiated.get(o.index()) == Some(&true));
        differentiated[id.index()] = through || matches!(node.provenance.origin, Origin::Vjp(_));
    }
    let mut forward = Graph::empty(&graph.name);
    for (_, node) in graph.nodes() {
        forward.push(node.clone());
    }
    for slot in graph.slots() {
        forward.push_slot(slot.clone());
    }
    let plain = |id: kiln_ir::NodeId| differentiated.get(id.index()) == Some(&false);
    for output in graph.outputs().iter().filter(|o| plain(o.node)) {
        forward.push_output(output.clone());
    }
    for update in graph.updates().iter().filter(|u| plain(u.value)) {
        forward.push_update(*update);
    }
    live_part(&forward)
}
