//! Common subexpressions: pure nodes that compute the same from the same are one node.

use super::rewrite::{Fate, rewrite};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{Binary, Compare, Effect, Op};
use kiln_ir::{Graph, NodeId};
use std::collections::BTreeMap;

/// Value numbering by op, operands and type. Nodes with effects and sources are never shared.
#[derive(Clone, Copy, Debug)]
pub struct Cse;

impl Pass for Cse {
    fn name(&self) -> &'static str {
        "cse"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        // Nodes of one op name and the same operands, which are few; the attributes are compared one by one.
        let mut classes: BTreeMap<(&'static str, Vec<NodeId>), Vec<NodeId>> = BTreeMap::new();
        rewrite(graph, self.name(), |rewriter, id, node| {
            let pure = match node.op.rules().effect() {
                Effect::Pure => true,
                Effect::Fallible | Effect::Host => false,
            };
            if !pure || matches!(node.op, Op::Source(_)) {
                return Fate::Copy;
            }
            let mut operands = node.operands.clone();
            if commutes(&node.op) {
                operands.sort_unstable();
            }
            let class = classes
                .entry((node.op.rules().name(), operands))
                .or_default();
            // Members are old ids: the new id of the first is known only once it has been copied.
            let same = class.iter().copied().find(|member| {
                graph
                    .node(*member)
                    .is_some_and(|m| m.op == node.op && m.ty == node.ty)
            });
            match same.and_then(|old| rewriter.new_id(old)) {
                Some(new) => Fate::Replace(new),
                None => {
                    class.push(id);
                    Fate::Copy
                }
            }
        })
    }
}

/// Whether the order of the two operands plays no part.
fn commutes(op: &Op) -> bool {
    match op {
        Op::Binary(op) => match op {
            Binary::Add
            | Binary::Mul
            | Binary::Max
            | Binary::Min
            | Binary::And
            | Binary::Or
            | Binary::Xor => true,
            Binary::Sub
            | Binary::Div
            | Binary::Rem
            | Binary::Pow
            | Binary::Atan2
            | Binary::Shl
            | Binary::Shr => false,
        },
        Op::Compare(op) => match op {
            Compare::Eq | Compare::Ne => true,
            Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge => false,
        },
        _ => false,
    }
}
