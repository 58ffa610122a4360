//! What is timed: a graph, a batch size, data, and the FLOPs that the model asks for.

pub(crate) mod linreg;
pub(crate) mod mlp;

use kiln::ir::Op;
use kiln::ir::philox::Stream;
use kiln::{Bindings, Dataset, Graph};
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
    /// The FLOPs of the matrix products that the model needs in a step, forward and backward; `None` where they do not matter.
    pub(crate) flops: Option<u64>,
}

impl Workload {
    /// Compares the constant with the products of the graph as it was built, so that neither a rewritten graph nor a forgotten product
    /// can flatter the figure. Products that nothing reads do not count: differentiation writes those for the inputs' gradients too.
    pub(crate) fn check_flops(&self) -> Result<(), Box<dyn Error>> {
        let Some(expected) = self.flops else {
            return Ok(());
        };
        let graph = &self.graph;
        let bindings = Bindings::from([("b", i64::try_from(self.batch)?)]);
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
            let (Op::Dot(dot), [lhs, _]) = (&node.op, &node.operands[..]) else {
                continue;
            };
            let lhs = graph.node(*lhs).ok_or("an operand is not in the graph")?;
            let mut flops = 2 * node.ty.shape.elements().eval_size(&bindings)? as u64;
            for axis in &dot.contract.0 {
                flops *= lhs.ty.shape[*axis].eval_size(&bindings)? as u64;
            }
            found += flops;
        }
        if found == expected {
            return Ok(());
        }
        let name = self.name;
        Err(
            format!("{name} is to have {expected} FLOPs of products, and its graph has {found}")
                .into(),
        )
    }
}

/// `count` numbers from a normal distribution.
fn normal(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(1, name, 0);
    (0..count as u64).map(|i| stream.normal(i) as f32).collect()
}
