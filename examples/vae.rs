//! Draws digits that nobody wrote: a variational autoencoder, trained in a loop of its own on the level below the trainer.
//!
//! Kingma and Welling, "Auto-Encoding Variational Bayes" (2014): an encoder gives mean and logarithm of the variance of a code, a decoder draws
//! a digit from a code, and what is minimised is the cross-entropy of the pixels (equation 8) plus the divergence of the code from a
//! standard normal (appendix B). The encoder is left out of the graph that draws; its decoder gets the params by name.
//!
//! ```text
//! cargo run --release --example vae -- --plot vae.png
//! ```

#[path = "models/pictures.rs"]
mod pictures;

use clap::Parser;
use kiln::ir::philox::Stream;
use kiln::nn::{Dense, random_bits};
use kiln::train::data::digits;
use kiln::train::hand_over;
use kiln::{
    Adam, Builder, Context, DType, Diagnostics, Feed, Graph, Loader, Optimizer, Options,
    SessionOptions, Tensor,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

const DIGITS: &str = include_str!("data/digits.csv");
const SIDE: usize = 8;
const PIXELS: i64 = (SIDE * SIDE) as i64;
const HIDDEN: i64 = 128;
const CODE: i64 = 8;
const BATCH: usize = 64;
/// How many digits are drawn, and how many of them in a row.
const DRAWN: usize = 64;
const COLUMNS: usize = 16;

/// Draws digits that nobody wrote.
#[derive(Parser)]
struct Arguments {
    /// How often all examples are seen.
    #[arg(long, default_value_t = 200)]
    epochs: u64,
    /// What order, weights, noise and the digits that are drawn hang on.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where the picture goes, as PNG.
    #[arg(long, default_value = "vae.png")]
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

/// Mean and logarithm of the variance of the code of each digit.
fn encode<'g>(cx: &Context<'g>, x: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
    let hidden = cx.layer("encoder", &Dense::new(HIDDEN), x).tanh();
    let mean = cx.layer("mean", &Dense::new(CODE), hidden);
    (mean, cx.layer("log_variance", &Dense::new(CODE), hidden))
}

/// The logits of the pixels of each code's digit.
fn decode<'g>(cx: &Context<'g>, code: Tensor<'g>) -> Tensor<'g> {
    let hidden = cx.layer("decoder", &Dense::new(HIDDEN), code).tanh();
    cx.layer("pixels", &Dense::new(PIXELS), hidden)
}

/// Standard normal noise by Box and Muller (1958), new in each step.
fn noise<'g>(g: &'g Builder, like: Tensor<'g>) -> Tensor<'g> {
    let Some(ty) = like.ty() else { return like };
    let _scope = g.scope("noise");
    let even = || random_bits(g, &ty.shape).unit_f32();
    let radius = ((1.0 - even()).log() * -2.0).sqrt();
    radius * (even() * std::f64::consts::TAU).cos()
}

/// A step that learns.
fn training() -> Result<Graph, Diagnostics> {
    let g = Builder::new("vae");
    let cx = Context::training(&g);
    let x = g.input("x", DType::F32, (g.dim("b"), PIXELS));
    let (mean, log_variance) = encode(&cx, x);
    let code = mean + (log_variance * 0.5).exp() * noise(&g, mean);
    let logits = decode(&cx, code);
    // -x log p - (1 - x) log(1 - p) of p = 1 / (1 + exp(-z)), without a logarithm of 0.
    let pixels = logits.maximum(0.0) - logits * x + (-logits.abs()).exp().log1p();
    let pixels = pixels.mean() * PIXELS as f64;
    let divergence = (mean.square() + log_variance.exp() - log_variance - 1.0) * 0.5;
    let divergence = divergence.mean() * CODE as f64;
    let loss = pixels + divergence;
    g.output("loss", loss);
    g.output("divergence", divergence);
    Adam::new(2e-3).minimize(loss);
    g.finish()
}

/// A step that draws.
fn drawing() -> Result<Graph, Diagnostics> {
    let g = Builder::new("decoder");
    let code = g.input("code", DType::F32, (g.dim("b"), CODE));
    let pixels = decode(&Context::inference(&g), code);
    g.output("pixels", 1.0 / ((-pixels).exp() + 1.0));
    g.finish()
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    pictures::can_write(&arguments.plot)?;
    // Ink is counted from 0 to 16.
    let data = digits("digits.csv", DIGITS)?.map_f32("x", |ink| ink / 16.0)?;
    let options = Options::from_env()?;
    let session = SessionOptions {
        threads: Some(NonZeroUsize::MIN),
        ..SessionOptions::new(arguments.seed)
    };
    let mut learner = kiln::compile(&training()?, &options)?.session_with(&session)?;
    let mut loader = Loader::new(&data, BATCH)?.shuffled(arguments.seed);
    loader.pick(&["x"])?;
    for epoch in 0..arguments.epochs {
        loader.start_epoch(epoch);
        let (mut loss, mut divergence) = (0.0, 0.0);
        while let Some(batch) = loader.next_batch() {
            let outputs = learner.step(batch.columns())?;
            let share = batch.len() as f64 / data.len() as f64;
            loss += share * outputs.scalar("loss")?;
            divergence += share * outputs.scalar("divergence")?;
        }
        if epoch % 20 == 0 || epoch + 1 == arguments.epochs {
            writeln!(
                out,
                "epoch {:>3}  loss {loss:.3}, of it divergence {divergence:.3}",
                epoch + 1
            )?;
        }
    }

    let mut artist = kiln::compile(&drawing()?, &options)?.session_with(&session)?;
    hand_over(&learner, &mut artist)?;
    let stream = Stream::new(arguments.seed, "codes", 0);
    let codes: Vec<f32> = (0..DRAWN as u64 * CODE as u64)
        .map(|i| stream.normal(i) as f32)
        .collect();
    let shape = [DRAWN, CODE as usize];
    let outputs = artist.step(&[Feed::new(&codes, &shape)])?;
    pictures::write_grid(outputs.as_slice("pixels")?, SIDE, COLUMNS, &arguments.plot)?;
    writeln!(out, "picture in {}", arguments.plot.display())?;
    Ok(())
}
