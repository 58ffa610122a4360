//! What a model is trained with, and the graphs that come of it.
//!
//! One description gives three graphs, whose params meet by name: one that learns, one that measures and one that predicts. What a step
//! measures is an output of its graph: the loss as the mean over the batch, and the statistics of metrics as sums over it, so that the
//! trainer has only to add.

use super::model::Model;
use crate::graphs::LOSS;
use kiln_ir::{Builder, DType, Diagnostics, Graph, Location, Role, Shape, Tensor, TensorType};
use kiln_nn::losses::ClassWeighted;
use kiln_nn::{Context, Loss, Metric, Mode, Optimizer};

/// Names with types, in order.
pub(crate) type Types = Vec<(String, TensorType)>;

/// Params that are not trained.
pub(super) struct Frozen {
    /// What their names have in common.
    pub(super) what: String,
    pub(super) holds: Box<dyn Fn(&str) -> bool>,
}

/// A weight for each class of an output, while learning.
pub(super) struct ClassWeights {
    /// `None`: the only one.
    pub(super) output: Option<String>,
    pub(super) weights: Vec<f64>,
}

/// What a model is trained with.
pub(crate) struct Recipe {
    pub(super) model: Box<dyn Model>,
    pub(super) losses: Vec<OutputLoss>,
    pub(super) metrics: Vec<OutputMetric>,
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) frozen: Vec<Frozen>,
    /// The column with a weight for each example.
    pub(super) sample_weights: Option<String>,
    pub(super) class_weights: Vec<ClassWeights>,
    /// Whether a step is refused whose loss is not finite.
    pub(super) guarded: bool,
    /// The line that mistakes outside the layers are charged to.
    pub(super) here: Location,
}

/// A loss of an output, and its share of what is minimised.
pub(super) struct OutputLoss {
    /// `None`: the only one.
    pub(super) output: Option<String>,
    pub(super) loss: Box<dyn Loss>,
    pub(super) weight: f64,
}

/// A metric of an output.
pub(super) struct OutputMetric {
    /// `None`: the only one.
    pub(super) output: Option<String>,
    pub(super) metric: Box<dyn Metric>,
}

/// A graph that measures, and how its outputs are read.
pub(super) struct Measured {
    pub(super) graph: Graph,
    /// Those of [`Recipe::loss_names`].
    pub(super) losses: Vec<String>,
    /// How many statistics each metric has.
    pub(super) statistics: Vec<usize>,
}

