//! Learns to read handwritten digits: a model in layers, trained and measured within seconds.
//!
//! The 1,797 digits of 8 x 8 pixels from UCI are part of this program (see `examples/data/README.md`). A fifth of every digit is held out,
//! and the accuracy printed at the end is that on the part the model has never seen.
//!
//! ```text
//! cargo run --release --example digits
//! cargo run --release --example digits -- --model cnn
//! cargo run --release --example digits -- --dump fused
//! ```

use clap::{Parser, ValueEnum};
use kiln::nn::{Conv2d, Padding};
use kiln::train::data::digits;
use kiln::{
    Accuracy, Adam, DType, Dim, Fit, Options, Sequential, SparseCrossEntropy, Stage, Trainer,
};
use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

const DIGITS: &str = include_str!("data/digits.csv");
const HELD_OUT: f64 = 0.2;

/// Learns to read handwritten digits.
#[derive(Parser)]
struct Arguments {
    /// What learns.
    #[arg(long, value_enum, default_value_t = Model::Mlp)]
    model: Model,
    /// How often all examples are seen.
    #[arg(long, default_value_t = 60)]
    epochs: u64,
    /// Examples in a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 3e-3)]
    rate: f64,
    /// What the held-out part, the order, the weights and the dropout are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step; the result does not depend on them.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Print the training graph at this stage of the compiler and stop: traced, differentiated, optimized, fused, kernels, program, clif
    /// or asm.
    #[arg(long, value_name = "STAGE")]
    dump: Option<Stage>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// 64-128-64-10 with dropout.
    Mlp,
    /// Two convolutions with pools, dropout, and a dense layer.
    Cnn,
}

impl Model {
    fn layers(self) -> Sequential {
        let same = |filters| Conv2d::new(filters, 3).padding(Padding::Same);
        match self {
            Model::Mlp => Sequential::new([64])
                .dense(128)
                .relu()
                .dropout(0.2)
                .dense(64)
                .relu()
                .dense(10),
            Model::Cnn => Sequential::new([8, 8, 1])
                .layer(same(32))
                .relu()
                .max_pool2d(2)
                .layer(same(64))
                .relu()
                .max_pool2d(2)
                .flatten()
                .dropout(0.5)
                .dense(10),
        }
    }
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
    let model = arguments.model.layers();
    let input = model.input_type(DType::F32);
    // The batch is the only symbol of the shape.
    let example = input.shape[1..].iter().filter_map(Dim::constant);
    let example: Vec<usize> = example.map(usize::try_from).collect::<Result<_, _>>()?;
    // Ink is counted from 0 to 16.
    let data = digits("digits.csv", DIGITS)?
        .reshape("x", &example)?
        .map_f32("x", |ink| ink / 16.0)?;
    let (train, test) = data.split_stratified(HELD_OUT, "y", arguments.seed)?;

    let mut trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy)
        .optimizer(Adam::new(arguments.rate))
        .options(Options::from_env()?)
        .threads(arguments.threads)
        .seed(arguments.seed)
        .compile()?;
    if let Some(stage) = arguments.dump {
        let text = kiln::ir_text(&trainer.training_graph(&train)?, stage)?;
        return match out.write_all(text.as_bytes()) {
            // `--dump asm | head` is no mistake.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    }
    let start = Instant::now();
    let summary = trainer.summary(&train, arguments.batch)?;
    writeln!(
        out,
        "{summary}compiled in {:.1} ms",
        1e3 * start.elapsed().as_secs_f64()
    )?;
    let (learned, held_out) = (train.len(), test.len());
    writeln!(out, "{learned} examples to learn from, {held_out} held out")?;

    let start = Instant::now();
    let fit = Fit::epochs(arguments.epochs).batch(arguments.batch);
    trainer.fit(&train, fit)?;
    let seconds = start.elapsed().as_secs_f64();
    let measured = trainer.evaluate(&test, held_out)?;
    writeln!(
        out,
        "trained for {} epochs in {seconds:.2} s",
        arguments.epochs
    )?;
    writeln!(out, "held out: {measured}")?;
    Ok(())
}
