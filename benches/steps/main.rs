//! Times whole training steps: fed, forward, backward, update, loss read.
//!
//! ```text
//! cargo bench --bench steps -- mlp --threads 1
//! mlp threads=1 step_us=2400.0 mfu=0.76 compile_ms=12.1 arena_mb=3.2 state_mb=8.0 launches=12 kernels=9
//! ```
//!
//! One line a run, and nothing else on standard output. The line means:
//!
//! - `step_us`: the mean time of a step in the best of five rounds. Each step is fed a batch that the one before was not fed.
//! - `mfu`: model FLOPs utilisation, the FLOPs of the step's matrix products over step time, threads and the peak FMA rate of one core,
//!   which is measured between the rounds; `-` where the model has too few to speak of.
//! - `compile_ms`: from the graph to the executable, the first compilation of the process.
//! - `arena_mb`, `state_mb`: what lives within a step, and what lives between steps (params and state), in 10^6 bytes.
//! - `launches`, `kernels`: what a step starts (a product with its panels is one), and how many compiled functions it has.
//!
//! A workload is a file in `workloads/`; adding one takes a variant here and nothing else.

mod workloads;

use clap::{Parser, ValueEnum};
use kiln::ir::program::Step;
use kiln::runtime::machine;
use kiln::train::data::Batch;
use kiln::{Bindings, Executable, Loader, Options, Session, SessionOptions};
use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use workloads::Workload;

const ROUNDS: usize = 5;
/// How long a round lasts about.
const ROUND: Duration = Duration::from_millis(700);
const SEED: u64 = 42;

/// Times whole training steps.
#[derive(Parser)]
struct Arguments {
    /// What is trained.
    workload: Name,
    /// Threads that share a step.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Prints to standard error what the launches of a step take, beside the machine's limits.
    #[arg(long)]
    profile: bool,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Dense(1), batch 32, SGD, mean squared error.
    Linreg,
    /// 784-512-512-10, ReLU, batch 128, Adam.
    Mlp,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workload = match arguments.workload {
        Name::Linreg => workloads::linreg::workload(),
        Name::Mlp => workloads::mlp::workload(),
    };
    match workload.and_then(|w| measure(&w, arguments.threads, arguments.profile)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    workload: &Workload,
    threads: NonZeroUsize,
    profile: bool,
) -> Result<String, Box<dyn Error>> {
    workload.check_flops()?;
    let options = Options::from_env()?;
    let start = Instant::now();
    let executable = kiln::compile(&workload.graph, &options)?;
    let compile_time = start.elapsed();
    let mut session = executable.session_with(&SessionOptions {
        threads: Some(threads),
        ..SessionOptions::new(SEED)
    })?;

    let mut feeds = Feeds::new(workload)?;
    // Warms caches and clocks, and tells how many steps make a round.
    let warm = feeds.run(&mut session, 20)?;
    let per_round = (ROUND.as_secs_f64() / warm.as_secs_f64() * 20.0).max(20.0) as usize;
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
    let is_launch = |step: &&Step| matches!(step, Step::Kernel(_) | Step::Product(_) | Step::Convolution(_));
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
        loader.pick(inputs.map(|slot| slot.name.as_str()))?;
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
