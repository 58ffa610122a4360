//! Keras' simple convnet for MNIST on batches of 128, Adam, sparse cross-entropy: two convolutions of 3 x 3 with ReLU and pools, dropout
//! and a dense layer.

use super::{Workload, normal};
use kiln::train::graphs::Task;
use kiln::{Adam, Column, DType, Dataset, Dim, Sequential, SparseCrossEntropy, TensorType};
use std::error::Error;

const BATCH: usize = 128;
const BATCHES: usize = 8;
const SIDE: usize = 28;
const WINDOW: usize = 3;
const FIRST: usize = 32;
const SECOND: usize = 64;
const CLASSES: usize = 10;

/// Three contractions forward, three for the weights' gradients, and two for the gradients between: the input needs none.
const FLOPS: u64 = {
    let side = SIDE - WINDOW + 1;
    let first = side * side * FIRST * WINDOW * WINDOW;
    let side = side / 2 - WINDOW + 1;
    let second = side * side * SECOND * WINDOW * WINDOW * FIRST;
    let side = side / 2;
    let dense = side * side * SECOND * CLASSES;
    (2 * BATCH * (2 * first + 3 * second + 3 * dense)) as u64
};

pub(crate) fn workload() -> Result<Workload, Box<dyn Error>> {
    let model = Sequential::new([SIDE as i64, SIDE as i64, 1])
        .conv2d(FIRST as i64, WINDOW as i64)
        .relu()
        .max_pool2d(2)
        .conv2d(SECOND as i64, WINDOW as i64)
        .relu()
        .max_pool2d(2)
        .flatten()
        .dropout(0.5)
        .dense(CLASSES as i64);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let examples = BATCH * BATCHES;
    let labels: Vec<u8> = (0..examples).map(|i| (i * 7 % CLASSES) as u8).collect();
    let pixels = normal("x", examples * SIDE * SIDE);
    Ok(Workload {
        name: "cnn",
        graph: task.training(&Adam::new(1e-3))?,
        batch: BATCH,
        data: Dataset::new([
            Column::new("x", [examples, SIDE, SIDE, 1], pixels)?,
            Column::new("y", [examples], labels)?,
        ])?,
        flops: Some(FLOPS),
    })
}
