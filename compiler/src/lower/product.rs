//! Matrix products: operands as strided matrices, transposes absorbed into the strides.

use super::{Contraction, LowerError, count};
use crate::access::row_major_strides;
use crate::fusion::{ProductOperand, product_axes, product_operand};
use kiln_ir::ops::{Op, accumulator};
use kiln_ir::program::ProductSummation;
use kiln_ir::{DType, Dim, Graph, NodeId};

/// A product over memory, but for the buffers.
#[derive(Clone, Debug)]
pub(crate) struct ProductShape {
    /// The product's node, whose memory is the result.
    pub(crate) node: NodeId,
    pub(crate) dtype: DType,
    pub(crate) accumulate: DType,
    pub(crate) summation: ProductSummation,
    pub(crate) batch: Vec<Dim>,
    pub(crate) m: Dim,
    pub(crate) n: Dim,
    pub(crate) k: Dim,
    pub(crate) lhs: ProductOperand,
    pub(crate) rhs: ProductOperand,
    /// The result's strides along the batch axes.
    pub(crate) batch_strides: Vec<Dim>,
}

/// The terms from which on partial sums pay: there is one for each of them then.
const LONG: i64 = 32;

/// The product of a dot node.
///
/// A vector times a matrix that lies along the contracted axis is summed in partial sums. The op's own axes decide that, and not where an
/// operand lies: fusion absorbs transposes into strides, and bits do not depend on it.
pub(super) fn product(
    graph: &Graph,
    stored: &[bool],
    id: NodeId,
    split: bool,
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
    let accumulate = dot.accumulate.unwrap_or(accumulator(node.ty.dtype));
    let [m, n] = [0, 1].map(|side| count(&sizes(side, 1)));
    let k = count(&sizes(0, 2));
    let in_itself = accumulate == node.ty.dtype && matches!(accumulate, DType::F32 | DType::F64);
    let long = k.constant().is_none_or(|k| k >= LONG);
    let vector = is_one(&m) && contracts_last(shapes[1], &axes[1][2])
        || is_one(&n) && contracts_last(shapes[0], &axes[0][2]);
    let summation = if in_itself && long && vector {
        ProductSummation::Lanes
    } else if split && in_itself && accumulate == DType::F32 && is_large(&m, &n, &k) {
        ProductSummation::Split
    } else {
        ProductSummation::Chain
    };
    Ok(Contraction::Product(Box::new(ProductShape {
        node: id,
        dtype: node.ty.dtype,
        accumulate,
        summation,
        batch: sizes(0, 0),
        m,
        n,
        k,
        lhs: view(lhs, &axes[0])?,
        rhs: view(rhs, &axes[1])?,
        batch_strides: strides[..axes[0][0].len()].to_vec(),
    })))
}

/// Whether the last axes of a side are those that are contracted, in their order; axes of one element do not matter.
fn contracts_last(shape: &[Dim], contracted: &[usize]) -> bool {
    let walked = |axis: &usize| !is_one(&shape[*axis]);
    let contracted: Vec<usize> = contracted.iter().copied().filter(walked).collect();
    let all: Vec<usize> = (0..shape.len()).filter(walked).collect();
    !contracted.is_empty() && all.ends_with(&contracted)
}

/// Whether a product may be large enough to be split: an extent that is not known may be of any size.
fn is_large(m: &Dim, n: &Dim, k: &Dim) -> bool {
    let [m, n, k] = [m, n, k].map(|extent| match extent.constant() {
        Some(extent) => u64::try_from(extent).unwrap_or(0),
        None => u64::MAX,
    });
    ProductSummation::is_large(m, n, k)
}

fn is_one(extent: &Dim) -> bool {
    extent.constant() == Some(1)
}
