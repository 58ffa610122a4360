//! Powers with a known exponent become what they mean. `pow` is good to 2 ULP and a product to half of one, so results may be rounded
//! differently, and the pass stands before the equality point.

use super::fold::known;
use super::literal;
use super::rewrite::{Rewriter, Rule, apply_rules};
use super::{Numerics, Pass, PassCx, PassError};
use kiln_ir::ops::{Binary, Literal, Op, Unary};
use kiln_ir::{Graph, Node, NodeId};

/// Replaces powers by cheaper ops that are at least as accurate.
#[derive(Clone, Copy, Debug)]
pub struct ReduceStrength;

impl Pass for ReduceStrength {
    fn name(&self) -> &'static str {
        "reduce_strength"
    }

    fn numerics(&self) -> Numerics {
        Numerics::Reorders
    }

    fn run(&self, graph: &Graph, _: &PassCx<'_>) -> Result<Graph, PassError> {
        apply_rules(graph, self.name(), STRENGTH)
    }
}

const STRENGTH: &[&[Rule]] = &[&[Rule {
    name: "known-power",
    apply: known_power,
}]];

/// `x^0`, `x^1`, `x^2` and `x^-1`. Not `x^0.5`: of -0.0 and of -inf it is not the square root.
fn known_power(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Binary(Binary::Pow), [x, y]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    // The exponent in a gradient is an unfolded `2 - 1`.
    let exponent = literal::float(known(rw, *y)?)?;
    if exponent == 0.0 {
        rw.constant(node.ty.clone(), Literal::Float(1.0f64.to_bits()))
    } else if exponent == 1.0 {
        Some(*x)
    } else if exponent == 2.0 {
        rw.make(Binary::Mul, &[*x, *x])
    } else if exponent == -1.0 {
        rw.make(Unary::Recip, &[*x])
    } else {
        None
    }
}
