//! Checkpoints: all that a training needs to go on as if it had never stopped, in one safetensors file.
//!
//! The file holds every param and state of the session that learns under its own name (weights, the optimizer's memory, learning rate,
//! counters of random numbers), copies of them that a callback comes back to, and a tensor of bytes with the position in the data, the sums
//! of an epoch that is not over, the history, and what the user keeps with the model. All of it, names and shapes too, is under the checksum.
//! A file is replaced whole or not at all, and loading compares everything before anything is changed.

mod kept;

pub(crate) use kept::Kept;

use crate::trainer::Snapshot;
use crate::trainer::{History, Position, Sums, TrainError, Trainer};
use crate::weights::{self, LoadWeightsError, everything, params};
use kiln_interop::onnx::{self, ExportOptions};
use kiln_interop::{FileError, SaveError, TensorRef, Tensors, safetensors};
use kiln_ir::{DType, TensorType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The tensor of bytes beside the params and states. Graphs cannot have such a name: scopes do not begin with a dot.
const TRAINING: &str = ".kiln/training";
/// What the names of copies begin with; the place of the copy in [`Training::remembered`] and the name of the state follow.
const COPIES: &str = ".kiln/copies";
/// The form of these bytes.
const VERSION: u8 = 4;

/// Why a checkpoint could not be saved or loaded. A file to be replaced is then as it was, and so is a trainer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read, is not whole, or was damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The file does not fit the model.
    #[error(transparent)]
    Weights(#[from] LoadWeightsError),
    /// The file holds weights, but not the state of a training.
    #[error(
        "{file} is no checkpoint: it has no `{TRAINING}`; `Trainer::load_weights` reads weights alone"
    )]
    Bare {
        /// The file.
        file: String,
    },
    /// The state of a training is none that this version of Kiln reads.
    #[error("{file}: `{TRAINING}` cannot be read: {what}")]
    Training {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A value that is kept with the model cannot be written or read.
    #[error("`{name}` is kept with the model: {what}")]
    Keep {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// All that is not a param or state.
#[derive(Serialize, Deserialize)]
struct Training {
    seed: u64,
    position: Position,
    /// Whether the session was one that learns, so that the states of the optimizer are there.
    learned: bool,
    targets: Vec<(String, TensorType)>,
    /// The metrics that the sums are of.
    metrics: Vec<String>,
    sums: Sums,
    history: History,
    run_start: usize,
    kept: BTreeMap<String, Kept>,
    /// The names of the copies that callbacks come back to.
    remembered: Vec<String>,
}

impl Trainer {
    /// Replaces the file at `path` with a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`]; the file is then as it was.
    ///
    /// ```no_run
    /// # fn example(mut trainer: kiln_train::Trainer, data: kiln_train::data::Dataset) -> Result<(), Box<dyn std::error::Error>> {
    /// use kiln_train::Fit;
    ///
    /// trainer.load("runs/a/epoch-0003.safetensors")?;
    /// trainer.fit(&data, Fit::until(5))?; // epochs 4 and 5, bit for bit as in a run that did not stop
    /// trainer.save("runs/a/last.safetensors")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let training = Training {
            seed: self.session.seed,
            position: self.position,
            learned: self.learner.is_some(),
            targets: self.targets.clone(),
            metrics: self.recipe.metric_names(),
            sums: self
                .learner
                .as_ref()
                .map(|l| l.sums.clone())
                .unwrap_or_default(),
            history: self.history.clone(),
            run_start: self.run_start,
            kept: self.kept.clone(),
            remembered: self.remembered.keys().cloned().collect(),
        };
        let mut bytes = vec![VERSION];
        let written = postcard::to_stdvec(&training).map_err(|error| CheckpointError::Keep {
            name: TRAINING.to_owned(),
            what: error.to_string(),
        })?;
        bytes.extend_from_slice(&written);
        let shape = [bytes.len()];
        // The trainer is lent to both the session and the copies.
        let copies = std::mem::take(&mut self.remembered);
        let saved = self.save_with(path.as_ref(), (&shape, &bytes), &copies);
        self.remembered = copies;
        saved
    }

    fn save_with(
        &mut self,
        path: &Path,
        (shape, training): (&[usize], &[u8]),
        copies: &BTreeMap<String, Snapshot>,
    ) -> Result<(), TrainError> {
        let names: Vec<Vec<String>> = (0..)
            .zip(copies.values())
            .map(|(index, copy)| copy.names().map(|name| copy_name(index, name)).collect())
            .collect();
        let copies = names.iter().zip(copies.values());
        let copies = copies.flat_map(|(names, copy)| copy.tensors(names));
        let training = TensorRef::new(TRAINING, DType::U8, shape, training);
        let others = copies.chain([training]).collect::<Result<Vec<_>, _>>();
        let others = others.map_err(|error| CheckpointError::Save(error.into()))?;
        weights::save_beside(self.master()?, path, everything, &others)
            .map_err(CheckpointError::Save)?;
        Ok(())
    }

    /// Goes on where the checkpoint at `path` was saved: params, states, position, history and what was [kept](Self::keep).
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`]: a file that is not whole, was damaged, or does not fit the model, with all that differs. The trainer is
    /// then as it was.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let tensors = safetensors::open(path.as_ref()).map_err(CheckpointError::File)?;
        tensors.verify().map_err(CheckpointError::File)?;
        let training = read_training(&tensors)?;
        let remembered = read_copies(&tensors, &training.remembered)?;
        let metrics = self.recipe.metric_names();
        if training.position.batch > 0 && training.metrics != metrics {
            return Err(TrainError::Checkpoint(CheckpointError::Training {
                file: tensors.file().to_owned(),
                what: format!(
                    "it was saved within an epoch with the metrics {:?}, and the trainer has {metrics:?}",
                    training.metrics
                ),
            }));
        }
        let before = std::mem::replace(&mut self.targets, training.targets.clone());
        // Sessions are made for types of targets. Those there are go only once the file is found to fit.
        let fits = before == self.targets && training.learned;
        let learner = if fits { None } else { self.learner.take() };
        let is_new = self.learner.is_none();
        let loaded = self.load_states(&tensors, training.learned);
        if loaded.is_err() {
            self.targets = before;
            if is_new {
                self.learner = learner;
            }
            return loaded;
        }
        if before != self.targets {
            self.judge = None;
        }
        if let Some(learner) = &mut self.learner {
            learner.restart();
            if training.position.batch > 0 {
                learner.sums.clone_from(&training.sums);
            }
        }
        self.session.seed = training.seed;
        self.position = training.position;
        self.history = training.history;
        self.run_start = training.run_start;
        self.is_resumed = true;
        self.kept = training.kept;
        self.remembered = remembered;
        self.grown_old();
        Ok(())
    }

    fn load_states(&mut self, tensors: &Tensors, learned: bool) -> Result<(), TrainError> {
        if learned {
            self.open_learner()?;
        }
        let beside = |name: &str| name == TRAINING || name.starts_with(COPIES);
        weights::load_all(self.master_mut()?, tensors, beside).map_err(CheckpointError::Weights)?;
        Ok(())
    }

    /// Why the checkpoint at `path` is none that this run has left behind; `None` where it is.
    pub(crate) fn is_foreign(&self, path: &Path) -> Option<String> {
        let training = safetensors::open(path).map_err(CheckpointError::File);
        let Training {
            history: theirs,
            position,
            ..
        } = match training.and_then(|tensors| read_training(&tensors)) {
            Ok(training) => training,
            Err(error) => return Some(format!("is no checkpoint that can be read ({error})")),
        };
        // No two epochs take the same time to the nanosecond.
        let epochs = |history: &History| -> Vec<(u64, u64)> {
            let epochs = history.epochs().iter();
            epochs.map(|e| (e.number, e.seconds.to_bits())).collect()
        };
        let (ours, theirs) = (epochs(self.history()), epochs(&theirs));
        let is_ahead = position > self.position;
        if ours.starts_with(&theirs) && !is_ahead {
            None
        } else if theirs.starts_with(&ours) && !ours.is_empty() {
            Some("is ahead of this run".to_owned())
        } else {
            Some("is of another run".to_owned())
        }
    }

    /// Replaces the file at `path` with the params alone, as other programs read them; their averages, where
    /// [`use_averages`](Self::use_averages) says so.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn save_weights(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let session = self.measured_master()?;
        weights::save(session, path.as_ref(), params).map_err(CheckpointError::Save)?;
        Ok(())
    }

    /// Replaces the file at `path` with an ONNX model of what [`predict`](Self::predict) runs, for other programs to run: inputs and outputs
    /// under their names, params and running averages as constants.
    ///
    /// # Errors
    /// [`TrainError::Export`]: a model that ONNX cannot express, or a system that cannot write. The file is then as it was.
    ///
    /// ```
    /// use kiln_nn::{MeanSquaredError, Sequential, Sgd};
    /// use kiln_train::Trainer;
    /// # let path = std::env::temp_dir().join(format!("kiln-export-doc-{}.onnx", std::process::id()));
    /// let model = Sequential::new([4]).dense(8).relu().dense(1);
    /// let mut trainer = Trainer::new(model).loss(MeanSquaredError).optimizer(Sgd::new(0.1)).compile()?;
    /// trainer.export_onnx(&path)?;
    /// assert_eq!(kiln_interop::onnx::read(&path)?.outputs(), ["y"]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export_onnx(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let graph = self.recipe.prediction()?;
        let tensors =
            weights::tensors(self.master()?).map_err(|e| CheckpointError::Save(e.into()))?;
        onnx::save(path, &graph, tensors, &ExportOptions::default())?;
        Ok(())
    }

    /// Overwrites the params with those of a file of weights or a checkpoint; everything else stays as it is.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let tensors = safetensors::open(path.as_ref()).map_err(CheckpointError::File)?;
        weights::load(self.master_mut()?, &tensors, params).map_err(CheckpointError::Weights)?;
        self.grown_old();
        Ok(())
    }
}

