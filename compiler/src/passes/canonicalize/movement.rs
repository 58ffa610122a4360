//! Movement: chains of broadcasts, reshapes, transposes and slices become one; what moves nothing goes.
//!
//! Axes of size 1 are free to come and go, so a transpose that moves only those is a reshape, and a reshape that only adds or drops
//! them goes inward past transposes and into broadcasts. Transposes and reshapes end up on the smallest tensor.

use super::axes::{correspondence, embedding, is_unit, moves_only_units};
use crate::passes::rewrite::{Rewriter, Rule};
use kiln_ir::ops::{Broadcast, Op, Reshape, Reverse, Slice, Transpose};
use kiln_ir::{Node, NodeId, Shape};

/// The rules of this family.
pub(in crate::passes) const MOVEMENT: &[Rule] = &[
    Rule {
        name: "identity",
        apply: identity,
    },
    Rule {
        name: "reshape-of-reshape",
        apply: reshape_of_reshape,
    },
    Rule {
        name: "transpose-of-transpose",
        apply: transpose_of_transpose,
    },
    Rule {
        name: "broadcast-of-broadcast",
        apply: broadcast_of_broadcast,
    },
    Rule {
        name: "slice-of-slice",
        apply: slice_of_slice,
    },
    Rule {
        name: "reverse-of-reverse",
        apply: reverse_of_reverse,
    },
    Rule {
        name: "broadcast-of-units",
        apply: broadcast_of_units,
    },
    Rule {
        name: "transpose-of-units",
        apply: transpose_of_units,
    },
    Rule {
        name: "reshape-of-transpose",
        apply: reshape_of_transpose,
    },
    Rule {
        name: "transpose-of-broadcast",
        apply: transpose_of_broadcast,
    },
    Rule {
        name: "reshape-of-broadcast",
        apply: reshape_of_broadcast,
    },
];

/// What moves or converts nothing is its operand.
fn identity(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let x = *node.operands.first()?;
    let ty = rw.ty(x)?;
    let nothing = match &node.op {
        // The axes ascend, so a broadcast to the same shape leaves each where it is.
        Op::Broadcast(_) | Op::Reshape(_) => node.ty.shape == ty.shape,
        Op::Transpose(op) => op.order.is_sorted(),
        Op::Slice(op) => ty.shape.iter().enumerate().all(|(axis, extent)| {
            op.start[axis].constant() == Some(0)
                && op.limit[axis] == *extent
                && op.stride[axis] == 1
        }),
        Op::Pad(op) => {
            let edges = op.low.iter().chain(&op.high);
            edges.map(kiln_ir::Dim::constant).all(|d| d == Some(0))
                && op.interior.iter().all(|i| *i == 0)
        }
        Op::Reverse(op) => op.axes.iter().all(|a| is_unit(&ty.shape[*a])),
        Op::Concat(_) => node.operands.len() == 1,
        Op::Convert(op) => ty.dtype == op.to,
        Op::Bitcast(op) => ty.dtype == op.to,
        _ => false,
    };
    nothing.then_some(x)
}

