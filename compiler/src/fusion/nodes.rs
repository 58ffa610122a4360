//! What nodes are to the grouping rule: given, free to read through, scalars, reductions, products.

use super::squeezed;
use crate::kernel::Index;
use kiln_ir::ops::{Dot, Op};
use kiln_ir::{Graph, Node};

/// A scalar is computed again wherever it is read if it takes at most this many ops from what is given.
const MOST_SCALAR_OPS: usize = 24;

/// Whether a node is in memory without being computed: a source, or a constant that is no single number.
pub(crate) fn is_given(node: &Node) -> bool {
    match &node.op {
        Op::Source(_) => true,
        Op::Constant(constant) => constant.as_splat().is_none(),
        _ => false,
    }
}

/// Whether a node is a number or a view that its readers can work out for themselves.
pub(super) fn is_free(node: &Node) -> bool {
    match &node.op {
        Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Require(_)
        | Op::StopGradient(_) => true,
        Op::Source(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Fma(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reduce(_)
        | Op::Arg(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::RngBits(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::ReduceWindow(_)
        | Op::ArgWindow(_)
        | Op::GatherWindow(_)
        | Op::ScatterWindow(_)
        | Op::Cumulative(_)
        | Op::Scan(_)
        | Op::While(_)
        | Op::Cond(_)
        | Op::Part(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdateSlice(_)
        | Op::Sort(_)
        | Op::Argsort(_)
        | Op::CustomCall(_) => false,
    }
}

/// Whether an op has loops of its own, in an order that is part of its meaning: it makes a kernel by itself.
pub(crate) fn has_own_loops(op: &Op) -> bool {
    matches!(
        op,
        Op::Scatter(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Cumulative(_)
            | Op::Sort(_)
            | Op::Argsort(_)
    )
}

/// Which nodes are scalars of a few element-wise ops on sources and constants.
pub(super) fn scalars(graph: &Graph) -> Vec<bool> {
    let mut ops: Vec<Option<usize>> = vec![None; graph.len()];
    for (id, node) in graph.nodes() {
        let single = squeezed(&node.ty.shape).is_empty();
        let pointwise = match &node.op {
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_) => Some(1),
            Op::Source(_)
            | Op::Constant(_)
            | Op::DimSize(_)
            | Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::StopGradient(_) => Some(0),
            Op::Iota(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Require(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reduce(_)
            | Op::Arg(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::RngBits(_)
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::ReduceWindow(_)
            | Op::ArgWindow(_)
            | Op::GatherWindow(_)
            | Op::ScatterWindow(_)
            | Op::Cumulative(_)
            | Op::Scan(_)
            | Op::While(_)
            | Op::Cond(_)
            | Op::Part(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Sort(_)
            | Op::Argsort(_)
            | Op::CustomCall(_) => None,
        };
        let below: Option<usize> = node
            .operands
            .iter()
            .map(|o| ops[o.index()])
            .try_fold(0usize, |sum, n| Some(sum.saturating_add(n?)));
        ops[id.index()] = match (single, pointwise, below) {
            (true, Some(own), Some(below)) => Some(own + below).filter(|n| *n <= MOST_SCALAR_OPS),
            (_, _, _) => None,
        };
    }
    ops.iter().map(Option::is_some).collect()
}

/// Whether a node has no operand to read through to.
pub(super) fn is_leaf(node: &Node) -> bool {
    node.operands.is_empty()
}

/// The operand's index where a reduction runs over axes of size 1 only.
pub(crate) fn single_axis_index(node: &Node, rank: usize, index: &[Index]) -> Vec<Index> {
    let axes: &[usize] = match &node.op {
        Op::Reduce(reduce) => &reduce.axes,
        Op::Arg(arg) => std::slice::from_ref(&arg.axis),
        _ => &[],
    };
    let mut kept = index.iter();
    (0..rank)
        .map(|axis| {
            let next = if axes.contains(&axis) {
                None
            } else {
                kept.next()
            };
            next.cloned().unwrap_or_else(|| Index::constant(0))
        })
        .collect()
}

/// The batch, free and contracted axes of both sides of a product.
pub(crate) fn product_axes(dot: &Dot, ranks: [usize; 2]) -> [[Vec<usize>; 3]; 2] {
    let side = |batch: &[usize], contract: &[usize], rank: usize| {
        let free = (0..rank).filter(|a| !batch.contains(a) && !contract.contains(a));
        [batch.to_vec(), free.collect(), contract.to_vec()]
    };
    [
        side(&dot.batch.0, &dot.contract.0, ranks[0]),
        side(&dot.batch.1, &dot.contract.1, ranks[1]),
    ]
}
