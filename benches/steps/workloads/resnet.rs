//! ResNet-20 in its CIFAR-10 shape on batches of 32, SGD with momentum, sparse cross-entropy: the model of the example `fashion_mnist`.

use super::{Workload, normal};
use kiln::train::graphs::Task;
use kiln::{Column, DType, Dataset, Dim, Sgd, SparseCrossEntropy, TensorType};
use std::error::Error;

#[path = "../../../examples/models/resnet.rs"]
mod model;

const BATCH: usize = 32;
const BATCHES: usize = 8;
const SIDE: usize = 32;
const CHANNELS: usize = 3;
const CLASSES: usize = 10;

/// Each convolution and product forward, for its weight and for its operand; the input of the first needs no gradient.
const FLOPS: u64 = {
    let stem = SIDE * SIDE * 9 * CHANNELS * 16;
    let mut all = stem;
    let (mut side, mut features, mut stage) = (SIDE, 16, 0);
    while stage < 3 {
        let (input, output) = (features, 16 << stage);
        if stage > 0 {
            side /= 2;
            // The shortcut of the first block.
            all += side * side * input * output;
        }
        features = output;
        all += side * side * 9 * (input * output + 5 * output * output);
        stage += 1;
    }
    all += features * CLASSES;
    (2 * BATCH * (3 * all - stem)) as u64
};

pub(crate) fn workload() -> Result<Workload, Box<dyn Error>> {
    let model = model::resnet20([SIDE as i64, SIDE as i64, CHANNELS as i64], CLASSES as i64);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let examples = BATCH * BATCHES;
    let labels: Vec<u8> = (0..examples).map(|i| (i * 7 % CLASSES) as u8).collect();
    let pixels = normal("x", examples * SIDE * SIDE * CHANNELS);
    Ok(Workload {
        name: "resnet",
        graph: task.training(&Sgd::new(0.1).momentum(0.9))?,
        batch: BATCH,
        data: Dataset::new([
            Column::new("x", [examples, SIDE, SIDE, CHANNELS], pixels)?,
            Column::new("y", [examples], labels)?,
        ])?,
        flops: Some(FLOPS),
    })
}
