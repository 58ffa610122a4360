//! Causal attention alone, forward and the gradients by queries, keys and values, all scores at once and in blocks.
//!
//! ```text
//! attention t=1024 schedule=blocks threads=1 step_us=88000.0 mfu=0.60 memory_mb=33.1 compile_ms=13.5
//! ```
//!
//! 4 examples, 4 heads of width 64. FLOPs are those of the six products (scores, values, and two ways back each) over all pairs of
//! positions, as if no pair were left out and nothing computed again, so that the two schedules are measured by the same number.
//! `memory_mb` is what a step takes beside params and outputs, for all threads together.

use super::{Failure, seconds};
use kiln::nn::{AttentionOptions, AttentionSchedule, attention};
use kiln::runtime::machine;
use kiln::{Builder, DType, Feed, Graph, Init, Options, SessionOptions, grad};
use std::num::NonZeroUsize;
use std::time::Instant;

const EXAMPLES: i64 = 4;
const HEADS: i64 = 4;
const WIDTH: i64 = 64;
const LENGTHS: [i64; 6] = [64, 128, 256, 512, 1024, 2048];
const ROUNDS: usize = 7;
const SCHEDULES: [(&str, AttentionSchedule); 2] = [
    ("whole", AttentionSchedule::Whole),
    ("blocks", AttentionSchedule::Blocks(AttentionSchedule::ROWS)),
];

pub(crate) fn measure(
    threads: NonZeroUsize,
    options: &Options,
    mut show: impl FnMut(String),
) -> Result<(), Failure> {
    for t in LENGTHS {
        for (name, schedule) in SCHEDULES {
            let graph = graph(t, schedule)?;
            let start = Instant::now();
            let executable = kiln::compile(&graph, options)?;
            let compile = start.elapsed();
            let mut session = executable.session_with(&SessionOptions {
                threads: Some(threads),
                ..SessionOptions::new(42)
            })?;
            let (mut best, mut peak) = (f64::INFINITY, 0.0_f64);
            for _ in 0..ROUNDS {
                peak = peak.max(machine::fma_peak());
                let mut step = || Ok(session.step::<Feed<'_>>(&[]).map(drop)?);
                best = best.min(seconds(&mut step, 1)?);
            }
            let flops = (6 * 2 * EXAMPLES * HEADS * t * t * WIDTH) as f64;
            let mfu = flops / best / peak / threads.get() as f64;
            let memory = session.memory();
            let bytes = memory.arena + memory.scratch * memory.threads;
            show(format!(
                "attention t={t} schedule={name} threads={threads} step_us={:.1} mfu={mfu:.2} memory_mb={:.1} compile_ms={:.1}",
                best * 1e6,
                bytes as f64 / 1e6,
                compile.as_secs_f64() * 1e3
            ));
        }
    }
    Ok(())
}

fn graph(t: i64, schedule: AttentionSchedule) -> Result<Graph, Failure> {
    let g = Builder::new("attention");
    let of = |name| {
        g.param_of(
            name,
            DType::F32,
            (EXAMPLES, t, HEADS, WIDTH),
            Init::normal(1.0),
        )
    };
    let [q, k, v, weights] = ["q", "k", "v", "weights"].map(of);
    let options = AttentionOptions {
        causal: true,
        schedule,
        ..AttentionOptions::default()
    };
    let y = attention(q, k, v, &options);
    let gradients = grad((y * weights).sum(), &[q, k, v]);
    for (name, gradient) in ["dq", "dk", "dv"].into_iter().zip(gradients) {
        g.output(name, gradient);
    }
    g.output("y", y);
    Ok(g.finish()?)
}
