//! How much may be read through: chains of views and of members that are computed where they are read are cut before they grow without
//! bound.
//!
//! A view turns the index with which it is read into another one, and a member that is inline is evaluated once for every index with which
//! it is read. So an index can double with each reshape, the evaluations of a member can double with each concatenation, and lowering
//! descends one level for each of them. Real models stay far below these limits. What exceeds them gets memory, which ends the chain and
//! changes no bit of a result.

use kiln_ir::ops::Op;
use kiln_ir::{Graph, NodeId};

/// A chain of views has at most this many.
const MOST_VIEWS: usize = 32;
/// An index goes through at most this many reshapes, each of which may double it.
const MOST_RESHAPES: usize = 4;
/// A member is read with at most this many different indices.
const MOST_READS: usize = 16;
/// At most this many views and members that are inline are read through one after the other.
const MOST_DEPTH: usize = 64;

/// The views between a reader and what it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Views {
    count: usize,
    reshapes: usize,
}

/// For each node, the views from it down to what is anchored, itself included if it is one; and the nodes that have to be anchored so that
/// no chain is too long.
pub(super) fn views(graph: &Graph, anchored: &[bool]) -> (Vec<Views>, Vec<NodeId>) {
    let mut views: Vec<Views> = Vec::with_capacity(graph.len());
    let mut ends = Vec::new();
    for (id, node) in graph.nodes() {
        let below = node.operands.first().filter(|_| !anchored[id.index()]);
        let mut own = Views::default();
        if let Some(operand) = below {
            let below = views[operand.index()];
            own.count = below.count + 1;
            own.reshapes = below.reshapes + usize::from(matches!(node.op, Op::Reshape(_)));
        }
        if own.count > MOST_VIEWS || own.reshapes > MOST_RESHAPES {
            ends.push(id);
            own = Views::default();
        }
        views.push(own);
    }
    (views, ends)
}

/// What it takes to evaluate a member where its readers want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inlined {
    reads: usize,
    reshapes: usize,
    depth: usize,
}

impl Inlined {
    /// The same with one more reader behind `views`, itself inline with `reader`, or evaluated at its own place.
    pub(super) fn read(self, reader: Option<Inlined>, views: Views) -> Inlined {
        let own_place = Inlined {
            reads: 1,
            ..Inlined::default()
        };
        let reader = reader.unwrap_or(own_place);
        Inlined {
            reads: self.reads + reader.reads,
            reshapes: self.reshapes.max(reader.reshapes + views.reshapes),
            depth: self.depth.max(reader.depth + views.count + 1),
        }
    }

    /// Why this is too much, if it is.
    pub(super) fn excess(self) -> Option<String> {
        if self.reads > MOST_READS {
            Some(format!("it is read at more than {MOST_READS} places"))
        } else if self.reshapes > MOST_RESHAPES {
            Some(format!(
                "it is read through more than {MOST_RESHAPES} reshapes"
            ))
        } else if self.depth > MOST_DEPTH {
            Some(format!("it is read through more than {MOST_DEPTH} others"))
        } else {
            None
        }
    }
}