/// How far the training was when the checkpoint at `path` was saved.
pub(crate) fn position_of(path: &Path) -> Result<Position, CheckpointError> {
    Ok(read_training(&safetensors::open(path)?)?.position)
}

/// The name of a state of a copy.
fn copy_name(index: usize, state: &str) -> String {
    format!("{COPIES}/{index}/{state}")
}

/// The copies that a file holds, by their names.
fn read_copies(
    tensors: &Tensors,
    names: &[String],
) -> Result<BTreeMap<String, Snapshot>, TrainError> {
    let mut copies = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let start = copy_name(index, "");
        let mut copy = Snapshot::default();
        for tensor in tensors.iter() {
            if let Some(state) = tensor.name().strip_prefix(&start) {
                copy.push(state, tensor.dtype(), tensor.shape(), tensor.bytes())?;
            }
        }
        copies.insert(name.clone(), copy);
    }
    Ok(copies)
}

fn read_training(tensors: &Tensors) -> Result<Training, CheckpointError> {
    let file = || tensors.file().to_owned();
    let Some(tensor) = tensors.get(TRAINING) else {
        return Err(CheckpointError::Bare { file: file() });
    };
    let wrong = |what: String| CheckpointError::Training { file: file(), what };
    // Its name among the texts is all of a file that no checksum covers.
    if !tensors.is_checked() {
        return Err(wrong("the file has no checksum".to_owned()));
    }
    match tensor.bytes().split_first() {
        Some((&VERSION, bytes)) => {
            postcard::from_bytes(bytes).map_err(|error| wrong(error.to_string()))
        }
        Some((version, _)) => Err(wrong(format!(
            "it has version {version}, and this is Kiln of version {VERSION}"
        ))),
        None => Err(wrong("it is empty".to_owned())),
    }
}
