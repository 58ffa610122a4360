//! The trainer: a model, its loss and an optimizer in; a trained model out.
//!
//! It compiles the graphs of a model when data first tells the types of targets, runs epochs on them, and shows and stores what they come
//! to. A step of a trainer is a step of a session and some additions: nothing is computed here that a graph can compute.
//!
//! What does not fit into [`Trainer::fit`] is written with the level below: [`graphs`](crate::graphs), [`compile`](crate::compile) and
//! [`epoch`](crate::epoch()).

mod builder;
mod error;
mod fit;
mod history;
mod logs;
mod measures;
mod model;
mod not_finite;
mod recipe;
mod snapshot;
mod source;
mod summary;

pub use builder::TrainerBuilder;
pub use error::TrainError;
pub use fit::{Fit, Position};
pub use history::{Epoch, History};
pub use logs::Logs;
pub use model::Model;
pub use not_finite::{Culprit, NotFinite};
pub use source::Source;
pub use summary::TrainerSummary;

pub use snapshot::Snapshot;

pub(crate) use logs::write_values;
pub(crate) use measures::Sums;

use crate::compile::compile;
use crate::data::{Batches, Column, DataError, Dataset};
use crate::epoch::copy_shared;
use kiln_compiler::Options;
use kiln_ir::{DType, Dim, TensorType};
use kiln_nn::Mode;
use kiln_runtime::{Feed, Session, SessionOptions, StepError, TensorView, ToFeed};
use measures::Measuring;
use recipe::{Recipe, Types};
use std::collections::BTreeMap;

/// A model that is trained, measured and asked.
///
/// ```
/// use kiln_nn::{MeanSquaredError, Sequential, Sgd};
/// use kiln_train::data::{Column, Dataset};
/// use kiln_train::{Fit, Trainer};
///
/// let x: Vec<f32> = (0..100).map(|i| i as f32 / 50.0 - 1.0).collect();
/// let y: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
/// let data = Dataset::new([Column::new("x", [100, 1], x)?, Column::new("y", [100, 1], y)?])?;
///
/// let model = Sequential::new([1]).dense(1);
/// let mut trainer = Trainer::new(model).loss(MeanSquaredError).optimizer(Sgd::new(0.1)).compile()?;
/// let history = trainer.fit(&data, Fit::epochs(50).batch(10).quiet())?;
/// assert!(history.last("loss") < Some(1e-6));
/// assert!((trainer.state("dense_1/w")?.scalar()? - 2.0).abs() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    pub(crate) recipe: Recipe,
    options: Options,
    pub(crate) session: SessionOptions,
    /// The outputs with their types.
    outputs: Types,
    /// The types of targets that were given, and those that the first data had.
    pub(crate) targets: Types,
    /// How many of these were given.
    given: usize,
    /// Learns; once it is there, its params and states are those of the trainer.
    pub(crate) learner: Option<Measuring>,
    pub(crate) judge: Option<Measuring>,
    /// Predicts; before there is a learner, its params and states are those of the trainer.
    oracle: Option<Session>,
    /// Whether judge and oracle lack what the learner has learned since.
    judge_is_old: bool,
    oracle_is_old: bool,
    pub(crate) position: Position,
    pub(crate) history: History,
    /// How many epochs of the history were done before this run began.
    pub(crate) run_start: usize,
    /// Whether a checkpoint was loaded that the next run continues.
    pub(crate) is_resumed: bool,
    /// What checkpoints hold for the user.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
}

