//! A fork-join pool of a fixed number of threads with a static partition of the work.
//!
//! A step of a program forks for a few microseconds at a time, hundreds of times, so a fork must cost about as
//! much as two cache misses: one atomic word publishes the job, one counts its completion, nothing is allocated
//! and no lock is taken unless somebody sleeps. Which task runs on which thread is a function of the numbers
//! alone, never of timing, so per-thread scratch and therefore results are the same on every run.
//!
//! The pool does not steal, balance or queue, and it cannot be entered twice: [`Pool::run`] takes `&mut self`,
//! which refuses a nested run, and a run from two threads at once, when the program is compiled.
//!
//! All unsafe code is about one thing: a job borrows from the caller's stack, and workers read it through a
//! pointer whose lifetime is erased. The invariant that makes it sound is that `run` does not return, not even by
//! a panic, before every worker has reported that it has finished with the job.

use std::any::Any;
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps. A sleeping thread takes some 5 to 50 microseconds to wake, so to
/// spin for about as long costs at most twice the best choice.
const SPIN: Duration = Duration::from_micros(50);

/// How many times a spinning thread looks before it reads the clock, which costs more than a look.
const LOOKS_PER_CLOCK: usize = 32;

/// The part of `0..total` that share `k` of `parts` owns: contiguous, in order, cut at multiples of `grain`.
///
/// The shares cover `0..total` without overlap, and their lengths differ by at most one grain (and the last,
/// short one). A `grain` of 0 counts as 1; a share `k >= parts` is empty.
pub fn split(total: usize, parts: usize, grain: usize, k: usize) -> Range<usize> {
    if k >= parts {
        return total..total;
    }
    let grain = grain.max(1);
    let blocks = total.div_ceil(grain);
    let (each, longer) = (blocks / parts, blocks % parts);
    // The first `longer` shares hold one block more. Only the last block can pass the end, hence the `min`.
    let cut = |share: usize| {
        (share * each + share.min(longer))
            .saturating_mul(grain)
            .min(total)
    };
    cut(k)..cut(k + 1)
}

