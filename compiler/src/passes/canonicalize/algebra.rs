//! Arithmetic that is exact for every operand: NaN, infinities, zeros of both signs and integers that wrap.

use crate::passes::literal;
use crate::passes::rewrite::{Rewriter, Rule};
use kiln_ir::ops::{Binary, Literal, Op, Unary};
use kiln_ir::{DType, Node, NodeId};

/// The rules of this family.
pub(super) const ALGEBRA: &[Rule] = &[
    Rule {
        name: "neg-of-neg",
        apply: neg_of_neg,
    },
    Rule {
        name: "abs-of-sign",
        apply: abs_of_sign,
    },
    Rule {
        name: "constant-right",
        apply: constant_right,
    },
    Rule {
        name: "neutral-right",
        apply: neutral_right,
    },
    Rule {
        name: "absorbing-right",
        apply: absorbing_right,
    },
    Rule {
        name: "same-operands",
        apply: same_operands,
    },
    Rule {
        name: "add-of-neg",
        apply: add_of_neg,
    },
    Rule {
        name: "sub-of-neg",
        apply: sub_of_neg,
    },
    Rule {
        name: "recip",
        apply: recip,
    },
    Rule {
        name: "div-by-power-of-two",
        apply: div_by_power_of_two,
    },
];

fn binary(node: &Node) -> Option<(Binary, NodeId, NodeId)> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Binary(op), [x, y]) => Some((*op, *x, *y)),
        _ => None,
    }
}

fn neg_of_neg(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Unary(Unary::Neg), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    rw.as_unary(Unary::Neg, *x)
}

/// `abs` forgets a sign that was flipped or cleared just before.
fn abs_of_sign(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Unary(Unary::Abs), [x]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    if rw.as_unary(Unary::Abs, *x).is_some() {
        return Some(*x);
    }
    // Of unsigned numbers `neg` wraps, and `abs` does not undo that.
    if matches!(rw.ty(*x)?.dtype.class(), kiln_ir::Class::Unsigned) {
        return None;
    }
    let inner = rw.as_unary(Unary::Neg, *x)?;
    rw.make(Unary::Abs, &[inner])
}

fn constant_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (op, x, y) = binary(node)?;
    let commutes = match op {
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
    };
    if !commutes || rw.splat(x).is_none() || rw.splat(y).is_some() {
        return None;
    }
    rw.make(op, &[y, x])
}

/// `x + -0.0`, `x - 0.0`, `x * 1`, `x / 1`, `x and all ones`, `x or 0`, `x xor 0`, shifts by 0.
fn neutral_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (op, x, y) = binary(node)?;
    let y = rw.splat(y)?;
    let neutral = match op {
        Binary::Add => literal::is_additive_identity(y),
        Binary::Sub | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => literal::is(y, 0),
        Binary::Mul | Binary::Div => literal::is(y, 1),
        Binary::And => literal::is_all_ones(node.ty.dtype, y),
        Binary::Rem | Binary::Pow | Binary::Atan2 | Binary::Max | Binary::Min => false,
    };
    neutral.then_some(x)
}

/// Of integers and truth values: `x * 0`, `x and 0`, `x or all ones`.
fn absorbing_right(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (op, _, y) = binary(node)?;
    if node.ty.dtype.is_float() {
        return None;
    }
    let known = rw.splat(y)?;
    let absorbs = match op {
        Binary::Mul | Binary::And => literal::is(known, 0),
        Binary::Or => literal::is_all_ones(node.ty.dtype, known),
        _ => false,
    };
    absorbs.then_some(y)
}

/// `max(x, x)`, `min(x, x)`, `x and x`, `x or x`; of integers and truth values also `x - x` and `x xor x`.
fn same_operands(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (op, x, y) = binary(node)?;
    if x != y {
        return None;
    }
    match op {
        Binary::Max | Binary::Min | Binary::And | Binary::Or => Some(x),
        Binary::Sub | Binary::Xor if !node.ty.dtype.is_float() => {
            rw.constant(node.ty.clone(), Literal::Int(0))
        }
        _ => None,
    }
}

/// `x + -y` is `x - y`, and `-x + y` is `y - x`.
fn add_of_neg(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Binary::Add, x, y) = binary(node)? else {
        return None;
    };
    if let Some(y) = rw.as_unary(Unary::Neg, y) {
        return rw.make(Binary::Sub, &[x, y]);
    }
    let x = rw.as_unary(Unary::Neg, x)?;
    rw.make(Binary::Sub, &[y, x])
}

/// `x - -y` is `x + y`.
fn sub_of_neg(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Binary::Sub, x, y) = binary(node)? else {
        return None;
    };
    let y = rw.as_unary(Unary::Neg, y)?;
    rw.make(Binary::Add, &[x, y])
}

/// `1 / x` of floats; the op `recip` is that very division.
fn recip(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Binary::Div, x, y) = binary(node)? else {
        return None;
    };
    if !node.ty.dtype.is_float() || !literal::is(rw.splat(x)?, 1) {
        return None;
    }
    rw.make(Unary::Recip, &[y])
}

/// Where the divisor is a power of two whose inverse is a normal number, the product with the inverse is the same real number.
fn div_by_power_of_two(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Binary::Div, x, y) = binary(node)? else {
        return None;
    };
    let divisor = literal::float(rw.splat(y)?)?;
    let inverse = divisor.recip();
    let exact = match node.ty.dtype {
        DType::F32 => (divisor as f32).is_normal() && (inverse as f32).is_normal(),
        DType::F64 => divisor.is_normal() && inverse.is_normal(),
        _ => false,
    };
    let significand = divisor.to_bits() & ((1 << 52) - 1);
    if !exact || significand != 0 {
        return None;
    }
    let inverse = Literal::Float(inverse.to_bits());
    let inverse = rw.constant(node.ty.clone(), inverse)?;
    rw.make(Binary::Mul, &[x, inverse])
}
