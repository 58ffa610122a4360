//! What is timed: a graph, a batch size, data, and the FLOPs that the model asks for.

pub(crate) mod cnn;
pub(crate) mod fsrs;
pub(crate) mod gpt;
pub(crate) mod linreg;
pub(crate) mod lstm;
pub(crate) mod mlp;
pub(crate) mod resnet;

use kiln::ir::philox::Stream;
use kiln::ir::{Node, Op, Origin};
use kiln::{Bindings, Dataset, Dim, Graph, Shape};
use std::error::Error;

/// One model with its data.
pub(crate) struct Workload {
    /// The name on the line.
    pub(crate) name: &'static str,
    /// The training step; its batch is the symbol `b`, its first output the loss.
    pub(crate) graph: Graph,
    /// The batch size.
    pub(crate) batch: usize,
    /// Columns named as the inputs, enough for several batches.
    pub(crate) data: Dataset,
    /// The FLOPs of the matrix products and convolutions that the model needs in a step, forward and backward; `None` where they do not matter.
    pub(crate) flops: Option<u64>,
}

impl Workload {
    /// Compares the constant with the products and convolutions of the graph as it was built, so that neither a rewritten graph nor a
    /// forgotten product can flatter the figure. What nothing reads does not count: differentiation writes the inputs' gradients too.
    pub(crate) fn check_flops(&self) -> Result<(), Box<dyn Error>> {
        let Some(expected) = self.flops else {
            return Ok(());
        };
        let graph = &self.graph;
        let bindings = Bindings::from([("b", i64::try_from(self.batch)?)]);
        let found = 2 * all_multiply_adds(graph, &bindings)?;
        if found == expected {
            return Ok(());
        }
        let name = self.name;
        Err(
            format!("{name} is to have {expected} FLOPs of products and convolutions, and its graph has {found}")
                .into(),
        )
    }
}

/// The multiply-adds of what a graph's outputs and updates need, those of loops counted for each iteration.
fn all_multiply_adds(graph: &Graph, bindings: &Bindings) -> Result<u64, Box<dyn Error>> {
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
            Op::Dot(_) => multiply_adds(graph, node, bindings)?,
            // An adjoint counts as what it is the adjoint of: both multiply the same pairs, besides padding.
            Op::Conv(_) => match node.provenance.origin {
                Origin::Vjp(of) => {
                    let of = graph.node(of).ok_or("an origin is not in the graph")?;
                    multiply_adds(graph, of, bindings)?
                }
                Origin::User | Origin::Pass(_) => multiply_adds(graph, node, bindings)?,
            },
            Op::Scan(scan) => {
                let trip = scan.trip.eval_size(bindings)? as u64;
                trip * all_multiply_adds(&scan.body, bindings)?
            }
            _ => continue,
        };
    }
    Ok(found)
}

/// The multiply-adds of a product or convolution as its definition has them, those with padding among them.
pub(crate) fn multiply_adds(
    graph: &Graph,
    node: &Node,
    bindings: &Bindings,
) -> Result<u64, Box<dyn Error>> {
    let shape = |operand: usize| -> Result<&Shape, Box<dyn Error>> {
        let operand = node.operands.get(operand).ok_or("an operand is missing")?;
        let operand = graph
            .node(*operand)
            .ok_or("an operand is not in the graph")?;
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
        op => return Err(format!("`{}` multiplies no matrices", op.rules().name()).into()),
    };
    let mut count = node.ty.shape.elements().eval_size(bindings)? as u64;
    for extent in contracted {
        count *= extent.eval_size(bindings)? as u64;
    }
    Ok(count)
}

/// `count` numbers from a normal distribution.
fn normal(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(1, name, 0);
    (0..count as u64).map(|i| stream.normal(i) as f32).collect()
}
