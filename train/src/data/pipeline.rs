//! Batches that are changed on their way, on a thread of their own if wanted.
//!
//! What becomes of an example is a function of the seed, the epoch and the example's number alone. So a run that goes on sees the pictures that
//! one that did not stop sees, however they are prefetched or cached.

use super::order::{Purpose, shuffle};
use super::transform::{Map, Transform, Transforms};
use super::{Batch, Batches, Column, DataError, Dataset, dataset};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

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
    transforms: Transforms,
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
                transforms: Transforms::default(),
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
        self.change(|plan| plan.transforms.seed = seed);
        self.start_epoch(0);
        self
    }

    /// Leaves the short batch at the end of an epoch out.
    ///
    /// # Errors
    /// [`DataError::NoFullBatch`] if then no batch would be left.
    pub fn drop_short(mut self) -> Result<Self, DataError> {
        let (examples, batch) = (self.plan.data.len(), self.plan.batch);
        if batch > examples {
            return Err(DataError::NoFullBatch { examples, batch });
        }
        self.change(|plan| plan.keeps_short = false);
        Ok(self)
    }

    /// Changes each batch by `transform`, behind those that were added before.
    ///
    /// # Errors
    /// Where the data set has not the columns for it.
    pub fn with(mut self, transform: impl Transform + 'static) -> Result<Self, DataError> {
        transform.check(&self.plan.data)?;
        self.change(|plan| plan.transforms.push(transform));
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

    /// Computes once and for all what the transforms so far make of each example, and keeps it in memory in the place of the data: from then on
    /// only transforms that are added behind it run, and the data as it was goes, unless somebody else has it too. Batches are the same with
    /// it as without, shuffled and augmented anew in each epoch.
    ///
    /// # Errors
    /// [`DataError::Cached`] where a transform before it draws random numbers: it would draw once instead of once in each epoch.
    ///
    /// ```
    /// use kiln_train::data::{Augment, Column, DataError, Dataset, Pipeline};
    ///
    /// let data = Dataset::new([Column::new("x", [6, 8, 8], vec![128f32; 384])?])?;
    /// let pipeline = Pipeline::new(data, 4)?
    ///     .shuffled(42)
    ///     .map("x", |pixels| pixels.iter_mut().for_each(|pixel| *pixel = (*pixel / 255.0).sqrt()))?
    ///     .cache()? // the roots are taken once
    ///     .with(Augment::images("x").flip())?; // and mirrored in each epoch
    /// assert!(matches!(pipeline.cache(), Err(DataError::Cached { transform: 2 })));
    /// # Ok::<(), DataError>(())
    /// ```
    pub fn cache(mut self) -> Result<Self, DataError> {
        let Plan {
            data, transforms, ..
        } = &*self.plan;
        if transforms.is_empty() {
            return Ok(self);
        }
        let rows: Vec<usize> = (0..data.len()).collect();
        let mut columns = data.columns().to_vec();
        // The epoch does not matter to what does not draw.
        if let Some(transform) = transforms.apply(data, 0, &rows, &mut columns) {
            return Err(DataError::Cached { transform });
        }
        let cached = Dataset::new(columns)?;
        self.current = Gathered::default();
        self.change(|plan| {
            plan.data = Arc::new(cached);
            plan.transforms.cached();
        });
        Ok(self)
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
        let count = if self.transforms.is_empty() {
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
        self.transforms.apply(&self.data, epoch, rows, columns);
        given.clear();
        if !self.transforms.is_empty() {
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
        let index = if self.transforms.is_empty() {
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
        let given = if self.plan.transforms.is_empty() {
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
        let Plan {
            batch, transforms, ..
        } = &*self.plan;
        let examples = self.plan.data.len();
        write!(
            f,
            "Pipeline({examples} examples, batches of {batch}, {} transforms)",
            transforms.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Augment, MixUp};
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn data() -> Dataset {
        let pixels: Vec<f32> = (0..7 * 48).map(|i| (i % 97) as f32).collect();
        let labels: Vec<f32> = (0..14).map(|i| (i % 2) as f32).collect();
        Dataset::new([
            Column::new("x", [7, 4, 4, 3], pixels).unwrap(),
            Column::new("y", [7, 2], labels).unwrap(),
        ])
        .unwrap()
    }

    /// Pictures of tens, of which `calls` counts how often one was made.
    fn tens(calls: &Arc<AtomicUsize>) -> Pipeline {
        let calls = Arc::clone(calls);
        let tenfold = move |picture: &mut [f32]| {
            calls.fetch_add(1, Ordering::Relaxed);
            picture.iter_mut().for_each(|pixel| *pixel *= 10.0);
        };
        let pipeline = Pipeline::new(data(), 3).unwrap().shuffled(5);
        pipeline.map("x", tenfold).unwrap()
    }

    fn augmented(pipeline: Pipeline) -> Pipeline {
        let augment = Augment::images("x").flip().shift(1).brightness(0.5);
        let pipeline = pipeline.with(augment).unwrap();
        pipeline.with(MixUp::new("x", "y", 0.4)).unwrap()
    }

    fn epochs(pipeline: &mut Pipeline) -> Vec<(Vec<usize>, Vec<Column>)> {
        let mut found = Vec::new();
        for epoch in 0..3 {
            pipeline.start_epoch(epoch);
            while let Some(batch) = pipeline.next_batch() {
                found.push((batch.rows().to_vec(), batch.columns().to_vec()));
            }
        }
        found
    }

    #[test]
    fn a_cache_computes_once_what_comes_before_it_and_changes_no_batch() {
        let (every_time, once) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let wanted = epochs(&mut augmented(tens(&every_time)));
        let mut cached = augmented(tens(&once).cache().unwrap());
        assert_eq!(epochs(&mut cached), wanted);
        assert_eq!(epochs(&mut cached.prefetch(2)), wanted);
        assert_eq!(once.load(Ordering::Relaxed), 7, "each example once");
        // Those of the batches, and those that they were mixed with.
        assert_eq!(every_time.load(Ordering::Relaxed), 3 * 2 * 7);
        assert_ne!(wanted[0].1, wanted[3].1, "epochs differ");
    }

    #[test]
    fn a_cache_takes_the_place_of_the_data_and_of_an_earlier_cache() {
        let calls = Arc::default();
        let mut twice = tens(&calls).cache().unwrap();
        let mut plain = tens(&calls);
        // What was chosen and begun before stays so.
        for pipeline in [&mut twice, &mut plain] {
            pipeline.pick(&["y", "x"]).unwrap();
            pipeline.start_epoch(1);
            pipeline.next_batch().unwrap();
        }
        let mut twice = twice.map("x", |x| x.fill(1.0)).unwrap().cache().unwrap();
        let mut plain = plain.map("x", |x| x.fill(1.0)).unwrap();
        let next = |pipeline: &mut Pipeline| pipeline.next_batch().unwrap().columns().to_vec();
        let batch = next(&mut twice);
        assert_eq!(batch, next(&mut plain));
        assert_eq!(batch[0].name(), "y");
        assert!(batch[1].values::<f32>().unwrap().iter().all(|x| *x == 1.0));
        // With nothing before it a cache is the data itself.
        let data = Arc::new(data());
        let same = Pipeline::new(Arc::clone(&data), 3)
            .unwrap()
            .cache()
            .unwrap();
        assert!(Arc::ptr_eq(&same.plan.data, &data));
    }

    #[test]
    fn a_cache_of_what_differs_from_epoch_to_epoch_is_refused() {
        let calls = Arc::default();
        let wrong = augmented(tens(&calls).cache().unwrap());
        let error = wrong.cache().unwrap_err().to_string();
        assert_eq!(
            error,
            "transform 2 of the pipeline draws random numbers, anew in each epoch, and a cache would keep the first: put `cache` before it"
        );
        let wrong = tens(&calls).with(MixUp::new("x", "y", 0.4)).unwrap();
        assert!(matches!(
            wrong.cache(),
            Err(DataError::Cached { transform: 2 })
        ));
    }
}