impl Trainer {
    /// The description of a trainer, to which a loss and an optimizer must be added.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a trainer is described first and compiled then, as `Trainer::new(model).loss(..).compile()`"
    )]
    pub fn new(model: impl Model + 'static) -> TrainerBuilder {
        TrainerBuilder::new(Box::new(model))
    }

    /// Measures the model on all of `data`, `batch` examples at a time: losses and metrics by name.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn evaluate<'d>(
        &mut self,
        data: impl Source<'d>,
        batch: usize,
    ) -> Result<Logs, TrainError> {
        let mut batches = data.open(batch, None)?;
        self.learn_types_of(&mut *batches)?;
        let mut logs = Logs::new();
        self.measure(&mut *batches, "", &mut logs)?;
        Ok(logs)
    }

    /// The sums of the statistics of a metric in the last evaluation or validation, such as the cells of a
    /// [`ConfusionMatrix`](kiln_nn::metrics::ConfusionMatrix); `None` where there was none, or no metric of this name.
    pub fn statistics(&self, metric: &str) -> Option<&[Vec<f64>]> {
        let names = self.recipe.metric_names();
        let index = names.iter().position(|name| name == metric)?;
        let sums = self.judge.as_ref()?.sums.statistics.get(index)?;
        Some(sums)
    }

    /// What the model makes of all of `data`, `batch` examples at a time and in its order: a column for each output. Columns that are no
    /// input are left alone.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn predict<'d>(
        &mut self,
        data: impl Source<'d>,
        batch: usize,
    ) -> Result<Dataset, TrainError> {
        let mut batches = data.open(batch, None)?;
        self.refresh_oracle()?;
        let oracle = self.oracle.as_mut().ok_or(NO_SESSION)?;
        let inputs = oracle.program().inputs.iter();
        let names: Vec<String> = inputs.map(|port| port.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        batches.pick(&names)?;
        batches.start_epoch(0);
        let mut columns: Vec<Column> = Vec::new();
        let mut done = 0;
        while let Some(batch) = batches.next_batch() {
            let outputs = oracle.step(batch.columns());
            let outputs = outputs.map_err(|source| refused(0, done, source))?;
            if columns.is_empty() {
                let empty = outputs.iter().map(|view| Column::like(&view));
                columns = empty.collect::<Result<_, _>>()?;
            }
            for (column, view) in columns.iter_mut().zip(outputs.iter()) {
                column.append(&view)?;
            }
            done += 1;
        }
        Ok(Dataset::new(columns)?)
    }

    /// One step on `batch`, which learns; the losses and metrics of the batch, before it learned from it.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn train_on_batch(&mut self, batch: &Dataset) -> Result<Logs, TrainError> {
        self.learn_types(batch.columns())?;
        self.open_learner()?;
        let position = self.position;
        let learner = self.learner.as_mut().ok_or(NO_SESSION)?;
        let columns = learner.inputs.iter().map(|name| batch.column(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let feeds: Vec<Feed<'_>> = columns.iter().map(|column| column.to_feed()).collect();
        learner.restart();
        let outputs = learner.session.step(&feeds);
        let outputs = outputs.map_err(|source| refused(position.epoch, position.batch, source))?;
        Measuring::add(&mut learner.sums, &outputs, batch.len())?;
        let mut logs = Logs::new();
        learner.write_logs(&self.recipe, "", &mut logs);
        self.grown_old();
        Ok(logs)
    }

    /// A param or state by name, as it is between two steps. Those of the optimizer exist once there was a step.
    ///
    /// # Errors
    /// [`TrainError::Read`] for an unknown name.
    pub fn state(&mut self, name: &str) -> Result<TensorView<'_>, TrainError> {
        Ok(self.master()?.state(name)?)
    }

    /// Overwrites a param or state.
    ///
    /// # Errors
    /// [`TrainError::Set`]; nothing is written then.
    pub fn set_state(&mut self, name: &str, value: impl ToFeed) -> Result<(), TrainError> {
        self.grown_old();
        Ok(self.master_mut()?.set_state(name, value)?)
    }

    /// The session that holds the params: the one that learns, or before there was a step the one that predicts.
    ///
    /// # Errors
    /// [`TrainError`] where there is none yet and none can be opened.
    pub fn master(&mut self) -> Result<&Session, TrainError> {
        Ok(self.master_mut()?)
    }

    /// The learning rates, each with the name of its state, as they are between two steps.
    pub fn learning_rates(&self) -> Vec<(String, f64)> {
        let states = self.learner.iter().flat_map(|l| l.session.states());
        let rates = states.filter(|state| state.name().ends_with(RATE));
        let read = |state: TensorView<'_>| Some((state.name().to_owned(), state.scalar().ok()?));
        rates.filter_map(read).collect()
    }

    /// Sets all learning rates; a schedule multiplies what is set here.
    ///
    /// # Errors
    /// [`TrainError::Missing`] before there was a step.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<(), TrainError> {
        if self.learner.is_none() {
            return Err(TrainError::Missing {
                what: "the state of a learning rate",
                help: "it is there after the first step; before, give the rate to the optimizer",
            });
        }
        for (name, _) in self.learning_rates() {
            self.set_learning_rate_of(&name, rate)?;
        }
        Ok(())
    }

    /// Sets the learning rate whose state is `name`.
    ///
    /// # Errors
    /// [`TrainError`] where there is no such state.
    pub fn set_learning_rate_of(&mut self, name: &str, rate: f64) -> Result<(), TrainError> {
        if self.state(name)?.dtype() == DType::F64 {
            self.set_state(name, Feed::scalar(&rate))
        } else {
            self.set_state(name, Feed::scalar(&(rate as f32)))
        }
    }

    /// How far the training is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// All epochs so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The epochs of this run: of the last call of `fit`, and of those that a loaded checkpoint continues.
    pub(crate) fn epochs_of_run(&self) -> &[Epoch] {
        self.history
            .epochs()
            .get(self.run_start..)
            .unwrap_or_default()
    }

    /// A pass that learns nothing, over data whose types are known: losses and metrics go to `logs` under their names behind `prefix`.
    fn measure(
        &mut self,
        batches: &mut dyn Batches,
        prefix: &str,
        logs: &mut Logs,
    ) -> Result<(), TrainError> {
        self.refresh_judge()?;
        let judge = self.judge.as_mut().ok_or(NO_SESSION)?;
        judge.pick(batches)?;
        judge.restart();
        batches.start_epoch(0);
        let mut done = 0;
        while let Some(batch) = batches.next_batch() {
            let outputs = judge.session.step(batch.columns());
            let outputs = outputs.map_err(|source| refused(0, done, source))?;
            Measuring::add(&mut judge.sums, &outputs, batch.len())?;
            done += 1;
        }
        judge.write_logs(&self.recipe, prefix, logs);
        Ok(())
    }

    /// Learns the types of targets from the first batch, if they are not known yet.
    fn learn_types_of(&mut self, batches: &mut dyn Batches) -> Result<(), TrainError> {
        // Whoever walked the batches before may have picked fewer columns.
        let columns = self.columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        batches.pick(&columns)?;
        batches.start_epoch(0);
        match batches.next_batch() {
            Some(batch) => self.learn_types(batch.columns()),
            None => Err(TrainError::Data(DataError::Empty {
                what: "an epoch of it has no batch".to_owned(),
            })),
        }
    }

    /// The columns that graphs which measure are fed, in their order.
    fn columns(&self) -> Vec<String> {
        let inputs = self.recipe.model.inputs().into_iter();
        let mut names: Vec<String> = inputs.map(|(name, _)| name).collect();
        names.extend(self.targets.iter().map(|(name, _)| name.clone()));
        let first = self.outputs.first().map(|(name, _)| name);
        let losses = self.recipe.losses.iter();
        for name in losses.filter_map(|loss| loss.output.as_ref().or(first)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names.extend(self.recipe.sample_weights.clone());
        names
    }

    fn learn_types(&mut self, columns: &[Column]) -> Result<(), TrainError> {
        for loss in &self.recipe.losses {
            let first = self.outputs.first();
            let output = loss.output.as_ref().or(first.map(|(name, _)| name));
            let Some((name, ty)) = output.and_then(|o| self.outputs.iter().find(|(n, _)| n == o))
            else {
                continue;
            };
            let Some(column) = columns.iter().find(|column| column.name() == name) else {
                let known = columns.iter().map(|column| column.name().to_owned());
                return Err(TrainError::Data(DataError::UnknownColumn {
                    column: name.clone(),
                    known: known.collect(),
                }));
            };
            let batch = ty.shape.iter().next().cloned();
            let batch = batch.unwrap_or_else(|| Dim::symbol("b"));
            let found = column.type_of_batch(batch);
            match self.targets.iter().find(|(known, _)| known == name) {
                None => self.targets.push((name.clone(), found)),
                Some((_, before)) if fits(before, &found) => {}
                Some((_, before)) => {
                    return Err(TrainError::Target {
                        name: name.clone(),
                        before: before.to_string(),
                        now: found.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn measuring(&mut self, mode: Mode) -> Result<Measuring, TrainError> {
        let made = self.compiled(mode);
        if made.is_err() && self.learner.is_none() && self.judge.is_none() {
            // Data that no graph could be made for says nothing of the data that comes next.
            self.targets.truncate(self.given);
        }
        made
    }

    fn compiled(&self, mode: Mode) -> Result<Measuring, TrainError> {
        let guarded = self.recipe.guarded && mode == Mode::Training;
        let measured = self.recipe.measured(&self.targets, mode, guarded)?;
        let executable = compile(&measured.graph, &self.options)?;
        let session = executable.session_with(&self.session)?;
        Ok(Measuring::new(session, &measured))
    }

    pub(crate) fn open_learner(&mut self) -> Result<(), TrainError> {
        if self.learner.is_none() {
            let mut learner = self.measuring(Mode::Training)?;
            // What was loaded or set before the first step.
            if let Some(oracle) = &self.oracle {
                copy_shared(oracle, &mut learner.session)?;
            }
            self.learner = Some(learner);
            self.grown_old();
        }
        Ok(())
    }

    fn refresh_judge(&mut self) -> Result<(), TrainError> {
        if self.judge.is_none() {
            self.judge = Some(self.measuring(Mode::Inference)?);
            self.judge_is_old = true;
        }
        if self.judge_is_old {
            if self.learner.is_none() {
                self.open_oracle()?;
            }
            if let Some(judge) = &mut self.judge {
                let learner = self.learner.as_ref().map(|learner| &learner.session);
                if let Some(from) = learner.or(self.oracle.as_ref()) {
                    copy_shared(from, &mut judge.session)?;
                }
            }
            self.judge_is_old = false;
        }
        Ok(())
    }

    fn refresh_oracle(&mut self) -> Result<(), TrainError> {
        self.open_oracle()?;
        if let (Some(oracle), Some(learner), true) =
            (&mut self.oracle, &self.learner, self.oracle_is_old)
        {
            copy_shared(&learner.session, oracle)?;
        }
        self.oracle_is_old = false;
        Ok(())
    }

    fn open_oracle(&mut self) -> Result<(), TrainError> {
        if self.oracle.is_none() {
            let executable = compile(&self.recipe.prediction()?, &self.options)?;
            self.oracle = Some(executable.session_with(&self.session)?);
            self.oracle_is_old = true;
        }
        Ok(())
    }

    pub(crate) fn master_mut(&mut self) -> Result<&mut Session, TrainError> {
        if self.learner.is_none() {
            self.open_oracle()?;
        }
        match (&mut self.learner, &mut self.oracle) {
            (Some(learner), _) => Ok(&mut learner.session),
            (None, Some(oracle)) => Ok(oracle),
            (None, None) => Err(NO_SESSION),
        }
    }

    pub(crate) fn grown_old(&mut self) {
        self.judge_is_old = true;
        self.oracle_is_old = true;
    }
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Position { epoch, batch } = self.position;
        write!(f, "Trainer(epoch {epoch}, batch {batch})")
    }
}

/// The end of the name of a state that is a learning rate.
const RATE: &str = "learning_rate";

/// Never seen: sessions are opened before they are asked for.
const NO_SESSION: TrainError = TrainError::Missing {
    what: "a session",
    help: "this is a bug of Kiln",
};

/// Whether batches of type `found` can be fed to an input of type `wanted`: extents that the graph leaves open fit any.
fn fits(wanted: &TensorType, found: &TensorType) -> bool {
    let open = |(wanted, found): (&Dim, &Dim)| wanted.constant().is_none() || wanted == found;
    wanted.dtype == found.dtype
        && wanted.rank() == found.rank()
        && wanted.shape.iter().zip(found.shape.iter()).all(open)
}

/// Positions are counted from 1 for people.
fn refused(epoch: u64, batch: u64, source: StepError) -> TrainError {
    TrainError::Step {
        epoch: epoch + 1,
        batch: batch + 1,
        source: Box::new(source),
    }
}
