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
use kiln::train::graphs::Task;
use kiln::train::hand_over;
use kiln::train::progress::Progress;
use kiln::{
    Accuracy, Adam, Bindings, DType, Dim, Loader, Options, Sequential, SessionOptions,
    SparseCrossEntropy, Stage, TensorType, epoch,
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
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    let model = arguments.model.layers();
    let input = model.input_type(DType::F32);
    let task = Task {
        model: &model,
        input: &input,
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[&Accuracy],
    };
    let training = task.training(&Adam::new(arguments.rate))?;
    if let Some(stage) = arguments.dump {
        let written = out.write_all(kiln::ir_text(&training, stage)?.as_bytes());
        return match written {
            // `--dump asm | head` is no mistake.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    }

    // The batch is the only symbol of the shape.
    let example = input.shape[1..].iter().filter_map(Dim::constant);
    let example: Vec<usize> = example.map(usize::try_from).collect::<Result<_, _>>()?;
    // Ink is counted from 0 to 16.
    let data = digits("digits.csv", DIGITS)?
        .reshape("x", &example)?
        .map_f32("x", |ink| ink / 16.0)?;
    let (train, test) = data.split_stratified(HELD_OUT, "y", arguments.seed)?;

    let mut loader = Loader::new(&train, arguments.batch)?.shuffled(arguments.seed);

    let options = Options::from_env()?;
    let start = Instant::now();
    let executable = kiln::compile(&training, &options)?;
    let compile_time = start.elapsed();
    let session = SessionOptions {
        threads: Some(arguments.threads),
        ..SessionOptions::new(arguments.seed)
    };
    let mut learner = executable.session_with(&session)?;
    let mut judge = kiln::compile(&task.evaluation()?, &options)?.session_with(&session)?;

    let batch = i64::try_from(arguments.batch.min(train.len()))?;
    let memory =
        executable.memory_with(&Bindings::from([("b", batch)]), arguments.threads.get())?;
    writeln!(out, "{}", model.summary()?)?;
    writeln!(
        out,
        "{} examples to learn from, {} held out",
        train.len(),
        test.len()
    )?;
    writeln!(out, "memory of a training session: {memory}")?;
    writeln!(
        out,
        "compiled in {:.1} ms",
        1e3 * compile_time.as_secs_f64()
    )?;

    let start = Instant::now();
    let progress = Progress::new("training", arguments.epochs * loader.batches() as u64);
    for number in 0..arguments.epochs {
        epoch(&mut learner, &mut loader, number, |means| {
            progress.step(means)
        })?;
    }
    progress.finish();
    let time = start.elapsed();

    hand_over(&learner, &mut judge)?;
    let measured = epoch(&mut judge, &mut Loader::new(&test, test.len())?, 0, |_| {})?;
    writeln!(
        out,
        "trained for {} epochs in {:.2} s",
        arguments.epochs,
        time.as_secs_f64()
    )?;
    writeln!(out, "held out: {measured}")?;
    Ok(())
}
