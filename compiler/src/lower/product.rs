//! Matrix products: operands as strided matrices, transposes absorbed into the strides.

use super::{Contraction, LowerError, count};
use crate::access::row_major_strides;
use crate::fusion::{ProductOperand, product_axes, product_operand};
use kiln_ir::ops::{Op, accumulator};
use kiln_ir::{DType, Dim, Graph, NodeId};

/// A product over memory, but for the buffers.
#[derive(Clone, Debug)]
pub(crate) struct ProductShape {
    /// The product's node, whose memory is the result.
    pub(crate) node: NodeId,
    pub(crate) dtype: DType,
    pub(crate) accumulate: DType,
    pub(crate) batch: Vec<Dim>,
    pub(crate) m: Dim,
    pub(crate) n: Dim,
    pub(crate) k: Dim,
    pub(crate) lhs: ProductOperand,
    pub(crate) rhs: ProductOperand,
    /// The result's strides along the batch axes.
    pub(crate) batch_strides: Vec<Dim>,
}

/// The product of a dot node.
pub(super) fn product(
    graph: &Graph,
    stored: &[bool],
    id: NodeId,
) -> Result<Contraction, LowerError> {
    let wrong = |reason: &str| LowerError {
        node: id,
        reason: reason.into(),
    };
    let node = graph.node(id).ok_or_else(|| wrong("it does not exist"))?;
    let (Op::Dot(dot), [lhs, rhs]) = (&node.op, node.operands.as_slice()) else {
        return Err(wrong("it is no product of two operands"));
    };
    let (lhs, rhs) = (*lhs, *rhs);
    let shapes = [lhs, rhs].map(|o| graph.node(o).map(|n| &n.ty.shape[..]).unwrap_or(&[]));
    let axes = product_axes(dot, shapes.map(<[Dim]>::len));
    let view = |operand: NodeId, axes: &[Vec<usize>; 3]| {
        product_operand(graph, stored, operand, [&axes[0], &axes[1], &axes[2]])
            .ok_or_else(|| wrong("an operand is no strided matrix"))
    };
    let sizes = |side: usize, kind: usize| -> Vec<Dim> {
        axes[side][kind]
            .iter()
            .map(|a| shapes[side][*a].clone())
            .collect()
    };
    let strides = row_major_strides(&node.ty.shape);
    Ok(Contraction::Product(Box::new(ProductShape {
        node: id,
        dtype: node.ty.dtype,
        accumulate: dot.accumulate.unwrap_or(accumulator(node.ty.dtype)),
        batch: sizes(0, 0),
        m: count(&sizes(0, 1)),
        n: count(&sizes(1, 1)),
        k: count(&sizes(0, 2)),
        lhs: view(lhs, &axes[0])?,
        rhs: view(rhs, &axes[1])?,
        batch_strides: strides[..axes[0][0].len()].to_vec(),
    })))
}
