//! How ops that move elements turn an index of their result into an index of their operand.
//!
//! This is the one place that knows it: fusion asks it how a consumer reaches a producer, lowering asks it where to load. Masks (pad,
//! concat) and computed indices (gather) are not movement in this sense and are lowered on their own.

use crate::kernel::{Index, LoopId};
use kiln_ir::ops::Op;
use kiln_ir::{Dim, Graph, Node, NodeId, Shape};

/// The trip count of a loop, where it is known.
pub(crate) type Extents<'e> = dyn Fn(LoopId) -> Option<Dim> + 'e;

/// The counters of a space: loop `i` runs along axis `i`.
pub(crate) fn counters(rank: usize) -> Vec<Index> {
    (0..rank)
        .map(|axis| Index::counter(LoopId(axis as u32)))
        .collect()
}

/// The strides of a row-major tensor, in elements.
pub(crate) fn row_major_strides(shape: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::from(1); shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = &strides[axis] * &shape[axis];
    }
    strides
}

/// The offset of an element from the start of a row-major tensor.
pub(crate) fn linear(index: &[Index], shape: &[Dim]) -> Index {
    let strides = row_major_strides(shape);
    let terms = index.iter().zip(&strides).map(|(i, s)| i.times(s));
    terms.fold(Index::constant(0), |sum, term| sum.plus(&term))
}

/// The index along each axis of the element at a row-major offset.
pub(crate) fn unravel(offset: &Index, shape: &[Dim], extents: &Extents<'_>) -> Vec<Index> {
    if shape.iter().any(|d| d.constant() == Some(0)) {
        // There is no element, and nothing to divide by. The index still follows the counter, lest an access be moved out of its loop,
        // which never runs.
        return vec![offset.clone(); shape.len()];
    }
    let extent = |id| extents(id);
    let mut rest = offset.clone();
    let mut index = vec![Index::constant(0); shape.len()];
    for (axis, size) in shape.iter().enumerate().rev() {
        if axis == 0 {
            index[0] = rest.clone();
        } else {
            index[axis] = rest.modulo(size, &extent);
            rest = rest.floor_div(size, &extent);
        }
    }
    index
}

/// Where a movement op reads its only operand for the element `index` of its result; `None` for every other op.
pub(crate) fn through(
    graph: &Graph,
    node: &Node,
    index: &[Index],
    extents: &Extents<'_>,
) -> Option<(NodeId, Vec<Index>)> {
    let operand = *node.operands.first()?;
    let from = &graph.node(operand)?.ty.shape;
    let moved = match &node.op {
        Op::Broadcast(broadcast) => {
            let axes = broadcast.axes.iter().zip(from.iter());
            axes.map(|(to, size)| {
                if size.constant() == Some(1) {
                    Index::constant(0)
                } else {
                    index[*to].clone()
                }
            })
            .collect()
        }
        Op::Reshape(_) => reshaped(index, &node.ty.shape, from, extents),
        Op::Transpose(transpose) => {
            let mut moved = vec![Index::constant(0); from.len()];
            for (to, axis) in transpose.order.iter().enumerate() {
                moved[*axis] = index[to].clone();
            }
            moved
        }
        Op::Slice(slice) => index
            .iter()
            .enumerate()
            .map(|(axis, i)| {
                i.times(&Dim::from(slice.stride[axis]))
                    .offset(&slice.start[axis])
            })
            .collect(),
        Op::Reverse(reverse) => index
            .iter()
            .enumerate()
            .map(|(axis, i)| {
                if reverse.axes.contains(&axis) {
                    let last = &from[axis] - &Dim::from(1);
                    i.times(&Dim::from(-1)).offset(&last)
                } else {
                    i.clone()
                }
            })
            .collect(),
        // A condition is checked by a guard of the program; the value goes through as it is.
        Op::StopGradient(_) | Op::Require(_) => index.to_vec(),
        Op::Source(_)
        | Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Fma(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Pad(_)
        | Op::Concat(_)
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
        | Op::CustomCall(_) => return None,
    };
    Some((operand, moved))
}

/// Axes that both shapes share at the front and at the back keep their indices; only the middle goes through the row-major offset.
fn reshaped(index: &[Index], to: &Shape, from: &Shape, extents: &Extents<'_>) -> Vec<Index> {
    let shorter = to.len().min(from.len());
    let front = (0..shorter).take_while(|i| to[*i] == from[*i]).count();
    let back = (0..shorter - front)
        .take_while(|i| to[to.len() - 1 - i] == from[from.len() - 1 - i])
        .count();
    let (to_end, from_end) = (to.len() - back, from.len() - back);
    let middle = linear(&index[front..to_end], &to[front..to_end]);
    let mut moved = index[..front].to_vec();
    moved.extend(unravel(&middle, &from[front..from_end], extents));
    moved.extend_from_slice(&index[to_end..]);
    moved
}

/// A concatenation of more parts is not stored part by part, so that nothing is joined for its sake either.
pub(crate) const MOST_PARTS: usize = 8;

/// Whether each element of a node is computed from those of its operands at the same place.
pub(crate) fn is_element_wise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{Builder, DType};

    fn graph_of(build: impl for<'g> Fn(&'g Builder) -> kiln_ir::Tensor<'g>) -> Graph {
        let g = Builder::new("access");
        g.output("o", build(&g));
        g.finish().unwrap()
    }

    /// The operand index of the output's node for its own counters.
    fn reached(graph: &Graph) -> Vec<Index> {
        let node = graph.node(graph.outputs()[0].node).unwrap();
        let shape = node.ty.shape.clone();
        let extents = |id: LoopId| shape.get(id.index()).cloned();
        let index = counters(node.ty.rank());
        through(graph, node, &index, &extents).unwrap().1
    }

    #[test]
    fn movement_moves_counters() {
        let c = counters(3);
        let graph = graph_of(|g| g.input("x", DType::F32, (g.dim("b"), 3)).transpose(&[1, 0]));
        assert_eq!(reached(&graph), [c[1].clone(), c[0].clone()]);
        let graph = graph_of(|g| g.input("x", DType::F32, [3, 1]).broadcast_to([2, 3, 4]));
        assert_eq!(reached(&graph), [c[1].clone(), Index::constant(0)]);
        let graph = graph_of(|g| {
            let x = g.input("x", DType::F32, [9]);
            x.slice(&[Dim::from(1)], &[Dim::from(8)], &[3])
        });
        assert_eq!(
            reached(&graph),
            [c[0].times(&Dim::from(3)).offset(&Dim::from(1))]
        );
    }

    #[test]
    fn reshapes_keep_shared_axes_and_split_the_rest() {
        let c = counters(3);
        let graph = graph_of(|g| {
            let (b, t) = (g.dim("b"), g.dim("t"));
            g.input("x", DType::F32, (&b * &t, 7)).reshape((b, t, 7))
        });
        let t = Dim::symbol("t");
        assert_eq!(reached(&graph), [c[0].times(&t).plus(&c[1]), c[2].clone()]);
        let graph = graph_of(|g| {
            let (b, t) = (g.dim("b"), g.dim("t"));
            g.input("x", DType::F32, (g.dim("b"), g.dim("t"), 7))
                .reshape((&b * &t, 7))
        });
        // The offset of an unravelled index is the offset itself.
        let index = reached(&graph);
        let shape = [Dim::symbol("b"), t, Dim::from(7)];
        assert_eq!(
            linear(&index, &shape),
            linear(&counters(2), &[Dim::symbol("b"), Dim::from(7)])
        );
    }
}
