//! Embedding 128, LSTM 256, dense 65 at each step, on 32 sequences of 64 characters, Adam, sparse cross-entropy; and the same on sequences of
//! 512, which takes no longer to compile.
//!
//! The LSTM has PyTorch's two biases and no forget bias, as the peers' script has it.

use super::Workload;
use kiln::ir::philox::Stream;
use kiln::nn::{Embedding, Lstm};
use kiln::train::graphs::Task;
use kiln::{Adam, Column, DType, Dataset, Sequential, SparseCrossEntropy};
use std::error::Error;

const BATCH: usize = 32;
const BATCHES: usize = 8;
const VOCABULARY: usize = 65;
const FEATURES: usize = 128;
const UNITS: usize = 256;

/// Three products forward, and for each the gradients of both sides: the table of vectors learns too.
const fn flops(time: usize) -> u64 {
    let gates = 4 * UNITS;
    let weights = FEATURES * gates + UNITS * gates + UNITS * VOCABULARY;
    (6 * BATCH * time * weights) as u64
}

/// On sequences of `time` characters.
pub(crate) fn workload(name: &'static str, time: usize) -> Result<Workload, Box<dyn Error>> {
    let lstm = Lstm::new(UNITS as i64)
        .two_biases()
        .forget_bias(0.0)
        .return_sequences();
    let model = Sequential::new([time as i64])
        .layer(Embedding::new(VOCABULARY as i64, FEATURES as i64))
        .layer(lstm)
        .dense(VOCABULARY as i64);
    let tokens = model.input_type(DType::I32);
    let task = Task {
        model: &model,
        input: &tokens,
        target: &tokens,
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let examples = BATCH * BATCHES;
    let column = |name| Column::new(name, [examples, time], characters(name, examples * time));
    Ok(Workload {
        name,
        graph: task.training(&Adam::new(1e-3))?,
        batch: BATCH,
        data: Dataset::new([column("x")?, column("y")?])?,
        flops: Some(flops(time)),
    })
}

/// Characters, all equally likely.
fn characters(name: &str, count: usize) -> Vec<i32> {
    let stream = Stream::new(1, name, 0);
    let character = |i| ((u64::from(stream.block(i)[0]) * VOCABULARY as u64) >> 32) as i32;
    (0..count as u64).map(character).collect()
}
