//! A pass must not change what a graph looks like from outside: its slots, outputs and updates, by name, role and type.

use kiln_ir::{Graph, NodeId, TensorType};
use std::collections::BTreeMap;

/// Whether both graphs have one signature; otherwise the first difference, for people.
pub(super) fn unchanged(before: &Graph, after: &Graph) -> Result<(), String> {
    if before.name != after.name {
        return Err(format!(
            "the name was `{}` and is `{}`",
            before.name, after.name
        ));
    }
    for (what, before, after) in [
        ("slots", slots(before), slots(after)),
        ("outputs", outputs(before), outputs(after)),
        ("updates", updates(before), updates(after)),
    ] {
        if before.len() != after.len() {
            return Err(format!(
                "there were {} {what} and are {}",
                before.len(),
                after.len()
            ));
        }
        if let Some((b, a)) = before.iter().zip(&after).find(|(b, a)| b != a) {
            return Err(format!("among the {what}, `{b}` has become `{a}`"));
        }
    }
    Ok(())
}

fn ty(graph: &Graph, id: NodeId) -> Option<&TensorType> {
    graph.node(id).map(|n| &n.ty)
}

fn spelled(graph: &Graph, id: NodeId) -> String {
    ty(graph, id).map_or_else(|| "no node".into(), ToString::to_string)
}

fn slots(graph: &Graph) -> Vec<String> {
    let line = |s: &kiln_ir::Slot| format!("{}: {} {:?}", s.name, spelled(graph, s.node), s.role);
    graph.slots().iter().map(line).collect()
}

fn outputs(graph: &Graph) -> Vec<String> {
    let line = |o: &kiln_ir::Output| format!("{}: {}", o.name, spelled(graph, o.node));
    graph.outputs().iter().map(line).collect()
}

fn updates(graph: &Graph) -> Vec<String> {
    let slots = graph.slots().iter().map(|s| (s.node, s.name.as_str()));
    let slots: BTreeMap<NodeId, &str> = slots.collect();
    let name = |target: NodeId| match slots.get(&target) {
        Some(name) => (*name).to_owned(),
        None => format!("{target}, which is no slot"),
    };
    let line = |u: &kiln_ir::Update| format!("{} := {}", name(u.target), spelled(graph, u.value));
    graph.updates().iter().map(line).collect()
}
