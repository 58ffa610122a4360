//! Convolutions: operands as views with a stride for every axis, groups as an axis of their own.

use super::{Contraction, LowerError};
use crate::access::row_major_strides;
use crate::fusion::{Strided, strided};
use crate::likely::likely_elements;
use kiln_ir::ops::{Conv, DataRole, KernelRole, Op};
use kiln_ir::program::{Summation, WindowAxis};
use kiln_ir::{DType, Dim, Graph, NodeId};

/// A convolution over memory, but for the buffers. Axes of the views are in the order of
/// [`Convolution`](kiln_ir::program::Convolution).
#[derive(Clone, Debug)]
pub(crate) struct ConvolutionShape {
    /// The convolution's node, whose memory is the result.
    pub(crate) node: NodeId,
    pub(crate) dtype: DType,
    pub(crate) accumulate: DType,
    pub(crate) summation: Summation,
    pub(crate) batch: Dim,
    pub(crate) groups: Dim,
    pub(crate) features_in: Dim,
    pub(crate) features_out: Dim,
    pub(crate) axes: Vec<WindowAxis>,
    pub(crate) lhs: Strided,
    pub(crate) rhs: Strided,
    /// The result's strides.
    pub(crate) strides: Vec<Dim>,
}

/// The convolution of a conv node.
pub(super) fn convolution(
    graph: &Graph,
    stored: &[bool],
    id: NodeId,
) -> Result<Contraction, LowerError> {
    let wrong = |reason: &str| LowerError {
        node: id,
        reason: reason.into(),
    };
    let node = graph.node(id).ok_or_else(|| wrong("it does not exist"))?;
    let (Op::Conv(conv), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return Err(wrong("it is no convolution of two operands"));
    };
    let shape = |operand: NodeId| graph.node(operand).map(|n| &n.ty.shape[..]).unwrap_or(&[]);
    let (left, right, out) = (shape(*lhs), shape(*rhs), &node.ty.shape[..]);
    let view = |operand: NodeId| {
        strided(graph, stored, operand).ok_or_else(|| wrong("an operand is no strided view"))
    };
    let (lhs, rhs) = (view(*lhs)?, view(*rhs)?);
    let axes: Vec<WindowAxis> = conv
        .window
        .iter()
        .enumerate()
        .map(|(i, axis)| WindowAxis {
            input: left[conv.axes.lhs.spatial[i]].clone(),
            window: right[conv.axes.rhs.spatial[i]].clone(),
            output: out[conv.axes.out.spatial[i]].clone(),
            stride: step(axis.stride),
            padding: axis.low.clone(),
            lhs_dilation: step(axis.base_dilation),
            rhs_dilation: step(axis.window_dilation),
        })
        .collect();
    let count = Dim::from(conv.groups.count);
    let part = |extent: &Dim, split: bool| {
        let whole = || Some(extent.clone());
        let part = if split {
            extent.exact_div(&count)
        } else {
            whole()
        };
        part.ok_or_else(|| wrong("its groups do not divide an extent"))
    };
    let of_batch = |role: DataRole| role == DataRole::Batch && conv.groups.count > 1;
    let (l, r, o) = (&conv.axes.lhs, &conv.axes.rhs, &conv.axes.out);
    let batch = part(&left[l.batch], of_batch(conv.groups.lhs))?;
    let features_in = part(&left[l.feature], !of_batch(conv.groups.lhs))?;
    let of_input = conv.groups.rhs == KernelRole::Input && conv.groups.count > 1;
    let features_out = part(&right[r.output], !of_input)?;
    let strides = row_major_strides(out);
    Ok(Contraction::Convolution(Box::new(ConvolutionShape {
        node: id,
        dtype: node.ty.dtype,
        accumulate: conv.accumulator(node.ty.dtype),
        summation: summation(&axes),
        lhs: Strided {
            strides: image(
                &lhs.strides,
                [l.batch, l.feature],
                &l.spatial,
                grouped(of_batch(conv.groups.lhs), &batch, &features_in),
            ),
            ..lhs
        },
        rhs: window(
            conv,
            rhs,
            right,
            grouped(of_input, &features_in, &features_out),
        ),
        strides: image(
            &strides,
            [o.batch, o.feature],
            &o.spatial,
            grouped(of_batch(conv.groups.out), &batch, &features_out),
        ),
        batch,
        groups: count.clone(),
        features_in,
        features_out,
        axes,
    })))
}

/// Whether the groups lie in the first of two axes, and how many elements of the axis a group has.
fn grouped<'d>(first: bool, of_first: &'d Dim, of_second: &'d Dim) -> (bool, &'d Dim) {
    (first, if first { of_first } else { of_second })
}

/// The strides `[batch, group, feature, spatial..]` of axes with the given ones.
fn image(
    strides: &[Dim],
    [batch, feature]: [usize; 2],
    spatial: &[usize],
    (in_batch, size): (bool, &Dim),
) -> Vec<Dim> {
    let divided = if in_batch { batch } else { feature };
    let group = &strides[divided] * size;
    let spatial = spatial.iter().map(|axis| strides[*axis].clone());
    [strides[batch].clone(), group, strides[feature].clone()]
        .into_iter()
        .chain(spatial)
        .collect()
}

/// The kernel with the strides `[group, feature in, feature out, window..]`, from its other end if it is read backwards.
fn window(conv: &Conv, from: Strided, shape: &[Dim], (in_input, size): (bool, &Dim)) -> Strided {
    let axes = &conv.axes.rhs;
    let divided = if in_input { axes.input } else { axes.output };
    let mut strides = vec![
        &from.strides[divided] * size,
        from.strides[axes.input].clone(),
        from.strides[axes.output].clone(),
    ];
    let mut offset = from.offset.clone();
    for axis in &axes.spatial {
        let stride = &from.strides[*axis];
        if conv.reverse {
            let last = &shape[*axis] - &Dim::from(1);
            offset = &offset + &(&last * stride);
            strides.push(-stride);
        } else {
            strides.push(stride.clone());
        }
    }
    Strided {
        base: from.base,
        offset,
        strides,
    }
}

fn step(step: i64) -> usize {
    usize::try_from(step).unwrap_or(1)
}

/// The order of the terms: by lines where the window is larger than what it makes, as in the gradient of a kernel. It is part of what is
/// computed, so it depends on extents alone.
fn summation(axes: &[WindowAxis]) -> Summation {
    let window = likely_elements(axes.iter().map(|axis| &axis.window));
    if window > likely_elements(axes.iter().map(|axis| &axis.output)) {
        Summation::Lines
    } else {
        Summation::Window
    }
}
