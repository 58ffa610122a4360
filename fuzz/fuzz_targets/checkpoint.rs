//! Checkpoints: the bytes as a whole file, and as what a file whose checksum holds says of the training.
#![no_main]

use kiln_interop::{TensorRef, safetensors};
use kiln_ir::DType;
use kiln_nn::{MeanSquaredError, Sequential, Sgd};
use kiln_train::{TrainError, Trainer};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The tensor that a checkpoint has beside params and states.
const TRAINING: &str = ".kiln/training";

thread_local! {
    static TRAINER: RefCell<Trainer> = RefCell::new(trainer().expect("the model compiles"));
}

fuzz_target!(|bytes: &[u8]| {
    TRAINER.with_borrow_mut(|trainer| {
        let path = scratch("whole");
        std::fs::write(&path, bytes).expect("the folder for temporary files can be written");
        let _refused = (trainer.load(&path), trainer.load_weights(&path));
        wrap(trainer, bytes, &path);
        if trainer.load(&path).is_ok() {
            let _history = trainer.history().csv();
            trainer.save(&path).expect("what was loaded can be saved");
            trainer.load(&path).expect("what was saved can be loaded");
        }
    });
});

fn trainer() -> Result<Trainer, TrainError> {
    let model = Trainer::new(Sequential::new([2]).dense(1));
    let model = model.loss(MeanSquaredError).optimizer(Sgd::new(0.1));
    model.compile()
}

/// Writes a checkpoint of the trainer, with `training` in the place of what it says of the training.
fn wrap(trainer: &mut Trainer, training: &[u8], path: &PathBuf) {
    let own = scratch("own");
    trainer.save(&own).expect("a trainer can be saved");
    let tensors = safetensors::open(&own).expect("what was saved can be read");
    let shape = [training.len()];
    let others = tensors.iter().filter(|tensor| tensor.name() != TRAINING);
    let fuzzed = TensorRef::new(TRAINING, DType::U8, &shape, training);
    let all = others.chain(fuzzed.ok());
    safetensors::save(path, all, &BTreeMap::new()).expect("tensors can be saved");
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!(
        "kiln-fuzz-{}-{name}.safetensors",
        std::process::id()
    ))
}
