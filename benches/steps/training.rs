//! The line of a whole training step.
//!
//! - `step_us`: the mean time of a step in the best of five rounds. Each step is fed a batch that the one before was not fed.
//! - `mfu`: model FLOPs utilisation, the FLOPs of the step's matrix products and convolutions over step time, threads and the peak FMA rate of one core,
//!   which is measured between the rounds; `-` where the model has too few to speak of.
//! - `compile_ms`: from the graph to the executable, the first compilation of the process.
//! - `arena_mb`, `state_mb`: what lives within a step, and what lives between steps (params and state), in 10^6 bytes.
//! - `launches`, `kernels`: what a step starts (a product with its panels is one), and how many compiled functions it has.

use crate::workloads::Workload;
use kiln::ir::program::Step;
use kiln::runtime::machine;
use kiln::train::data::Batch;
use kiln::{Bindings, Executable, Loader, Options, Session, SessionOptions};
use std::error::Error;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// How long a round lasts about.
const ROUND: Duration = Duration::from_millis(700);
const SEED: u64 = 42;

/// Times a workload; with `profile`, what the launches take goes to standard error.
pub(crate) fn measure(
    workload: &Workload,
    threads: NonZeroUsize,
    options: &Options,
    profile: bool,
) -> Result<String, Box<dyn Error>> {
    workload.check_flops()?;
    let start = Instant::now();
    let executable = kiln::compile(&workload.graph, options)?;
    let compile_time = start.elapsed();
    let mut session = executable.session_with(&SessionOptions {
        threads: Some(threads),
        ..SessionOptions::new(SEED)
    })?;

    let mut feeds = Feeds::new(workload)?;
    // Warms caches and clocks, and tells how many steps make a round: at least three, also of those that last longer than it.
    let first = feeds.run(&mut session, 1)?;
    let warm_steps = (ROUND.as_secs_f64() / first.as_secs_f64()).clamp(1.0, 20.0) as usize;
    let warm = feeds.run(&mut session, warm_steps)?;
    let steps = ROUND.as_secs_f64() / warm.as_secs_f64() * warm_steps as f64;
    let per_round = steps.max(3.0) as usize;
    let mut best = f64::INFINITY;
    let mut peak = 0.0_f64;
    for _ in 0..ROUNDS {
        peak = peak.max(machine::fma_peak());
        let time = feeds.run(&mut session, per_round)?;
        best = best.min(time.as_secs_f64() / per_round as f64);
    }
    peak = peak.max(machine::fma_peak());
    if profile {
        session.record(true);
        feeds.run(&mut session, per_round)?;
        let limits = machine::Machine {
            flops: peak,
            bandwidth: machine::triad(),
        };
        eprint!("{}", session.profile().table(&limits));
    }
    line(workload, threads, &executable, best, peak, compile_time)
}

/// The line of one run.
fn line(
    workload: &Workload,
    threads: NonZeroUsize,
    executable: &Executable,
    step: f64,
    peak: f64,
    compile_time: Duration,
) -> Result<String, Box<dyn Error>> {
    let batch = i64::try_from(workload.batch)?;
    let memory = executable.memory_with(&Bindings::from([("b", batch)]), threads.get())?;
    let program = executable.program();
    let is_launch = |step: &&Step| {
        matches!(
            step,
            Step::Kernel(_) | Step::Product(_) | Step::Convolution(_)
        )
    };
    let mfu = match workload.flops {
        Some(flops) => format!("{:.2}", flops as f64 / (step * threads.get() as f64 * peak)),
        None => "-".to_owned(),
    };
    let step_us = 1e6 * step;
    // A tenth of a microsecond is a large part of a small step.
    let decimals = if step_us < 100.0 { 3 } else { 1 };
    Ok(format!(
        "{} threads={threads} step_us={step_us:.decimals$} mfu={mfu} compile_ms={:.1} arena_mb={:.1} state_mb={:.1} launches={} kernels={}",
        workload.name,
        1e3 * compile_time.as_secs_f64(),
        memory.arena as f64 / 1e6,
        (memory.params + memory.state) as f64 / 1e6,
        program.steps.iter().filter(is_launch).count(),
        executable.functions(),
    ))
}

/// The prepared batches, in a circle.
struct Feeds {
    batches: Vec<kiln::Dataset>,
    next: usize,
}

impl Feeds {
    fn new(workload: &Workload) -> Result<Self, Box<dyn Error>> {
        let inputs = workload.graph.slots().iter();
        let inputs = inputs.filter(|slot| slot.role == kiln::ir::Role::Input);
        let mut loader = Loader::new(&workload.data, workload.batch)?.drop_short()?;
        let inputs: Vec<&str> = inputs.map(|slot| slot.name.as_str()).collect();
        loader.pick(&inputs)?;
        let mut batches = Vec::new();
        while let Some(batch) = loader.next_batch() {
            batches.push(kept(&batch)?);
        }
        Ok(Self { batches, next: 0 })
    }

    /// Runs `steps` steps; the time of all of them.
    fn run(&mut self, session: &mut Session, steps: usize) -> Result<Duration, Box<dyn Error>> {
        let mut sum = 0.0;
        let start = Instant::now();
        for _ in 0..steps {
            sum += session.step(self.batches[self.next].columns())?.scalar(0)?;
            self.next += 1;
            if self.next == self.batches.len() {
                self.next = 0;
            }
        }
        let time = start.elapsed();
        if f64::is_finite(sum) {
            Ok(time)
        } else {
            Err("the loss is not finite: what is timed is not training".into())
        }
    }
}

/// A batch that outlives the loader, so that gathering is not timed: what is measured is the step.
fn kept(batch: &Batch<'_>) -> Result<kiln::Dataset, kiln::train::data::DataError> {
    kiln::Dataset::new(batch.columns().to_vec())
}
