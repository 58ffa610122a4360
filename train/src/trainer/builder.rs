//! The description of a trainer.

use super::error::TrainError;
use super::recipe::{Chooser, OutputLoss, OutputMetric, Recipe, Types};
use super::{History, Model, Position, Trainer};
use kiln_compiler::Options;
use kiln_ir::{Location, TensorType};
use kiln_nn::{Loss, Metric, Optimizer};
use kiln_runtime::SessionOptions;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The description of a [`Trainer`]. A model of one output needs a [`loss`](Self::loss), one of several a [`loss_on`](Self::loss_on) for
/// those that are learned; every trainer needs an [`optimizer`](Self::optimizer).
pub struct TrainerBuilder {
    model: Box<dyn Model>,
    losses: Vec<OutputLoss>,
    metrics: Vec<OutputMetric>,
    optimizer: Option<Box<dyn Optimizer>>,
    frozen: Vec<Chooser>,
    sample_weights: Option<String>,
    class_weights: Vec<f64>,
    guarded: bool,
    targets: Types,
    options: Options,
    session: SessionOptions,
}

impl TrainerBuilder {
    pub(super) fn new(model: Box<dyn Model>) -> Self {
        Self {
            model,
            losses: Vec::new(),
            metrics: Vec::new(),
            optimizer: None,
            frozen: Vec::new(),
            sample_weights: None,
            class_weights: Vec::new(),
            guarded: false,
            targets: Vec::new(),
            options: Options::default(),
            session: SessionOptions::new(0),
        }
    }

    /// What is minimised, for a model of one output. The target is the data's column of the output's name: `y` for a
    /// [`Sequential`](kiln_nn::Sequential).
    pub fn loss(mut self, loss: impl Loss + 'static) -> Self {
        self.losses.push(OutputLoss {
            output: None,
            loss: Box::new(loss),
            weight: 1.0,
        });
        self
    }

    /// Adds `weight` times the loss of `output` to what is minimised. It is shown as `OUTPUT/loss`.
    pub fn loss_on(mut self, output: &str, weight: f64, loss: impl Loss + 'static) -> Self {
        self.losses.push(OutputLoss {
            output: Some(output.to_owned()),
            loss: Box::new(loss),
            weight,
        });
        self
    }

