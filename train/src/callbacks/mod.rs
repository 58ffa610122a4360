//! What is told of a training as it goes, and may stop it.
//!
//! A [`Callback`] sees the trainer between steps, with everything that it can do: set the learning rate, save, read a state. Where a decision
//! hangs on earlier epochs, it is made from the history alone, which checkpoints hold, so that a run that was stopped decides as one that was
//! not.

mod checkpoint;
mod csv_log;
mod early_stopping;
mod plateau;
mod tensor_board;
mod watch;

pub use checkpoint::Checkpoint;
pub use csv_log::CsvLog;
pub use early_stopping::EarlyStopping;
pub use plateau::ReduceLrOnPlateau;
pub use tensor_board::TensorBoard;

use crate::trainer::{Epoch, Logs, TrainError, Trainer};

/// Whether a training goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Go,
    /// It ends now, for the reason given.
    Stop(String),
}

/// What a callback is shown.
#[derive(Debug)]
pub struct Moment<'m> {
    /// The trainer, between two steps.
    pub trainer: &'m mut Trainer,
    /// The losses and metrics of the epoch so far; at its end, with those of the validation.
    pub logs: &'m Logs,
    /// The number of epochs after which the training ends, counted from the trainer's first.
    pub end: u64,
    pub(crate) names: &'m [String],
}

impl Moment<'_> {
    /// The epochs of this run that are done: those of this call of `fit`, and of the one that a loaded checkpoint continues.
    pub fn epochs(&self) -> &[Epoch] {
        self.trainer.epochs_of_run()
    }

    /// The names that [`Moment::logs`] has at the end of an epoch; known before the first.
    pub fn names(&self) -> &[String] {
        self.names
    }
}

/// Told of a training as it goes. All methods do nothing unless written; an error ends the training.
///
/// ```
/// use kiln_train::callbacks::{Callback, Flow, Moment};
/// use kiln_train::TrainError;
///
/// /// Ends a training that is good enough.
/// struct Until(f64);
///
/// impl Callback for Until {
///     fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
///         Ok(match moment.logs.get("loss") {
///             Some(loss) if loss < self.0 => Flow::Stop(format!("the loss is {loss}")),
///             _ => Flow::Go,
///         })
///     }
/// }
/// ```
pub trait Callback {
    /// Before the first epoch: the place to refuse what would go wrong after it.
    fn train_begin(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        Ok(Flow::Go)
    }

    /// Before an epoch.
    fn epoch_begin(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        Ok(Flow::Go)
    }

    /// Whether [`Callback::batch_end`] is to be called. If no callback of a training wants it, metrics are not computed for each batch.
    fn watches_batches(&self) -> bool {
        false
    }

    /// Whether it saves the trainer: it is then told of the end of an epoch when all others have been, so that a run that goes on has what
    /// they did.
    fn saves(&self) -> bool {
        false
    }

    /// After a step.
    fn batch_end(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        Ok(Flow::Go)
    }

    /// After an epoch, which is the last of [`Moment::epochs`].
    fn epoch_end(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        Ok(Flow::Go)
    }

    /// After the last epoch, also where an error or another callback ended the training; not where one refused it at its beginning.
    fn train_end(&mut self, _moment: &mut Moment<'_>) -> Result<(), TrainError> {
        Ok(())
    }
}

/// A callback from a closure that is called after each epoch.
///
/// ```
/// use kiln_train::callbacks::{Flow, after_epoch};
///
/// let show = after_epoch(|moment| {
///     println!("{:?}: {}", moment.trainer.position(), moment.logs);
///     Ok(Flow::Go)
/// });
/// ```
pub fn after_epoch(call: impl FnMut(&mut Moment<'_>) -> Result<Flow, TrainError>) -> impl Callback {
    AfterEpoch(call)
}

struct AfterEpoch<F>(F);

impl<F: FnMut(&mut Moment<'_>) -> Result<Flow, TrainError>> Callback for AfterEpoch<F> {
    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        (self.0)(moment)
    }
}

/// A callback from a closure that is called after each batch.
pub fn after_batch(call: impl FnMut(&mut Moment<'_>) -> Result<Flow, TrainError>) -> impl Callback {
    AfterBatch(call)
}

struct AfterBatch<F>(F);

impl<F: FnMut(&mut Moment<'_>) -> Result<Flow, TrainError>> Callback for AfterBatch<F> {
    fn watches_batches(&self) -> bool {
        true
    }

    fn batch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        (self.0)(moment)
    }
}
