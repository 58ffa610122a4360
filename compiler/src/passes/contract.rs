//! Products read their operands as they lie: transposes are folded into the axes of `dot`.
//!
//! What a product sums is the same, but a library of matrix products may order the sums by the layout it meets, and parts of a split product
//! are summed in another order where its sides are exchanged, so the pass stands before the equality point.

use super::canonicalize::MOVEMENT;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{Dot, Op, Transpose};
use kiln_ir::{Graph, Node, NodeId};

/// Folds transposes around `dot` into its axes.
#[derive(Clone, Copy, Debug)]
pub struct AbsorbTransposes;

impl Pass for AbsorbTransposes {
    fn name(&self) -> &'static str {
        "absorb_transposes"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        apply_rules(graph, self.name(), &[MOVEMENT, CONTRACTION])
    }
}

pub(super) const CONTRACTION: &[Rule] = &[
    Rule {
        name: "dot-of-transpose-left",
        apply: dot_of_transpose_left,
    },
    Rule {
        name: "dot-of-transpose-right",
        apply: dot_of_transpose_right,
    },
    Rule {
        name: "transpose-of-dot",
        apply: transpose_of_dot,
    },
    Rule {
        name: "innermost-from-the-right",
        apply: innermost_from_the_right,
    },
];

/// The contracted and batch axes of one side, read through a transpose of the side, if that leaves the order of the free axes.
fn through(order: &[usize], contract: &[usize], batch: &[usize]) -> Option<[Vec<usize>; 2]> {
    let free = (0..order.len()).filter(|a| !contract.contains(a) && !batch.contains(a));
    let free: Vec<usize> = free.map(|a| order[a]).collect();
    let inside = |axes: &[usize]| axes.iter().map(|a| order[*a]).collect();
    free.is_sorted().then(|| [inside(contract), inside(batch)])
}

fn dot_of_transpose_left(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Dot(dot), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (transpose, inner) = rw.as_transpose(*lhs)?;
    let [contract, batch] = through(&transpose.order, &dot.contract.0, &dot.batch.0)?;
    let mut dot = dot.clone();
    (dot.contract.0, dot.batch.0) = (contract, batch);
    rw.make(dot, &[inner, *rhs])
}

fn dot_of_transpose_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Dot(dot), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (transpose, inner) = rw.as_transpose(*rhs)?;
    let [contract, batch] = through(&transpose.order, &dot.contract.1, &dot.batch.1)?;
    let mut dot = dot.clone();
    (dot.contract.1, dot.batch.1) = (contract, batch);
    rw.make(dot, &[*lhs, inner])
}

/// A transpose that permutes batch axes, and may swap the free axes of the sides as wholes, is a product with other batch axes and
/// swapped sides. Only where nobody else reads the product, which would otherwise be computed twice.
fn transpose_of_dot(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(transpose), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if !rw.is_read_once(*x) {
        return None;
    }
    let product = rw.node(*x)?;
    let (Op::Dot(dot), [lhs, rhs]) = (&product.op, product.operands.as_slice()) else {
        return None;
    };
    let (lhs, rhs, rank) = (*lhs, *rhs, product.ty.rank());
    let batches = dot.batch.0.len();
    let left = rw.ty(lhs)?.rank() - batches - dot.contract.0.len();
    let (outer, free) = transpose.order.split_at(batches);
    if outer.iter().any(|a| *a >= batches) {
        return None;
    }
    let middle = batches + left;
    let swaps = if free.iter().copied().eq(batches..rank) {
        false
    } else if free
        .iter()
        .copied()
        .eq((middle..rank).chain(batches..middle))
    {
        true
    } else {
        return None;
    };
    let permuted = |axes: &[usize]| -> Vec<usize> { outer.iter().map(|a| axes[*a]).collect() };
    let mut dot = Dot {
        batch: (permuted(&dot.batch.0), permuted(&dot.batch.1)),
        ..dot.clone()
    };
    let mut operands = [lhs, rhs];
    if swaps {
        operands.swap(0, 1);
        dot.batch = (dot.batch.1, dot.batch.0);
        dot.contract = (dot.contract.1, dot.contract.0);
    }
    rw.make(dot, &operands)
}

/// A transpose that brings an axis of the left side innermost, and mixes axes otherwise, is one of the product with swapped sides: what is
/// innermost then lies so in memory, and the transpose moves rows instead of elements.
fn innermost_from_the_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(transpose), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if !rw.is_read_once(*x) {
        return None;
    }
    let product = rw.node(*x)?;
    let (Op::Dot(dot), [lhs, rhs]) = (&product.op, product.operands.as_slice()) else {
        return None;
    };
    let (lhs, rhs, rank) = (*lhs, *rhs, product.ty.rank());
    let batches = dot.batch.0.len();
    let left = rw.ty(lhs)?.rank() - batches - dot.contract.0.len();
    let right = rank - batches - left;
    let is_left = |axis: usize| (batches..batches + left).contains(&axis);
    if right == 0 || !transpose.order.last().is_some_and(|axis| is_left(*axis)) {
        return None;
    }
    let moved = |axis: &usize| match *axis {
        batch if batch < batches => batch,
        axis if is_left(axis) => axis + right,
        axis => axis - left,
    };
    let order = transpose.order.iter().map(moved).collect();
    let swapped = Dot {
        batch: (dot.batch.1.clone(), dot.batch.0.clone()),
        contract: (dot.contract.1.clone(), dot.contract.0.clone()),
        ..dot.clone()
    };
    let swapped = rw.make(swapped, &[rhs, lhs])?;
    rw.make(Transpose { order }, &[swapped])
}
