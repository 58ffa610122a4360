//! One layout for a chain of convolutions, and one for what follows a loop.
//!
//! A convolution that is spelled with spatial axes innermost (NCHW, PyTorch's) is computed over features innermost (NHWC), between
//! transposes, and the transposes move with the data: through element-wise ops, reductions, windows and pads, until they meet the next
//! convolution's and both go. What is left stands at the borders of the chain, on its inputs, its weights and its results.
//!
//! A loop stacks its results step by step, and what follows a recurrent layer wants them example by example. A product by weights takes
//! its rows in any order, and so do a loss and its gradient: the transpose moves behind the product, where it moves less, and on with the
//! data, until it is gone in a reduction or meets that of the gradient, which goes back to the loop.
//!
//! A reduction that a transpose passes through may sum in another order, so the pass stands before the equality point. Graphs without
//! such convolutions or loops are left as they are.

use super::canonicalize::MOVEMENT;
use super::contract::CONTRACTION;
use super::legalize::reduce_by_runs;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use crate::access::is_element_wise;
use crate::likely::likely_elements;
use kiln_ir::ops::{
    ArgWindow, Conv, Dot, GatherWindow, Iota, Op, Pad, Reduce, ReduceWindow, ScatterWindow,
    Transpose, Windows,
};
use kiln_ir::{Dim, Graph, Node, NodeId, Shape, TensorType};

/// Puts features innermost around convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Layout;

impl Pass for Layout {
    fn name(&self) -> &'static str {
        "layout"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        let outside = |node: &Node| matches!(&node.op, Op::Conv(conv) if has_spatial_inside(conv));
        let stacked = |node: &Node| {
            let operand = node.operands.first().and_then(|o| graph.node(*o));
            let part = operand.is_some_and(|o| matches!(o.op, Op::Part(_)));
            part && matches!(node.op, Op::Transpose(_))
        };
        let wanted = |node: &Node| outside(node) || stacked(node);
        if !graph.nodes().any(|(_, node)| wanted(node)) {
            return Ok(graph.clone());
        }
        // A product takes in the transposes around it first: what moves on from it could not come back.
        apply_rules(graph, self.name(), &[MOVEMENT, CONTRACTION, LAYOUT])
    }
}

const LAYOUT: &[Rule] = &[
    Rule {
        name: "conv-features-innermost",
        apply: conv_features_innermost,
    },
    Rule {
        name: "rows-of-transpose",
        apply: rows_of_transpose,
    },
    Rule {
        name: "transpose-of-rows",
        apply: transpose_of_rows,
    },
    Rule {
        name: "element-wise-of-transposes",
        apply: element_wise_of_transposes,
    },
    Rule {
        name: "reduce-of-transpose",
        apply: reduce_of_transpose,
    },
    // Neighbouring axes need not lie beside each other in front of a transpose.
    Rule {
        name: "reduce-by-runs",
        apply: reduce_by_runs,
    },
    Rule {
        name: "window-of-transposes",
        apply: window_of_transposes,
    },
    Rule {
        name: "pad-of-transpose",
        apply: pad_of_transpose,
    },
];

/// Whether a spatial axis is the innermost of any of a convolution's tensors.
fn has_spatial_inside(conv: &Conv) -> bool {
    let axes = &conv.axes;
    let last = axes.lhs.spatial.len() + 1;
    [&axes.lhs.spatial, &axes.rhs.spatial, &axes.out.spatial]
        .iter()
        .any(|spatial| spatial.contains(&last))
}

/// An image `[a, spatial.., b]`, where `a` and `b` are the axes that are not spatial, in their order.
fn image(spatial: &[usize], others: [usize; 2]) -> Vec<usize> {
    let (first, second) = (others[0].min(others[1]), others[0].max(others[1]));
    [&[first], spatial, &[second]].concat()
}

/// A kernel `[spatial.., b, a]`: of PyTorch's OIHW it makes HWIO.
fn kernel(spatial: &[usize], others: [usize; 2]) -> Vec<usize> {
    let (first, second) = (others[0].min(others[1]), others[0].max(others[1]));
    [spatial, &[second, first]].concat()
}

/// Whether the right side is an image, as in the gradient of a kernel, which is then the result. Differentiation sums such a gradient over the
/// examples: they are the features of its left side and come first there. Sizes alone do not tell: a large kernel on a small image is
/// no image.
fn slides_an_image(conv: &Conv, rhs: &TensorType, out: &TensorType) -> bool {
    if conv.axes.lhs.batch < conv.axes.lhs.feature {
        return false;
    }
    let elements =
        |ty: &TensorType, axes: &[usize]| likely_elements(axes.iter().map(|a| &ty.shape[*a]));
    elements(rhs, &conv.axes.rhs.spatial) > elements(out, &conv.axes.out.spatial)
}

/// The transpose that undoes another.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (to, from) in order.iter().enumerate() {
        inverse[*from] = to;
    }
    inverse
}

