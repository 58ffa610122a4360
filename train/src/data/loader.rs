//! Mini-batches: walking a data set epoch by epoch without allocating.
//!
//! A batch is gathered into buffers that the loader owns and reuses, so it borrows the loader: it
//! is fed to a step and forgotten, and after the first batch nothing is allocated. The short batch
//! at the end of an epoch is included unless asked otherwise; one compiled graph takes both sizes.

use super::dataset::position;
use super::order::{Purpose, shuffle};
use super::{Batch, Batches, Column, DataError, Dataset};

/// Walks a data set in mini-batches.
///
/// Without [`shuffled`](Self::shuffled) the order is that of the data set. A new loader stands at
/// the start of epoch 0.
///
/// ```
/// # use kiln_train::data::{Column, DataError, Dataset, Loader};
/// # let data = Dataset::new([Column::new("x", [5], vec![1f32; 5])?])?;
/// let mut loader = Loader::new(&data, 2)?.shuffled(42);
/// for epoch in 0..3 {
///     loader.start_epoch(epoch);
///     while let Some(batch) = loader.next_batch() {
///         let x: &[f32] = batch.values("x")?;
///         assert_eq!(x.len(), batch.len());
///     }
/// }
/// # Ok::<(), DataError>(())
/// ```
#[derive(Debug)]
pub struct Loader<'d> {
    data: &'d Dataset,
    batch: usize,
    seed: Option<u64>,
    keeps_short: bool,
    /// The examples in the order of this epoch: always a permutation of all of them.
    order: Vec<usize>,
    /// How many of `order` this epoch has given out.
    next: usize,
    /// The columns of the data set that are gathered, in the order in which a batch has them.
    picked: Vec<usize>,
    /// One for each picked column, with room for the largest batch.
    buffers: Vec<Column>,
}

impl<'d> Loader<'d> {
    /// A loader of `batch` examples at a time, in the order of the data set.
    ///
    /// # Errors
    /// [`DataError::ZeroBatch`].
    pub fn new(data: &'d Dataset, batch: usize) -> Result<Self, DataError> {
        if batch == 0 {
            return Err(DataError::ZeroBatch);
        }
        let mut loader = Self {
            data,
            batch,
            seed: None,
            keeps_short: true,
            order: (0..data.len()).collect(),
            next: 0,
            picked: (0..data.columns().len()).collect(),
            buffers: Vec::new(),
        };
        loader.make_buffers();
        Ok(loader)
    }

    fn make_buffers(&mut self) {
        let room = self.batch.min(self.data.len());
        let buffer = |column: &usize| self.data.columns()[*column].buffer(room);
        self.buffers = self.picked.iter().map(buffer).collect();
    }

    /// From the next batch on, gathers only the columns `names`, in this order: that of a graph's inputs, to which `batch.columns()` can
    /// then be fed as it is. Allocates only where the choice changes.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`]; the choice is then as it was.
    pub fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        let current = self.buffers.iter().map(Column::name);
        if current.eq(names.iter().copied()) {
            return Ok(());
        }
        self.picked = names
            .iter()
            .map(|name| position(self.data.columns(), name))
            .collect::<Result<_, _>>()?;
        self.make_buffers();
        Ok(())
    }

    /// Shuffles each epoch, by `seed` and the epoch's number alone, and goes to the start of epoch 0.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.start_epoch(0);
        self
    }

    /// Leaves the short batch at the end of an epoch out.
    ///
    /// # Errors
    /// [`DataError::NoFullBatch`] if then no batch would be left.
    pub fn drop_short(mut self) -> Result<Self, DataError> {
        if self.batch > self.data.len() {
            return Err(DataError::NoFullBatch {
                examples: self.data.len(),
                batch: self.batch,
            });
        }
        self.keeps_short = false;
        Ok(self)
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        if self.keeps_short {
            self.data.len().div_ceil(self.batch)
        } else {
            self.data.len() / self.batch
        }
    }

    /// The batch size; the last batch of an epoch may be shorter.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Goes to the start of `epoch`, whose order does not depend on the epochs before it.
    pub fn start_epoch(&mut self, epoch: u64) {
        self.next = 0;
        if let Some(seed) = self.seed {
            for (row, slot) in self.order.iter_mut().enumerate() {
                *slot = row;
            }
            shuffle(&mut self.order, seed, Purpose::Epoch(epoch));
        }
    }

    /// The next batch of this epoch, or `None` at its end and until another epoch is started.
    pub fn next_batch(&mut self) -> Option<Batch<'_>> {
        let left = self.order.len() - self.next;
        let size = self.batch.min(left);
        if size == 0 || (size < self.batch && !self.keeps_short) {
            return None;
        }
        let rows = &self.order[self.next..self.next + size];
        self.next += size;
        for (buffer, column) in self.buffers.iter_mut().zip(&self.picked) {
            buffer.gather(&self.data.columns()[*column], rows);
        }
        Some(Batch::new(rows, &self.buffers))
    }
}

