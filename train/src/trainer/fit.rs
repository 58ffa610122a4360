//! The loop over epochs.

use super::error::TrainError;
use super::history::{Epoch, History, LEARNING_RATE};
use super::logs::Logs;
use super::measures::Measuring;
use super::not_finite::{self, NotFinite};
use super::source::Source;
use super::{NO_SESSION, Trainer, refused};
use crate::callbacks::{Callback, Flow, Moment};
use crate::data::{Batch, Batches, DataError};
use crate::interrupt;
use crate::progress::Progress;
use kiln_runtime::{Feed, StepError, ToFeed};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How far a training is: where a run that was stopped goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Whole epochs that were done.
    pub epoch: u64,
    /// Batches that were done of the epoch after these.
    pub batch: u64,
}

/// How [`Trainer::fit`] goes through the data.
///
/// ```no_run
/// # fn example(mut trainer: kiln_train::Trainer, train: kiln_train::data::Dataset, test: kiln_train::data::Dataset)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use kiln_train::{Fit, callbacks::EarlyStopping};
///
/// let fit = Fit::epochs(20).batch(128).validate(&test).callback(EarlyStopping::lowest("val_loss").patience(3));
/// let history = trainer.fit(&train, fit)?;
/// history.plot("curves.svg")?;
/// # Ok(())
/// # }
/// ```
pub struct Fit<'f> {
    epochs: End,
    batch: usize,
    shuffles: bool,
    shows: bool,
    validation: Option<Box<Validation<'f>>>,
    callbacks: Vec<Box<dyn Callback + 'f>>,
    interrupt: Option<PathBuf>,
}

/// Opens the validation data with a batch size.
type Validation<'f> = dyn FnOnce(usize) -> Result<Box<dyn Batches + 'f>, DataError> + 'f;

#[derive(Clone, Copy)]
enum End {
    After(u64),
    At(u64),
}

impl<'f> Fit<'f> {
    /// `epochs` more times through the data. An epoch that was stopped in its midst is the first of them, and only what is left of it.
    pub fn epochs(epochs: u64) -> Self {
        Self::new(End::After(epochs))
    }

    /// Until the trainer has done `epochs` epochs, those before a checkpoint was loaded among them.
    pub fn until(epochs: u64) -> Self {
        Self::new(End::At(epochs))
    }

    fn new(epochs: End) -> Self {
        Self {
            epochs,
            batch: 32,
            shuffles: true,
            shows: true,
            validation: None,
            callbacks: Vec::new(),
            interrupt: None,
        }
    }

    /// Examples in a batch, 32 unless given. The last batch of an epoch may be shorter. For data that is not cut into batches yet.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Keeps the order of the data, which is otherwise shuffled anew in each epoch. For data that is not cut into batches yet.
    pub fn in_order(mut self) -> Self {
        self.shuffles = false;
        self
    }

    /// Shows nothing. Otherwise a bar with the time left goes to standard error where that is a terminal, and a line after each epoch.
    pub fn quiet(mut self) -> Self {
        self.shows = false;
        self
    }

    /// Measures the model on `data` after each epoch; the values get the names `val_loss` and so on.
    pub fn validate(mut self, data: impl Source<'f> + 'f) -> Self {
        self.validation = Some(Box::new(move |batch| data.open(batch, None)));
        self
    }

