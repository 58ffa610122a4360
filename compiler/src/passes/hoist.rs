//! Out of loops: what does not depend on the carries of a scan is computed around it.
//!
//! What depends on captured values alone is computed once before the loop. A product of values that depend on the entries but on no carry, as
//! the input projection of a recurrent layer is, becomes one large product before the loop, whose result is scanned. A product of which each
//! iteration only yields the result, as the gradient by the input of such a layer is, becomes one large product behind it. The elements of a
//! product are defined by its terms alone, but for vectors and for large products, whose sums have another order; so the pass stands before
//! the equality point.

use super::rewrite::{Fate, Rewriter, rewrite};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{Dot, Effect, Op, Save, Scan};
use kiln_ir::{Graph, Node, NodeId};
use lift::{Lift, Lifted};
use std::collections::BTreeMap;

mod lift;

/// Moves work out of scans. Always runs.
#[derive(Clone, Copy, Debug)]
pub struct Hoist;

impl Pass for Hoist {
    fn name(&self) -> &'static str {
        "hoist"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        // For each result of a scan that is computed around it, by the scan's old id.
        let mut around: BTreeMap<NodeId, BTreeMap<usize, After>> = BTreeMap::new();
        rewrite(graph, self.name(), |rewriter, id, node| match &node.op {
            Op::Scan(scan) => match hoist(rewriter, scan, node) {
                Some((new, results)) => {
                    around.insert(id, results);
                    Fate::Replace(new)
                }
                None => Fate::Copy,
            },
            Op::Part(part) => {
                let of = graph.node(id).and_then(|n| n.operands.first());
                let after = of.and_then(|of| around.get(of)?.get(&part.index));
                let new = after.and_then(|after| after.build(rewriter, node));
                new.map_or(Fate::Copy, Fate::Replace)
            }
            _ => Fate::Copy,
        })
    }
}

/// A result of a scan that is computed around it.
enum After {
    /// It is there before the loop.
    Is(NodeId),
    /// A product of what is stacked in its place and of an invariant value; whether the stacked value is on the left.
    Product(Dot, kiln_ir::TensorType, NodeId, bool),
}

impl After {
    /// The value, in place of the part that `node` is.
    fn build(&self, rewriter: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
        match self {
            After::Is(id) => Some(*id),
            After::Product(dot, stacked, other, left) => {
                let Op::Part(part) = &node.op else {
                    return None;
                };
                let part = kiln_ir::ops::Part {
                    index: part.index,
                    ty: stacked.clone(),
                };
                let stacked = rewriter.make(part, &node.operands)?;
                let (stacked, other) = (Lifted::varying(stacked), Lifted::same(*other));
                let sides = if *left {
                    [stacked, other]
                } else {
                    [other, stacked]
                };
                lift::dot(rewriter, dot, sides).map(|lifted| lifted.id)
            }
        }
    }
}

/// On what a node of a body depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depends {
    /// On nothing that changes.
    Nothing,
    /// On entries, and on no carry.
    Entries,
    /// On carries.
    Carries,
}

fn dependences(scan: &Scan) -> Vec<Depends> {
    let own = scan.carries + scan.scanned;
    let mut found = vec![Depends::Nothing; scan.body.len()];
    for (position, source) in scan.body.inputs().enumerate() {
        found[source.index()] = match position {
            p if p < scan.carries => Depends::Carries,
            p if p < own => Depends::Entries,
            _ => Depends::Nothing,
        };
    }
    for (id, node) in scan.body.nodes() {
        let operands = node.operands.iter().map(|o| found[o.index()]);
        let most = operands.max().unwrap_or(Depends::Nothing);
        found[id.index()] = found[id.index()].max(most);
    }
    found
}

/// Whether a node that never changes is worth a place in memory: what only moves elements or is known anyway is not.
fn is_work(node: &Node) -> bool {
    match &node.op {
        Op::Source(_)
        | Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::StopGradient(_) => false,
        _ => node.op.as_compound().is_none() && node.op.rules().effect() == Effect::Pure,
    }
}

