//! Changes of the examples of a batch.
//!
//! What a transform does to an example is a function of the seed, the epoch and the example's number alone: not of the batch, of what was drawn
//! before, or of threads. Random numbers come from [`Examples::stream`] and nowhere else, so that it is known which transforms draw.

use super::{Column, DataError, Dataset};
use kiln_ir::philox::Stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Changes the examples of a batch in place.
pub trait Transform: Send + Sync {
    /// Whether batches of `data` can be changed so.
    ///
    /// # Errors
    /// What is wrong with its columns.
    fn check(&self, data: &Dataset) -> Result<(), DataError>;

    /// Changes the examples of a batch. Columns keep their types and shapes.
    fn apply(&self, examples: &mut Examples<'_>);
}

/// The transforms of a pipeline, in their order.
#[derive(Clone, Default)]
pub(super) struct Transforms {
    list: Vec<Arc<dyn Transform>>,
    pub(super) seed: u64,
    /// How many came before these: what they made is in the data already.
    cached: usize,
}

impl Transforms {
    pub(super) fn push(&mut self, transform: impl Transform + 'static) {
        self.list.push(Arc::new(transform));
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Leaves out those that there are, whose work is in the data from now on. Later ones draw what they would have drawn behind them.
    pub(super) fn cached(&mut self) {
        self.cached += self.list.len();
        self.list.clear();
    }

    /// Changes all columns of the examples `rows` of `data`, as they are in `epoch`. The place of the first transform that drew random
    /// numbers, from 1.
    pub(super) fn apply(
        &self,
        data: &Dataset,
        epoch: u64,
        rows: &[usize],
        columns: &mut [Column],
    ) -> Option<usize> {
        self.apply_first(self.list.len(), data, epoch, rows, columns)
    }

    fn apply_first(
        &self,
        count: usize,
        data: &Dataset,
        epoch: u64,
        rows: &[usize],
        columns: &mut [Column],
    ) -> Option<usize> {
        let mut first = None;
        for (index, transform) in self.list.iter().take(count).enumerate() {
            let mut examples = Examples {
                transforms: self,
                index,
                data,
                epoch,
                rows,
                columns: &mut *columns,
                draws: AtomicBool::new(false),
            };
            transform.apply(&mut examples);
            if examples.draws.into_inner() {
                first = first.or(Some(self.cached + index + 1));
            }
        }
        first
    }
}

/// A batch that is being changed.
pub struct Examples<'e> {
    transforms: &'e Transforms,
    /// The place of the transform that changes it.
    index: usize,
    data: &'e Dataset,
    epoch: u64,
    rows: &'e [usize],
    columns: &'e mut [Column],
    /// Whether random numbers were asked for.
    draws: AtomicBool,
}

impl<'e> Examples<'e> {
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The data set that the examples were taken from, as it was or as a [cache](super::Pipeline::cache) holds it.
    pub fn data(&self) -> &'e Dataset {
        self.data
    }

    /// The elements of all examples of an f32 column, and those of one example; `None` where the batch does not have it.
    pub fn f32(&mut self, column: &str) -> Option<(&mut [f32], usize)> {
        let examples = self.rows.len();
        let column = self.columns.iter_mut().find(|c| c.name() == column)?;
        let values = column.f32_mut()?;
        let width = values.len() / examples.max(1);
        Some((values, width))
    }

    /// Other examples of the data set, all columns, as the transforms before this one leave them.
    pub(super) fn others(&self, rows: &[usize]) -> Vec<Column> {
        let sources = self.data.columns().iter();
        let gathered = sources.map(|source| {
            let mut buffer = source.buffer(rows.len());
            buffer.gather(source, rows);
            buffer
        });
        let mut columns: Vec<Column> = gathered.collect();
        self.transforms
            .apply_first(self.index, self.data, self.epoch, rows, &mut columns);
        columns
    }

    /// The random numbers of the example at `position` in the batch, for this transform in this epoch.
    pub fn stream(&self, position: usize) -> Stream {
        self.draws.store(true, Ordering::Relaxed);
        let row = self.rows[position] as u64;
        let stream = Stream::new(self.transforms.seed, "data/transform", self.epoch);
        let step = (self.transforms.cached + self.index) as u32;
        stream.at(row as u32, (row >> 32) as u32 ^ step << 16)
    }
}

/// A function of the elements of one example of an f32 column.
pub(super) struct Map<F> {
    pub(super) column: String,
    pub(super) function: F,
}

impl<F: Fn(&mut [f32]) + Send + Sync> Transform for Map<F> {
    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        data.column(&self.column)?.values::<f32>().map(|_| ())
    }

    fn apply(&self, examples: &mut Examples<'_>) {
        if let Some((values, width)) = examples.f32(&self.column) {
            values.chunks_mut(width.max(1)).for_each(&self.function);
        }
    }
}