impl Recipe {
    /// The names of the metrics, in the order in which they were added.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        let name = |m: &OutputMetric| match &m.output {
            Some(output) => format!("{output}/{}", m.metric.name()),
            None => m.metric.name().to_owned(),
        };
        self.metrics.iter().map(name).collect()
    }

    /// The names of the losses: what is minimised, and where there are several the share of each output.
    pub(super) fn loss_names(&self) -> Vec<String> {
        let mut names = vec![LOSS.to_owned()];
        if self.losses.len() > 1 {
            let outputs = self.losses.iter().filter_map(|loss| loss.output.as_ref());
            names.extend(outputs.map(|output| format!("{output}/{LOSS}")));
        }
        names
    }

    /// The names of all params of the model where it learns.
    pub(super) fn params(&self) -> Result<Vec<String>, Diagnostics> {
        let builder = Builder::new("params");
        {
            let _at = builder.charged_to(self.here.clone());
            for (name, value) in self.applied(&builder, Mode::Training) {
                builder.output(&name, value);
            }
        }
        let graph = builder.finish()?;
        let slots = graph.slots().iter();
        let params = slots.filter(|slot| matches!(slot.role, Role::Param(_)));
        Ok(params.map(|slot| slot.name.clone()).collect())
    }

    /// The graph that predicts: each output of the model under its name; half precision as f32, which data has.
    pub(crate) fn prediction(&self) -> Result<Graph, Diagnostics> {
        let builder = Builder::new("prediction");
        {
            let _at = builder.charged_to(self.here.clone());
            for (name, value) in self.applied(&builder, Mode::Inference) {
                let half = value
                    .ty()
                    .is_some_and(|ty| matches!(ty.dtype, DType::BF16 | DType::F16));
                let value = if half {
                    value.convert(DType::F32)
                } else {
                    value
                };
                builder.output(&name, value);
            }
        }
        builder.finish()
    }

    /// The graph that learns, or the one that measures only.
    pub(super) fn measured(
        &self,
        targets: &Types,
        mode: Mode,
        guarded: bool,
    ) -> Result<Measured, Diagnostics> {
        let builder = Builder::new(match mode {
            Mode::Training => "training",
            Mode::Inference => "evaluation",
        });
        let statistics = {
            let _at = builder.charged_to(self.here.clone());
            self.measure(&builder, targets, mode, guarded)
        };
        Ok(Measured {
            graph: builder.finish()?,
            losses: self.loss_names(),
            statistics,
        })
    }

    /// Builds the graph; how many statistics each metric has.
    fn measure(&self, builder: &Builder, targets: &Types, mode: Mode, guarded: bool) -> Vec<usize> {
        let outputs = self.applied(builder, mode);
        let targets: Vec<(&str, Tensor<'_>)> = targets
            .iter()
            .map(|(name, ty)| (name.as_str(), builder.input(name, ty.dtype, &ty.shape)))
            .collect();
        let weights = self.sample_weights.as_deref();
        let weights = weights.map(|name| {
            let weights = builder.input(name, DType::F32, batch_of(&outputs));
            let message = format!("a weight in `{name}` is not finite");
            weights.require(weights.is_finite(), &message)
        });
        // The names were compared with the outputs when the trainer was made; a name that is gone since is a poisoned value.
        let first = outputs.first().map(|(name, _)| name.as_str());
        let named = |output| Option::as_deref(output).or(first);
        let pair = |output| {
            let name = named(output)?;
            let (_, prediction) = outputs.iter().find(|(output, _)| output == name)?;
            let (_, target) = targets.iter().find(|(target, _)| *target == name)?;
            Some((*prediction, *target))
        };

        let several = self.losses.len() > 1;
        let mut total = None;
        let mut parts = Vec::new();
        for one in &self.losses {
            let Some((prediction, target)) = pair(&one.output) else {
                continue;
            };
            let mut classes = self.class_weights.iter();
            let classes = match mode {
                Mode::Training => {
                    classes.find(|classes| named(&classes.output) == named(&one.output))
                }
                Mode::Inference => None,
            };
            let classes = classes.map(|classes| classes.weights.as_slice());
            let loss = weighted_loss(&*one.loss, prediction, target, weights, classes);
            if several && let Some(output) = &one.output {
                parts.push((format!("{output}/{LOSS}"), loss));
            }
            let share = if one.weight == 1.0 {
                loss
            } else {
                loss * one.weight
            };
            total = Some(match total {
                Some(sum) => sum + share,
                None => share,
            });
        }
        let mut loss = total.unwrap_or_else(|| builder.poison());
        if guarded {
            loss = loss.require(loss.is_finite(), NOT_FINITE);
        }
        builder.output(LOSS, loss);
        for (name, part) in parts {
            builder.output(&name, part);
        }

        let mut statistics = Vec::new();
        for (one, name) in self.metrics.iter().zip(self.metric_names()) {
            let Some((prediction, target)) = pair(&one.output) else {
                statistics.push(0);
                continue;
            };
            let sums = one.metric.statistics(prediction, target, weights);
            statistics.push(sums.len());
            for (index, sum) in sums.into_iter().enumerate() {
                builder.output(&format!("{name}/{index}"), sum);
            }
        }

        if mode == Mode::Training {
            let trained = |param: &Tensor<'_>| {
                let name = param.id().and_then(|id| builder.slot_name(id));
                let name = name.unwrap_or_default();
                !self.frozen.iter().any(|frozen| (frozen.holds)(&name))
            };
            let params: Vec<Tensor<'_>> = builder.params().into_iter().filter(trained).collect();
            self.optimizer
                .minimize_from(self.here.clone(), loss, &params);
        }
        statistics
    }

    /// Declares the inputs; the outputs.
    fn applied<'g>(&self, builder: &'g Builder, mode: Mode) -> Vec<(String, Tensor<'g>)> {
        let inputs: Vec<Tensor<'g>> = self
            .model
            .inputs()
            .iter()
            .map(|(name, ty)| builder.input(name, ty.dtype, &ty.shape))
            .collect();
        self.model.outputs(&Context::new(builder, mode), &inputs)
    }
}

/// The batch axis of the outputs.
fn batch_of(outputs: &[(String, Tensor<'_>)]) -> Shape {
    let shapes = outputs
        .iter()
        .filter_map(|(_, value)| Some(value.ty()?.shape));
    let first = shapes
        .filter_map(|shape| shape.iter().next().cloned())
        .next();
    first.into_iter().collect()
}

/// The mean of the loss over the batch, each example times its weight and that of its class.
fn weighted_loss<'g>(
    loss: &dyn Loss,
    prediction: Tensor<'g>,
    target: Tensor<'g>,
    weights: Option<Tensor<'g>>,
    classes: Option<&[f64]>,
) -> Tensor<'g> {
    let mean = |loss: &dyn Loss| match weights {
        Some(weights) => loss.weighted_mean(prediction, target, weights),
        None => loss.mean(prediction, target),
    };
    match classes {
        Some(classes) => mean(&ClassWeighted::new(loss, classes)),
        None => mean(loss),
    }
}

/// What the guard of a loss says.
pub(super) const NOT_FINITE: &str = "the loss is not finite";
