//! A session that measures, with what its steps have summed up.

use super::error::TrainError;
use super::logs::Logs;
use super::recipe::{Measured, Recipe};
use kiln_ir::DType;
use kiln_runtime::{Outputs, ReadError, Session, TensorView};
use serde::{Deserialize, Serialize};

/// What the steps since the start of an epoch have summed up, in f64.
///
/// Once a step of a graph has been added, another one allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(super) examples: u64,
    /// For each loss, the sum over all examples.
    pub(super) losses: Vec<f64>,
    /// For each metric the elements of its statistics.
    pub(super) statistics: Vec<Vec<Vec<f64>>>,
}

/// A session whose graph measures.
pub(crate) struct Measuring {
    pub(crate) session: Session,
    /// The names of the inputs, in the order of the graph.
    pub(super) inputs: Vec<String>,
    losses: Vec<String>,
    /// For each metric the elements of each of its statistics.
    statistics: Vec<Vec<usize>>,
    pub(crate) sums: Sums,
}

impl Measuring {
    pub(super) fn new(session: Session, measured: &Measured) -> Self {
        let inputs = session.program().inputs.iter();
        let inputs = inputs.map(|port| port.name.clone()).collect();
        let outputs = session.program().outputs.iter();
        // A size that is no number is found at the first step.
        let sizes = outputs.map(|port| port.ty.shape.elements().constant());
        let sizes = sizes.map(|size| size.and_then(|size| usize::try_from(size).ok()));
        let mut sizes = sizes
            .skip(measured.losses.len())
            .map(Option::unwrap_or_default);
        let counts = measured.statistics.iter();
        let statistics = counts.map(|count| sizes.by_ref().take(*count).collect());
        let mut measuring = Self {
            inputs,
            statistics: statistics.collect(),
            session,
            losses: measured.losses.clone(),
            sums: Sums::default(),
        };
        measuring.restart();
        measuring
    }

    /// Forgets what was summed up, and keeps the memory for it.
    pub(crate) fn restart(&mut self) {
        let Sums {
            examples,
            losses,
            statistics,
        } = &mut self.sums;
        *examples = 0;
        losses.clear();
        losses.resize(self.losses.len(), 0.0);
        statistics.resize(self.statistics.len(), Vec::new());
        for (sums, sizes) in statistics.iter_mut().zip(&self.statistics) {
            sums.resize(sizes.len(), Vec::new());
            for (sum, size) in sums.iter_mut().zip(sizes) {
                sum.resize(*size.max(&sum.len()), 0.0);
                sum.fill(0.0);
            }
        }
    }

    /// Adds a step of `examples` examples.
    pub(super) fn add(
        sums: &mut Sums,
        outputs: &Outputs<'_>,
        examples: usize,
    ) -> Result<(), ReadError> {
        sums.examples += examples as u64;
        let mut outputs = outputs.iter();
        for (sum, output) in sums.losses.iter_mut().zip(&mut outputs) {
            *sum += examples as f64 * output.scalar()?;
        }
        let statistics = sums.statistics.iter_mut().flatten();
        for (sum, output) in statistics.zip(outputs) {
            add_elements(sum, &output)?;
        }
        Ok(())
    }

    /// The losses and metrics of what was summed up.
    pub(super) fn write_logs(&self, recipe: &Recipe, prefix: &str, logs: &mut Logs) {
        let examples = self.sums.examples as f64;
        for (name, sum) in self.losses.iter().zip(&self.sums.losses) {
            logs.set(&format!("{prefix}{name}"), sum / examples);
        }
        let metrics = recipe.metrics.iter().zip(recipe.metric_names());
        for ((metric, name), sums) in metrics.zip(&self.sums.statistics) {
            if let Some(value) = metric.metric.value(sums) {
                logs.set(&format!("{prefix}{name}"), value);
            }
        }
    }

    /// The column of each input among `columns`, in the order of the graph.
    pub(super) fn pick(&self, batches: &mut dyn crate::data::Batches) -> Result<(), TrainError> {
        let names: Vec<&str> = self.inputs.iter().map(String::as_str).collect();
        Ok(batches.pick(&names)?)
    }
}

/// Adds the elements of `view`, one by one, to `sums`.
fn add_elements(sums: &mut Vec<f64>, view: &TensorView<'_>) -> Result<(), ReadError> {
    fn add<T: Copy>(sums: &mut Vec<f64>, values: &[T], number: impl Fn(T) -> f64) {
        if sums.is_empty() {
            sums.resize(values.len(), 0.0);
        }
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += number(*value);
        }
    }
    match view.dtype() {
        DType::F32 => add(sums, view.as_slice::<f32>()?, f64::from),
        DType::F64 => add(sums, view.as_slice::<f64>()?, |value| value),
        DType::I32 => add(sums, view.as_slice::<i32>()?, f64::from),
        DType::U32 => add(sums, view.as_slice::<u32>()?, f64::from),
        DType::I64 => add(sums, view.as_slice::<i64>()?, |value| value as f64),
        DType::U64 => add(sums, view.as_slice::<u64>()?, |value| value as f64),
        DType::BF16
        | DType::F16
        | DType::I8
        | DType::I16
        | DType::U8
        | DType::U16
        | DType::Bool => {
            return Err(ReadError::DType {
                name: view.name().to_owned(),
                found: view.dtype(),
                shape: view.shape().to_vec(),
                asked: DType::F32,
            });
        }
    }
    Ok(())
}
