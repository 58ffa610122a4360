//! The graphs of a model: one that learns, one that evaluates, one that predicts, and for texts one that writes.
//!
//! A model is a description, so it is built once for each purpose: dropout is there only where the model learns, gradients and moments
//! only where they are needed, and what is not needed is not planned. The three agree in the names of params, by which a session hands
//! them from one to the other. The names of inputs and outputs are fixed here, and nothing else in the crate may invent others.
//!
//! Nothing is compiled or run here.

use kiln_ir::{Builder, DType, Diagnostics, Graph, Location, Tensor, TensorType};
use kiln_nn::{Context, Continuation, Layer, Loss, MeanMetric, Mode, Optimizer};

/// The input of every graph.
pub const INPUT: &str = "x";
/// The input of targets, in the graphs that learn and evaluate.
pub const TARGET: &str = "y";
/// The input of where a token stands, in the graph that goes on with a text.
pub const POSITION: &str = "position";
/// The output with the mean loss over the batch.
pub const LOSS: &str = "loss";
/// The output with what the model makes of its input.
pub const PREDICTION: &str = "prediction";

/// A model with the types of its data and what it is measured by. Input and target have the batch as first axis, by the same symbol.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The model.
    pub model: &'a dyn Layer,
    /// The type of an input batch.
    pub input: &'a TensorType,
    /// The type of a batch of targets.
    pub target: &'a TensorType,
    /// What is minimised.
    pub loss: &'a dyn Loss,
    /// What is looked at; each is an output, the mean over the batch, under its own name.
    pub metrics: &'a [&'a dyn MeanMetric],
}

impl Task<'_> {
    /// The graph of a step that learns: outputs the loss and the metrics, both of the params before the step, and updates params and the
    /// optimizer's states. Mistakes outside the layers are charged to the calling line.
    ///
    /// ```
    /// use kiln_ir::{DType, Dim, TensorType};
    /// use kiln_nn::{Accuracy, Adam, Sequential, SparseCrossEntropy};
    /// use kiln_train::graphs::Task;
    ///
    /// let model = Sequential::new([64]).dense(32).relu().dropout(0.2).dense(10);
    /// let task = Task {
    ///     model: &model,
    ///     input: &model.input_type(DType::F32),
    ///     target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
    ///     loss: &SparseCrossEntropy,
    ///     metrics: &[&Accuracy],
    /// };
    /// let graph = task.training(&Adam::new(1e-3)).unwrap();
    /// assert_eq!(graph.outputs()[1].name, "accuracy");
    /// ```
    #[track_caller]
    pub fn training(&self, optimizer: &dyn Optimizer) -> Result<Graph, Diagnostics> {
        let here = Location::caller();
        let builder = Builder::new("training");
        let loss = self.measured(&builder, Mode::Training, &here);
        optimizer.minimize_from(here, loss, &builder.params());
        builder.finish()
    }

    /// The graph of a step that evaluates: outputs the loss and the metrics, and updates nothing.
    #[track_caller]
    pub fn evaluation(&self) -> Result<Graph, Diagnostics> {
        let here = Location::caller();
        let builder = Builder::new("evaluation");
        self.measured(&builder, Mode::Inference, &here);
        builder.finish()
    }

    /// Declares inputs and outputs; returns the mean loss.
    fn measured<'g>(&self, builder: &'g Builder, mode: Mode, here: &Location) -> Tensor<'g> {
        let _at = builder.charged_to(here.clone());
        let x = builder.input(INPUT, self.input.dtype, &self.input.shape);
        let y = builder.input(TARGET, self.target.dtype, &self.target.shape);
        let prediction = self.model.apply(&Context::new(builder, mode), x);
        let loss = self.loss.mean(prediction, y);
        builder.output(LOSS, loss);
        for metric in self.metrics {
            builder.output(metric.name(), metric.measure(prediction, y));
        }
        loss
    }
}

/// The graph of a step that predicts: the input in, the prediction out.
#[track_caller]
pub fn prediction(model: &dyn Layer, input: &TensorType) -> Result<Graph, Diagnostics> {
    let builder = Builder::new("prediction");
    {
        let _at = builder.charged_to(Location::caller());
        let x = builder.input(INPUT, input.dtype, &input.shape);
        let y = model.apply(&Context::inference(&builder), x);
        builder.output(PREDICTION, y);
    }
    builder.finish()
}

/// The graph of a step that goes on with a text by one token, as a [`Writer`](crate::Writer) runs it: `x: u32[1, 1]` at `position: i32[]`
/// of a context of `context` tokens in, the prediction for what follows out. What the layers keep of earlier tokens are states.
#[track_caller]
pub fn continuation(model: &dyn Layer, context: usize) -> Result<Graph, Diagnostics> {
    let builder = Builder::new("continuation");
    {
        let _at = builder.charged_to(Location::caller());
        let x = builder.input(INPUT, DType::U32, (1, 1));
        let position = builder.input(POSITION, DType::I32, ());
        // More than any memory holds is refused where the states are declared.
        let context = i64::try_from(context).unwrap_or(i64::MAX);
        let at = Continuation::new(position, 1, context);
        let y = model.apply(&Context::inference(&builder).continuing(at), x);
        builder.output(PREDICTION, y);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{Dim, Role};
    use kiln_nn::{Accuracy, Adam, MeanSquaredError, Sequential, SparseCrossEntropy};

    fn params(graph: &Graph) -> Vec<&str> {
        let slots = graph.slots().iter();
        let params = slots.filter(|s| matches!(s.role, Role::Param(_)));
        params.map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn the_three_graphs_share_their_params_and_only_one_updates() {
        let model = Sequential::new([6]).dense(4).relu().dropout(0.5).dense(3);
        let input = model.input_type(DType::F32);
        let task = Task {
            model: &model,
            input: &input,
            target: &TensorType::new(DType::I32, (Dim::symbol("b"),)),
            loss: &SparseCrossEntropy,
            metrics: &[&Accuracy],
        };
        let training = task.training(&Adam::new(0.1)).unwrap();
        let evaluation = task.evaluation().unwrap();
        let prediction = prediction(&model, &input).unwrap();
        let names = ["dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"];
        for graph in [&training, &evaluation, &prediction] {
            assert_eq!(params(graph), names);
        }
        // Four params with two moments each, Adam's step and the counter of the draws.
        assert_eq!(training.updates().len(), 14);
        assert!(evaluation.updates().is_empty() && prediction.updates().is_empty());
        let outputs: Vec<&str> = evaluation
            .outputs()
            .iter()
            .map(|o| o.name.as_str())
            .collect();
        assert_eq!(outputs, [LOSS, "accuracy"]);
    }

    #[test]
    fn mistakes_point_to_the_caller_or_to_the_layer() {
        let model = Sequential::new([6]).dense(3);
        let task = Task {
            model: &model,
            input: &model.input_type(DType::F32),
            target: &TensorType::new(DType::F32, (Dim::symbol("b"), 2)),
            loss: &MeanSquaredError,
            metrics: &[],
        };
        let line = line!() + 1;
        let found = task.training(&Adam::new(0.1)).unwrap_err().0;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].location.line, line, "{}", found[0]);
        assert!(found[0].refusal.message.starts_with("`mean squared error`"));
        let line = line!() + 1;
        let broken = Sequential::new([6]).dense(-3);
        let found = prediction(&broken, &broken.input_type(DType::F32))
            .unwrap_err()
            .0;
        assert_eq!(found[0].location.line, line, "{}", found[0]);
    }
}