/// The scan without what can be computed around it, and its results that are; `None` where nothing can.
fn hoist(
    rewriter: &mut Rewriter<'_>,
    scan: &Scan,
    node: &Node,
) -> Option<(NodeId, BTreeMap<usize, After>)> {
    let body = &scan.body;
    let depends = dependences(scan);
    let on = |id: NodeId| depends[id.index()];
    let own = scan.carries + scan.scanned;
    let mut lift = Lift::new(scan, &node.operands);
    let mut uses = vec![0usize; body.len()];
    let operands = body.nodes().flat_map(|(_, n)| n.operands.iter().copied());
    for id in operands.chain(body.outputs().iter().map(|o| o.node)) {
        uses[id.index()] += 1;
    }
    let outputs: Vec<NodeId> = body.outputs().iter().map(|o| o.node).collect();
    // Iterations that depend on nothing before them, or only in their sums, are cut for the sake of what they keep to themselves.
    let chained = scan.carries > 0 && scan.save != Save::Least;
    let mut constant: Vec<(NodeId, Lifted)> = Vec::new();
    let mut scanned: Vec<(NodeId, Lifted)> = Vec::new();
    for (id, inner) in body.nodes() {
        match on(id) {
            Depends::Nothing if is_work(inner) && seen_outside(scan, &on, id) => {
                constant.extend(lift.node(rewriter, id).map(|lifted| (id, lifted)));
            }
            Depends::Entries if chained && matches!(inner.op, Op::Dot(_)) => {
                let sides = inner.operands.iter();
                if sides.clone().any(|o| on(*o) == Depends::Nothing) {
                    scanned.extend(lift.node(rewriter, id).map(|lifted| (id, lifted)));
                }
            }
            Depends::Nothing | Depends::Entries | Depends::Carries => {}
        }
    }
    scanned.retain(|(_, lifted)| lifted.varies);
    let mut results: BTreeMap<usize, After> = BTreeMap::new();
    let mut yielded = outputs.clone();
    for (position, id) in outputs.iter().enumerate().skip(scan.carries) {
        let moved = scanned.iter().find(|(known, _)| known == id);
        if let Some((_, lifted)) = moved {
            results.insert(position, After::Is(lifted.id));
            continue;
        }
        let Some(Node {
            op: Op::Dot(dot),
            operands,
            ..
        }) = body.node(*id)
        else {
            continue;
        };
        let [lhs, rhs] = operands.as_slice() else {
            continue;
        };
        if !chained || uses[id.index()] != 1 || on(*id) != Depends::Carries {
            continue;
        }
        let (varying, same, left) = match (on(*lhs), on(*rhs)) {
            (Depends::Nothing, Depends::Carries) => (*rhs, *lhs, false),
            (Depends::Carries, Depends::Nothing) => (*lhs, *rhs, true),
            _ => continue,
        };
        let ranks = [*lhs, *rhs].map(|o| body.node(o).map_or(0, |n| n.ty.rank()));
        if !lift::keeps_order(dot, ranks, left) {
            continue;
        }
        let entry = body.node(varying).map(|n| scan.whole(&n.ty));
        if let (Some(stacked), Some(same)) = (entry, lift.node(rewriter, same)) {
            yielded[position] = varying;
            results.insert(
                position,
                After::Product(dot.clone(), stacked, same.id, left),
            );
        }
    }
    if constant.is_empty() && scanned.is_empty() && results.is_empty() {
        return None;
    }
    let named = |position: usize| {
        let slot = &body.slots()[position];
        (slot.node, slot.name.clone())
    };
    let hoisted = |all: &[(NodeId, Lifted)]| -> Vec<(NodeId, String)> {
        all.iter().map(|(id, _)| (*id, "hoisted".into())).collect()
    };
    let mut sources: Vec<(NodeId, String)> = (0..own).map(named).collect();
    sources.extend(hoisted(&scanned));
    sources.extend((own..body.slots().len()).map(named));
    sources.extend(hoisted(&constant));
    let mut operands = node.operands[..own].to_vec();
    operands.extend(scanned.iter().map(|(_, lifted)| lifted.id));
    operands.extend(&node.operands[own..]);
    operands.extend(constant.iter().map(|(_, lifted)| lifted.id));
    let new = Scan {
        body: body.cut(&sources, &yielded),
        scanned: scan.scanned + scanned.len(),
        ..scan.clone()
    };
    let new = rewriter.make(new, &operands)?;
    Some((new, results))
}

/// Whether a node that never changes is read, through what only moves elements, by one that does.
fn seen_outside(scan: &Scan, on: &dyn Fn(NodeId) -> Depends, id: NodeId) -> bool {
    let outputs = scan.body.outputs().iter();
    if outputs.clone().any(|o| o.node == id) {
        return false;
    }
    scan.body.nodes().any(|(user, node)| {
        node.operands.contains(&id)
            && (on(user) != Depends::Nothing
                || !is_work(node)
                    && node.op.as_compound().is_none()
                    && seen_outside(scan, on, user))
    })
}
