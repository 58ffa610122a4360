//! The work that a graph asks for: the FLOPs of its matrix products and convolutions.
//!
//! Counted in the graph as it was built, so that neither a rewritten graph nor a forgotten product changes the figure. What nothing reads
//! does not count: differentiation writes the inputs' gradients too.

use kiln_ir::{BindError, Bindings, Dim, Graph, Node, NodeId, Op, Origin, Shape};

/// Why FLOPs cannot be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlopsError {
    /// A size that has no value.
    #[error(transparent)]
    Size(#[from] BindError),
    /// A node that refers to none: the graph was put together by hand.
    #[error("the graph has no {0}")]
    Node(NodeId),
    /// Neither a product nor a convolution.
    #[error("`{0}` multiplies no matrices")]
    Op(&'static str),
}

/// The FLOPs, two for each multiply and add, of what a graph's outputs and updates need, those of scans counted for each iteration.
///
/// # Errors
/// [`FlopsError::Size`] where `bindings` leave a symbol without a value.
///
/// ```
/// use kiln_ir::{Bindings, Builder, DType, Init};
/// use kiln_train::flops::flops;
///
/// let g = Builder::new("product");
/// let x = g.input("x", DType::F32, (g.dim("b"), 3));
/// g.output("y", x.dot(g.param("w", (3, 5), Init::zeros())));
/// assert_eq!(flops(&g.finish()?, &Bindings::from([("b", 4)]))?, 2 * 4 * 3 * 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn flops(graph: &Graph, bindings: &Bindings) -> Result<u64, FlopsError> {
    let mut is_read = vec![false; graph.len()];
    let outputs = graph.outputs().iter().map(|output| output.node);
    let updates = graph.updates().iter().map(|update| update.value);
    outputs
        .chain(updates)
        .for_each(|node| is_read[node.index()] = true);
    let mut found = 0_u64;
    for (id, node) in graph.nodes().rev() {
        if !is_read[id.index()] {
            continue;
        }
        for operand in &node.operands {
            is_read[operand.index()] = true;
        }
        found += match &node.op {
            Op::Dot(_) => 2 * multiply_adds(graph, node, bindings)?,
            // An adjoint counts as what it is the adjoint of: both multiply the same pairs, besides padding.
            Op::Conv(_) => match node.provenance.origin {
                Origin::Vjp(of) => {
                    let of = graph.node(of).ok_or(FlopsError::Node(of))?;
                    2 * multiply_adds(graph, of, bindings)?
                }
                Origin::User | Origin::Pass(_) => 2 * multiply_adds(graph, node, bindings)?,
            },
            Op::Scan(scan) => {
                let trip = scan.trip.eval_size(bindings)? as u64;
                trip * flops(&scan.body, bindings)?
            }
            _ => continue,
        };
    }
    Ok(found)
}

/// The multiply-adds of a product or convolution as its definition has them, those with padding among them.
///
/// # Errors
/// [`FlopsError`]: a size without a value, or another op.
pub fn multiply_adds(graph: &Graph, node: &Node, bindings: &Bindings) -> Result<u64, FlopsError> {
    let shape = |operand: usize| -> Result<&Shape, FlopsError> {
        let id = node.operands.get(operand).copied();
        let id = id.ok_or(FlopsError::Op(node.op.rules().name()))?;
        let operand = graph.node(id).ok_or(FlopsError::Node(id))?;
        Ok(&operand.ty.shape)
    };
    let contracted: Vec<&Dim> = match &node.op {
        Op::Dot(dot) => {
            let lhs = shape(0)?;
            dot.contract.0.iter().map(|axis| &lhs[*axis]).collect()
        }
        Op::Conv(conv) => {
            let kernel = shape(1)?;
            let axes = &conv.axes.rhs;
            let axes = axes.spatial.iter().chain([&axes.input]);
            axes.map(|axis| &kernel[*axis]).collect()
        }
        op => return Err(FlopsError::Op(op.rules().name())),
    };
    let mut count = node.ty.shape.elements().eval_size(bindings)? as u64;
    for extent in contracted {
        count *= extent.eval_size(bindings)? as u64;
    }
    Ok(count)
}
