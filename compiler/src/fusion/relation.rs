//! How a consumer reaches a producer through the movement ops between them.

use super::squeezed;
use crate::access::{counters, linear, row_major_strides, through};
use crate::kernel::{Atom, Index, LoopId};
use kiln_ir::{Bindings, Dim, Graph, NodeId};

/// Where a consumer, at a point of its own space, reads a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// At the same point.
    Same,
    /// At the point's first counters.
    Prefix(usize),
    /// Somewhere else.
    Other {
        /// Whether some element is read at more than one point.
        replicates: bool,
    },
    /// In memory: the consumer is a product, or reads at computed places.
    Memory,
}

/// Follows movement ops down from `node`, read at `index`, to the first node that is `anchored`; `None` at a leaf that is not.
pub(super) fn walk(
    graph: &Graph,
    anchored: &[bool],
    node: NodeId,
    index: Vec<Index>,
    space: &[Dim],
) -> Option<(NodeId, Vec<Index>)> {
    let extents = |id: LoopId| space.get(id.index()).cloned();
    let (mut at, mut index) = (node, index);
    while !anchored[at.index()] {
        (at, index) = through(graph, graph.node(at)?, &index, &extents)?;
    }
    Some((at, index))
}

/// Classifies a read of a tensor of shape `producer` at `index`, from a space with these extents.
pub(super) fn classify(index: &[Index], producer: &[Dim], space: &[Dim]) -> Relation {
    let one = |d: &Dim| d.constant() == Some(1);
    let own: Vec<&Index> = index
        .iter()
        .zip(producer)
        .filter(|(_, d)| !one(d))
        .map(|(i, _)| i)
        .collect();
    let all = counters(space.len());
    let theirs: Vec<&Index> = all
        .iter()
        .zip(space)
        .filter(|(_, d)| !one(d))
        .map(|(i, _)| i)
        .collect();
    let (own_space, their_space) = (squeezed(producer), squeezed(space));
    let k = own.len();
    if k <= theirs.len() && own == theirs[..k] && own_space == their_space[..k] {
        return if k == theirs.len() {
            Relation::Same
        } else {
            Relation::Prefix(k)
        };
    }
    let mut seen = vec![false; space.len()];
    for i in index {
        i.visit_loops(&mut |id| {
            if let Some(seen) = seen.get_mut(id.index()) {
                *seen = true;
            }
        });
    }
    let replicates = seen.iter().zip(space).any(|(seen, d)| !seen && !one(d));
    Relation::Other { replicates }
}

/// An operand as a view of a tensor in memory, with a stride for each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    /// The tensor in memory.
    pub(crate) base: NodeId,
    /// The offset of the first element.
    pub(crate) offset: Dim,
    /// The stride along each axis.
    pub(crate) strides: Vec<Dim>,
}

/// An operand through the movement ops above `anchored` nodes, if they amount to strides: `None` where it has to be written out first.
pub(crate) fn strided(graph: &Graph, anchored: &[bool], operand: NodeId) -> Option<Strided> {
    let shape = &graph.node(operand)?.ty.shape;
    let (base, index) = walk(graph, anchored, operand, counters(shape.len()), shape)?;
    let offset = linear(&index, &graph.node(base)?.ty.shape);
    let mut strides = vec![Dim::from(0); shape.len()];
    for (atom, c) in offset.terms() {
        match atom {
            Atom::Loop(id) => *strides.get_mut(id.index())? = c.clone(),
            Atom::Value(_) | Atom::FloorDiv(..) | Atom::Mod(..) => return None,
        }
    }
    Some(Strided {
        base,
        offset: offset.base().clone(),
        strides,
    })
}

/// One side of a matrix product as a strided view of a tensor in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProductOperand {
    /// The tensor in memory.
    pub(crate) base: NodeId,
    /// The offset of the first element.
    pub(crate) offset: Dim,
    /// The stride along each batch axis.
    pub(crate) batch: Vec<Dim>,
    /// The stride along the free axes, taken as one.
    pub(crate) free: Dim,
    /// The stride along the contracted axes, taken as one.
    pub(crate) contract: Dim,
}

/// The operand of a product through the movement ops above `anchored` nodes, if they amount to strides: `None` where the operand has to
/// be written out first.
pub(crate) fn product_operand(
    graph: &Graph,
    anchored: &[bool],
    operand: NodeId,
    axes: [&[usize]; 3],
) -> Option<ProductOperand> {
    let shape = &graph.node(operand)?.ty.shape;
    let Strided {
        base,
        offset,
        strides,
    } = strided(graph, anchored, operand)?;
    let [batch, free, contract] = axes;
    let contract = as_one(contract, shape, &strides)?;
    // Products walk a contracted axis that lies backwards from its other end, which would be another order of sums.
    if is_backwards(&contract) {
        return None;
    }
    Some(ProductOperand {
        base,
        offset,
        batch: batch.iter().map(|a| strides[*a].clone()).collect(),
        free: as_one(free, shape, &strides)?,
        contract,
    })
}

/// Whether a stride is negative. Strides are products of extents, so they have the same sign for all sizes, or are 0.
fn is_backwards(stride: &Dim) -> bool {
    let mut bindings = Bindings::new();
    for symbol in stride.symbols() {
        bindings.insert(symbol, 32);
    }
    stride.eval(&bindings).is_ok_and(|s| s < 0)
}

/// The stride of several axes, outermost first, taken as one axis.
fn as_one(axes: &[usize], shape: &[Dim], strides: &[Dim]) -> Option<Dim> {
    let axes: Vec<usize> = axes
        .iter()
        .copied()
        .filter(|a| shape[*a].constant() != Some(1))
        .collect();
    let Some(last) = axes.last() else {
        return Some(Dim::from(1));
    };
    let extents: Vec<Dim> = axes.iter().map(|a| shape[*a].clone()).collect();
    let wanted = row_major_strides(&extents);
    let fits = |(a, radix): (&usize, &Dim)| strides[*a] == radix * &strides[*last];
    axes.iter()
        .zip(&wanted)
        .all(fits)
        .then(|| strides[*last].clone())
}