/// For each of some axes, which differ, how many of the others come before it.
fn ranks(axes: &[usize]) -> Vec<usize> {
    let before = |axis: &usize| axes.iter().filter(|other| *other < axis).count();
    axes.iter().map(before).collect()
}

/// The shape of a tensor that a transpose by `order` gives this shape.
fn shape_before(shape: &Shape, order: &[usize]) -> Vec<Dim> {
    let from = inverse(order);
    from.iter().map(|to| shape[*to].clone()).collect()
}

fn conv_features_innermost(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Conv(conv), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if !has_spatial_inside(conv) {
        return None;
    }
    let (l, r, o) = (&conv.axes.lhs, &conv.axes.rhs, &conv.axes.out);
    let last = l.spatial.len() + 1;
    // A tensor with features innermost stays as it is.
    let placed = |spatial: &[usize], others, is_kernel: bool| {
        if !spatial.contains(&last) {
            (0..=last).collect()
        } else if is_kernel {
            kernel(spatial, others)
        } else {
            image(spatial, others)
        }
    };
    let gradient = slides_an_image(conv, rw.ty(*rhs)?, &node.ty);
    let of_lhs = placed(&l.spatial, [l.batch, l.feature], false);
    let of_rhs = placed(&r.spatial, [r.input, r.output], !gradient);
    let of_out = placed(&o.spatial, [o.batch, o.feature], gradient);
    let mut moved = conv.clone();
    let at = |order: &[usize], axis: &mut usize| *axis = inverse(order)[*axis];
    for (axes, order) in [
        (&mut moved.axes.lhs, &of_lhs),
        (&mut moved.axes.out, &of_out),
    ] {
        at(order, &mut axes.batch);
        at(order, &mut axes.feature);
        axes.spatial.iter_mut().for_each(|a| at(order, a));
    }
    let axes = &mut moved.axes.rhs;
    at(&of_rhs, &mut axes.input);
    at(&of_rhs, &mut axes.output);
    axes.spatial.iter_mut().for_each(|a| at(&of_rhs, a));
    let lhs = rw.make(Transpose { order: of_lhs }, &[*lhs])?;
    let rhs = rw.make(Transpose { order: of_rhs }, &[*rhs])?;
    let conv = rw.make(moved, &[lhs, rhs])?;
    let order = inverse(&of_out);
    rw.make(Transpose { order }, &[conv])
}

