//! 784-512-512-10 with ReLU on batches of 128, Adam, sparse cross-entropy.

use super::{Workload, normal};
use kiln::train::graphs::Task;
use kiln::{Adam, Column, DType, Dataset, Dim, Sequential, SparseCrossEntropy, TensorType};
use std::error::Error;

const BATCH: usize = 128;
const BATCHES: usize = 32;
const FEATURES: usize = 784;
const HIDDEN: usize = 512;
const CLASSES: usize = 10;

/// Three products forward, three for the weights' gradients, and two for the hidden layers' gradients: the input needs none.
const FLOPS: u64 = {
    let (first, second, third) = (FEATURES * HIDDEN, HIDDEN * HIDDEN, HIDDEN * CLASSES);
    (2 * BATCH * (2 * first + 3 * second + 3 * third)) as u64
};

pub(crate) fn workload() -> Result<Workload, Box<dyn Error>> {
    let model = Sequential::new([FEATURES as i64])
        .dense(HIDDEN as i64)
        .relu()
        .dense(HIDDEN as i64)
        .relu()
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
    Ok(Workload {
        name: "mlp",
        graph: task.training(&Adam::new(1e-3))?,
        batch: BATCH,
        data: Dataset::new([
            Column::new("x", [examples, FEATURES], normal("x", examples * FEATURES))?,
            Column::new("y", [examples], labels)?,
        ])?,
        flops: Some(FLOPS),
    })
}
