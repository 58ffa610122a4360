//! What a pass over data walks: batches, whoever gathers them.

use super::dataset::position;
use super::{Column, DataError, Element};

/// Gives batches, epoch by epoch: [`Loader`](super::Loader) those of a data set, [`Windows`](super::text::Windows) those of a text.
pub trait Batches {
    /// From the next batch on, gives the columns `names`, in this order: that of a graph's inputs.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`]; the choice is then as it was.
    fn pick(&mut self, names: &[&str]) -> Result<(), DataError>;

    /// The number of batches in an epoch.
    fn batches(&self) -> usize;

    /// Goes to the start of `epoch`, whose batches do not depend on the epochs before it.
    fn start_epoch(&mut self, epoch: u64);

    /// The next batch of this epoch, or `None` at its end and until another epoch is started.
    fn next_batch(&mut self) -> Option<Batch<'_>>;

    /// Leaves out the next `batches` of this epoch, as if they had been given: where a run that was stopped goes on. Returns how many examples
    /// they have.
    fn skip(&mut self, batches: u64) -> u64 {
        let mut examples = 0;
        for _ in 0..batches {
            match self.next_batch() {
                Some(batch) => examples += batch.len() as u64,
                None => break,
            }
        }
        examples
    }
}

/// Some examples of a data set, gathered: the same columns, with the batch as first axis.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'l> {
    rows: &'l [usize],
    columns: &'l [Column],
}

impl<'l> Batch<'l> {
    /// `columns` must have been gathered for `rows`, of which there is at least one.
    pub(super) fn new(rows: &'l [usize], columns: &'l [Column]) -> Self {
        Self { rows, columns }
    }

    /// The number of examples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Which examples of the data set these are; for windows, the positions of their first tokens.
    pub fn rows(&self) -> &'l [usize] {
        self.rows
    }

    /// The columns, in the order of the data set or of [`Batches::pick`]. They are what `Session::step` is fed.
    pub fn columns(&self) -> &'l [Column] {
        self.columns
    }

    /// The column `name`, as `Session::step_named` is fed it.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn column(&self, name: &str) -> Result<&'l Column, DataError> {
        Ok(&self.columns[position(self.columns, name)?])
    }

    /// The elements of column `name` as a slice of `T`, row-major.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], [`DataError::Type`].
    pub fn values<T: Element>(&self, name: &str) -> Result<&'l [T], DataError> {
        self.column(name)?.values()
    }
}
