//! Products are products of matrices: on either side the free axes lie beside each other, and so do the contracted ones.
//!
//! Then an operand that lies in memory row-major is a matrix with one stride for its rows and one for its columns, and so is one that has
//! to be written out first. What does not lie so is read through a transpose, which costs nothing where a view below it turns out to be
//! strided all the same. Pairs of contracted axes are brought into the order of the larger side, which sums in another order, so the pass
//! stands before the equality point; and it stands behind the pass that folds transposes into products.

use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use crate::likely::likely;
use kiln_ir::ops::{Dot, Op, Transpose};
use kiln_ir::{Dim, Graph, Node, NodeId};

/// Brings the operands of products into the order of matrices.
#[derive(Clone, Copy, Debug)]
pub struct OrderMatrices;

impl Pass for OrderMatrices {
    fn name(&self) -> &'static str {
        "order_matrices"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        apply_rules(graph, self.name(), &[MATRICES])
    }
}

const MATRICES: &[Rule] = &[
    Rule {
        name: "contracted-axes-in-order",
        apply: contracted_axes_in_order,
    },
    Rule {
        name: "matrix-on-the-left",
        apply: |rw, node| matrix(rw, node, 0),
    },
    Rule {
        name: "matrix-on-the-right",
        apply: |rw, node| matrix(rw, node, 1),
    },
];

fn contracted_axes_in_order(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let Op::Dot(dot) = &node.op else { return None };
    if dot.contract.0.is_sorted() {
        return None;
    }
    // Where the sides disagree, one is written out in another order: the smaller one.
    let [left, right] = [0, 1].map(|side| {
        let ty = node.operands.get(side).and_then(|id| rw.ty(*id));
        ty.map_or(0, |ty| likely(&ty.shape.elements()))
    });
    if dot.contract.1.is_sorted() && left < right {
        return None;
    }
    let pairs = dot.contract.0.iter().copied().zip(dot.contract.1.clone());
    let mut pairs: Vec<(usize, usize)> = pairs.collect();
    pairs.sort_unstable();
    let sorted = Dot {
        contract: pairs.into_iter().unzip(),
        ..dot.clone()
    };
    rw.make(sorted, &node.operands)
}

/// The product with one side transposed to batch, free and contracted axes, if the side is no matrix as it is.
fn matrix(rw: &mut Rewriter<'_>, node: &Node, side: usize) -> Option<NodeId> {
    let Op::Dot(dot) = &node.op else { return None };
    let operand = *node.operands.get(side)?;
    let shape = rw.ty(operand)?.shape.clone();
    let (contract, batch) = match side {
        0 => (&dot.contract.0, &dot.batch.0),
        _ => (&dot.contract.1, &dot.batch.1),
    };
    let free: Vec<usize> = (0..shape.len())
        .filter(|a| !contract.contains(a) && !batch.contains(a))
        .collect();
    if is_one_axis(&free, &shape) && is_one_axis(contract, &shape) {
        return None;
    }
    // What is innermost stays so: whole rows are moved then.
    let (batches, rank) = (batch.len(), shape.len());
    let inner = rank.checked_sub(1).is_some_and(|last| free.contains(&last));
    let (order, contract): (Vec<usize>, Vec<usize>) = if inner {
        let order = [&batch[..], contract, &free].concat();
        (order, (batches..batches + contract.len()).collect())
    } else {
        let order = [&batch[..], &free, contract].concat();
        (order, (batches + free.len()..rank).collect())
    };
    let transposed = rw.make(Transpose { order }, &[operand])?;
    let batch: Vec<usize> = (0..batches).collect();
    let mut matrices = dot.clone();
    match side {
        0 => (matrices.contract.0, matrices.batch.0) = (contract, batch),
        _ => (matrices.contract.1, matrices.batch.1) = (contract, batch),
    }
    let mut operands = node.operands.clone();
    *operands.get_mut(side)? = transposed;
    rw.make(matrices, &operands)
}

/// Whether axes of a row-major tensor can be walked as one: ascending, with nothing between them.
fn is_one_axis(axes: &[usize], shape: &[Dim]) -> bool {
    let one = |a: &usize| shape[*a].constant() == Some(1);
    let long: Vec<usize> = axes.iter().copied().filter(|a| !one(a)).collect();
    long.windows(2)
        .all(|w| w[0] < w[1] && (w[0] + 1..w[1]).all(|a| one(&a)))
}