/// A product whose left side is a transpose that only exchanges rows, as one of the rows as they lie: the product and the order in which
/// its result has to be put.
fn exchanged(rw: &Rewriter<'_>, node: &Node) -> Option<(Dot, [NodeId; 2], Vec<usize>)> {
    let (Op::Dot(dot), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (transpose, inner) = rw.as_transpose(*lhs)?;
    let inside =
        |axes: &[usize]| -> Vec<usize> { axes.iter().map(|a| transpose.order[*a]).collect() };
    let contract = inside(&dot.contract.0);
    let free = (0..transpose.order.len()).filter(|a| !dot.contract.0.contains(a));
    let rows = inside(&free.collect::<Vec<_>>());
    if !dot.batch.0.is_empty() || dot.contract.0.len() != 1 || rows.is_sorted() {
        return None;
    }
    let mut order = ranks(&rows);
    order.extend(rows.len()..node.ty.rank());
    let contract = (contract, dot.contract.1.clone());
    let dot = Dot {
        contract,
        ..dot.clone()
    };
    Some((dot, [inner, *rhs], order))
}

/// Only where the result is no wider than the rows, so that the transpose moves no more than it did.
fn rows_of_transpose(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (dot, [lhs, rhs], order) = exchanged(rw, node)?;
    let elements = |ty: &TensorType| likely_elements(ty.shape.iter());
    if elements(&node.ty) > elements(rw.ty(lhs)?) {
        return None;
    }
    let product = rw.make(dot, &[lhs, rhs])?;
    rw.make(Transpose { order }, &[product])
}

/// Where the result is put back into the order of the rows, whatever its width.
fn transpose_of_rows(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Transpose(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if !rw.is_read_once(*x) {
        return None;
    }
    let (dot, operands, order) = exchanged(rw, &rw.node(*x)?.clone())?;
    let whole: Vec<usize> = outer.order.iter().map(|a| order[*a]).collect();
    if !whole.is_sorted() {
        return None;
    }
    rw.make(dot, &operands)
}

/// How deep in a tree of element-wise ops a transpose is moved to where it costs nothing.
const DEEPEST: usize = 4;

/// The operand as it lies before a transpose by `order`, if that costs nothing: it is spread, counted or all one number, or computed from
/// such.
fn spread(rw: &mut Rewriter<'_>, operand: NodeId, order: &[usize], depth: usize) -> Option<NodeId> {
    let node = rw.node(operand)?.clone();
    if node.ty.rank() != order.len() {
        return None;
    }
    let ty = TensorType::new(node.ty.dtype, shape_before(&node.ty.shape, order));
    if let Some(number) = rw.splat(operand) {
        return rw.constant(ty, number);
    }
    match &node.op {
        Op::Broadcast(_) => {
            let order = inverse(order);
            rw.make(Transpose { order }, &[operand])
        }
        Op::Iota(iota) => {
            let axis = order[iota.axis];
            rw.make(Iota { ty, axis }, &[])
        }
        op if is_element_wise(op) && depth < DEEPEST => {
            let operands = node.operands.iter();
            let operands: Vec<NodeId> = operands
                .map(|o| spread(rw, *o, order, depth + 1))
                .collect::<Option<_>>()?;
            rw.make(node.op, &operands)
        }
        _ => None,
    }
}

/// The operands as they lie before a transpose by `order`: transposes of their own go, and what costs nothing is written otherwise.
fn before(rw: &mut Rewriter<'_>, operands: &[NodeId], order: &[usize]) -> Option<Vec<NodeId>> {
    let mut found = Vec::with_capacity(operands.len());
    for operand in operands {
        if let Some((transpose, inner)) = rw.as_transpose(*operand)
            && transpose.order == order
        {
            found.push(inner);
        } else {
            found.push(spread(rw, *operand, order, 0)?);
        }
    }
    Some(found)
}

/// The first order by which an operand is transposed.
fn first_order(rw: &Rewriter<'_>, operands: &[NodeId]) -> Option<Vec<usize>> {
    let mut orders = operands.iter().filter_map(|o| rw.as_transpose(*o));
    orders.next().map(|(transpose, _)| transpose.order.clone())
}

fn element_wise_of_transposes(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    if !is_element_wise(&node.op) && !matches!(node.op, Op::StopGradient(_)) {
        return None;
    }
    let order = first_order(rw, &node.operands)?;
    let operands = before(rw, &node.operands, &order)?;
    let inner = rw.make(node.op.clone(), &operands)?;
    rw.make(Transpose { order }, &[inner])
}

fn reduce_of_transpose(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reduce(reduce), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (transpose, inner) = rw.as_transpose(*x)?;
    let order = transpose.order.clone();
    let mut axes: Vec<usize> = reduce.axes.iter().map(|a| order[*a]).collect();
    axes.sort_unstable();
    let kept: Vec<usize> = (0..order.len())
        .filter(|a| !reduce.axes.contains(a))
        .map(|a| order[a])
        .collect();
    let order = ranks(&kept);
    let reduce = Reduce {
        axes,
        ..reduce.clone()
    };
    let reduced = rw.make(reduce, &[inner])?;
    rw.make(Transpose { order }, &[reduced])
}

/// Windows over the axes that lie behind a transpose; `None` where that would number the elements of a window in another order.
fn moved_windows(windows: &Windows, order: &[usize]) -> Option<Windows> {
    let mut moved = windows.clone();
    for (to, from) in order.iter().enumerate() {
        moved.sizes[*from] = windows.sizes[to];
        moved.axes[*from] = windows.axes[to].clone();
    }
    let mut slid = (0..order.len()).filter(|a| windows.sizes[*a] != 1);
    let mut last = slid.next().map(|a| order[a]);
    for axis in slid {
        if last.is_some_and(|last| last > order[axis]) {
            return None;
        }
        last = Some(order[axis]);
    }
    Some(moved)
}

fn window_of_transposes(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let windows = match &node.op {
        Op::ReduceWindow(op) => &op.windows,
        Op::ArgWindow(op) => &op.windows,
        Op::GatherWindow(op) => &op.windows,
        Op::ScatterWindow(op) => &op.windows,
        _ => return None,
    };
    let order = first_order(rw, &node.operands)?;
    let windows = moved_windows(windows, &order)?;
    let operands = before(rw, &node.operands, &order)?;
    let op: Op = match &node.op {
        Op::ReduceWindow(op) => ReduceWindow {
            windows,
            ..op.clone()
        }
        .into(),
        Op::ArgWindow(op) => ArgWindow {
            windows,
            ..op.clone()
        }
        .into(),
        Op::GatherWindow(_) => GatherWindow { windows }.into(),
        Op::ScatterWindow(op) => {
            let shape = shape_before(&op.shape, &order).into();
            ScatterWindow { shape, windows }.into()
        }
        _ => return None,
    };
    let inner = rw.make(op, &operands)?;
    rw.make(Transpose { order }, &[inner])
}

fn pad_of_transpose(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Pad(pad), [x, value]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (transpose, inner) = rw.as_transpose(*x)?;
    let order = transpose.order.clone();
    let mut moved = pad.clone();
    for (to, from) in order.iter().enumerate() {
        moved.low[*from] = pad.low[to].clone();
        moved.high[*from] = pad.high[to].clone();
        moved.interior[*from] = pad.interior[to];
    }
    let moved: Pad = moved;
    let padded = rw.make(moved, &[inner, *value])?;
    rw.make(Transpose { order }, &[padded])
}
