//! What is timed: a graph, a batch size, data, and the FLOPs that the model asks for.

pub(crate) mod cnn;
pub(crate) mod fsrs;
pub(crate) mod gpt;
pub(crate) mod linreg;
pub(crate) mod lstm;
pub(crate) mod mlp;
pub(crate) mod resnet;

use kiln::ir::philox::Stream;
use kiln::train::flops::flops;
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
        let found = flops(graph, &bindings)?;
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

/// `count` numbers from a normal distribution.
fn normal(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::new(1, name, 0);
    (0..count as u64).map(|i| stream.normal(i) as f32).collect()
}
