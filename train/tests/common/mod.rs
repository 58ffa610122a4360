//! The data and the models that tests of trainers share.

// Each test file uses its part of this module.
#![allow(dead_code)]

use kiln_nn::{
    Accuracy, Adam, ConfusionMatrix, MeanSquaredError, Sequential, Sgd, SparseCrossEntropy,
};
use kiln_train::data::{Column, Dataset};
use kiln_train::{Trainer, TrainerBuilder};
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub(crate) fn column<T>(name: &str, width: &[usize], values: Vec<T>) -> Column
where
    kiln_train::data::ColumnData: From<Vec<T>>,
{
    let count = values.len() / width.iter().product::<usize>();
    let shape: Vec<usize> = [&[count], width].concat();
    Column::new(name, shape, values).unwrap()
}

/// Points of y = 2x + 1.
pub(crate) fn line(count: usize) -> Dataset {
    let xs: Vec<f32> = (0..count)
        .map(|i| 2.0 * i as f32 / count as f32 - 1.0)
        .collect();
    let ys = xs.iter().map(|x| 2.0 * x + 1.0).collect();
    Dataset::new([column("x", &[1], xs), column("y", &[1], ys)]).unwrap()
}

/// Two blobs of points, one for each class.
pub(crate) fn blobs() -> Dataset {
    let stream = kiln_ir::philox::Stream::new(1, "blobs", 0);
    let labels: Vec<u8> = (0..90).map(|i| (i % 2) as u8).collect();
    let point = |i: u64| stream.normal(i) as f32 * 0.5 + if i / 2 % 2 == 1 { 2.0 } else { -2.0 };
    let points: Vec<f32> = (0..180).map(point).collect();
    Dataset::new([column("y", &[], labels), column("x", &[2], points)]).unwrap()
}

pub(crate) fn classifier() -> TrainerBuilder {
    let model = Sequential::new([2]).dense(8).relu().dropout(0.1).dense(2);
    Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy)
        .metric(ConfusionMatrix)
        .optimizer(Adam::new(0.02))
        .threads(NonZeroUsize::MIN)
        .seed(7)
}

pub(crate) fn linear() -> TrainerBuilder {
    Trainer::new(Sequential::new([1]).dense(1).named("line"))
        .loss(MeanSquaredError)
        .optimizer(Sgd::new(0.1))
        .threads(NonZeroUsize::MIN)
}

pub(crate) fn values(trainer: &mut Trainer, name: &str) -> Vec<f32> {
    trainer.state(name).unwrap().to_vec().unwrap()
}

/// An empty folder.
pub(crate) fn scratch(file: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{file}-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
