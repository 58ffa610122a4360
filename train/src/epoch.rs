//! One pass over a data set on a session: what training and evaluation have in common.
//!
//! Whether a pass learns is decided by the graph that the session runs, not here: a step with updates learns, one without evaluates.
//! Both give the means of their scalar outputs over the examples. A session that evaluates gets its params from the one that learns by
//! [`hand_over`]. An epoch allocates its few means, and nothing for a batch.

use crate::data::{Batches, DataError};
use crate::means::Means;
use kiln_ir::program::Resident;
use kiln_ir::{Class, DType, Role};
use kiln_runtime::{ReadError, Session, SetError, StepError, TensorView};

/// Why a pass over a data set ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// An input of the graph for which the data has no column.
    #[error("the data cannot be fed to `{graph}`: {source}")]
    Data {
        /// The graph.
        graph: String,
        /// What is missing.
        source: DataError,
    },
    /// A step was refused. The session holds what the batch before left.
    #[error("batch {batch} of epoch {epoch} was refused: {source}")]
    Step {
        /// The epoch.
        epoch: u64,
        /// The batch, from 0.
        batch: usize,
        /// Why.
        source: Box<StepError>,
    },
    /// An output could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Feeds epoch `number` of `batches` to `session`, and gives the mean of each floating scalar output, weighted by the examples of the
/// batches. The outputs of a step are taken to be means over its batch, as those of [`Task`](crate::graphs::Task) are.
///
/// Each input of the graph is fed the column of its name; further columns are left alone. `observe` sees the means after each batch.
///
/// # Errors
/// [`EpochError`]: no column for an input, or a step that the session refuses.
///
/// ```no_run
/// # fn example(mut session: kiln_runtime::Session, data: kiln_train::data::Dataset) -> Result<(), Box<dyn std::error::Error>> {
/// use kiln_train::{data::Loader, epoch, progress::Progress};
///
/// let mut loader = Loader::new(&data, 32)?.shuffled(42);
/// for number in 0..5 {
///     let progress = Progress::new(&format!("epoch {number}"), loader.batches() as u64);
///     let means = epoch(&mut session, &mut loader, number, |means| progress.step(means))?;
///     progress.finish();
///     println!("{means}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn epoch(
    session: &mut Session,
    batches: &mut impl Batches,
    number: u64,
    mut observe: impl FnMut(&Means),
) -> Result<Means, EpochError> {
    let program = session.program();
    let inputs = program.inputs.iter().map(|port| port.name.as_str());
    let inputs: Vec<&str> = inputs.collect();
    batches.pick(&inputs).map_err(|source| EpochError::Data {
        graph: program.name.clone(),
        source,
    })?;
    let floating = |dtype: DType| dtype.class() == Class::Float;
    let measured: Vec<usize> = (program.outputs.iter().enumerate())
        .filter(|(_, port)| port.ty.rank() == 0 && floating(port.ty.dtype))
        .map(|(index, _)| index)
        .collect();
    let names = measured.iter().map(|index| &program.outputs[*index].name);
    let mut means = Means::new(names);
    let mut values = vec![0.0; measured.len()];
    batches.start_epoch(number);
    let mut done = 0;
    while let Some(batch) = batches.next_batch() {
        let outputs = session
            .step(batch.columns())
            .map_err(|source| EpochError::Step {
                epoch: number,
                batch: done,
                source: Box::new(source),
            })?;
        for (value, index) in values.iter_mut().zip(&measured) {
            *value = outputs.scalar(*index)?;
        }
        means.add(batch.len(), values.iter().copied());
        observe(&means);
        done += 1;
    }
    Ok(means)
}

/// Why params could not be handed over. The receiving session is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The giving session lacks a param.
    #[error("`{to}` needs `{name}`, which `{from}` does not have")]
    Missing {
        /// The graph of the giving session.
        from: String,
        /// The graph of the receiving session.
        to: String,
        /// The param.
        name: String,
    },
    /// The two differ in type or shape.
    #[error(transparent)]
    Set(#[from] SetError),
}

/// Copies to each param and state of `to` the one of the same name in `from`, so that a session that evaluates or writes sees what another
/// has learned. What only `from` has, such as an optimizer's moments, stays behind, and a state that only `to` has, such as what an attention
/// remembers of a text, stays as it is. Allocates nothing.
///
/// # Errors
/// [`HandOverError`] where `from` lacks a param, or has a param or state with another type or shape; nothing is copied then.
pub fn hand_over(from: &Session, to: &mut Session) -> Result<(), HandOverError> {
    // Everything is compared before anything is written, so that a session never holds half of each.
    let fits = |(wanted, resident): &(TensorView<'_>, &Resident)| {
        let own = matches!(resident.role, Role::State(_)) && from.state(wanted.name()).is_err();
        own || from.states().any(|given| are_alike(&given, wanted))
    };
    let unfit = to.states().zip(&to.program().residents);
    let unfit = unfit
        .filter(|wanted| !fits(wanted))
        .map(|(wanted, _)| wanted.name().to_owned())
        .next();
    if let Some(name) = unfit {
        let Ok(given) = from.state(&name) else {
            return Err(HandOverError::Missing {
                from: from.program().name.clone(),
                to: to.program().name.clone(),
                name,
            });
        };
        // It does not fit, so the session refuses it and says why.
        return Ok(to.set_state(&name, given)?);
    }
    Ok(copy_shared(from, to)?)
}

/// Copies to each param and state of `to` the one of `from` that has its name and type. Allocates nothing.
pub(crate) fn copy_shared(from: &Session, to: &mut Session) -> Result<(), SetError> {
    for given in from.states() {
        if to.states().any(|taken| are_alike(&given, &taken)) {
            to.set_state(given.name(), given)?;
        }
    }
    Ok(())
}

/// Whether two params or states have one name and one type.
fn are_alike(a: &TensorView<'_>, b: &TensorView<'_>) -> bool {
    (a.name(), a.dtype(), a.shape()) == (b.name(), b.dtype(), b.shape())
}
