//! Dead-code elimination: pure nodes that no output, update, slot or effect needs go. It alone drops nodes.

use super::rewrite::{Fate, live, rewrite};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{Op, Part, Pruned};
use kiln_ir::{Graph, NodeId};
use std::collections::{BTreeMap, BTreeSet};

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

/// Drops what is dead, then the results of scans that nobody reads with what only they need, and then what is dead without these.
fn drop_dead(graph: &Graph) -> Result<Graph, PassError> {
    let live = drop_nodes(graph)?;
    match prune(&live)? {
        Some(pruned) => drop_nodes(&pruned),
        None => Ok(live),
    }
}

/// The graph with smaller scans, if there are any. Every node of the graph is live.
fn prune(graph: &Graph) -> Result<Option<Graph>, PassError> {
    let mut read: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        if let (Op::Part(part), [of]) = (&node.op, node.operands.as_slice()) {
            read.entry(*of).or_default().insert(part.index);
        }
    }
    let mut pruned: BTreeMap<NodeId, Pruned> = BTreeMap::new();
    for (id, results) in &read {
        if let Some(Op::Scan(scan)) = graph.node(*id).map(|n| &n.op)
            && let Some(smaller) = scan.pruned(&|result| results.contains(&result))
        {
            pruned.insert(*id, smaller);
        }
    }
    if pruned.is_empty() {
        return Ok(None);
    }
    let smaller = rewrite(graph, "dce", |rewriter, id, node| {
        if let Some(smaller) = pruned.get(&id) {
            let operands: Vec<NodeId> =
                smaller.operands.iter().map(|o| node.operands[*o]).collect();
            return match rewriter.make(smaller.scan.clone(), &operands) {
                Some(new) => Fate::Replace(new),
                None => Fate::Copy,
            };
        }
        let of = graph.node(id).and_then(|n| n.operands.first());
        let (Op::Part(part), Some(smaller)) = (&node.op, of.and_then(|of| pruned.get(of))) else {
            return Fate::Copy;
        };
        let index = smaller.results.iter().position(|r| *r == part.index);
        let part = index.map(|index| Part {
            index,
            ty: part.ty.clone(),
        });
        match part.and_then(|part| rewriter.make(part, &node.operands)) {
            Some(new) => Fate::Replace(new),
            None => Fate::Copy,
        }
    })?;
    Ok(Some(smaller))
}

fn drop_nodes(graph: &Graph) -> Result<Graph, PassError> {
    let live = live(graph);
    rewrite(graph, "dce", |_, id, _| {
        if live[id.index()] {
            Fate::Copy
        } else {
            Fate::Drop
        }
    })
}
