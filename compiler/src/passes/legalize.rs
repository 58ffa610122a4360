//! What later phases rely on: one contiguous run of axes in a `reduce`, guards as `require` nodes, no gradient stops, and no reads of a
//! tensor that has no elements whatever the sizes.
//!
//! A sum over separate runs of axes has no order of its own; it is defined here, as sums of sums, innermost run first. So the pass stands
//! before the equality point.

use super::pads::sum_of_pads;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{
    Binary, Broadcast, Compare, Convert, DimSize, Effect, Gather, Literal, Op, OutOfRange, Reduce,
    Require, Scatter, accumulator,
};
use kiln_ir::{DType, Dim, Graph, Node, NodeId, Shape, TensorType};

/// Brings a graph into the form that lowering takes. Always runs.
#[derive(Clone, Copy, Debug)]
pub struct Legalize;

impl Pass for Legalize {
    fn name(&self) -> &'static str {
        "legalize"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        apply_rules(graph, self.name(), &[LEGALIZATION])
    }
}

const LEGALIZATION: &[Rule] = &[
    Rule {
        name: "stop-gradient",
        apply: stop_gradient,
    },
    Rule {
        name: "reduce-of-nothing",
        apply: reduce_of_nothing,
    },
    Rule {
        name: "no-elements",
        apply: no_elements,
    },
    Rule {
        name: "no-elements-read",
        apply: no_elements_read,
    },
    Rule {
        name: "reduce-by-runs",
        apply: reduce_by_runs,
    },
    Rule {
        name: "sum-of-pads",
        apply: sum_of_pads,
    },
    Rule {
        name: "gather-that-fails",
        apply: gather_that_fails,
    },
    Rule {
        name: "scatter-that-fails",
        apply: scatter_that_fails,
    },
];

/// Its work is done when the graph has been differentiated.
fn stop_gradient(_: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    match (&node.op, node.operands.as_slice()) {
        (Op::StopGradient(_), [x]) => Some(*x),
        _ => None,
    }
}

fn reduce_of_nothing(_: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Reduce(op), [x]) if op.axes.is_empty() => Some(*x),
        _ => None,
    }
}

fn is_empty(ty: &TensorType) -> bool {
    ty.shape.iter().any(|d| d.constant() == Some(0))
}

/// A tensor without elements is as good as a number that is never read. To compute it could read what does not exist, once its indices
/// have been simplified for counters that never count.
fn no_elements(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let replaced = match &node.op {
        Op::Source(_) | Op::Constant(_) => false,
        // Of an op of several results, the type is that of the first.
        op => {
            let single = op.as_compound().is_none();
            single && op.rules().effect() == Effect::Pure && is_empty(&node.ty)
        }
    };
    let zero = Literal::of(node.ty.dtype, 0.0);
    replaced.then(|| rw.constant(node.ty.clone(), zero))?
}

/// The same for what is fed without elements.
fn no_elements_read(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let mut operands = node.operands.clone();
    let mut changed = false;
    for operand in &mut operands {
        let fed = rw.node(*operand)?;
        if matches!(fed.op, Op::Source(_)) && is_empty(&fed.ty) {
            let ty = fed.ty.clone();
            let zero = Literal::of(ty.dtype, 0.0);
            *operand = rw.constant(ty, zero)?;
            changed = true;
        }
    }
    changed.then(|| rw.make(node.op.clone(), &operands))?
}

/// One reduction for each run of neighbouring axes, the innermost first, so that the axes of the outer runs keep their numbers. What is
/// accumulated in a wider type stays in it until the last run is done.
pub(super) fn reduce_by_runs(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reduce(op), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for axis in &op.axes {
        match runs.last_mut() {
            Some(run) if run.last() == Some(&(axis - 1)) => run.push(*axis),
            Some(_) | None => runs.push(vec![*axis]),
        }
    }
    if runs.len() < 2 {
        return None;
    }
    let dtype = node.ty.dtype;
    let wide = op.accumulate.unwrap_or_else(|| accumulator(dtype));
    let mut value = *x;
    if wide != dtype {
        value = rw.make(Convert { to: wide }, &[value])?;
    }
    for axes in runs.into_iter().rev() {
        let reduce = Reduce {
            kind: op.kind,
            axes,
            accumulate: None,
        };
        value = rw.make(reduce, &[value])?;
    }
    if wide != dtype {
        value = rw.make(Convert { to: dtype }, &[value])?;
    }
    Some(value)
}

fn gather_that_fails(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Gather(op), [x, indices]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if op.out_of_range != OutOfRange::Fail {
        return None;
    }
    let indices = guarded(rw, "gather", *indices, *x, op.axis)?;
    let gather = Gather {
        out_of_range: OutOfRange::Clamp,
        ..*op
    };
    rw.make(gather, &[*x, indices])
}

fn scatter_that_fails(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Scatter(op), [base, indices, updates]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if op.out_of_range != OutOfRange::Fail {
        return None;
    }
    let indices = guarded(rw, "scatter", *indices, *base, op.axis)?;
    let scatter = Scatter {
        out_of_range: OutOfRange::Skip,
        ..*op
    };
    rw.make(scatter, &[*base, indices, *updates])
}

/// The indices behind a guard that they are in the range of the axis.
fn guarded(
    rw: &mut Rewriter<'_>,
    op: &str,
    indices: NodeId,
    indexed: NodeId,
    axis: usize,
) -> Option<NodeId> {
    let extent = rw.ty(indexed)?.shape.get(axis)?.clone();
    let shape = rw.ty(indices)?.shape.clone();
    // As i64, an index that only u64 holds is negative, and so out of range as it should be.
    let wide = match rw.ty(indices)?.dtype {
        DType::I64 => indices,
        _ => rw.make(Convert { to: DType::I64 }, &[indices])?,
    };
    let message = format!("an index of `{op}` is not below the extent {extent} of axis {axis}");
    let limit = extent_as(rw, extent, &shape)?;
    let zero = rw.constant(TensorType::new(DType::I64, &shape), Literal::Int(0))?;
    let above = rw.make(Compare::Ge, &[wide, zero])?;
    let below = rw.make(Compare::Lt, &[wide, limit])?;
    let inside = rw.make(Binary::And, &[above, below])?;
    rw.make(Require { message }, &[indices, inside])
}

fn extent_as(rw: &mut Rewriter<'_>, extent: Dim, shape: &Shape) -> Option<NodeId> {
    let size = rw.make(DimSize { dim: extent }, &[])?;
    if shape.is_empty() {
        return Some(size);
    }
    let broadcast = Broadcast {
        shape: shape.clone(),
        axes: Vec::new(),
    };
    rw.make(broadcast, &[size])
}
