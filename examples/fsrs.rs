//! Fits FSRS-6, the memory model of spaced-repetition schedulers, to the review histories of a person whose parameters are known.
//!
//! 30,000 reviews are drawn with fixed parameters, packed into batches of cards of similar length, and 21 parameters are trained on them:
//! 50 epochs, Adam with a learning rate that falls along half a cosine, parameters clipped to their ranges, all in one compiled step that
//! serves batches of every shape. The model is plain graph code with one `scan` (`models/fsrs/graph.rs`).
//!
//! The crate trains for 5 epochs, which closes 0.91 of the gap to the loss of the true parameters; 50 close all of it. (`--reviews 300000`
//! wants `--rate 0.01`: larger steps wander along what the reviews hardly tell.)
//!
//! Prints the losses and the parameters beside the true ones, and what can be asked of so many reviews: the standard error of each parameter
//! by the curvature of the loss at the true parameters, all others free, and how much their loss grows where this one alone is moved by a
//! tenth. Where a single one costs much and its expected error is large all the same, others make up for it: stability grows by the product
//! of e^w8, 11 - D and about w10 (1 - R), and reviews that are all due at R = 0.9 hardly tell the three apart.
//!
//! ```text
//! cargo run --release --example fsrs
//! ```

use clap::Parser;
use kiln::{Column, Options, Session, SessionOptions};
use std::array::from_fn;
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

#[path = "models/fsrs/mod.rs"]
mod model;

use model::graph::{OFFSETS, Training, curvature, evaluation, training};
use model::history::{Batch, TRUE, batches, cards, shuffled};
use model::{DEVIATION, INITIAL, PARAMETERS};

/// Fits a memory model to review histories.
#[derive(Parser)]
struct Arguments {
    /// Reviews that are scored.
    #[arg(long, default_value_t = 30_158)]
    reviews: usize,
    /// How often all batches are seen.
    #[arg(long, default_value_t = 50)]
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
            eprintln!("{}", kiln::error_text(&error));
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
    let mut curving = kiln::compile(&curvature()?, &options)?.session_with(&on_one_thread)?;

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
    let expected = expected_errors(&mut curving, &offsets(&TRUE), &batches)?;
    writeln!(
        out,
        "      start    found     true   errors in deviations: start   found  expected   loss if moved by 10 %"
    )?;
    let mut errors = [0.0; 3];
    for i in 0..PARAMETERS {
        let w = INITIAL[i] + f64::from(found[i]);
        let error = |w: f64| (w - TRUE[i]) / DEVIATION[i];
        let row = [error(INITIAL[i]), error(w), expected[i] / DEVIATION[i]];
        for (sum, error) in errors.iter_mut().zip(row) {
            *sum += error * error;
        }
        let mut moved = |factor: f64| {
            let mut w = TRUE;
            w[i] *= factor;
            measured(&mut measuring, &offsets(&w), &batches)
        };
        let cost = (moved(0.9)? + moved(1.1)?) / 2.0 - best;
        writeln!(
            out,
            "w{i:<2} {:>8.4} {w:>8.4} {:>8.4} {:>28.2} {:>7.2} {:>9.2} {:>20.6}",
            INITIAL[i], TRUE[i], row[0], row[1], row[2], cost
        )?;
    }
    let [start, end, expected] = errors.map(|sum| (sum / PARAMETERS as f64).sqrt());
    writeln!(
        out,
        "\nerror in deviations, root mean square: {start:.3} at the start, {end:.3} found, {expected:.3} expected"
    )?;
    writeln!(
        out,
        "log loss: {before:.5} at the start, {after:.5} found, {best:.5} of the true parameters"
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

/// The standard errors of the parameters: roots of the diagonal of the inverse of the loss's second derivatives at `offsets`, those of the
/// prior included.
fn expected_errors(
    session: &mut Session,
    offsets: &[f32],
    batches: &[Batch],
) -> Result<[f64; PARAMETERS], Box<dyn Error>> {
    session.set_state(OFFSETS, offsets)?;
    let mut curvature = [[0.0; PARAMETERS]; PARAMETERS];
    for (i, row) in curvature.iter_mut().enumerate() {
        let mut direction = [0.0_f32; PARAMETERS];
        direction[i] = 1.0;
        let direction = Column::new("direction", [PARAMETERS], direction.to_vec())?;
        for batch in batches {
            let feeds = batch.columns.iter().chain([&direction]);
            let feeds: Vec<(&str, &Column)> = feeds.map(|column| (column.name(), column)).collect();
            let outputs = session.step_named(&feeds)?;
            for (sum, x) in row.iter_mut().zip(outputs.as_slice::<f32>("product")?) {
                *sum += f64::from(*x);
            }
        }
        row[i] += 2.0 / (DEVIATION[i] * DEVIATION[i]);
    }
    let inverse = inverse(curvature);
    Ok(from_fn(|i| inverse[i][i].max(0.0).sqrt()))
}

/// The inverse of a positive definite matrix, by Gauss and Jordan.
fn inverse<const N: usize>(mut a: [[f64; N]; N]) -> [[f64; N]; N] {
    let mut b: [[f64; N]; N] = from_fn(|i| from_fn(|j| f64::from(u8::from(i == j))));
    for pivot in 0..N {
        let scale = a[pivot][pivot].recip();
        for rows in [&mut a, &mut b] {
            rows[pivot].iter_mut().for_each(|x| *x *= scale);
        }
        for row in (0..N).filter(|row| *row != pivot) {
            let factor = a[row][pivot];
            for rows in [&mut a, &mut b] {
                let from = rows[pivot];
                for (x, y) in rows[row].iter_mut().zip(from) {
                    *x -= factor * y;
                }
            }
        }
    }
    b
}
