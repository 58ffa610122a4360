//! Fits FSRS-6, the memory model of spaced-repetition schedulers, to the review histories of a person whose parameters are known.
//!
//! 30,000 reviews are drawn with fixed parameters, packed into batches of cards of similar length, and 21 parameters are trained on them:
//! 5 epochs, Adam with a learning rate that falls along half a cosine, parameters clipped to their ranges, all in one compiled step that
//! serves batches of every shape. The model is plain graph code with one `scan` (`models/fsrs/graph.rs`). Prints the losses and the
//! parameters beside the true ones.
//!
//! ```text
//! cargo run --release --example fsrs
//! ```

use clap::Parser;
use kiln::{Options, Session, SessionOptions};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

#[path = "models/fsrs/mod.rs"]
mod model;

use model::graph::{OFFSETS, Training, evaluation, training};
use model::history::{Batch, TRUE, batches, cards, shuffled};
use model::{DEVIATION, INITIAL, PARAMETERS};

/// Fits a memory model to review histories.
#[derive(Parser)]
struct Arguments {
    /// Reviews that are scored.
    #[arg(long, default_value_t = 30_158)]
    reviews: usize,
    /// How often all batches are seen.
    #[arg(long, default_value_t = 5)]
    epochs: u64,
    /// The learning rate of the first step.
    #[arg(long, default_value_t = 0.04)]
    rate: f64,
    /// What histories and the order of batches are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    let cards = cards(arguments.seed, arguments.reviews.max(1));
    let batches = batches(&cards)?;
    let predictions = batches.iter().map(|batch| batch.scored).sum();
    let rows: usize = batches.iter().map(|batch| batch.reviews).sum();
    writeln!(
        out,
        "{} cards, {rows} reviews, {predictions} of them scored, in {} batches",
        cards.len(),
        batches.len()
    )?;

    let options = Options::from_env()?;
    let start = Instant::now();
    let settings = Training {
        rate: arguments.rate,
        steps: batches.len() * arguments.epochs as usize,
        predictions,
    };
    let executable = kiln::compile(&training(&settings)?, &options)?;
    writeln!(
        out,
        "compiled in {:.0} ms",
        1e3 * start.elapsed().as_secs_f64()
    )?;
    // A step takes microseconds: a second thread would only be waited for.
    let on_one_thread = SessionOptions {
        threads: Some(NonZeroUsize::MIN),
        ..SessionOptions::new(arguments.seed)
    };
    let mut session = executable.session_with(&on_one_thread)?;
    let mut measuring = kiln::compile(&evaluation()?, &options)?.session_with(&on_one_thread)?;

    let zeros = [0.0_f32; PARAMETERS];
    let offsets = |w: &[f64; PARAMETERS]| -> Vec<f32> {
        w.iter()
            .zip(INITIAL)
            .map(|(w, start)| (w - start) as f32)
            .collect()
    };
    let before = measured(&mut measuring, &zeros, &batches)?;
    let start = Instant::now();
    for epoch in 0..arguments.epochs {
        for number in shuffled(arguments.seed, epoch, batches.len()) {
            session.step(&batches[number].columns)?;
        }
    }
    let time = start.elapsed().as_secs_f64();
    let found = session.state(OFFSETS)?.to_vec::<f32>()?;
    let after = measured(&mut measuring, &found, &batches)?;
    if !after.is_finite() {
        return Err(format!(
            "--rate {} is of no use: the loss is {after}",
            arguments.rate
        )
        .into());
    }
    let best = measured(&mut measuring, &offsets(&TRUE), &batches)?;

    writeln!(
        out,
        "{} steps in {:.1} ms: {:.0} ns for each review\n",
        settings.steps,
        1e3 * time,
        1e9 * time / (rows as f64 * arguments.epochs as f64).max(1.0)
    )?;
    writeln!(
        out,
        "      start    found     true   error in deviations: start   found"
    )?;
    let mut errors = [0.0; 2];
    for i in 0..PARAMETERS {
        let w = INITIAL[i] + f64::from(found[i]);
        let error = |w: f64| (w - TRUE[i]) / DEVIATION[i];
        errors[0] += error(INITIAL[i]).powi(2);
        errors[1] += error(w).powi(2);
        writeln!(
            out,
            "w{i:<2} {:>8.4} {w:>8.4} {:>8.4} {:>27.2} {:>7.2}",
            INITIAL[i],
            TRUE[i],
            error(INITIAL[i]),
            error(w)
        )?;
    }
    let [start, end] = errors.map(|sum| (sum / PARAMETERS as f64).sqrt());
    writeln!(
        out,
        "\nerror in deviations, root mean square: {start:.3} at the start, {end:.3} found"
    )?;
    writeln!(
        out,
        "log loss: {before:.4} at the start, {after:.4} found, {best:.4} of the true parameters"
    )?;
    Ok(())
}

/// The weighted mean log loss of parameters over all batches.
fn measured(
    session: &mut Session,
    offsets: &[f32],
    batches: &[Batch],
) -> Result<f64, Box<dyn Error>> {
    session.set_state(OFFSETS, offsets)?;
    let (mut loss, mut weight) = (0.0, 0.0);
    for batch in batches {
        let outputs = session.step(&batch.columns)?;
        loss += outputs.scalar("log_loss")?;
        weight += outputs.scalar("weight")?;
    }
    Ok(loss / weight)
}