    /// What is looked at, for a model of one output.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(OutputMetric {
            output: None,
            metric: Box::new(metric),
        });
        self
    }

    /// A metric of `output`, shown as `OUTPUT/METRIC`. The output must have a loss too, which its target comes with.
    pub fn metric_on(mut self, output: &str, metric: impl Metric + 'static) -> Self {
        self.metrics.push(OutputMetric {
            output: Some(output.to_owned()),
            metric: Box::new(metric),
        });
        self
    }

    /// How params follow their gradients.
    pub fn optimizer(mut self, optimizer: impl Optimizer + 'static) -> Self {
        self.optimizer = Some(Box::new(optimizer));
        self
    }

    /// Leaves all params alone whose names begin with `prefix`: `freeze("encoder/")`.
    pub fn freeze(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        self.freeze_if(move |name| name.starts_with(&prefix))
    }

    /// Leaves all params alone whose names are chosen. What layers keep besides, such as the averages of a batch normalisation, follows its
    /// data as before.
    pub fn freeze_if(mut self, chosen: impl Fn(&str) -> bool + 'static) -> Self {
        self.frozen.push(Box::new(chosen));
        self
    }

    /// The f32 column of shape `[n]` with a weight for each example, by which losses and metrics count it. Validation data needs it as well.
    pub fn sample_weights(mut self, column: &str) -> Self {
        self.sample_weights = Some(column.to_owned());
        self
    }

    /// A weight for each class, by which the loss counts the examples of the class while it learns; targets are the numbers of classes. A
    /// penalty of the loss is weighted with them: [`Regularised`](kiln_nn::Regularised) around [`ClassWeighted`](kiln_nn::ClassWeighted) leaves
    /// it alone.
    pub fn class_weights(mut self, weights: impl Into<Vec<f64>>) -> Self {
        self.class_weights = weights.into();
        self
    }

    /// Refuses a step whose loss is no number, before it writes any param, and says which tensor was the first that went bad and where it
    /// was made.
    pub fn terminate_on_nan(mut self) -> Self {
        self.guarded = true;
        self
    }

    /// The type of a batch of targets of `output`, where the data's first batch does not tell it: for windows whose length is a symbol.
    pub fn target(mut self, output: &str, ty: TensorType) -> Self {
        self.targets.push((output.to_owned(), ty));
        self
    }

    /// What initial params, dropout and the order of the data are drawn with; 0 unless given.
    pub fn seed(mut self, seed: u64) -> Self {
        self.session.seed = seed;
        self
    }

    /// The number of threads that share a step; one for each of the machine's unless given. Results do not depend on it.
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.session.threads = Some(threads);
        self
    }

    /// The most bytes that a session may hold.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.session.memory_limit = Some(bytes);
        self
    }

    /// How graphs are compiled.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Builds the model and checks what was attached to it. Each graph becomes machine code when it is first needed: that of a step when
    /// the first data tells the types of targets.
    ///
    /// # Errors
    /// [`TrainError::Missing`], [`TrainError::Output`], and [`TrainError::Graph`] for mistakes in the model.
    #[track_caller]
    pub fn compile(self) -> Result<Trainer, TrainError> {
        let optimizer = self.optimizer.ok_or(TrainError::Missing {
            what: "an optimizer",
            help: "add `.optimizer(Adam::new(1e-3))`",
        })?;
        if self.losses.is_empty() {
            return Err(TrainError::Missing {
                what: "a loss",
                help: "add `.loss(SparseCrossEntropy)`, or `.loss_on(output, 1.0, ..)` where there are several outputs",
            });
        }
        let recipe = Recipe {
            model: self.model,
            losses: self.losses,
            metrics: self.metrics,
            optimizer,
            frozen: self.frozen,
            sample_weights: self.sample_weights,
            class_weights: self.class_weights,
            guarded: self.guarded,
            here: Location::caller(),
        };
        let prediction = recipe.prediction()?;
        let typed = prediction.outputs().iter().filter_map(|output| {
            let node = prediction.node(output.node)?;
            Some((output.name.clone(), node.ty.clone()))
        });
        let outputs: Types = typed.collect();
        check_outputs(&recipe, &self.targets, &outputs)?;
        Ok(Trainer {
            recipe,
            options: self.options,
            session: self.session,
            outputs,
            given: self.targets.len(),
            targets: self.targets,
            learner: None,
            judge: None,
            oracle: None,
            judge_is_old: false,
            oracle_is_old: false,
            position: Position::default(),
            history: History::default(),
            run_start: 0,
            is_resumed: false,
            kept: BTreeMap::new(),
        })
    }
}

/// Whatever is attached to an output finds it.
fn check_outputs(recipe: &Recipe, targets: &Types, outputs: &Types) -> Result<(), TrainError> {
    let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let losses = recipe
        .losses
        .iter()
        .map(|l| ("a loss", l.output.as_deref()));
    let metrics = recipe
        .metrics
        .iter()
        .map(|m| ("a metric", m.output.as_deref()));
    let targets = targets
        .iter()
        .map(|(name, _)| ("a target", Some(name.as_str())));
    let mut learned: Vec<&str> = Vec::new();
    for (what, output) in losses.chain(metrics).chain(targets) {
        let known = match output {
            Some(output) => names.contains(&output),
            None => names.len() == 1,
        };
        let output = output.unwrap_or("the only one");
        let refused = |known: String| TrainError::Output {
            what,
            output: output.to_owned(),
            known,
        };
        if !known {
            return Err(refused(quoted.join(", ")));
        }
        if what == "a loss" {
            if learned.contains(&output) {
                return Err(refused("one loss for it already".to_owned()));
            }
            learned.push(output);
        } else if what == "a metric" && !learned.contains(&output) {
            return Err(refused(
                "no loss for it, with which its target would come".to_owned(),
            ));
        }
    }
    Ok(())
}
