//! Sums of padded tensors that lie side by side are one tensor, joined.
//!
//! The gradient of the four gates of an LSTM, slices of one tensor, arrives as four tensors padded with zeros and added up: four reads and
//! three additions for each element where one read does. The joined tensor keeps the sign of a zero, which the addition of +0 loses, so the
//! rule stands before the equality point.

use super::rewrite::Rewriter;
use kiln_ir::ops::{Binary, Concat, Literal, Op, Pad};
use kiln_ir::{Dim, Node, NodeId};

/// A tensor padded with zeros along one axis, if along any.
struct Padded {
    /// What is padded.
    inner: NodeId,
    zero: NodeId,
    pad: Pad,
}

impl Padded {
    fn of(rw: &Rewriter<'_>, id: NodeId) -> Option<Padded> {
        let node = rw.node(id)?;
        let (Op::Pad(pad), [inner, zero]) = (&node.op, node.operands.as_slice()) else {
            return None;
        };
        let plain = pad.interior.iter().all(|between| *between == 0);
        let is_zero = rw.splat(*zero) == Some(Literal::of(node.ty.dtype, 0.0));
        (plain && is_zero).then(|| Padded {
            inner: *inner,
            zero: *zero,
            pad: pad.clone(),
        })
    }

    /// The only axis along which there is any padding.
    fn axis(&self) -> Option<usize> {
        let zero = Dim::from(0);
        let widths = self.pad.low.iter().zip(&self.pad.high);
        let mut padded = widths
            .enumerate()
            .filter(|(_, (low, high))| **low != zero || **high != zero)
            .map(|(axis, _)| axis);
        let axis = padded.next()?;
        padded.next().is_none().then_some(axis)
    }

    /// Where it ends along the axis.
    fn end(&self, rw: &Rewriter<'_>, axis: usize) -> Option<Dim> {
        let extent = rw.ty(self.inner)?.shape.get(axis)?.clone();
        Some(&self.pad.low[axis] + &extent)
    }
}

/// `pad(a) + pad(b)`, where one lies right behind the other.
pub(super) fn sum_of_pads(rw: &mut Rewriter<'_>, node: &Node) -> Option<NodeId> {
    let (Op::Binary(Binary::Add), [l, r]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (l, r) = (Padded::of(rw, *l)?, Padded::of(rw, *r)?);
    let axis = l.axis()?;
    if r.axis() != Some(axis) {
        return None;
    }
    let (first, second) = if l.end(rw, axis)? == r.pad.low[axis] {
        (l, r)
    } else if r.end(rw, axis)? == l.pad.low[axis] {
        (r, l)
    } else {
        return None;
    };
    let mut parts = Vec::new();
    for id in [first.inner, second.inner] {
        match rw.node(id) {
            Some(Node {
                op: Op::Concat(concat),
                operands,
                ..
            }) if concat.axis == axis => parts.extend(operands.iter().copied()),
            Some(_) | None => parts.push(id),
        }
    }
    let joined = rw.make(Concat { axis }, &parts)?;
    let mut pad = first.pad;
    pad.high[axis] = second.pad.high[axis].clone();
    let zero = Dim::from(0);
    if pad.low[axis] == zero && pad.high[axis] == zero {
        return Some(joined);
    }
    rw.make(pad, &[joined, first.zero])
}
