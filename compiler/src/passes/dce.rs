//! Dead-code elimination: pure nodes that no output, update, slot or effect needs go. It alone drops nodes.

use super::rewrite::{Fate, live, rewrite};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::Graph;

/// Drops pure nodes that nothing needs. Slots stay, since they are the signature; so do nodes with effects.
#[derive(Clone, Copy, Debug)]
pub struct Dce;

impl Pass for Dce {
    fn name(&self) -> &'static str {
        "dce"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        drop_dead(graph)
    }
}

/// The part of a graph that its outputs, updates, slots and effects need.
pub fn live_part(graph: &Graph) -> Graph {
    // What is live needs only what is live, so the walk cannot fail on a valid graph; an invalid one is shown as it is.
    drop_dead(graph).unwrap_or_else(|_| graph.clone())
}

fn drop_dead(graph: &Graph) -> Result<Graph, PassError> {
    let live = live(graph);
    rewrite(graph, "dce", |_, id, _| {
        if live[id.index()] {
            Fate::Copy
        } else {
            Fate::Drop
        }
    })
}
