//! Batches that are changed on their way, on a thread of their own if wanted.
//!
//! What a transform does to an example is a function of the seed, the epoch and the example's number alone: not of the batch, of what was drawn
//! before, or of threads. So a run that goes on sees the pictures that one that did not stop sees, however they are prefetched.

use super::order::{Purpose, shuffle};
use super::{Batch, Batches, Column, DataError, Dataset, dataset};
use kiln_ir::philox::Stream;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

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

/// A batch that is being changed.
pub struct Examples<'e> {
    data: &'e Dataset,
    rows: &'e [usize],
    columns: &'e mut [Column],
    /// The transforms before this one.
    before: &'e [Arc<dyn Transform>],
    seed: u64,
    epoch: u64,
    step: u64,
}

impl<'e> Examples<'e> {
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The data set that the examples were taken from, unchanged.
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
        for (step, transform) in self.before.iter().enumerate() {
            transform.apply(&mut Examples {
                data: self.data,
                rows,
                columns: &mut columns,
                before: &self.before[..step],
                seed: self.seed,
                epoch: self.epoch,
                step: step as u64,
            });
        }
        columns
    }

    /// The random numbers of the example at `position` in the batch, for this transform in this epoch.
    pub fn stream(&self, position: usize) -> Stream {
        let row = self.rows[position] as u64;
        let stream = Stream::new(self.seed, "data/transform", self.epoch);
        stream.at(row as u32, (row >> 32) as u32 ^ (self.step as u32) << 16)
    }
}

/// Batches of a data set, shuffled and changed.
///
/// ```
/// use kiln_train::data::{Augment, Batches, Column, Dataset, Pipeline};
///
/// let pictures = Column::new("x", [6, 8, 8, 1], vec![0.5f32; 384])?;
/// let labels = Column::new("y", [6], vec![0u8; 6])?;
/// let data = Dataset::new([pictures, labels])?;
/// let mut batches = Pipeline::new(data, 4)?
///     .shuffled(42)
///     .with(Augment::images("x").flip().shift(2))?
///     .prefetch(2);
/// batches.start_epoch(0);
/// assert_eq!(batches.next_batch().map(|batch| batch.len()), Some(4));
/// assert_eq!(batches.next_batch().map(|batch| batch.len()), Some(2));
/// assert!(batches.next_batch().is_none());
/// # Ok::<(), kiln_train::data::DataError>(())
/// ```
pub struct Pipeline {
    plan: Arc<Plan>,
    depth: usize,
    seeded: Option<u64>,
    epoch: u64,
    order: Arc<Vec<usize>>,
    /// How many batches of the epoch were given or left out.
    done: usize,
    current: Gathered,
    worker: Option<Worker>,
}

#[derive(Clone)]
struct Plan {
    data: Arc<Dataset>,
    batch: usize,
    keeps_short: bool,
    seed: u64,
    steps: Vec<Arc<dyn Transform>>,
    /// The columns that are given, in order; all of them are gathered where there are transforms.
    picked: Vec<usize>,
}

/// A batch with its memory.
#[derive(Default)]
struct Gathered {
    rows: Vec<usize>,
    columns: Vec<Column>,
    /// The picked columns, where not all of `columns` are.
    given: Vec<Column>,
}

struct Worker {
    batches: Receiver<Gathered>,
    used: Sender<Gathered>,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Batches of `batch` examples, in the order of the data set.
    ///
    /// # Errors
    /// [`DataError::ZeroBatch`].
    pub fn new(data: impl Into<Arc<Dataset>>, batch: usize) -> Result<Self, DataError> {
        let data = data.into();
        if batch == 0 {
            return Err(DataError::ZeroBatch);
        }
        let order = Arc::new((0..data.len()).collect());
        let picked = (0..data.columns().len()).collect();
        Ok(Self {
            plan: Arc::new(Plan {
                data,
                batch,
                keeps_short: true,
                seed: 0,
                steps: Vec::new(),
                picked,
            }),
            depth: 0,
            seeded: None,
            epoch: 0,
            order,
            done: 0,
            current: Gathered::default(),
            worker: None,
        })
    }

    /// Shuffles each epoch, by `seed` and the epoch's number alone; transforms draw by this seed too.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seeded = Some(seed);
        self.change(|plan| plan.seed = seed);
        self.start_epoch(0);
        self
    }

    /// Leaves the short batch at the end of an epoch out.
    pub fn drop_short(mut self) -> Self {
        self.change(|plan| plan.keeps_short = false);
        self
    }

    /// Changes each batch by `transform`, behind those that were added before.
    ///
    /// # Errors
    /// Where the data set has not the columns for it.
    pub fn with(mut self, transform: impl Transform + 'static) -> Result<Self, DataError> {
        transform.check(&self.plan.data)?;
        self.change(|plan| plan.steps.push(Arc::new(transform)));
        Ok(self)
    }

    /// Changes the elements of an f32 column by a function of one example's.
    ///
    /// # Errors
    /// As [`Pipeline::with`].
    pub fn map(
        self,
        column: &str,
        function: impl Fn(&mut [f32]) + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        self.with(Map {
            column: column.to_owned(),
            function,
        })
    }

    /// Prepares up to `batches` batches ahead, on a thread of its own; 0 prepares each when it is asked for.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.depth = batches;
        self.worker = None;
        self
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan)) {
        self.worker = None;
        change(Arc::make_mut(&mut self.plan));
    }
}

impl Plan {
    fn batches(&self) -> usize {
        if self.keeps_short {
            self.data.len().div_ceil(self.batch)
        } else {
            self.data.len() / self.batch
        }
    }