    /// Adds a callback; they are called in the order in which they were added.
    pub fn callback(mut self, callback: impl Callback + 'f) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// On Ctrl-C, finishes the step, saves a checkpoint at `path` and returns. A second Ctrl-C ends the process. The folder is made, and that
    /// the file can be written is found out, before the first step.
    pub fn save_on_ctrl_c(mut self, path: impl Into<PathBuf>) -> Self {
        self.interrupt = Some(path.into());
        self
    }
}

impl Trainer {
    /// Learns from `data`: all epochs so far, those of earlier calls among them.
    ///
    /// Each input of the model is fed the column of its name, and each output is compared with the column of its name. Data whose columns
    /// have other types than the model's is refused, and nothing is converted.
    ///
    /// # Errors
    /// [`TrainError`]. The trainer then holds what the last whole step has left.
    pub fn fit<'d>(&mut self, data: impl Source<'d>, fit: Fit<'_>) -> Result<History, TrainError> {
        let seed = fit.shuffles.then_some(self.session.seed);
        let mut batches = data.open(fit.batch, seed)?;
        self.learn_types_of(&mut *batches)?;
        self.open_learner()?;
        self.learner
            .as_ref()
            .ok_or(NO_SESSION)?
            .pick(&mut *batches)?;
        let mut validation = match fit.validation {
            Some(open) => Some(open(fit.batch.max(VALIDATION_BATCH))?),
            None => None,
        };
        // Before an epoch is spent on it.
        if let Some(validation) = validation.as_deref_mut() {
            self.learn_types_of(validation)?;
        }
        let names = self.log_names(validation.is_some())?;
        let listening = match &fit.interrupt {
            Some(path) => {
                can_write(path)?;
                Some(interrupt::listen()?)
            }
            None => None,
        };
        let end = match fit.epochs {
            End::After(epochs) => self.position.epoch.saturating_add(epochs),
            End::At(epochs) => epochs,
        };
        let is_resumed = std::mem::take(&mut self.is_resumed);
        if !is_resumed {
            self.run_start = self.history.epochs().len();
            self.remembered.clear();
        }
        // What is saved after an epoch holds what the others made of it.
        let mut callbacks = fit.callbacks;
        callbacks.sort_by_key(|callback| callback.saves());
        let mut run = Run {
            trainer: self,
            callbacks,
            end,
            shows: fit.shows,
            interrupt: fit.interrupt,
            logs: Logs::new(),
            names,
        };
        let begun = run.tell(|callback, moment| callback.train_begin(moment));
        let stopped = match begun {
            Ok(None) => run.all(&mut *batches, validation.as_deref_mut()),
            Ok(why) => Ok(why),
            Err(error) => {
                // What goes on has not gone on yet, and may once the mistake is mended.
                self.is_resumed = is_resumed;
                return Err(error);
            }
        };
        // Files are closed whatever happened.
        let ended = run.tell(|callback, moment| callback.train_end(moment).map(|()| Flow::Go));
        drop(listening);
        let stopped = stopped?;
        ended?;
        self.history.set_stopped(stopped);
        Ok(self.history.clone())
    }
}

impl Trainer {
    /// The names in the logs at the end of an epoch.
    fn log_names(&self, validated: bool) -> Result<Vec<String>, TrainError> {
        let learner = self.learner.as_ref().ok_or(NO_SESSION)?;
        let mut logs = Logs::new();
        learner.write_logs(&self.recipe, "", &mut logs);
        if validated {
            learner.write_logs(&self.recipe, VALIDATION, &mut logs);
        }
        let mut names: Vec<String> = logs.iter().map(|(name, _)| name.to_owned()).collect();
        if !self.learning_rates().is_empty() {
            names.push(LEARNING_RATE.to_owned());
        }
        Ok(names)
    }
}

/// Makes the folder of a file that is to be written later, and tries whether it can be.
pub(crate) fn can_write(path: &Path) -> Result<(), TrainError> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| kiln_interop::can_replace(path))
        .map_err(TrainError::write(path))
}

/// What the names of the values of the validation begin with.
const VALIDATION: &str = "val_";

/// Validation learns nothing, so its batches may be larger: a session then runs fewer steps.
const VALIDATION_BATCH: usize = 256;

/// One call of [`Trainer::fit`].
struct Run<'t, 'f> {
    trainer: &'t mut Trainer,
    callbacks: Vec<Box<dyn Callback + 'f>>,
    end: u64,
    shows: bool,
    interrupt: Option<PathBuf>,
    logs: Logs,
    /// What the logs of an epoch hold at its end.
    names: Vec<String>,
}

