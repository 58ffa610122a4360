//! Nodes of a body, computed around the loop: once, or for all iterations at a time with a leading axis that counts them.

use super::super::rewrite::Rewriter;
use kiln_ir::ops::{Broadcast, Dot, Op, Reduce, Reshape, Scan, Slice, Transpose};
use kiln_ir::{Dim, NodeId, Shape};
use std::collections::BTreeMap;

/// A value around the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifted {
    pub(super) id: NodeId,
    /// Whether it has a leading axis that counts iterations.
    pub(super) varies: bool,
}

impl Lifted {
    pub(super) fn varying(id: NodeId) -> Self {
        Self { id, varies: true }
    }

    pub(super) fn same(id: NodeId) -> Self {
        Self { id, varies: false }
    }
}

/// What has been lifted out of one body.
pub(super) struct Lift<'s> {
    scan: &'s Scan,
    known: BTreeMap<NodeId, Option<Lifted>>,
}

impl<'s> Lift<'s> {
    /// Nothing but what the scan takes; carries are not known around the loop.
    pub(super) fn new(scan: &'s Scan, operands: &[NodeId]) -> Self {
        let own = scan.carries + scan.scanned;
        let sources = scan.body.inputs().zip(operands).enumerate();
        let lifted = sources.map(|(position, (source, operand))| {
            let lifted = match position {
                p if p < scan.carries => None,
                p if p < own => Some(Lifted::varying(*operand)),
                _ => Some(Lifted::same(*operand)),
            };
            (source, lifted)
        });
        Self {
            scan,
            known: lifted.collect(),
        }
    }

    /// The value of a node for all iterations; `None` where it depends on carries or an op has no form with a leading axis here.
    pub(super) fn node(&mut self, rewriter: &mut Rewriter<'_>, id: NodeId) -> Option<Lifted> {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let lifted = self.compute(rewriter, id);
        self.known.insert(id, lifted);
        lifted
    }

    fn compute(&mut self, rewriter: &mut Rewriter<'_>, id: NodeId) -> Option<Lifted> {
        let scan = self.scan;
        let node = scan.body.node(id)?;
        let operands: Vec<Lifted> = node
            .operands
            .iter()
            .map(|o| self.node(rewriter, *o))
            .collect::<Option<_>>()?;
        if operands.iter().all(|o| !o.varies) {
            if node.op.as_compound().is_some() || matches!(node.op, Op::Part(_)) {
                return None;
            }
            let ids: Vec<NodeId> = operands.iter().map(|o| o.id).collect();
            return Some(Lifted::same(rewriter.make(node.op.clone(), &ids)?));
        }
        let leading = |shape: &[Dim]| -> Shape {
            let trip = std::iter::once(scan.trip.clone());
            trip.chain(shape.iter().cloned()).collect()
        };
        let moved = |axes: &[usize]| -> Vec<usize> {
            std::iter::once(0)
                .chain(axes.iter().map(|a| a + 1))
                .collect()
        };
        let first = operands.first().map(|o| o.id)?;
        let one: Op = match &node.op {
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
            | Op::Fma(_)
            | Op::StopGradient(_) => {
                let mut ids = Vec::with_capacity(operands.len());
                for operand in operands {
                    ids.push(if operand.varies {
                        operand.id
                    } else {
                        let shape = rewriter.ty(operand.id)?.shape.clone();
                        let axes = (1..=shape.len()).collect();
                        let shape = leading(&shape);
                        rewriter.make(Broadcast { shape, axes }, &[operand.id])?
                    });
                }
                return Some(Lifted::varying(rewriter.make(node.op.clone(), &ids)?));
            }
            Op::Broadcast(op) => Broadcast {
                shape: leading(&op.shape),
                axes: moved(&op.axes),
            }
            .into(),
            Op::Reshape(op) => Reshape {
                shape: leading(&op.shape),
            }
            .into(),
            Op::Transpose(op) => Transpose {
                order: moved(&op.order),
            }
            .into(),
            Op::Slice(op) => {
                let from = |first: Dim, rest: &[Dim]| {
                    let mut all = vec![first];
                    all.extend_from_slice(rest);
                    all
                };
                Slice {
                    start: from(Dim::from(0), &op.start),
                    limit: from(scan.trip.clone(), &op.limit),
                    stride: std::iter::once(1)
                        .chain(op.stride.iter().copied())
                        .collect(),
                }
                .into()
            }
            Op::Reduce(op) => Reduce {
                axes: op.axes.iter().map(|a| a + 1).collect(),
                ..op.clone()
            }
            .into(),
            Op::Gather(op) => {
                let [table, indices] = operands.as_slice() else {
                    return None;
                };
                if op.axis != 0 || table.varies || !indices.varies {
                    return None;
                }
                let ids = [table.id, indices.id];
                return Some(Lifted::varying(rewriter.make(*op, &ids)?));
            }
            Op::Dot(op) => {
                let [lhs, rhs] = operands.try_into().ok()?;
                return dot(rewriter, op, [lhs, rhs]);
            }
            _ => return None,
        };
        Some(Lifted::varying(rewriter.make(one, &[first])?))
    }
}

/// Whether the product for all iterations has their axis in front without a transposition, where only one side varies.
pub(super) fn keeps_order(dot: &Dot, ranks: [usize; 2], left: bool) -> bool {
    let free = ranks[0].saturating_sub(dot.batch.0.len() + dot.contract.0.len());
    dot.batch.0.is_empty() && (left || free == 0)
}

/// The product for all iterations.
pub(super) fn dot(
    rewriter: &mut Rewriter<'_>,
    op: &Dot,
    [lhs, rhs]: [Lifted; 2],
) -> Option<Lifted> {
    let inner = |lifted: &Lifted, rewriter: &Rewriter<'_>| {
        Some(rewriter.ty(lifted.id)?.rank() - usize::from(lifted.varies))
    };
    let ranks = [inner(&lhs, rewriter)?, inner(&rhs, rewriter)?];
    let both = lhs.varies && rhs.varies;
    if !both && !keeps_order(op, ranks, lhs.varies) {
        return None;
    }
    let moved = |axes: &[usize], by: bool| -> Vec<usize> {
        axes.iter().map(|a| a + usize::from(by)).collect()
    };
    let mut batch = (
        moved(&op.batch.0, lhs.varies),
        moved(&op.batch.1, rhs.varies),
    );
    if lhs.varies && rhs.varies {
        batch.0.insert(0, 0);
        batch.1.insert(0, 0);
    }
    let all = Dot {
        batch,
        contract: (
            moved(&op.contract.0, lhs.varies),
            moved(&op.contract.1, rhs.varies),
        ),
        accumulate: op.accumulate,
    };
    let id = rewriter.make(all, &[lhs.id, rhs.id])?;
    Some(Lifted::varying(id))
}
