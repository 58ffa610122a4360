//! The memory of a session: params and state, outputs, arena and scratch, and the addresses that plans take from it.
//!
//! Blocks only grow, to the largest binding seen. When one is replaced, the store's generation moves on, so that a plan knows that the
//! addresses it holds are of a block that is gone. Only params and state keep their content from step to step; they never grow.

use crate::layout::Location;
use crate::memory::{AlignedBytes, OutOfMemory};
use crate::report::MemoryReport;

/// A place in memory that kernels are told of. To hold one is harmless; whoever reads or writes there answers for it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Address(pub(crate) *mut u8);

// SAFETY: an address is a number until it is dereferenced, and that happens in unsafe code which says why it may.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Address {
    /// What stands where no address is known yet.
    pub(crate) const NONE: Address = Address(std::ptr::null_mut());
}

/// A place that a plan refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// The buffer's place.
    pub(crate) location: Location,
    /// Whose scratch is meant; 0 elsewhere.
    pub(crate) thread: usize,
}

/// The blocks of a session.
pub(crate) struct Store {
    pub(crate) residents: AlignedBytes,
    pub(crate) outputs: AlignedBytes,
    arena: AlignedBytes,
    scratch: AlignedBytes,
    /// From the scratch of a thread to the next one's.
    scratch_stride: usize,
    /// The largest sum of live arena bytes among the bindings so far.
    live_peak: usize,
    threads: usize,
    generation: u64,
}

impl Store {
    /// A store with zeroed params and state and nothing else yet.
    pub(crate) fn new(residents: usize, threads: usize) -> Result<Store, OutOfMemory> {
        Ok(Store {
            residents: AlignedBytes::zeroed(residents)?,
            outputs: AlignedBytes::zeroed(0)?,
            arena: AlignedBytes::zeroed(0)?,
            scratch: AlignedBytes::zeroed(0)?,
            scratch_stride: 0,
            live_peak: 0,
            threads,
            generation: 0,
        })
    }

    /// Changes whenever addresses do.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What the session would hold after growing to `wanted`.
    pub(crate) fn grown(&self, wanted: &MemoryReport) -> MemoryReport {
        MemoryReport {
            outputs: wanted.outputs.max(self.outputs.len()),
            arena: wanted.arena.max(self.arena.len()),
            scratch: wanted.scratch.max(self.scratch_stride),
            live_peak: wanted.live_peak.max(self.live_peak),
            ..*wanted
        }
    }

    /// Makes room for a binding. A block that is too small is freed before its successor is allocated, so that the two never count
    /// together; where that fails the block is empty, and the next binding grows it again.
    pub(crate) fn reserve(&mut self, wanted: &MemoryReport) -> Result<(), OutOfMemory> {
        grow(&mut self.outputs, wanted.outputs, &mut self.generation)?;
        grow(&mut self.arena, wanted.arena, &mut self.generation)?;
        if wanted.scratch > self.scratch_stride {
            self.scratch_stride = 0;
            let bytes = wanted.scratch.saturating_mul(self.threads);
            grow(&mut self.scratch, bytes, &mut self.generation)?;
            self.scratch_stride = wanted.scratch;
        }
        self.live_peak = self.live_peak.max(wanted.live_peak);
        Ok(())
    }

    /// The address of a spot that is neither an input nor a slice. It lies within its block if the store has room for the spot's layout.
    pub(crate) fn address(&mut self, spot: Spot, constants: &AlignedBytes) -> Address {
        let at = |block: &mut AlignedBytes, offset: usize| {
            Address(block.as_mut_ptr().wrapping_add(offset))
        };
        match spot.location {
            Location::Input(_) | Location::Slice => Address::NONE,
            Location::Resident(offset) => at(&mut self.residents, offset),
            Location::Output(offset) => at(&mut self.outputs, offset),
            // No verified step writes a constant.
            Location::Constant(offset) => {
                Address(constants.as_ptr().cast_mut().wrapping_add(offset))
            }
            Location::Arena(offset) => at(&mut self.arena, offset),
            Location::Scratch(offset) => {
                let first = spot.thread.wrapping_mul(self.scratch_stride);
                at(&mut self.scratch, first.wrapping_add(offset))
            }
        }
    }
}

fn grow(block: &mut AlignedBytes, bytes: usize, generation: &mut u64) -> Result<(), OutOfMemory> {
    if bytes > block.len() {
        *generation += 1;
        *block = AlignedBytes::zeroed(0)?;
        *block = AlignedBytes::zeroed(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(outputs: usize, arena: usize, scratch: usize) -> MemoryReport {
        MemoryReport {
            outputs,
            arena,
            scratch,
            threads: 2,
            ..MemoryReport::default()
        }
    }

    #[test]
    fn blocks_grow_and_never_shrink() {
        let mut store = Store::new(64, 2).unwrap();
        store.reserve(&wanted(64, 128, 64)).unwrap();
        let generation = store.generation();
        store.reserve(&wanted(0, 64, 0)).unwrap();
        assert_eq!(store.generation(), generation);
        assert_eq!(store.grown(&wanted(0, 256, 0)).total(), 64 + 256 + 128);
        store.reserve(&wanted(64, 256, 64)).unwrap();
        assert_ne!(store.generation(), generation);
    }

    #[test]
    fn a_failed_growth_leaves_a_store_that_grows_again() {
        let mut store = Store::new(0, 2).unwrap();
        store.reserve(&wanted(64, 64, 64)).unwrap();
        assert!(store.reserve(&wanted(64, usize::MAX, 64)).is_err());
        assert!(store.reserve(&wanted(64, 64, usize::MAX)).is_err());
        store.reserve(&wanted(64, 64, 64)).unwrap();
        assert_eq!(store.grown(&wanted(0, 0, 0)).total(), 64 + 64 + 128);
    }

    #[test]
    fn threads_have_scratch_of_their_own() {
        let mut store = Store::new(0, 2).unwrap();
        store.reserve(&wanted(0, 0, 192)).unwrap();
        let constants = AlignedBytes::zeroed(0).unwrap();
        let [first, second] = [0, 1].map(|thread| {
            let location = Location::Scratch(64);
            store
                .address(Spot { location, thread }, &constants)
                .0
                .addr()
        });
        assert_eq!(second - first, 192);
    }
}
