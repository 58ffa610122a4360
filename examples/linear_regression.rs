//! Fits a line to noisy points: the smallest model that there is, through every layer of Kiln.
//!
//! 100 points of y = 2x + 1 + N(0, 0.1) on [-1, 1], one dense unit, mean squared error, stochastic gradient descent. Prints the weight
//! and bias that were found and the error of the predictions, and draws points, fit and loss as an SVG.
//!
//! ```text
//! cargo run --release --example linear_regression -- --plot linear_regression.svg
//! ```

use clap::Parser;
use kiln::ir::philox::Stream;
use kiln::train::plot::{Figure, Panel, can_write};
use kiln::{Column, Dataset, Fit, MeanSquaredError, Sequential, Sgd, Trainer};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const WEIGHT: f64 = 2.0;
const BIAS: f64 = 1.0;
const NOISE: f64 = 0.1;
const POINTS: usize = 100;

/// Fits a line to noisy points of y = 2x + 1.
#[derive(Parser)]
struct Arguments {
    /// How often all points are seen.
    #[arg(long, default_value_t = 1000)]
    epochs: u64,
    /// Points in a batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// The learning rate.
    #[arg(long, default_value_t = 0.05)]
    rate: f64,
    /// What noise, order and initial weight are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where the picture goes.
    #[arg(long, default_value = "linear_regression.svg")]
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
    can_write(&arguments.plot)?;
    let points = noisy_line(arguments.seed);
    let (xs, ys): (Vec<f32>, Vec<f32>) = points.iter().copied().unzip();

    let x = Column::new("x", [POINTS, 1], xs)?;
    let y = Column::new("y", [POINTS, 1], ys)?;
    let data = Dataset::new([x, y])?;
    let mut trainer = Trainer::new(Sequential::new([1]).dense(1).named("line"))
        .loss(MeanSquaredError)
        .optimizer(Sgd::new(arguments.rate))
        // A step touches a hundred numbers: a second thread would only be waited for.
        .threads(NonZeroUsize::MIN)
        .seed(arguments.seed)
        .compile()?;
    let start = Instant::now();
    let fit = Fit::epochs(arguments.epochs).batch(arguments.batch).quiet();
    let history = trainer.fit(&data, fit)?;
    let time = start.elapsed();

    let losses = history.get("loss");
    if let Some(epoch) = losses.iter().position(|loss| !loss.is_finite()) {
        let (loss, rate) = (losses[epoch], arguments.rate);
        let epoch = epoch + 1;
        return Err(
            format!("the loss is {loss} in epoch {epoch}: --rate {rate} is too large").into(),
        );
    }
    let weight = trainer.state("line/w")?.scalar()?;
    let bias = trainer.state("line/b")?.scalar()?;
    let error = trainer.evaluate(&data, POINTS)?;
    let error = error.get("loss").unwrap_or(f64::NAN).sqrt();

    let steps = arguments.epochs * POINTS.div_ceil(arguments.batch) as u64;
    writeln!(
        out,
        "weight {weight:.4} (true {WEIGHT}), bias {bias:.4} (true {BIAS})"
    )?;
    writeln!(
        out,
        "root mean squared error of the predictions {error:.4} (noise {NOISE})"
    )?;
    let milliseconds = 1e3 * time.as_secs_f64();
    writeln!(
        out,
        "{} epochs, {steps} steps in {milliseconds:.1} ms with the compilation",
        arguments.epochs
    )?;

    let dots: Vec<(f64, f64)> = points
        .iter()
        .map(|(x, y)| ((*x).into(), (*y).into()))
        .collect();
    let fit = [-1.0, 1.0].map(|x| (x, weight * x + bias));
    let mut panels = vec![
        Panel::new(format!("y = {weight:.3} x + {bias:.3}"))
            .points("points", dots)
            .line("fit", fit),
    ];
    if !losses.is_empty() {
        let curve = Panel::new("Loss of each epoch").axes("epoch", "mean squared error");
        panels.push(curve.log_y().curve("training", losses));
    }
    Figure::new(panels).write(&arguments.plot)?;
    writeln!(out, "picture in {}", arguments.plot.display())?;
    Ok(())
}

/// Points evenly spaced over [-1, 1], with normal noise on y.
fn noisy_line(seed: u64) -> Vec<(f32, f32)> {
    let noise = Stream::new(seed, "noise", 0);
    let point = |i: u64| {
        let x = -1.0 + 2.0 * i as f64 / (POINTS - 1) as f64;
        let y = WEIGHT * x + BIAS + NOISE * noise.normal(i);
        (x as f32, y as f32)
    };
    (0..POINTS as u64).map(point).collect()
}
