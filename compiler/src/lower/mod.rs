//! From groups to kernels and products: each group of a graph becomes loops over memory.
//!
//! Lowering works in two steps. `points.rs` evaluates the roots of a group at one point of its space, into a flat list of values whose
//! indices speak of one counter for each axis. `nest.rs` decides which loops run over these axes and where in the nest each value is
//! computed. Neither knows of buffers: parameters of a kernel name nodes, and the planner gives them memory. `strips.rs` then cuts lanes
//! loops with transcendental functions into phases, before the planner asks what a kernel may do in place.

use crate::fusion::{Group, Groups, is_given, row_major};
use crate::kernel::{Kernel, SERIAL_BLOCK};
use kiln_ir::ops::Op;
use kiln_ir::{DType, Dim, Graph, NodeId};

mod blocks;
mod convolution;
mod name;
mod nest;
mod ordered;
mod points;
mod product;
mod scatter;
mod strips;
mod walks;

pub(crate) use points::MOST_ELEMENTS;
pub(crate) use strips::Strips;

pub(crate) use convolution::ConvolutionShape;
pub(crate) use product::ProductShape;

/// What a parameter of a kernel stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParamSource {
    /// The value of a node.
    Node(NodeId),
    /// One thread's row of this many elements.
    Scratch(DType, Dim),
    /// The blocks of a reduction that one group folds on the side and another finishes: this many elements of this type.
    Blocks(NodeId, DType, Dim),
}

/// A kernel with what its parameters stand for, and how it is launched.
#[derive(Clone, Debug)]
pub(crate) struct LoweredKernel {
    pub(crate) kernel: Kernel,
    pub(crate) params: Vec<ParamSource>,
    /// The trip count of the outermost loop.
    pub(crate) total: Dim,
    /// Ranges begin at multiples of this.
    pub(crate) grain: usize,
    /// Elements touched by one iteration.
    pub(crate) work: Dim,
    /// What runs instead where the result takes the memory of an operand that would be copied.
    pub(crate) over: Option<Box<Over>>,
}

/// A kernel for where a result is in the memory of its base already: only the parts that differ are written.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    /// The node whose memory it is.
    pub(crate) base: NodeId,
    /// The node that takes it.
    pub(crate) target: NodeId,
    /// The kernel, which has no parameter for the base.
    pub(crate) lowered: LoweredKernel,
}

/// A group as something to run.
#[derive(Clone, Debug)]
pub(crate) struct LoweredGroup {
    /// The product or convolution that comes first.
    pub(crate) product: Option<Contraction>,
    /// The kernel, or the product's epilogue.
    pub(crate) kernel: Option<LoweredKernel>,
    /// The compound op, which is all that its group computes.
    pub(crate) compound: Option<CompoundShape>,
}

/// A compound op over memory, but for the buffers and for what its regions become.
#[derive(Clone, Debug)]
pub(crate) struct CompoundShape {
    /// Its node.
    pub(crate) node: NodeId,
    /// The tensors in memory that its operands are.
    pub(crate) operands: Vec<NodeId>,
    /// For each of its results that is read, the position and the node.
    pub(crate) parts: Vec<(usize, NodeId)>,
}

/// The compound op of a group, if it computes one.
fn compound(graph: &Graph, group: &Group) -> Option<CompoundShape> {
    let mut members = group.members.iter().map(|(id, _)| *id);
    let node = members.find(|id| {
        let node = graph.node(*id);
        node.is_some_and(|n| n.op.as_compound().is_some())
    })?;
    let operands = graph.node(node)?.operands.iter();
    let part = |id: &NodeId| match graph.node(*id).map(|n| &n.op) {
        Some(Op::Part(part)) => Some((part.index, *id)),
        Some(_) | None => None,
    };
    Some(CompoundShape {
        node,
        operands: operands.map(|o| row_major(graph, *o)).collect(),
        parts: group.roots.iter().filter_map(part).collect(),
    })
}

/// A group that the compiler cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} of the graph cannot be lowered: {reason}")]
pub struct LowerError {
    /// The node.
    pub node: NodeId,
    /// What is missing.
    pub reason: String,
}

/// What the options and the machine say about lowering.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    /// Which loops call functions for strips.
    pub(crate) strips: Strips,
    /// Whether large products are summed in parts of bf16.
    pub(crate) split_products: bool,
}

