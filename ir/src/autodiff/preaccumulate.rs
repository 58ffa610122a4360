//! Slopes of gates: element-wise functions of one tensor that the tensor enters in several places, as in `x logistic(x)` and `x erf(x)`.
//!
//! Pulled back op by op, the cotangent meets every term of such a function, and so all that the terms are computed from is kept for it.
//! Here the slope is put together first and multiplied with the cotangent once: Griewank and Walther, "Evaluating Derivatives" (2008),
//! chapter 10, call it preaccumulation of a local Jacobian, which of an element-wise function is a diagonal. The slope hangs on nothing of
//! the backward pass, so that it can be computed and kept in place of what it hangs on.

use super::pull;
use crate::builder::{Builder, Tensor};
use crate::graph::Node;
use crate::ids::NodeId;
use crate::ops::{Binary, Cost, Op};
use std::collections::{BTreeMap, BTreeSet};

/// A gate has at most this many ops.
const MOST_OPS: usize = 32;

/// An element-wise function of one tensor.
pub(super) struct Gate {
    /// The tensor.
    of: NodeId,
    /// What is computed of it, from the result on downwards.
    ops: Vec<NodeId>,
}

impl Gate {
    /// The gate whose result is `result`, which is `node`, if it is one that takes a long function: the cotangent of a shorter one costs next
    /// to nothing.
    ///
    /// `readers` counts for each node which of those that the cotangents pass read it; what is `asked` for must get a cotangent of its own.
    pub(super) fn ending_at(
        builder: &Builder,
        result: NodeId,
        node: &Node,
        needed: &[bool],
        readers: &[u32],
        asked: impl Fn(NodeId) -> bool,
    ) -> Option<Gate> {
        smooth_cost(&node.op)?;
        let ty = &node.ty;
        let mut ops = Vec::new();
        let mut reads: BTreeMap<NodeId, u32> = BTreeMap::new();
        let mut open = BTreeSet::from([result]);
        let (mut forked, mut long) = (false, false);
        while let Some(id) = open.pop_last() {
            if open.is_empty() && id != result {
                return (forked && long).then_some(Gate { of: id, ops });
            }
            let node = builder.node(id)?;
            let within = id == result || reads.get(&id) == Some(&readers[id.index()]) && !asked(id);
            let alike = node.ty == *ty;
            if !within || !alike || ops.len() == MOST_OPS {
                return None;
            }
            long |= smooth_cost(&node.op)? == Cost::Long;
            ops.push(id);
            for operand in node.operands.iter().filter(|o| needed[o.index()]) {
                *reads.entry(*operand).or_default() += 1;
                open.insert(*operand);
            }
            forked |= open.len() > 1;
        }
        None
    }

    /// The tensor that the gate is a function of.
    pub(super) fn of(&self) -> NodeId {
        self.of
    }

    /// Appends the derivative of each element of the result by that of the tensor; `None` where it is 0 by the rules of the ops.
    #[track_caller]
    pub(super) fn slope<'g>(&self, builder: &'g Builder) -> Option<Tensor<'g>> {
        let result = *self.ops.first()?;
        let ty = builder.node(result)?.ty;
        let one = builder.splat(ty.dtype, ty.shape, 1.0);
        let mut cotangents = BTreeMap::from([(result, one)]);
        let needed = |id: NodeId| id == self.of || self.ops.contains(&id);
        for id in &self.ops {
            if let Some(cotangent) = cotangents.get(id).copied() {
                let node = builder.node(*id)?;
                pull(
                    builder,
                    *id,
                    &node,
                    cotangent,
                    Vec::new(),
                    &needed,
                    &mut cotangents,
                );
            }
        }
        cotangents.get(&self.of).copied()
    }
}

/// What an op costs, if it is element-wise and its rule multiplies the cotangent. One that chooses lets it through or gives 0 in its place,
/// however large it is; the product of an infinite cotangent with a slope of 0 would be no number.
fn smooth_cost(op: &Op) -> Option<Cost> {
    match op {
        Op::Unary(op) => Some(op.cost()),
        Op::Fma(_) => Some(Cost::Short),
        Op::Binary(op) => match op {
            Binary::Max | Binary::Min | Binary::Pow => None,
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Div
            | Binary::Rem
            | Binary::Atan2
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::Shl
            | Binary::Shr => Some(op.cost()),
        },
        Op::Compare(_)
        | Op::Select(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::StopGradient(_)
        | Op::Require(_)
        | Op::Source(_)
        | Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
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
    }
}
