//! What a model is and what a step of it costs, before it runs.

use super::{NO_SESSION, Source, TrainError, Trainer};
use crate::flops::flops;
use kiln_ir::{Bindings, Graph, Role};
use kiln_nn::{Mode, Summary};
use kiln_runtime::{Bytes, MemoryReport};
use std::fmt;

/// The layers of a model, and what a step that learns costs with a batch of one size. `Display` is a table.
#[derive(Clone, Debug)]
pub struct TrainerSummary {
    /// The layers.
    pub layers: Summary,
    /// How many numbers are learned; the rest of the params is frozen.
    pub trainable: u64,
    /// The examples in a batch.
    pub batch: usize,
    /// The FLOPs of the products and convolutions of a step, forward and backward; `None` where a size is not known.
    pub flops: Option<u64>,
    /// The bytes of the session that learns.
    pub memory: MemoryReport,
}

impl Trainer {
    /// The layers of the model and what a step on `batch` examples of `data` costs, to the byte. Nothing is learned.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn summary<'d>(
        &mut self,
        data: impl Source<'d>,
        batch: usize,
    ) -> Result<TrainerSummary, TrainError> {
        self.learn_types_of(&mut *data.open(batch, None)?)?;
        let model = &self.recipe.model;
        let layers = Summary::of_inputs(&model.inputs(), |cx, inputs| {
            model.outputs(cx, inputs);
        })?;
        let measured = self.recipe.measured(&self.targets, Mode::Training, false)?;
        let graph = &measured.graph;
        let bindings = self.bindings(batch);
        let flops = flops(graph, &bindings).ok();
        let trainable = trainable(graph);
        self.open_learner()?;
        let session = &self.learner.as_ref().ok_or(NO_SESSION)?.session;
        let threads = session.threads().get();
        let memory = MemoryReport::of(session.program(), &bindings, threads);
        Ok(TrainerSummary {
            layers,
            trainable,
            batch,
            flops,
            memory: memory.map_err(crate::compile::Error::from)?,
        })
    }

    /// The batch of the first input, bound to a number.
    fn bindings(&self, batch: usize) -> Bindings {
        let mut bindings = self.session.bindings.clone();
        let inputs = self.recipe.model.inputs();
        let first = inputs.first().and_then(|(_, ty)| ty.shape.iter().next());
        if let Some(symbol) = first.and_then(kiln_ir::Dim::as_symbol) {
            bindings.insert(symbol.clone(), batch as i64);
        }
        bindings
    }
}

/// The elements of all params that are updated.
fn trainable(graph: &Graph) -> u64 {
    let updated = |node| graph.updates().iter().any(|update| update.target == node);
    let params = graph
        .slots()
        .iter()
        .filter(|slot| matches!(slot.role, Role::Param(_)));
    let params = params.filter(|slot| updated(slot.node));
    let sizes = params.filter_map(|slot| graph.node(slot.node)?.ty.shape.elements().constant());
    sizes.map(|size| u64::try_from(size).unwrap_or(0)).sum()
}

impl fmt::Display for TrainerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.layers)?;
        let memory = &self.memory;
        write!(f, "trainable {}", self.trainable)?;
        if let Some(all) = self.layers.parameters.constant() {
            write!(f, " of {all} parameters")?;
        }
        writeln!(f)?;
        write!(f, "a step on {} examples: ", self.batch)?;
        if let Some(flops) = self.flops {
            write!(f, "{:.1} MFLOP, ", flops as f64 / 1e6)?;
        }
        writeln!(
            f,
            "peak memory {} (params {}, state {}, within the step {})",
            Bytes(memory.total()),
            Bytes(memory.params),
            Bytes(memory.state),
            Bytes(memory.arena),
        )
    }
}
