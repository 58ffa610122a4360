//! The driver's one call of a verifier.

use kiln_ir::{Graph, NodeId, TensorType};

/// Whether the graph holds together: operands come earlier, types are the inferred ones, and the signature names nodes.
pub(super) fn verify(graph: &Graph) -> Result<(), String> {
    let mut violations = Vec::new();
    for (id, node) in graph.nodes() {
        let operands: Option<Vec<&TensorType>> = node
            .operands
            .iter()
            .map(|o| graph.node(*o).filter(|_| *o < id).map(|n| &n.ty))
            .collect();
        let Some(operands) = operands else {
            violations.push(format!("an operand of {id} does not come before it"));
            continue;
        };
        match node.op.rules().infer(&operands) {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => violations.push(format!("{id} has type {}, inferred is {ty}", node.ty)),
            Err(refusal) => violations.push(format!("{id}: {}", refusal.message)),
        }
    }
    let mut known = |what: String, id: NodeId| {
        if graph.node(id).is_none() {
            violations.push(format!("{what} names {id}, which does not exist"));
        }
    };
    for slot in graph.slots() {
        known(format!("the slot `{}`", slot.name), slot.node);
    }
    for output in graph.outputs() {
        known(format!("the output `{}`", output.name), output.node);
    }
    for update in graph.updates() {
        known(format!("the update of {}", update.target), update.value);
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(violations.join("; "))
    }
}
