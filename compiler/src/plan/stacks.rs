//! Stacked results of a scan that are its carries.
//!
//! A carry that somebody keeps of every iteration lies in a buffer with an entry for each and one more: what iterations find is all but the last
//! entry, what they leave all but the first one, or, in reverse, the other way round. Both are results in place, each a stretch of the buffer.
//! So a state that a recurrent layer returns of every step, and whose weights' gradient reads it, is there once.

use super::buffers::Homes;
use super::control::arena;
use crate::lower::CompoundShape;
use kiln_ir::ops::{Op, Part, Scan};
use kiln_ir::program::{Home, Stretch};
use kiln_ir::{BufferId, Dim, Graph, NodeId};

/// A stacked result that is a carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// Which.
    pub(super) carry: usize,
    /// Whether it lacks the first entry of the carry's buffer, and not the last one.
    pub(super) skips: bool,
}

/// For each result of a scan, the carry that it stacks and need not be written for: one that iterations find, or one that they leave where another
/// result is what they find, without which the buffer would be the larger one of two. What is an output or a state is written where that is.
///
/// The scan is a node of the graph, whose sinks are separate.
pub(super) fn carried(graph: &Graph, node: NodeId, scan: &Scan) -> Vec<Option<Carried>> {
    let results = scan.body.outputs();
    let (mut read, mut placed) = (vec![false; results.len()], vec![false; results.len()]);
    let outputs = graph.outputs().iter().map(|o| o.node);
    let sinks: Vec<NodeId> = outputs
        .chain(graph.updates().iter().map(|u| u.value))
        .collect();
    for (id, part) in graph.nodes() {
        if let Op::Part(Part { index, .. }) = &part.op
            && part.operands == [node]
            && *index < results.len()
        {
            read[*index] = true;
            placed[*index] = sinks.contains(&id);
        }
    }
    let stacked = scan.carries..results.len();
    let finds = |carry: usize, at: usize| scan.source(carry) == Some(results[at].node);
    let found = |at: usize| (0..scan.carries).find(|carry| finds(*carry, at));
    let left = |at: usize| {
        let kept = |carry: usize| {
            stacked
                .clone()
                .any(|other| finds(carry, other) && read[other] && !placed[other])
        };
        let leaves = |carry: usize| results[carry].node == results[at].node;
        (0..scan.carries).find(|carry| leaves(*carry) && kept(*carry))
    };
    let of = |at: usize| {
        if at < scan.carries || placed[at] {
            return None;
        }
        let (carry, skips) = match found(at) {
            Some(carry) => (carry, scan.reverse),
            None => (left(at)?, !scan.reverse),
        };
        Some(Carried { carry, skips })
    };
    (0..results.len()).map(of).collect()
}

/// Gives the carries that are results a buffer, and these their stretch of it.
pub(super) fn place_stacks(
    graph: &Graph,
    compound: &CompoundShape,
    scan: &Scan,
    carried: &[Option<Carried>],
    homes: &mut Homes,
) {
    for (carry, operand) in compound.operands.iter().enumerate().take(scan.carries) {
        let results = compound.parts.iter().filter_map(|(position, node)| {
            let of = carried.get(*position).copied().flatten()?;
            (of.carry == carry).then_some((of, *node))
        });
        let results: Vec<(Carried, NodeId)> = results.collect();
        let Some(operand) = graph.node(*operand).filter(|_| !results.is_empty()) else {
            continue;
        };
        let entry = operand.ty.shape.elements();
        let all = &(&scan.trip * &entry) + &entry;
        let name = format!("{} carry {carry}", compound.node);
        let buffer = homes.add(name, operand.ty.dtype, all, arena());
        homes.stacks.insert((compound.node, carry), buffer);
        let mut stretches = [None; 2];
        for (of, node) in &results {
            if homes.of[node.index()].is_none() {
                let stretch = &mut stretches[usize::from(of.skips)];
                let add = || homes.add_stretch(buffer, node.to_string(), &entry, of.skips);
                homes.of[node.index()] = Some(*stretch.get_or_insert_with(add));
            }
        }
        if results.len() > 1 {
            homes.shared.insert(buffer);
        }
    }
}

impl Homes {
    /// A buffer that is another one without its first entry, or without its last one.
    pub(super) fn add_stretch(
        &mut self,
        of: BufferId,
        name: String,
        entry: &Dim,
        skips: bool,
    ) -> BufferId {
        let whole = &self.buffers[of.index()];
        let (dtype, elements) = (whole.dtype, whole.elements.clone() - entry.clone());
        let (skip, rest) = match skips {
            true => (entry.clone(), Dim::from(0)),
            false => (Dim::from(0), entry.clone()),
        };
        let stretch = Stretch { of, skip, rest };
        self.add(name, dtype, elements, Home::Stretch(stretch))
    }
}
