//! The text of a graph in dumps.

use kiln_ir::Graph;
use std::fmt::Write;

/// The graph as text, one node a line.
pub fn graph_text(graph: &Graph) -> String {
    let mut text = format!("graph @{}\n", graph.name);
    for slot in graph.slots() {
        let _ = writeln!(text, "  {} = {} {:?}", slot.node, slot.name, slot.role);
    }
    for (id, node) in graph.nodes() {
        let operands: Vec<String> = node.operands.iter().map(ToString::to_string).collect();
        let name = node.op.rules().name();
        let _ = write!(text, "  {id}: {} = {name} {}", node.ty, operands.join(", "));
        for (name, value) in node.op.rules().attributes().iter() {
            let _ = write!(text, " {name} = {value}");
        }
        text.push('\n');
    }
    for output in graph.outputs() {
        let _ = writeln!(text, "  return {}: {}", output.name, output.node);
    }
    for update in graph.updates() {
        let _ = writeln!(text, "  update {} := {}", update.target, update.value);
    }
    text
}
