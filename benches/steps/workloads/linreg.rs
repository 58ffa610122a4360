//! One dense unit on batches of 32, SGD, mean squared error: what a step costs when there is nothing to compute.

use super::{Workload, normal};
use kiln::train::graphs::Task;
use kiln::{Column, DType, Dataset, Dim, MeanSquaredError, Sequential, Sgd, TensorType};
use std::error::Error;

const BATCH: usize = 32;
const BATCHES: usize = 64;

pub(crate) fn workload() -> Result<Workload, Box<dyn Error>> {
    let model = Sequential::new([1]).dense(1);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::F32, (Dim::symbol("b"), 1)),
        loss: &MeanSquaredError,
        metrics: &[],
    };
    let examples = BATCH * BATCHES;
    let x = normal("x", examples);
    let y: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
    Ok(Workload {
        name: "linreg",
        graph: task.training(&Sgd::new(0.01))?,
        batch: BATCH,
        data: Dataset::new([
            Column::new("x", [examples, 1], x)?,
            Column::new("y", [examples, 1], y)?,
        ])?,
        flops: None,
    })
}
