//! Passes within control ops: a graph with other regions.

use super::PassError;
use kiln_ir::ops::Region;
use kiln_ir::{Graph, Node};

/// The graph with each region of its control ops replaced by what `change` makes of it: a graph of the same signature.
pub(crate) fn map_regions(
    graph: &Graph,
    change: &mut dyn FnMut(&Graph) -> Result<Graph, PassError>,
) -> Result<Graph, PassError> {
    let mut new = Graph::empty(&graph.name);
    for (_, node) in graph.nodes() {
        let mut node: Node = node.clone();
        if let Some(control) = node.op.as_compound() {
            let regions = control.regions().into_iter();
            let regions = regions.map(|region| Ok(Region::new(change(region)?)));
            node.op = control.with_regions(regions.collect::<Result<_, PassError>>()?);
        }
        new.push(node);
    }
    for slot in graph.slots() {
        new.push_slot(slot.clone());
    }
    for output in graph.outputs() {
        new.push_output(output.clone());
    }
    for update in graph.updates() {
        new.push_update(*update);
    }
    Ok(new)
}
