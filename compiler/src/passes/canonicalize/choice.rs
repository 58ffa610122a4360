//! Truth values, choices and conversions.

use crate::passes::literal;
use crate::passes::rewrite::{Rewriter, Rule};
use kiln_ir::ops::{Compare, Convert, Op, Select, Unary};
use kiln_ir::{Class, DType, Node, NodeId};

/// The rules of this family.
pub(super) const CHOICE: &[Rule] = &[
    Rule {
        name: "not-of-not",
        apply: not_of_not,
    },
    Rule {
        name: "not-of-compare",
        apply: not_of_compare,
    },
    Rule {
        name: "compare-constant-right",
        apply: compare_constant_right,
    },
    Rule {
        name: "select-of-constant",
        apply: select_of_constant,
    },
    Rule {
        name: "select-of-same",
        apply: select_of_same,
    },
    Rule {
        name: "select-of-not",
        apply: select_of_not,
    },
    Rule {
        name: "require-of-true",
        apply: require_of_true,
    },
    Rule {
        name: "convert-of-widening",
        apply: convert_of_widening,
    },
];

fn not_of_not(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Unary(Unary::Not), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    rw.as_unary(Unary::Not, *x)
}

/// Of floats only eq and ne are each other's opposite; with NaN, `not (x < y)` is not `x >= y`.
fn not_of_compare(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Unary(Unary::Not), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let inner = rw.node(*x)?;
    let (Op::Compare(op), [a, b]) = (&inner.op, inner.operands.as_slice()) else {
        return None;
    };
    let (a, b) = (*a, *b);
    let ordered = !rw.ty(a)?.dtype.is_float();
    let opposite = match op {
        Compare::Eq => Compare::Ne,
        Compare::Ne => Compare::Eq,
        Compare::Lt if ordered => Compare::Ge,
        Compare::Le if ordered => Compare::Gt,
        Compare::Gt if ordered => Compare::Le,
        Compare::Ge if ordered => Compare::Lt,
        Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge => return None,
    };
    rw.make(opposite, &[a, b])
}

fn compare_constant_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Compare(op), [x, y]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if rw.splat(*x).is_none() || rw.splat(*y).is_some() {
        return None;
    }
    let mirrored = match op {
        Compare::Eq => Compare::Eq,
        Compare::Ne => Compare::Ne,
        Compare::Lt => Compare::Gt,
        Compare::Le => Compare::Ge,
        Compare::Gt => Compare::Lt,
        Compare::Ge => Compare::Le,
    };
    rw.make(mirrored, &[*y, *x])
}

fn select_of_constant(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Select(_), [condition, yes, no]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let condition = rw.splat(*condition)?;
    Some(if literal::is(condition, 0) { *no } else { *yes })
}

fn select_of_same(_: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Select(_), [_, yes, no]) if yes == no => Some(*yes),
        _ => None,
    }
}

fn select_of_not(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Select(_), [condition, yes, no]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let condition = rw.as_unary(Unary::Not, *condition)?;
    rw.make(Select, &[condition, *no, *yes])
}

/// A guard whose condition always holds is its value.
fn require_of_true(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Require(_), [value, condition]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    literal::is(rw.splat(*condition)?, 1).then_some(*value)
}

/// A conversion depends on the value alone, so one that loses nothing need not come before another.
fn convert_of_widening(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Convert(outer), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let node = rw.node(*x)?;
    let (Op::Convert(inner), [from]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (middle, from) = (inner.to, *from);
    let first = rw.ty(from)?.dtype;
    if !holds_exactly(middle, first) {
        return None;
    }
    // From a float a number that does not fit an integer becomes the nearest one, from an integer it wraps.
    let between = middle.is_float() && !first.is_float() && !outer.to.is_float();
    if between && outer.to != DType::Bool && !holds_exactly(outer.to, first) {
        return None;
    }
    if first == outer.to {
        return Some(from);
    }
    rw.make(Convert { to: outer.to }, &[from])
}

/// Whether every number of `narrow` is one of `wide`.
fn holds_exactly(wide: DType, narrow: DType) -> bool {
    let bits = 8 * narrow.size();
    // The bits of the magnitude, which a float holds in its significand; the least number of a signed type is a power of two.
    let magnitude = match narrow.class() {
        Class::Bool => 1,
        Class::Unsigned => bits,
        Class::Signed => bits - 1,
        Class::Float => 0,
    };
    match (narrow.class(), wide.class()) {
        (Class::Float, Class::Float) => match wide {
            DType::F64 => true,
            DType::F32 => narrow != DType::F64,
            _ => narrow == wide,
        },
        (Class::Float, _) => false,
        (_, Class::Float) => {
            let significand = match wide {
                DType::F64 => 53,
                DType::F32 => 24,
                DType::F16 => 11,
                _ => 8,
            };
            magnitude <= significand
        }
        (_, Class::Bool) => narrow == DType::Bool,
        (Class::Signed, Class::Unsigned) => false,
        (_, Class::Signed) => magnitude < 8 * wide.size(),
        (_, Class::Unsigned) => magnitude <= 8 * wide.size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_type_holds_the_extremes_of_a_narrow_one() {
        use DType::*;
        for (wide, narrow) in [
            (F64, I32),
            (F64, U32),
            (F32, I16),
            (F32, BF16),
            (F32, F16),
            (F16, U8),
            (BF16, I8),
            (I16, U8),
            (U64, U32),
            (I64, U32),
            (I8, Bool),
            (F16, Bool),
            (I32, I32),
            (F64, F32),
        ] {
            assert!(holds_exactly(wide, narrow), "{wide} holds {narrow}");
        }
        for (wide, narrow) in [
            (F32, I32),
            (F64, I64),
            (BF16, I16),
            (F16, BF16),
            (BF16, F16),
            (U64, I8),
            (I8, U8),
            (I32, F32),
            (Bool, U8),
            (U8, I8),
            (F16, I16),
            (I32, U32),
        ] {
            assert!(
                !holds_exactly(wide, narrow),
                "{wide} does not hold {narrow}"
            );
        }
    }
}