impl Batches for Loader<'_> {
    fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        self.pick(names)
    }

    fn batches(&self) -> usize {
        self.batches()
    }

    fn start_epoch(&mut self, epoch: u64) {
        self.start_epoch(epoch);
    }

    fn next_batch(&mut self) -> Option<Batch<'_>> {
        self.next_batch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten examples, whose `x` are pairs that say which example they are.
    fn data() -> Dataset {
        let pairs: Vec<f32> = (0..20).map(|i| i as f32).collect();
        Dataset::new([
            Column::new("x", [10, 2], pairs).unwrap(),
            Column::new("y", [10], (0..10).collect::<Vec<u8>>()).unwrap(),
        ])
        .unwrap()
    }

    fn epoch(loader: &mut Loader<'_>, number: u64) -> Vec<Vec<usize>> {
        loader.start_epoch(number);
        let mut batches = Vec::new();
        while let Some(batch) = loader.next_batch() {
            batches.push(batch.rows().to_vec());
        }
        batches
    }

    #[test]
    fn the_short_batch_comes_last_unless_dropped() {
        let data = data();
        let mut loader = Loader::new(&data, 4).unwrap();
        assert_eq!(loader.batches(), 3);
        let whole = vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]];
        assert_eq!(epoch(&mut loader, 0), whole);
        assert!(loader.next_batch().is_none(), "an epoch stays at its end");
        let mut loader = loader.drop_short().unwrap();
        assert_eq!(loader.batches(), 2);
        assert_eq!(epoch(&mut loader, 1), whole[..2]);
    }

    #[test]
    fn every_column_is_gathered_for_the_same_rows() {
        let data = data();
        let mut loader = Loader::new(&data, 3).unwrap().shuffled(5);
        let mut seen = 0;
        while let Some(batch) = loader.next_batch() {
            seen += batch.len();
            assert_eq!(batch.columns()[0].shape(), [batch.len(), 2]);
            assert_eq!(batch.columns()[1].shape(), [batch.len()]);
            let x = batch.values::<f32>("x").unwrap();
            let y = batch.values::<u8>("y").unwrap();
            for (i, &row) in batch.rows().iter().enumerate() {
                assert_eq!(
                    x[2 * i..2 * i + 2],
                    [2.0 * row as f32, 2.0 * row as f32 + 1.0]
                );
                assert_eq!(usize::from(y[i]), row);
            }
        }
        assert_eq!(seen, 10);
    }

    #[test]
    fn an_epoch_is_a_permutation_that_seed_and_number_decide() {
        let data = data();
        let mut loader = Loader::new(&data, 4).unwrap().shuffled(5);
        let (first, second) = (epoch(&mut loader, 0), epoch(&mut loader, 1));
        assert_ne!(first, second);
        for order in [&first, &second] {
            let mut rows = order.concat();
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
        // A resumed run starts with a fresh loader in the middle.
        let mut resumed = Loader::new(&data, 4).unwrap().shuffled(5);
        assert_eq!(epoch(&mut resumed, 1), second);
        assert_ne!(
            epoch(&mut Loader::new(&data, 4).unwrap().shuffled(6), 1),
            second
        );
    }

    #[test]
    fn batches_larger_than_the_data_hold_all_of_it() {
        let data = data();
        let mut loader = Loader::new(&data, usize::MAX).unwrap();
        assert_eq!(loader.batches(), 1);
        assert_eq!(epoch(&mut loader, 0)[0].len(), 10);
        assert!(matches!(
            Loader::new(&data, 11).unwrap().drop_short(),
            Err(DataError::NoFullBatch {
                examples: 10,
                batch: 11
            })
        ));
        assert!(matches!(Loader::new(&data, 0), Err(DataError::ZeroBatch)));
    }

    #[test]
    fn picked_columns_come_in_the_order_asked_for() {
        let data = data();
        let mut loader = Loader::new(&data, 4).unwrap();
        loader.pick(&["y", "x"]).unwrap();
        let batch = loader.next_batch().unwrap();
        let names: Vec<&str> = batch.columns().iter().map(Column::name).collect();
        assert_eq!(names, ["y", "x"]);
        assert_eq!(batch.values::<u8>("y").unwrap(), [0, 1, 2, 3]);
        assert_eq!(batch.column("x").unwrap().shape(), [4, 2]);
        loader.pick(&["y"]).unwrap();
        let error = loader.pick(&["y", "z"]).unwrap_err().to_string();
        assert_eq!(error, "there is no column `z`; there are `x`, `y`");
        let batch = loader.next_batch().unwrap();
        assert_eq!(batch.columns().len(), 1, "a refused choice changes nothing");
        assert_eq!(batch.values::<u8>("y").unwrap(), [4, 5, 6, 7]);
    }

    #[test]
    fn the_buffers_are_reused() {
        let data = data();
        let mut loader = Loader::new(&data, 4).unwrap();
        let mut places = Vec::new();
        for number in 0..3 {
            loader.start_epoch(number);
            while let Some(batch) = loader.next_batch() {
                places.push(batch.values::<f32>("x").unwrap().as_ptr());
            }
        }
        assert!(
            places.windows(2).all(|pair| pair[0] == pair[1]),
            "{places:?}"
        );
    }
}
