//! What can be summed behind a loop instead of within it.
//!
//! The cotangent of a value that every iteration captures is a sum over the iterations. Where each summand is a product of values of its
//! iteration, as that of a weight is, the sum is one product of the stacked values, whose contracted axes have one more: a large matrix
//! product behind the loop instead of a small one and an addition in each iteration.

use crate::builder::{Builder, Tensor};
use crate::graph::Graph;
use crate::ids::NodeId;
use crate::ops::{
    Binary, Dot, Literal, Op, OutOfRange, Reduce, ReduceKind, Scatter, ScatterKind, Unary,
};

/// How the sum over all iterations of a node of the body is computed behind the loop, from stacked nodes.
pub(super) enum Sum {
    /// A product that contracts the iterations too.
    Dot(Dot, NodeId, NodeId),
    /// A sum over the iterations and further axes.
    Reduce(Reduce, NodeId),
    /// Rows added at the indices of all iterations, to zeros of the type of the node.
    Scatter(Scatter, NodeId, NodeId, NodeId),
    /// The sum of two sums.
    Add(Box<Sum>, Box<Sum>),
    /// A linear op of one operand, applied to the sum.
    Linear(Op, Box<Sum>),
    /// A pad with zeros, applied to the sum.
    Pad(Op, Box<Sum>),
}

impl Sum {
    /// The plan for node `id`; `None` where it is better accumulated within the loop. `varies` says which nodes differ from one iteration
    /// to another: to stack others would be a waste.
    pub(super) fn of(graph: &Graph, id: NodeId, varies: &dyn Fn(NodeId) -> bool) -> Option<Sum> {
        let node = graph.node(id)?;
        let of = |id: NodeId| Sum::of(graph, id, varies).map(Box::new);
        match (&node.op, node.operands.as_slice()) {
            (Op::Dot(dot), [l, r]) if varies(*l) && varies(*r) => {
                Some(Sum::Dot(dot.clone(), *l, *r))
            }
            (Op::Reduce(reduce), [x]) if reduce.kind == ReduceKind::Sum && varies(*x) => {
                Some(Sum::Reduce(reduce.clone(), *x))
            }
            (Op::Scatter(scatter), [zeros, indices, updates])
                if scatter.kind == ScatterKind::Add
                    && scatter.axis == 0
                    && scatter.out_of_range != OutOfRange::Fail
                    && is_zero(graph, *zeros)
                    && varies(*indices)
                    && varies(*updates) =>
            {
                Some(Sum::Scatter(*scatter, *zeros, *indices, *updates))
            }
            (Op::Binary(Binary::Add), [l, r]) => Some(Sum::Add(of(*l)?, of(*r)?)),
            (
                op @ (Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Broadcast(_)
                | Op::Slice(_)
                | Op::Unary(Unary::Neg)),
                [x],
            ) => Some(Sum::Linear(op.clone(), of(*x)?)),
            (op @ Op::Pad(_), [x, value]) if is_zero(graph, *value) => {
                Some(Sum::Pad(op.clone(), of(*x)?))
            }
            _ => None,
        }
    }

    /// The nodes that must be stacked.
    pub(super) fn leaves(&self, found: &mut Vec<NodeId>) {
        match self {
            Sum::Dot(_, l, r) => found.extend([*l, *r]),
            Sum::Reduce(_, x) => found.push(*x),
            Sum::Scatter(_, _, indices, updates) => found.extend([*indices, *updates]),
            Sum::Add(l, r) => {
                l.leaves(found);
                r.leaves(found);
            }
            Sum::Linear(_, x) | Sum::Pad(_, x) => x.leaves(found),
        }
    }

    /// The sum in the graph around the loop, given the stacked leaves.
    #[track_caller]
    pub(super) fn build<'g>(
        &self,
        builder: &'g Builder,
        body: &Graph,
        stacked: &dyn Fn(NodeId) -> Tensor<'g>,
    ) -> Tensor<'g> {
        match self {
            Sum::Dot(dot, l, r) => {
                let moved = |axes: &[usize]| axes.iter().map(|a| a + 1).collect::<Vec<_>>();
                let contracted = |axes: &[usize]| {
                    let mut all = vec![0];
                    all.extend(moved(axes));
                    all
                };
                let dot = Dot {
                    contract: (contracted(&dot.contract.0), contracted(&dot.contract.1)),
                    batch: (moved(&dot.batch.0), moved(&dot.batch.1)),
                    accumulate: dot.accumulate,
                };
                builder.push(dot, &[stacked(*l), stacked(*r)])
            }
            Sum::Reduce(reduce, x) => {
                let mut axes = vec![0];
                axes.extend(reduce.axes.iter().map(|a| a + 1));
                let reduce = Reduce {
                    axes,
                    ..reduce.clone()
                };
                builder.push(reduce, &[stacked(*x)])
            }
            Sum::Scatter(scatter, zeros, indices, updates) => {
                let zeros = match body.node(*zeros) {
                    Some(node) => builder.splat(node.ty.dtype, &node.ty.shape, 0.0),
                    None => builder.poison(),
                };
                let operands = [zeros, stacked(*indices), stacked(*updates)];
                builder.push(*scatter, &operands)
            }
            Sum::Add(l, r) => {
                let (l, r) = (
                    l.build(builder, body, stacked),
                    r.build(builder, body, stacked),
                );
                builder.push(Binary::Add, &[l, r])
            }
            Sum::Linear(op, x) => builder.push(op.clone(), &[x.build(builder, body, stacked)]),
            Sum::Pad(op, x) => {
                let x = x.build(builder, body, stacked);
                let zero = match x.ty() {
                    Some(ty) => builder.splat(ty.dtype, (), 0.0),
                    None => builder.poison(),
                };
                builder.push(op.clone(), &[x, zero])
            }
        }
    }
}

/// Whether the node is a constant of zeros.
fn is_zero(graph: &Graph, id: NodeId) -> bool {
    let Some(node) = graph.node(id) else {
        return false;
    };
    match &node.op {
        Op::Constant(constant) => constant.as_splat() == Some(Literal::of(node.ty.dtype, 0.0)),
        _ => false,
    }
}