fn reshape_of_reshape(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reshape(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (_, inner) = rw.as_reshape(*x)?;
    rw.make(outer.clone(), &[inner])
}

fn transpose_of_transpose(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_transpose(*x)?;
    let order = outer.order.iter().map(|a| op.order[*a]).collect();
    rw.make(Transpose { order }, &[inner])
}

fn broadcast_of_broadcast(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Broadcast(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_broadcast(*x)?;
    let axes = op.axes.iter().map(|a| outer.axes[*a]).collect();
    let shape = outer.shape.clone();
    rw.make(Broadcast { shape, axes }, &[inner])
}

/// Only over an inner slice of stride 1: then the extents of both spellings are the same polynomials.
fn slice_of_slice(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Slice(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let node = rw.node(*x)?;
    let (Op::Slice(op), [inner]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if op.stride.iter().any(|s| *s != 1) {
        return None;
    }
    let inner = *inner;
    let shifted = |ends: &[kiln_ir::Dim]| op.start.iter().zip(ends).map(|(s, e)| s + e).collect();
    let slice = Slice {
        start: shifted(&outer.start),
        limit: shifted(&outer.limit),
        stride: outer.stride.clone(),
    };
    rw.make(slice, &[inner])
}

fn reverse_of_reverse(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reverse(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let node = rw.node(*x)?;
    let (Op::Reverse(op), [inner]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let inner = *inner;
    let once = |a: &usize| outer.axes.contains(a) != op.axes.contains(a);
    let mut axes: Vec<usize> = outer
        .axes
        .iter()
        .chain(&op.axes)
        .copied()
        .filter(once)
        .collect();
    axes.sort_unstable();
    rw.make(Reverse { axes }, &[inner])
}

/// A broadcast of a reshape that only adds units repeats along them anyway.
fn broadcast_of_units(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Broadcast(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_reshape(*x)?;
    let places = embedding(&rw.ty(inner)?.shape, &op.shape)?;
    let axes = places.into_iter().map(|a| outer.axes[a]).collect();
    let shape = outer.shape.clone();
    rw.make(Broadcast { shape, axes }, &[inner])
}

fn transpose_of_units(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(op), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if !moves_only_units(&rw.ty(*x)?.shape, &op.order) {
        return None;
    }
    let shape = node.ty.shape.clone();
    rw.make(Reshape { shape }, &[*x])
}

/// A reshape of a transpose that only adds or drops units is done before the transpose, where it costs nothing.
fn reshape_of_transpose(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reshape(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_transpose(*x)?;
    let order = op.order.clone();
    let map = correspondence(&rw.ty(*x)?.shape, &outer.shape)?;
    // The inner tensor gets the units of the result in front, then its own wide axes.
    let shape = rw.ty(inner)?.shape.clone();
    let wide: Vec<usize> = (0..shape.len()).filter(|a| !is_unit(&shape[*a])).collect();
    let units = outer.shape.iter().filter(|d| is_unit(d)).count();
    let ones = std::iter::repeat_n(kiln_ir::Dim::from(1), units);
    let inside: Shape = ones.chain(wide.iter().map(|a| shape[*a].clone())).collect();
    let mut unit = 0..units;
    let mut outside = Vec::new();
    for axis in 0..outer.shape.len() {
        let through = map.iter().position(|to| *to == Some(axis));
        outside.push(match through {
            Some(t) => units + wide.iter().position(|a| *a == order[t])?,
            None => unit.next()?,
        });
    }
    let inner = rw.reshaped(inner, inside)?;
    rw.make(Transpose { order: outside }, &[inner])
}

/// A transpose of a broadcast is a broadcast of a transpose, which is smaller, or of the operand itself.
fn transpose_of_broadcast(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_broadcast(*x)?;
    let place = |a: &usize| outer.order.iter().position(|o| o == a);
    let places: Vec<usize> = op.axes.iter().map(place).collect::<Option<_>>()?;
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_unstable_by_key(|a| places[*a]);
    let axes = order.iter().map(|a| places[*a]).collect();
    let inner = rw.make(Transpose { order }, &[inner])?;
    let shape = node.ty.shape.clone();
    rw.make(Broadcast { shape, axes }, &[inner])
}

/// A reshape of a broadcast that only adds or drops units is a broadcast to the other shape.
fn reshape_of_broadcast(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reshape(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (op, inner) = rw.as_broadcast(*x)?;
    let map = correspondence(&op.shape, &outer.shape)?;
    let places: Vec<Option<usize>> = op.axes.iter().map(|a| map[*a]).collect();
    // An axis that is a unit even in the broadcast's result is one in its operand, and is dropped there.
    let shape = &rw.ty(inner)?.shape;
    let kept = shape.iter().zip(&places).filter(|(_, p)| p.is_some());
    let kept: Shape = kept.map(|(d, _)| d.clone()).collect();
    let axes = places.into_iter().flatten().collect();
    let inner = rw.reshaped(inner, kept)?;
    let shape = outer.shape.clone();
    rw.make(Broadcast { shape, axes }, &[inner])
}
