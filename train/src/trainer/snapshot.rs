//! Params and states of a trainer in memory, to come back to.

use super::{TrainError, Trainer};
use kiln_interop::{SizeError, TensorRef};
use kiln_ir::DType;
use kiln_runtime::memory::AlignedBytes;
use kiln_runtime::{Feed, FeedError};
use std::fmt;

/// Params and states as they were at one moment.
#[derive(Default)]
pub struct Snapshot {
    states: Vec<State>,
}

struct State {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    /// What is filled of the memory.
    length: usize,
    bytes: AlignedBytes,
}

impl Trainer {
    /// A copy of all params and states.
    ///
    /// # Errors
    /// [`TrainError::Memory`].
    pub fn snapshot(&mut self) -> Result<Snapshot, TrainError> {
        let mut copy = Snapshot::default();
        for state in self.master()?.states() {
            copy.push(state.name(), state.dtype(), state.shape(), state.bytes())?;
        }
        Ok(copy)
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
            let feed = Feed::from_bytes(state.dtype, &state.shape, state.bytes());
            self.set_state(&state.name, feed.map_err(broken)?)?;
        }
        Ok(())
    }

    /// Puts back what a callback remembers by `name`. From then on it is what the trainer holds, and needs no copy.
    pub(crate) fn come_back_to(&mut self, name: &str) -> Result<(), TrainError> {
        let Some(copy) = self.remembered.remove(name) else {
            return Ok(());
        };
        if !copy.is_empty() {
            // What needed no copy so far does from here on.
            let others = self.remembered.iter().filter(|(_, copy)| copy.is_empty());
            let others: Vec<String> = others.map(|(name, _)| name.clone()).collect();
            for other in others {
                let held = self.snapshot()?;
                self.remembered.insert(other, held);
            }
            self.restore(&copy)?;
        }
        self.remembered.insert(name.to_owned(), Snapshot::default());
        Ok(())
    }
}

impl Snapshot {
    /// Adds a copy of a state, whose elements are `bytes`.
    pub(crate) fn push(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<(), TrainError> {
        let mut copy = AlignedBytes::zeroed(bytes.len())?;
        copy.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        self.states.push(State {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            length: bytes.len(),
            bytes: copy,
        });
        Ok(())
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|state| state.name.as_str())
    }

    /// The states as tensors under other names, one for each.
    pub(crate) fn tensors<'t>(
        &'t self,
        names: &'t [String],
    ) -> impl Iterator<Item = Result<TensorRef<'t>, SizeError>> {
        let named = names.iter().zip(&self.states);
        named.map(|(name, state)| TensorRef::new(name, state.dtype, &state.shape, state.bytes()))
    }
}

impl State {
    fn bytes(&self) -> &[u8] {
        &self.bytes.bytes()[..self.length]
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