impl<'v> Run<'_, '_> {
    /// All epochs; why they ended early, if they did.
    fn all(
        &mut self,
        batches: &mut dyn Batches,
        mut validation: Option<&mut (dyn Batches + 'v)>,
    ) -> Result<Option<String>, TrainError> {
        self.trainer.history.set_stopped(None);
        // Copies that are what the trainer holds are so until the first step; whoever goes on with one has made it.
        self.trainer.remembered.retain(|_, copy| !copy.is_empty());
        while self.trainer.position.epoch < self.end {
            let start = Instant::now();
            let before = self.tell(|callback, moment| callback.epoch_begin(moment))?;
            if before.is_some() {
                return Ok(before);
            }
            let progress = self.shows.then(|| {
                let label = format!("epoch {}/{}", self.trainer.position.epoch + 1, self.end);
                Progress::new(&label, batches.batches() as u64)
            });
            let stopped = self.steps(batches, progress.as_ref())?;
            if stopped.is_some() {
                return Ok(stopped);
            }
            self.logs = Logs::new();
            self.write_logs()?;
            if let Some(validation) = validation.as_deref_mut() {
                let logs = &mut self.logs;
                self.trainer.measure(validation, VALIDATION, logs)?;
            }
            if let Some((_, rate)) = self.trainer.learning_rates().first() {
                self.logs.set(LEARNING_RATE, *rate);
            }
            let seconds = start.elapsed().as_secs_f64();
            if let Some(progress) = progress {
                progress.finish_line(&format!("{seconds:.2} s  {}", self.logs));
            }
            let position = &mut self.trainer.position;
            *position = Position {
                epoch: position.epoch + 1,
                batch: 0,
            };
            let epoch = Epoch {
                number: position.epoch,
                seconds,
                logs: self.logs.clone(),
            };
            self.trainer.history.push(epoch);
            let after = self.tell(|callback, moment| callback.epoch_end(moment))?;
            if after.is_some() {
                return Ok(after);
            }
            if self.interrupt.is_some() && interrupt::take() {
                return self.save_interrupted().map(Some);
            }
        }
        Ok(None)
    }

    /// What is left of an epoch.
    fn steps(
        &mut self,
        batches: &mut dyn Batches,
        progress: Option<&Progress>,
    ) -> Result<Option<String>, TrainError> {
        let Position { epoch, batch } = self.trainer.position;
        batches.start_epoch(epoch);
        let skipped = batches.skip(batch);
        let learner = self.trainer.learner.as_mut().ok_or(NO_SESSION)?;
        if batch == 0 {
            learner.restart();
        } else if skipped != learner.sums.examples {
            return Err(TrainError::OtherBatches {
                batches: batch,
                before: learner.sums.examples,
                now: skipped,
            });
        }
        let watched = self
            .callbacks
            .iter()
            .any(|callback| callback.watches_batches());
        let interruptible = self.interrupt.is_some();
        while let Some(batch) = batches.next_batch() {
            self.step(&batch)?;
            if let Some(progress) = progress
                && progress.is_due()
            {
                self.write_logs()?;
                progress.show(self.trainer.position.batch, &self.logs);
            }
            if watched {
                self.write_logs()?;
                let stopped = self.tell(|callback, moment| callback.batch_end(moment))?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
            }
            if interruptible && interrupt::take() {
                return self.save_interrupted().map(Some);
            }
        }
        Ok(None)
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<(), TrainError> {
        let trainer = &mut *self.trainer;
        let learner = trainer.learner.as_mut().ok_or(NO_SESSION)?;
        match learner.session.step(batch.columns()) {
            Ok(outputs) => Measuring::add(&mut learner.sums, &outputs, batch.len())?,
            Err(error) => return Err(explain(trainer, batch, error)),
        }
        trainer.position.batch += 1;
        trainer.grown_old();
        Ok(())
    }

    fn write_logs(&mut self) -> Result<(), TrainError> {
        let trainer = &mut *self.trainer;
        let learner = trainer.learner.as_ref().ok_or(NO_SESSION)?;
        learner.write_logs(&trainer.recipe, "", &mut self.logs);
        Ok(())
    }

    fn save_interrupted(&mut self) -> Result<String, TrainError> {
        let Some(path) = self.interrupt.clone() else {
            return Ok("Ctrl-C".to_owned());
        };
        self.trainer.save(&path)?;
        Ok(format!("Ctrl-C; saved in {}", path.display()))
    }

    /// Tells all callbacks; why the first that wants to stop does.
    fn tell(
        &mut self,
        mut what: impl FnMut(&mut dyn Callback, &mut Moment<'_>) -> Result<Flow, TrainError>,
    ) -> Result<Option<String>, TrainError> {
        let mut stopped = None;
        for callback in &mut self.callbacks {
            let mut moment = Moment {
                trainer: self.trainer,
                logs: &self.logs,
                names: &self.names,
                end: self.end,
            };
            if let Flow::Stop(why) = what(&mut **callback, &mut moment)? {
                stopped = stopped.or(Some(why));
            }
        }
        Ok(stopped)
    }
}

/// Why a step was refused; of one that a guard refused, what the interpreter finds.
fn explain(trainer: &Trainer, batch: &Batch<'_>, error: StepError) -> TrainError {
    let Position { epoch, batch: done } = trainer.position;
    let plain = refused(epoch, done, error.clone());
    let (StepError::Guard { message, .. }, Some(learner), true) =
        (&error, &trainer.learner, trainer.recipe.guarded)
    else {
        return plain;
    };
    if !message.contains(super::recipe::NOT_FINITE) {
        return plain;
    }
    let feeds: Vec<Feed<'_>> = batch.columns().iter().map(ToFeed::to_feed).collect();
    let found = not_finite::find(&trainer.recipe, &trainer.targets, &learner.session, &feeds);
    match found {
        Ok(culprit) => TrainError::NotFinite(Box::new(NotFinite {
            epoch: epoch + 1,
            batch: done + 1,
            culprit,
        })),
        Err(error) => error,
    }
}
