//! One layout for a chain of convolutions: features innermost.
//!
//! A convolution that is spelled with spatial axes innermost (NCHW, PyTorch's) is computed over features innermost (NHWC), between
//! transposes, and the transposes move with the data: through element-wise ops, reductions, windows and pads, until they meet the next
//! convolution's and both go. What is left stands at the borders of the chain, on its inputs, its weights and its results.
//!
//! A reduction that a transpose passes through may sum in another order, so the pass stands before the equality point. Graphs without
//! such convolutions are left as they are.

use super::canonicalize::MOVEMENT;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use crate::likely::likely_elements;
use kiln_ir::ops::{
    ArgWindow, Conv, GatherWindow, Op, Pad, Reduce, ReduceWindow, ScatterWindow, Transpose, Windows,
};
use kiln_ir::{Graph, Node, NodeId, TensorType};

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
        if !graph.nodes().any(|(_, node)| outside(node)) {
            return Ok(graph.clone());
        }
        apply_rules(graph, self.name(), &[MOVEMENT, LAYOUT])
    }
}

const LAYOUT: &[Rule] = &[
    Rule {
        name: "conv-features-innermost",
        apply: conv_features_innermost,
    },
    Rule {
        name: "element-wise-of-transposes",
        apply: element_wise_of_transposes,
    },
    Rule {
        name: "reduce-of-transpose",
        apply: reduce_of_transpose,
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

/// The operands as they lie before a transpose by `order`: transposes of their own go, and what is spread or all one number costs nothing
/// to spread otherwise.
fn before(rw: &mut Rewriter<'_>, operands: &[NodeId], order: &[usize]) -> Option<Vec<NodeId>> {
    let mut found = Vec::with_capacity(operands.len());
    for operand in operands {
        if let Some((transpose, inner)) = rw.as_transpose(*operand)
            && transpose.order == order
        {
            found.push(inner);
        } else if rw.as_broadcast(*operand).is_some() || rw.splat(*operand).is_some() {
            let order = inverse(order);
            found.push(rw.make(Transpose { order }, &[*operand])?);
        } else {
            return None;
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
    let element_wise = matches!(
        node.op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
            | Op::StopGradient(_)
    );
    if !element_wise {
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
    let mut sorted = kept.clone();
    sorted.sort_unstable();
    let place = |axis: &usize| sorted.iter().position(|other| other == axis);
    let order: Vec<usize> = kept.iter().filter_map(place).collect();
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
            let mut shape = op.shape.to_vec();
            for (to, from) in order.iter().enumerate() {
                shape[*from] = op.shape[to].clone();
            }
            let shape = shape.into();
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
