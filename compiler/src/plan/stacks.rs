//! Stacked results of a scan that are its carries.
//!
//! Where the gradient keeps a carry of every iteration, the carry lies in a buffer with an entry for each and one more: what iterations find
//! is the buffer without its last entry, what they leave the buffer without its first one, or, in reverse, the other way round. Both are
//! results in place: the first is the buffer, of which nobody looks at the last entry, the second a tail of it. So a state that a recurrent
//! layer returns of every step, and whose weights' gradient reads it, is there once.

use super::buffers::Homes;
use super::control::arena;
use crate::lower::CompoundShape;
use kiln_ir::ops::Scan;
use kiln_ir::{Graph, NodeId};

/// A stacked result that is a carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// Which.
    pub(super) carry: usize,
    /// Whether it lacks the first entry of the carry's buffer, and not the last one.
    pub(super) is_tail: bool,
}

/// What the result at a position stacks, if that is a carry as iterations find it, or as they leave it where another result is what they find:
/// without that one, the buffer would be the larger one of two.
pub(super) fn carried(scan: &Scan, position: usize) -> Option<Carried> {
    let stacked = scan.body.outputs().get(scan.carries..)?;
    let node = stacked.get(position.checked_sub(scan.carries)?)?.node;
    let finds = |carry: &usize, node: NodeId| scan.source(*carry) == Some(node);
    let leaves = |carry: &usize| {
        let left = scan.body.outputs().get(*carry).map(|o| o.node) == Some(node);
        left && stacked.iter().any(|o| finds(carry, o.node))
    };
    let mut carries = 0..scan.carries;
    if let Some(carry) = carries.clone().find(|carry| finds(carry, node)) {
        let is_tail = scan.reverse;
        return Some(Carried { carry, is_tail });
    }
    let carry = carries.find(leaves)?;
    let is_tail = !scan.reverse;
    Some(Carried { carry, is_tail })
}

/// Gives the carries that are results a buffer, and these their part of it.
pub(super) fn place_stacks(
    graph: &Graph,
    compound: &CompoundShape,
    scan: &Scan,
    homes: &mut Homes,
) {
    for (carry, operand) in compound.operands.iter().enumerate().take(scan.carries) {
        let results = compound.parts.iter();
        let results = results.filter_map(|(position, node)| {
            let carried = carried(scan, *position).filter(|c| c.carry == carry)?;
            Some((carried.is_tail, *node))
        });
        let results: Vec<(bool, NodeId)> = results.collect();
        let whole = results.iter().find(|(is_tail, _)| !is_tail);
        let named = whole.or(results.first());
        let (Some((_, named)), Some(operand)) = (named, graph.node(*operand)) else {
            continue;
        };
        let ty = &operand.ty;
        let entry = ty.shape.elements();
        let stacked = &scan.trip * &entry;
        let all = &stacked + &entry;
        let buffer = homes.add(named.to_string(), ty.dtype, all, arena());
        homes.stacks.insert((compound.node, carry), buffer);
        let mut tail = None;
        for (is_tail, node) in &results {
            // What is an output or a state as well has memory elsewhere, and is copied there.
            if homes.of[node.index()].is_some() {
                continue;
            }
            let part = if *is_tail {
                let label = node.to_string();
                *tail.get_or_insert_with(|| {
                    homes.add_tail(buffer, label, stacked.clone(), entry.clone())
                })
            } else {
                buffer
            };
            homes.of[node.index()] = Some(part);
        }
        if results.len() > 1 {
            homes.shared.insert(buffer);
        }
    }
}
