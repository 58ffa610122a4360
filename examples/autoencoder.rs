//! Squeezes handwritten digits of 64 pixels through a few numbers and draws them again: a model whose target is its input.
//!
//! ```text
//! cargo run --release --example autoencoder -- --plot autoencoder.png
//! ```

#[path = "models/pictures.rs"]
mod pictures;

use clap::Parser;
use kiln::train::data::digits;
use kiln::{Adam, Column, Dataset, Fit, MeanSquaredError, Options, Sequential, Trainer};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

const DIGITS: &str = include_str!("data/digits.csv");
const SIDE: usize = 8;
/// How many digits are drawn.
const DRAWN: usize = 16;

/// Squeezes handwritten digits through a few numbers.
#[derive(Parser)]
struct Arguments {
    /// The numbers that a digit is squeezed through.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..))]
    code: i64,
    /// How often all examples are seen.
    #[arg(long, default_value_t = 100)]
    epochs: u64,
    /// What the held-out part, the order and the weights are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where the picture goes: digits that were not learned from, and below each what came out, as PNG.
    #[arg(long, default_value = "autoencoder.png")]
    plot: PathBuf,
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
    pictures::can_write(&arguments.plot)?;
    // Ink is counted from 0 to 16.
    let ink = digits("digits.csv", DIGITS)?.map_f32("x", |ink| ink / 16.0)?;
    let x: Vec<f32> = ink.column("x")?.values()?.to_vec();
    let shape = [ink.len(), SIDE * SIDE];
    let data = Dataset::new([
        Column::new("x", shape, x.clone())?,
        Column::new("y", shape, x)?,
    ])?;
    let (train, test) = data.split(0.2, arguments.seed)?;

    let model = Sequential::new([(SIDE * SIDE) as i64])
        .dense(64)
        .relu()
        .dense(arguments.code)
        .named("code")
        .dense(64)
        .relu()
        .dense((SIDE * SIDE) as i64);
    let mut trainer = Trainer::new(model)
        .loss(MeanSquaredError)
        .optimizer(Adam::new(2e-3))
        .terminate_on_nan()
        .options(Options::from_env()?)
        .threads(NonZeroUsize::MIN)
        .seed(arguments.seed)
        .compile()?;
    write!(out, "{}", trainer.summary(&train, 64)?)?;
    trainer.fit(&train, Fit::epochs(arguments.epochs).batch(64).quiet())?;

    // What one would get from the mean digit.
    let test_x: &[f32] = test.column("x")?.values()?;
    let mean = mean_digit(train.column("x")?.values()?);
    let squares = test_x
        .iter()
        .zip(mean.iter().cycle())
        .map(|(x, m)| (x - m) * (x - m));
    let variance = f64::from(squares.sum::<f32>()) / test_x.len() as f64;
    let error = trainer.evaluate(&test, test.len())?;
    let error = error.get("loss").unwrap_or(f64::NAN);
    writeln!(
        out,
        "{} numbers a digit: mean squared error {error:.5}, the mean digit's {variance:.5}, explained {:.3}",
        arguments.code,
        1.0 - error / variance
    )?;

    let drawn = test.take(DRAWN)?;
    let again = trainer.predict(&drawn, DRAWN)?;
    let mut pixels: Vec<f32> = drawn.column("x")?.values()?.to_vec();
    let count = drawn.len();
    pixels.extend_from_slice(again.column("y")?.values()?);
    pictures::write_grid(&pixels, SIDE, count, &arguments.plot)?;
    writeln!(out, "picture in {}", arguments.plot.display())?;
    Ok(())
}

fn mean_digit(pixels: &[f32]) -> Vec<f32> {
    let count = (pixels.len() / (SIDE * SIDE)) as f32;
    let mut mean = vec![0.0; SIDE * SIDE];
    for digit in pixels.chunks_exact(SIDE * SIDE) {
        for (sum, pixel) in mean.iter_mut().zip(digit) {
            *sum += pixel / count;
        }
    }
    mean
}
