//! The sessions of a trainer: each is opened when it is first needed, and brought up to date when it is asked.
//!
//! One session learns, one measures and one predicts. Each holds the params of the model: sessions share none.

use super::measures::Measuring;
use super::{NO_SESSION, Source, TrainError, Trainer};
use crate::compile::compile;
use crate::epoch::copy_shared;
use kiln_ir::Graph;
use kiln_nn::{Mode, average_of};
use kiln_runtime::Session;

impl Trainer {
    /// Measures and predicts with the averages of the weights that the optimizer keeps, as by [`AdamW::averaged`](kiln_nn::AdamW::averaged):
    /// [`evaluate`](Self::evaluate), the validation of [`fit`](Self::fit), [`predict`](Self::predict) and
    /// [`save_weights`](Self::save_weights). What is learned stays as it is, and before the first step there is no average.
    ///
    /// # Errors
    /// Those methods say so where the optimizer keeps no averages.
    ///
    /// ```
    /// # use kiln_nn::{AdamW, MeanSquaredError, Sequential};
    /// # use kiln_train::{Fit, Trainer, data::{Column, Dataset}};
    /// # let column = |name: &str| Column::new(name, [8, 1], vec![0.5f32; 8]);
    /// # let data = Dataset::new([column("x")?, column("y")?])?;
    /// let model = Trainer::new(Sequential::new([1]).dense(1)).loss(MeanSquaredError);
    /// let mut trainer = model.optimizer(AdamW::new(0.1).averaged(0.9)).compile()?;
    /// trainer.fit(&data, Fit::epochs(3).quiet())?;
    /// let last = trainer.evaluate(&data, 8)?;
    /// trainer.use_averages(true);
    /// assert_ne!(trainer.evaluate(&data, 8)?, last);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn use_averages(&mut self, averages: bool) {
        self.averages = averages;
        self.grown_old();
    }

    /// The graph of a step that learns from `data`, as the compiler takes it: for a look at its stages by [`ir_text`](crate::ir_text).
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn training_graph<'d>(&mut self, data: impl Source<'d>) -> Result<Graph, TrainError> {
        self.learn_types_of(&mut *data.open(1, None)?)?;
        let guarded = self.recipe.guarded;
        let measured = self.recipe.measured(&self.targets, Mode::Training, guarded);
        Ok(measured?.graph)
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

    pub(super) fn refresh_judge(&mut self) -> Result<(), TrainError> {
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
                if let (Some(learner), true) = (learner, self.averages) {
                    copy_averages(learner, &mut judge.session)?;
                }
            }
            self.judge_is_old = false;
        }
        Ok(())
    }

    pub(super) fn refresh_oracle(&mut self) -> Result<(), TrainError> {
        self.open_oracle()?;
        if let (Some(oracle), Some(learner), true) =
            (&mut self.oracle, &self.learner, self.oracle_is_old)
        {
            copy_shared(&learner.session, oracle)?;
            if self.averages {
                copy_averages(&learner.session, oracle)?;
            }
        }
        self.oracle_is_old = false;
        Ok(())
    }

    /// The session whose params predict.
    pub(crate) fn measured_master(&mut self) -> Result<&Session, TrainError> {
        if !self.averages {
            return self.master();
        }
        self.refresh_oracle()?;
        self.oracle.as_ref().ok_or(NO_SESSION)
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

/// Puts the averages that an optimizer keeps in the places of the params.
fn copy_averages(from: &Session, to: &mut Session) -> Result<(), TrainError> {
    let mut found = false;
    for average in from.states() {
        let Some((optimizer, param)) = average.name().split_once(&average_of("", "")) else {
            continue;
        };
        if from.state(param).is_err() {
            continue;
        }
        found = true;
        // Until there was a step, an average is zero.
        let steps = from.state(&format!("{optimizer}/step"))?.scalar()?;
        if steps > 0.0 && to.state(param).is_ok() {
            to.set_state(param, average)?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(TrainError::Missing {
            what: "an average of the weights",
            help: "the optimizer keeps one with `.averaged(0.999)`",
        })
    }
}
