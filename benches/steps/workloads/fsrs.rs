//! FSRS-6 on synthetic review histories: thousands of small steps of many shapes, whose cost for each review is the figure.
//!
//! ```text
//! fsrs threads=1 step_us=18.9 ns_per_row=29.1 compile_ms=23.4 arena_mb=0.068 state_mb=0.000 kernels=14
//! ```
//!
//! `ns_per_row` is the time of an epoch, forward, backward and update, divided by the reviews in it: cells that are no padding, first
//! reviews and those that are not scored included, as the mark of the crate `fsrs` counts them. The best of five rounds of five epochs.

use kiln::{Bindings, Options, SessionOptions};
use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Instant;

#[path = "../../../examples/models/fsrs/mod.rs"]
mod model;

use model::graph::{Training, training};
use model::history::{batches, cards, shuffled};

const SEED: u64 = 42;
const SCORED: usize = 30_158;
const ROUNDS: usize = 5;
const EPOCHS: u64 = 5;

/// Times the workload; the line of the run.
pub(crate) fn measure(threads: NonZeroUsize, options: &Options) -> Result<String, Box<dyn Error>> {
    let batches = batches(&cards(SEED, SCORED))?;
    let rows: usize = batches.iter().map(|batch| batch.reviews).sum();
    let settings = Training {
        rate: 0.04,
        steps: batches.len() * EPOCHS as usize,
        predictions: batches.iter().map(|batch| batch.scored).sum(),
    };
    let graph = training(&settings)?;
    let start = Instant::now();
    let executable = kiln::compile(&graph, options)?;
    let compile_time = start.elapsed();
    let on_threads = SessionOptions {
        threads: Some(threads),
        ..SessionOptions::new(SEED)
    };
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        // Each round trains from the start. Its first epoch meets every shape, and is not timed.
        let mut session = executable.session_with(&on_threads)?;
        let mut sum = 0.0;
        let mut time = 0.0;
        for epoch in 0..=EPOCHS {
            let start = Instant::now();
            for number in shuffled(SEED, epoch, batches.len()) {
                sum += session.step(&batches[number].columns)?.scalar(0)?;
            }
            if epoch > 0 {
                time += start.elapsed().as_secs_f64();
            }
        }
        if !f64::is_finite(sum) {
            return Err("the loss is not finite: what is timed is not training".into());
        }
        best = best.min(time / EPOCHS as f64);
    }
    let (mut arena, mut state) = (0, 0);
    for batch in &batches {
        let [t, b] = batch.columns[0].shape() else {
            return Err("a batch has two axes".into());
        };
        let sizes = [("t", i64::try_from(*t)?), ("b", i64::try_from(*b)?)];
        let memory = executable.memory_with(&Bindings::from(sizes), threads.get())?;
        arena = arena.max(memory.arena);
        state = memory.params + memory.state;
    }
    Ok(format!(
        "fsrs threads={threads} step_us={:.1} ns_per_row={:.1} compile_ms={:.1} arena_mb={:.3} state_mb={:.3} kernels={}",
        1e6 * best / batches.len() as f64,
        1e9 * best / rows as f64,
        1e3 * compile_time.as_secs_f64(),
        arena as f64 / 1e6,
        state as f64 / 1e6,
        executable.functions(),
    ))
}
