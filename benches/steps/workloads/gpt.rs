//! GPT in two sizes, AdamW, sparse cross-entropy of each token: nanoGPT's setting for CPUs, and GPT-2 with its 124 million parameters.
//!
//! The peers' script decays all params; so does this.

use super::Workload;
use kiln::ir::philox::Stream;
use kiln::nn::AdamW;
use kiln::train::graphs::Task;
use kiln::{Column, DType, Dataset, Dim, SparseCrossEntropy, TensorType};
use std::error::Error;

#[path = "../../../examples/models/gpt.rs"]
mod model;

use model::Gpt;

const TIME: usize = 64;

/// 4 layers, 4 heads, 128 wide, without biases, on 12 sequences of characters.
pub(crate) fn small() -> Result<Workload, Box<dyn Error>> {
    let model = Gpt {
        vocabulary: 65,
        context: TIME as i64,
        layers: 4,
        heads: 4,
        width: 128,
        bias: false,
    };
    workload("gpt", &model, 12, 8)
}

/// 12 layers, 12 heads, 768 wide, on 4 sequences of 50,257 kinds of tokens.
pub(crate) fn large() -> Result<Workload, Box<dyn Error>> {
    let model = Gpt {
        vocabulary: 50_257,
        context: 1024,
        layers: 12,
        heads: 12,
        width: 768,
        bias: true,
    };
    workload("gpt2", &model, 4, 4)
}

/// All products forward, for their weights and for their operands: the tokens need no gradient, but there is no product before them.
fn flops(model: &Gpt, batch: usize) -> u64 {
    let (width, tokens) = (model.width as usize, batch * TIME);
    let weights = model.layers * 12 * width * width + width * model.vocabulary as usize;
    let attention = model.layers * 2 * width * TIME;
    (6 * tokens * (weights + attention)) as u64
}

fn workload(
    name: &'static str,
    model: &Gpt,
    batch: usize,
    batches: usize,
) -> Result<Workload, Box<dyn Error>> {
    let sequence = TensorType::new(DType::I32, (Dim::symbol("b"), TIME));
    let task = Task {
        model,
        input: &sequence,
        target: &sequence,
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let optimizer = AdamW::new(1e-3)
        .betas(0.9, 0.99)
        .weight_decay(0.1)
        .decay_vectors();
    let examples = batch * batches;
    let column = |name| Column::new(name, [examples, TIME], tokens(model, name, examples * TIME));
    Ok(Workload {
        name,
        graph: task.training(&optimizer)?,
        batch,
        data: Dataset::new([column("x")?, column("y")?])?,
        flops: Some(flops(model, batch)),
    })
}

/// Tokens, all equally likely.
fn tokens(model: &Gpt, name: &str, count: usize) -> Vec<i32> {
    let stream = Stream::new(1, name, 0);
    let vocabulary = model.vocabulary as u64;
    let token = |i| ((u64::from(stream.block(i)[0]) * vocabulary) >> 32) as i32;
    (0..count as u64).map(token).collect()
}