/// Lowers every group of a partition, in order.
pub(crate) fn lower(
    graph: &Graph,
    groups: &Groups,
    choices: Choices,
) -> Result<Vec<LoweredGroup>, LowerError> {
    let mut stored = vec![false; graph.len()];
    for (id, node) in graph.nodes() {
        stored[id.index()] = is_given(node);
    }
    for root in groups.groups.iter().flat_map(|g| &g.roots) {
        stored[root.index()] = true;
    }
    groups
        .groups
        .iter()
        .map(|group| {
            let mut lowered = lower_group(graph, &stored, group, choices)?;
            if let Some(kernel) = &mut lowered.kernel {
                strips::cut(kernel, choices.strips);
            }
            Ok(lowered)
        })
        .collect()
}

fn lower_group(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
    choices: Choices,
) -> Result<LoweredGroup, LowerError> {
    if let Some(compound) = compound(graph, group) {
        return Ok(LoweredGroup {
            product: None,
            kernel: None,
            compound: Some(compound),
        });
    }
    let product = match group.product {
        Some(id) if graph.node(id).is_some_and(|n| matches!(n.op, Op::Conv(_))) => {
            Some(convolution::convolution(graph, stored, id)?)
        }
        Some(id) => Some(product::product(graph, stored, id, choices.split_products)?),
        None => None,
    };
    let computes = group.members.iter().any(|(n, _)| Some(*n) != group.product);
    let kernel = if let Some(mut lowered) = lower_alone(graph, stored, group)? {
        lowered.kernel.name = name::kernel_name(graph, group);
        if let Some(over) = &mut lowered.over {
            over.lowered.kernel.name = lowered.kernel.name.clone();
        }
        Some(lowered)
    } else if computes {
        let mut points = points::evaluate(graph, stored, group)?;
        let finishes = std::mem::take(&mut points.finishes);
        let mut lowered = nest::nest(points, &group.space, group.product.is_some());
        blocks::fold_first(&mut lowered, &finishes);
        if !group.sides.is_empty() {
            // A block belongs to one thread.
            lowered.grain = SERIAL_BLOCK as usize;
        }
        lowered.kernel.name = name::kernel_name(graph, group);
        Some(lowered)
    } else {
        None
    };
    Ok(LoweredGroup {
        product,
        kernel,
        compound: None,
    })
}

/// The kernel of an op that has loops of its own.
fn lower_alone(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
) -> Result<Option<LoweredKernel>, LowerError> {
    let root = group.roots.first();
    let Some((id, node)) = root.and_then(|r| Some((*r, graph.node(*r)?))) else {
        return Ok(None);
    };
    let lowered = match &node.op {
        Op::Scatter(op) => scatter::lower_scatter(graph, stored, group, id, op)?,
        Op::DynamicUpdateSlice(_) => scatter::lower_update(graph, stored, group, id)?,
        Op::Cumulative(op) => ordered::lower_running(graph, stored, group, id, op)?,
        Op::Sort(op) => {
            ordered::lower_rows(graph, stored, group, id, op.axis, op.descending, false)?
        }
        Op::Argsort(op) => {
            ordered::lower_rows(graph, stored, group, id, op.axis, op.descending, true)?
        }
        _ => return Ok(None),
    };
    Ok(Some(lowered))
}

/// What is computed by the runtime rather than by a kernel.
#[derive(Clone, Debug)]
pub(crate) enum Contraction {
    /// A matrix product.
    Product(Box<ProductShape>),
    /// A convolution.
    Convolution(Box<ConvolutionShape>),
}

impl Contraction {
    /// The node whose memory is the result.
    pub(crate) fn node(&self) -> NodeId {
        match self {
            Contraction::Product(product) => product.node,
            Contraction::Convolution(convolution) => convolution.node,
        }
    }

    /// The tensors in memory that the operands are views of.
    pub(crate) fn operands(&self) -> [NodeId; 2] {
        match self {
            Contraction::Product(product) => [product.lhs.base, product.rhs.base],
            Contraction::Convolution(convolution) => [convolution.lhs.base, convolution.rhs.base],
        }
    }
}

/// The trip count of axes taken as one.
pub(crate) fn count(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1), |n, d| &n * d)
}