/// One thread for each that the machine runs at a time.
pub fn default_threads() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Threads that run shares of a loop together with the thread that calls.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: NonZeroUsize,
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them: a pool of one starts nothing.
    ///
    /// # Errors
    /// What the system said when it would not start a thread; the ones already started are ended.
    pub fn new(threads: NonZeroUsize) -> std::io::Result<Pool> {
        // Threads beyond the machine's cannot all spin: they would keep the ones they wait for off the cores.
        let crowded = available_parallelism().is_ok_and(|available| threads > available);
        let spin = if crowded { Duration::ZERO } else { SPIN };
        let mut pool = Pool {
            shared: Arc::new(Shared::new(spin)),
            workers: Vec::with_capacity(threads.get() - 1),
            threads,
        };
        for thread in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("kiln-{thread}"));
            // On an error the pool is dropped here, which ends the workers it has.
            pool.workers
                .push(builder.spawn(move || work(&shared, thread, threads.get()))?);
        }
        Ok(pool)
    }

    /// The number of threads, the caller included.
    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Calls `task(i, thread)` for every `i` in `0..tasks` and returns when all have returned.
    ///
    /// Thread `t` runs the tasks `split(tasks, threads, 1, t)` in order, and the caller is thread 0; so two calls
    /// with the same `thread` never overlap. What the tasks wrote is visible to the caller afterwards.
    ///
    /// A run inside a task does not compile:
    /// ```compile_fail,E0499
    /// # use kiln_runtime::pool::Pool;
    /// fn nested(pool: &mut Pool) {
    ///     pool.run(2, &|_, _| pool.run(2, &|_, _| ()));
    /// }
    /// ```
    ///
    /// # Panics
    /// If a task panics, the rest of its thread's share is skipped, the other shares run to their ends, and then
    /// the panic goes on in the caller (the one of the lowest thread if there are several). The pool stays usable.
    pub fn run(&mut self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|index| task(index, 0));
            return;
        }
        // SAFETY: this extends the borrow's lifetime in the type only. No worker touches the job after it has
        // counted itself out of `running`, and below nothing returns or unwinds before `running` is 0.
        let task: &'static (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(task) };
        let shared = &*self.shared;
        shared.running.0.store(self.workers.len(), SeqCst);
        shared.publish(Some(Job { task, tasks }));

        let own = catch_unwind(AssertUnwindSafe(|| {
            run_share(task, tasks, self.threads.get(), 0)
        }));
        shared
            .finished
            .wait_until(shared.spin, || shared.running.0.load(SeqCst) == 0);

        // The workers have counted themselves out, so their word about panics is final and seldom costs the lock.
        let mut panics = Vec::new();
        if shared.panicked.swap(false, SeqCst) {
            panics = std::mem::take(&mut *lock(&shared.panics));
        }
        if let Err(payload) = own {
            panics.push((0, payload));
        }
        if let Some(lowest) = (0..panics.len()).min_by_key(|&index| panics[index].0) {
            resume_unwind(panics.swap_remove(lowest).1);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.publish(None);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

/// What workers are to do next.
#[derive(Clone, Copy)]
struct Job {
    task: &'static (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

/// What a task panicked with.
type Payload = Box<dyn Any + Send>;

/// A value on cache lines of its own (two, for the adjacent-line prefetcher), so that spinning on one word does
/// not slow a write to its neighbour.
#[repr(align(128))]
struct Line<T>(T);

/// What the threads of a pool share.
struct Shared {
    /// How many jobs have been published. A worker that sees it change owes that job one share.
    generation: Line<AtomicUsize>,
    /// How many workers have not finished the job in hand.
    running: Line<AtomicUsize>,
    /// The job in hand; `None` asks the workers to end. Written by the pool's owner only while `running` is 0 (so
    /// no worker reads it), read by workers between a change of `generation` and their count-out.
    job: UnsafeCell<Option<Job>>,
    /// Where workers wait for a new generation.
    started: Doorbell,
    /// Where the caller waits for `running` to become 0.
    finished: Doorbell,
    /// The panics of the job in hand, with the threads they happened on.
    panics: Mutex<Vec<(usize, Payload)>>,
    /// Whether `panics` holds any.
    panicked: AtomicBool,
    /// How long to spin before sleeping.
    spin: Duration,
}

// SAFETY: all fields but `job` are `Sync` by themselves. `job` is handed over by `generation` (a SeqCst store after
// the write, a SeqCst load before the reads) and handed back by `running` (the reads come before a SeqCst
// decrement, the next write after a load that saw 0), so a write never overlaps a read. A `Job` holds a shared
// reference to a `Sync` closure, which may go to any thread.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it is bound to the thread that made it; see above for the reference in `job`.
unsafe impl Send for Shared {}

impl Shared {
    fn new(spin: Duration) -> Shared {
        Shared {
            generation: Line(AtomicUsize::new(0)),
            running: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            started: Doorbell::default(),
            finished: Doorbell::default(),
            panics: Mutex::new(Vec::new()),
            panicked: AtomicBool::new(false),
            spin,
        }
    }

    /// Hands `job` to the workers. Called by the pool's owner only (through `&mut Pool`), with no job in hand.
    fn publish(&self, job: Option<Job>) {
        // SAFETY: every worker has finished the last job, because `run` waits for that, and reads the cell again
        // only after `generation` changes, which happens after this write.
        unsafe { *self.job.get() = job }
        self.generation.0.fetch_add(1, SeqCst);
        self.started.ring();
    }
}

/// The life of a worker.
fn work(shared: &Shared, thread: usize, threads: usize) {
    let mut seen = 0;
    loop {
        shared
            .started
            .wait_until(shared.spin, || shared.generation.0.load(SeqCst) != seen);
        // Exactly one generation can have passed: the next one waits for this worker.
        seen = seen.wrapping_add(1);
        // SAFETY: the change of `generation` was seen, so the write of the job is over, and the next write
        // waits until this worker has counted itself out.
        let Some(Job { task, tasks }) = (unsafe { *shared.job.get() }) else {
            return;
        };
        if let Err(payload) =
            catch_unwind(AssertUnwindSafe(|| run_share(task, tasks, threads, thread)))
        {
            lock(&shared.panics).push((thread, payload));
            shared.panicked.store(true, SeqCst);
        }
        if shared.running.0.fetch_sub(1, SeqCst) == 1 {
            shared.finished.ring();
        }
    }
}

/// The tasks of one thread.
fn run_share(task: &(dyn Fn(usize, usize) + Sync), tasks: usize, threads: usize, thread: usize) {
    for index in split(tasks, threads, 1, thread) {
        task(index, thread);
    }
}

/// Lets threads wait for a condition that others make true: by spinning at first, then asleep.
///
/// Whoever makes the condition true does so with a SeqCst operation and then calls [`Doorbell::ring`]. A waiter
/// counts itself into `sleepers` before it looks for the last time, so in the single order of SeqCst operations
/// either the waiter sees the condition or the ringer sees the sleeper.
#[derive(Default)]
struct Doorbell {
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

impl Doorbell {
    /// Wakes every sleeper, so that it looks at its condition again; touches no lock when nobody sleeps.
    fn ring(&self) {
        if self.sleepers.load(SeqCst) != 0 {
            // Passing the door makes sure that a waiter who has looked in vain is asleep by now.
            drop(lock(&self.door));
            self.bell.notify_all();
        }
    }

    /// Returns when `done` does; `done` reads with SeqCst.
    fn wait_until(&self, spin: Duration, done: impl Fn() -> bool) {
        if done() || (!spin.is_zero() && spin_until(spin, &done)) {
            return;
        }
        let mut door = lock(&self.door);
        self.sleepers.fetch_add(1, SeqCst);
        while !done() {
            door = self.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

/// Spins until `done` or for `limit`; says whether it was done.
fn spin_until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..LOOKS_PER_CLOCK {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() >= limit {
            return done();
        }
    }
}

/// Locks a mutex whose data are whole at any time, so that poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[test]
    fn shares_cover_the_range_in_order() {
        for total in [0, 1, 2, 7, 8, 64, 1000, usize::MAX] {
            for parts in 1..6 {
                for grain in [0, 1, 3, 8, 128, usize::MAX] {
                    let mut next = 0;
                    for k in 0..parts {
                        let share = split(total, parts, grain, k);
                        assert_eq!(share.start, next, "{total} {parts} {grain} {k}");
                        assert!(share.end == total || share.end.is_multiple_of(grain.max(1)));
                        next = share.end;
                    }
                    assert_eq!(next, total);
                    assert!(split(total, parts, grain, parts).is_empty());
                }
            }
        }
        assert_eq!(split(10, 4, 1, 1), 3..6);
        assert_eq!(split(300, 2, 128, 0), 0..256);
        assert!(split(10, 0, 1, 0).is_empty());
    }

    /// Every task runs once, and on the thread the partition names.
    #[test]
    fn each_task_runs_once_on_its_thread() {
        for threads in [1, 2, 4] {
            let mut pool = pool(threads);
            for tasks in [0, 1, 2, 3, 4, 5, 17, 1000] {
                let owner: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|index, thread| {
                    owner[index].fetch_add(thread + 1, SeqCst);
                });
                for (index, owner) in owner.iter().enumerate() {
                    let thread = owner.load(SeqCst) - 1;
                    assert!(
                        split(tasks, threads, 1, thread).contains(&index),
                        "{tasks} {index} {thread}"
                    );
                }
            }
        }
    }

    /// The writes of a run are seen by the caller and by the next run, without atomics of the tasks' own.
    #[test]
    fn many_small_runs_give_the_right_sum() {
        for (threads, runs) in [(1, 100_000), (2, 100_000), (4, 5_000)] {
            let mut pool = pool(threads);
            let cells: Vec<_> = (0..threads).map(|_| Line(UnsafeCell::new(0_u64))).collect();
            struct Cells<'a>(&'a [Line<UnsafeCell<u64>>]);
            // SAFETY: each cell is touched by the one thread it belongs to.
            unsafe impl Sync for Cells<'_> {}
            impl Cells<'_> {
                fn add(&self, thread: usize, value: u64) {
                    // SAFETY: tasks with the same thread number never overlap.
                    unsafe { *self.0[thread].0.get() += value }
                }
            }
            let shared = Cells(&cells);
            for run in 0..runs {
                pool.run(5, &|index, thread| shared.add(thread, run * index as u64));
            }
            let sum: u64 = cells.into_iter().map(|cell| cell.0.into_inner()).sum();
            assert_eq!(sum, 10 * (runs * (runs - 1) / 2));
        }
    }

    /// Workers that fell asleep between runs wake up, and a caller who waits longer than the spin does too.
    #[test]
    fn sleepers_wake() {
        for threads in [2, 4] {
            let mut pool = pool(threads);
            for round in 0..5 {
                while pool.shared.started.sleepers.load(SeqCst) != threads - 1 {
                    std::thread::yield_now();
                }
                let sum = AtomicU64::new(0);
                let shared = Arc::clone(&pool.shared);
                pool.run(8, &|index, thread| {
                    // The last worker holds its first task back until the caller has gone to sleep.
                    if thread == threads - 1 {
                        while shared.finished.sleepers.load(SeqCst) == 0 {
                            std::thread::yield_now();
                        }
                    }
                    sum.fetch_add(index as u64 + 1, SeqCst);
                });
                assert_eq!(sum.load(SeqCst), 36, "{round}");
            }
        }
    }

    #[test]
    fn panics_reach_the_caller_and_leave_the_pool_usable() {
        for threads in [1, 2, 4] {
            let mut pool = pool(threads);
            for culprit in 0..8 {
                let ran = AtomicUsize::new(0);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    pool.run(8, &|index, _| {
                        if index == culprit {
                            resume_unwind(Box::new(index));
                        }
                        ran.fetch_add(1, SeqCst);
                    });
                }));
                assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&culprit));
                let share = (0..threads)
                    .map(|k| split(8, threads, 1, k))
                    .find(|s| s.contains(&culprit))
                    .unwrap();
                assert_eq!(ran.load(SeqCst), 8 - (share.end - culprit));
            }
            let all = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|_, thread| resume_unwind(Box::new(thread)));
            }));
            assert_eq!(all.unwrap_err().downcast_ref(), Some(&0_usize));
            let sum = AtomicUsize::new(0);
            pool.run(8, &|index, _| {
                sum.fetch_add(index, SeqCst);
            });
            assert_eq!(sum.load(SeqCst), 28);
        }
    }

    #[test]
    fn drop_ends_workers_asleep_or_awake() {
        for threads in [1, 2, 4] {
            drop(pool(threads));
            let mut used = pool(threads);
            used.run(4, &|_, _| ());
            drop(used);
            let asleep = pool(threads);
            while asleep.shared.started.sleepers.load(SeqCst) != threads - 1 {
                std::thread::yield_now();
            }
            let shared = Arc::downgrade(&asleep.shared);
            drop(asleep);
            assert!(shared.upgrade().is_none(), "a worker outlived its pool");
        }
    }
}
