//! What a trainer can be handed as data.

use crate::data::{Batch, Batches, DataError, Dataset, Loader};

/// Something that gives batches: a data set, cut as [`Fit`](super::Fit) says, or a loader with its own size and order.
pub trait Source<'d> {
    /// The batches, of `batch` examples each where the size is not settled yet, and shuffled by `seed` where one is given and the order is
    /// not settled.
    ///
    /// # Errors
    /// [`DataError`] where no batches can be made so.
    fn open(self, batch: usize, seed: Option<u64>) -> Result<Box<dyn Batches + 'd>, DataError>;
}

impl<'d> Source<'d> for &'d Dataset {
    fn open(self, batch: usize, seed: Option<u64>) -> Result<Box<dyn Batches + 'd>, DataError> {
        let loader = Loader::new(self, batch)?;
        Ok(match seed {
            Some(seed) => Box::new(loader.shuffled(seed)),
            None => Box::new(loader),
        })
    }
}

/// Loaders, windows of a text and pipelines have settled size and order themselves.
impl<'d, B: Batches + ?Sized> Source<'d> for &'d mut B {
    fn open(self, _batch: usize, _seed: Option<u64>) -> Result<Box<dyn Batches + 'd>, DataError> {
        Ok(Box::new(Lent(self)))
    }
}

struct Lent<'d, B: ?Sized>(&'d mut B);

impl<B: Batches + ?Sized> Batches for Lent<'_, B> {
    fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        self.0.pick(names)
    }

    fn batches(&self) -> usize {
        self.0.batches()
    }

    fn start_epoch(&mut self, epoch: u64) {
        self.0.start_epoch(epoch);
    }

    fn next_batch(&mut self) -> Option<Batch<'_>> {
        self.0.next_batch()
    }

    fn skip(&mut self, batches: u64) -> u64 {
        self.0.skip(batches)
    }
}
