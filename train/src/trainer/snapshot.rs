//! Params and states of a trainer in memory, to come back to.

use super::{TrainError, Trainer};
use kiln_ir::DType;
use kiln_runtime::memory::AlignedBytes;
use kiln_runtime::{Feed, FeedError};
use std::fmt;

/// Params and states as they were at one moment.
pub struct Snapshot {
    states: Vec<State>,
}

struct State {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: AlignedBytes,
}

impl Trainer {
    /// A copy of all params and states.
    ///
    /// # Errors
    /// [`TrainError::Memory`].
    pub fn snapshot(&mut self) -> Result<Snapshot, TrainError> {
        let mut states = Vec::new();
        for state in self.master()?.states() {
            let mut bytes = AlignedBytes::zeroed(state.bytes().len())?;
            bytes.bytes_mut()[..state.bytes().len()].copy_from_slice(state.bytes());
            states.push(State {
                name: state.name().to_owned(),
                dtype: state.dtype(),
                shape: state.shape().to_vec(),
                bytes,
            });
        }
        Ok(Snapshot { states })
    }

    /// Puts back what was copied. Position and history stay.
    ///
    /// # Errors
    /// [`TrainError::Set`] where the copy is of another model.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), TrainError> {
        // A copy of another model is refused before anything is written: what does not fit goes first, and its error is the session's.
        let master = self.master()?;
        let fits = |state: &&State| {
            master.state(&state.name).is_ok_and(|own| {
                own.dtype() == state.dtype && own.shape() == state.shape.as_slice()
            })
        };
        let (fit, unfit): (Vec<&State>, Vec<&State>) = snapshot.states.iter().partition(fits);
        for state in unfit.into_iter().chain(fit) {
            let length = state.shape.iter().product::<usize>() * state.dtype.size();
            let bytes = &state.bytes.bytes()[..length];
            let feed = Feed::from_bytes(state.dtype, &state.shape, bytes);
            self.set_state(&state.name, feed.map_err(broken)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} tensors)", self.states.len())
    }
}

/// Never seen: the bytes were those of a state.
fn broken(error: FeedError) -> TrainError {
    TrainError::Callback(Box::new(error))
}