    /// Gathers batch `number` of an epoch and changes it. The elements go where those of the last batch were.
    fn gather(&self, order: &[usize], epoch: u64, number: usize, gathered: &mut Gathered) {
        let start = number * self.batch;
        let end = (start + self.batch).min(order.len());
        let Gathered {
            rows,
            columns,
            given,
        } = gathered;
        rows.clear();
        rows.extend_from_slice(&order[start..end]);
        let count = if self.steps.is_empty() {
            self.picked.len()
        } else {
            self.data.columns().len()
        };
        let mut buffers = columns.iter().enumerate();
        let fits = columns.len() == count
            && buffers.all(|(at, buffer)| buffer.name() == self.source(at).name());
        if !fits {
            let room = self.batch.min(self.data.len());
            *columns = (0..count).map(|at| self.source(at).buffer(room)).collect();
        }
        for (at, buffer) in columns.iter_mut().enumerate() {
            buffer.gather(self.source(at), rows);
        }
        for (step, transform) in (0..).zip(&self.steps) {
            transform.apply(&mut Examples {
                data: &self.data,
                rows,
                columns,
                before: &self.steps[..step as usize],
                seed: self.seed,
                epoch,
                step,
            });
        }
        given.clear();
        if !self.steps.is_empty() {
            // Moved, not copied: the buffers come back with the next batch.
            for index in &self.picked {
                let empty = self.data.columns()[*index].buffer(0);
                given.push(std::mem::replace(&mut columns[*index], empty));
            }
        }
    }

    /// The column that the buffer at a position is gathered from: all are, where a transform may need what is not given, such as the labels of
    /// a mixture.
    fn source(&self, at: usize) -> &Column {
        let index = if self.steps.is_empty() {
            self.picked[at]
        } else {
            at
        };
        &self.data.columns()[index]
    }

    /// Puts the picked columns back among the others.
    fn reclaim(&self, gathered: &mut Gathered) {
        for (column, index) in gathered.given.drain(..).zip(&self.picked) {
            if let Some(place) = gathered.columns.get_mut(*index) {
                *place = column;
            }
        }
    }
}

impl Batches for Pipeline {
    fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        let columns = self.plan.data.columns();
        let places = names.iter().map(|name| dataset::position(columns, name));
        let picked = places.collect::<Result<Vec<_>, _>>()?;
        if picked != self.plan.picked {
            self.current = Gathered::default();
            self.change(|plan| plan.picked = picked);
        }
        Ok(())
    }

    fn batches(&self) -> usize {
        self.plan.batches()
    }

    fn start_epoch(&mut self, epoch: u64) {
        self.worker = None;
        self.epoch = epoch;
        self.done = 0;
        if let Some(seed) = self.seeded {
            let mut order: Vec<usize> = (0..self.plan.data.len()).collect();
            shuffle(&mut order, seed, Purpose::Epoch(epoch));
            self.order = Arc::new(order);
        }
    }

    fn next_batch(&mut self) -> Option<Batch<'_>> {
        if self.done >= self.plan.batches() {
            self.worker = None;
            return None;
        }
        if self.depth == 0 {
            self.plan.reclaim(&mut self.current);
            self.plan
                .gather(&self.order, self.epoch, self.done, &mut self.current);
        } else {
            let mut worker = match self.worker.take() {
                Some(worker) => worker,
                None => self.spawn(),
            };
            let used = std::mem::take(&mut self.current);
            // A worker that is done takes nothing back.
            let _ = worker.used.send(used);
            let Ok(gathered) = worker.batches.recv() else {
                // A worker ends before its last batch only where a transform panicked.
                if let Some(Err(panic)) = worker.thread.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                return None;
            };
            self.current = gathered;
            self.worker = Some(worker);
        }
        self.done += 1;
        let given = if self.plan.steps.is_empty() {
            &self.current.columns
        } else {
            &self.current.given
        };
        Some(Batch::new(&self.current.rows, given))
    }

    fn skip(&mut self, batches: u64) -> u64 {
        self.worker = None;
        let batches = usize::try_from(batches).unwrap_or(usize::MAX);
        let before = self.done;
        self.done = before.saturating_add(batches).min(self.plan.batches());
        let examples = |batches: usize| {
            let whole = batches.saturating_mul(self.plan.batch);
            whole.min(self.plan.data.len()) as u64
        };
        examples(self.done) - examples(before)
    }
}

impl Pipeline {
    /// A thread that prepares what is left of the epoch.
    fn spawn(&self) -> Worker {
        let (give, batches): (SyncSender<Gathered>, _) =
            sync_channel(self.depth.min(self.plan.batches()));
        let (used, take) = channel();
        let (plan, order) = (Arc::clone(&self.plan), Arc::clone(&self.order));
        let (epoch, first) = (self.epoch, self.done);
        let work = move || {
            for number in first..plan.batches() {
                let mut gathered: Gathered = take.try_recv().unwrap_or_default();
                plan.reclaim(&mut gathered);
                plan.gather(&order, epoch, number, &mut gathered);
                if give.send(gathered).is_err() {
                    return;
                }
            }
        };
        Worker {
            batches,
            used,
            thread: Some(std::thread::spawn(work)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // With nobody to receive, the thread ends at its next batch.
        let (_, none) = sync_channel(0);
        drop(std::mem::replace(&mut self.batches, none));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { batch, steps, .. } = &*self.plan;
        let examples = self.plan.data.len();
        write!(
            f,
            "Pipeline({examples} examples, batches of {batch}, {} transforms)",
            steps.len()
        )
    }
}

struct Map<F> {
    column: String,
    function: F,
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
