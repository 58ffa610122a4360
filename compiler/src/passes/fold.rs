//! Constant folding, to the very bits that a kernel would compute.
//!
//! Only constants of one number are folded: they stay one number whatever the shape, symbolic ones included. Sums and products over
//! axes are not, since their order of rounding belongs to the kernels; nor is anything that rounds to bf16 or f16.

use super::canonicalize::FAMILIES;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use crate::math::apply;
use kiln_ir::ops::{Literal, Op, ReduceKind};
use kiln_ir::{Graph, Node, NodeId};

/// Folds constants, and simplifies what that lays bare.
#[derive(Clone, Copy, Debug)]
pub struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        let [movement, choice, algebra] = FAMILIES;
        apply_rules(graph, self.name(), &[FOLDING, movement, choice, algebra])
    }
}

const FOLDING: &[Rule] = &[
    Rule {
        name: "fold-elements",
        apply: fold_elements,
    },
    Rule {
        name: "fold-movement",
        apply: fold_movement,
    },
    Rule {
        name: "fold-extent",
        apply: fold_extent,
    },
    Rule {
        name: "fold-reduction",
        apply: fold_reduction,
    },
];

/// How deep [`known`] looks.
const KNOWN_DEPTH: usize = 8;

/// The number that all elements of a node are, if a few steps of folding tell it; the graph is left as it is.
pub(super) fn known(rw: &Rewriter<'_>, id: NodeId) -> Option<Literal> {
    known_within(rw, id, KNOWN_DEPTH)
}

fn known_within(rw: &Rewriter<'_>, id: NodeId, depth: usize) -> Option<Literal> {
    if let Some(literal) = rw.splat(id) {
        return Some(literal);
    }
    let depth = depth.checked_sub(1)?;
    elements(rw, rw.node(id)?, |x| known_within(rw, x, depth))
}

/// An element-wise op on operands whose elements `value` knows.
fn elements(
    rw: &Rewriter<'_>,
    node: &Node,
    value: impl Fn(NodeId) -> Option<Literal>,
) -> Option<Literal> {
    let dtype = rw.ty(*node.operands.first()?)?.dtype;
    match (&node.op, node.operands.as_slice()) {
        (Op::Unary(op), [x]) => apply::unary(*op, dtype, value(*x)?),
        (Op::Binary(op), [x, y]) => apply::binary(*op, dtype, value(*x)?, value(*y)?),
        (Op::Compare(op), [x, y]) => {
            let holds = apply::compare(*op, dtype, value(*x)?, value(*y)?)?;
            Some(Literal::Int(i64::from(holds)))
        }
        (Op::Fma(_), [x, y, z]) => apply::fma(dtype, value(*x)?, value(*y)?, value(*z)?),
        (Op::Convert(op), [x]) => apply::convert(dtype, op.to, value(*x)?),
        (Op::Bitcast(op), [x]) => apply::bitcast(dtype, op.to, value(*x)?),
        _ => None,
    }
}

fn fold_elements(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let folded = elements(rw, node, |x| rw.splat(x))?;
    rw.constant(node.ty.clone(), folded)
}

/// Equal elements moved about are equal elements.
fn fold_movement(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let all_equal = matches!(
        node.op,
        Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Pad(_)
            | Op::Concat(_)
    );
    let (first, rest) = node.operands.split_first()?;
    let literal = rw.splat(*first).filter(|_| all_equal)?;
    if rest.iter().any(|x| rw.splat(*x) != Some(literal)) {
        return None;
    }
    rw.constant(node.ty.clone(), literal)
}

/// An extent that is a number, and the only index of an axis of one element.
fn fold_extent(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let literal = match &node.op {
        Op::DimSize(op) => Literal::Int(op.dim.constant()?),
        Op::Iota(op) if op.ty.shape.get(op.axis)?.constant() == Some(1) => {
            if op.ty.dtype.is_float() {
                Literal::Float(0)
            } else {
                Literal::Int(0)
            }
        }
        _ => return None,
    };
    rw.constant(node.ty.clone(), literal)
}

/// The extreme of equal elements, if there are any.
fn fold_reduction(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Reduce(op), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    match op.kind {
        ReduceKind::Max | ReduceKind::Min | ReduceKind::Any | ReduceKind::All => {}
        ReduceKind::Sum | ReduceKind::Prod => return None,
    }
    let literal = rw.splat(*x)?;
    let shape = &rw.ty(*x)?.shape;
    let some = |axis: &usize| shape[*axis].constant().is_some_and(|extent| extent > 0);
    if !op.axes.iter().all(some) {
        return None;
    }
    rw.constant(node.ty.clone(), literal)
}
