//! Learns to tell clothes apart: the full Fashion-MNIST, 60,000 pictures to learn from and 10,000 to be measured on.
//!
//! The files are not part of this repository; Debian's package `dataset-fashion-mnist` installs them where this program looks.
//!
//! ```text
//! apt-get install dataset-fashion-mnist
//! cargo run --release --example fashion_mnist -- [FOLDER]
//! ```

use clap::Parser;
use kiln::train::data::{FASHION_MNIST_DIR, fashion_mnist};
use kiln::train::graphs::Task;
use kiln::train::hand_over;
use kiln::train::progress::Progress;
use kiln::{
    Accuracy, Adam, DType, Dataset, Dim, Feed, Loader, Options, Sequential, SessionOptions,
    SparseCrossEntropy, TensorType, epoch,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// How many examples are measured at a time.
const MEASURED_BATCH: usize = 1000;

/// Learns to tell clothes apart on Fashion-MNIST.
#[derive(Parser)]
struct Arguments {
    /// The folder with the four IDX files, plain or compressed.
    #[arg(default_value = FASHION_MNIST_DIR)]
    folder: PathBuf,
    /// How often all examples are seen.
    #[arg(long, default_value_t = 5)]
    epochs: u64,
    /// Examples in a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Adam's learning rate in the first epoch.
    #[arg(long, default_value_t = 1e-3)]
    rate: f32,
    /// What the learning rate is multiplied with after each epoch.
    #[arg(long, default_value_t = 0.6)]
    decay: f32,
    /// What the order and the weights are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step, one for each core unless given; the result does not depend on them.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
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
    let (train, test) = fashion_mnist(&arguments.folder)?;
    let flat = |data: Dataset| {
        data.reshape("x", &[784])?
            .map_f32("x", |pixel| pixel / 255.0)
    };
    let (train, test) = (flat(train)?, flat(test)?);

    let model = Sequential::new([784])
        .dense(512)
        .relu()
        .dense(512)
        .relu()
        .dense(10);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[&Accuracy],
    };
    let options = Options::from_env()?;
    let session = SessionOptions {
        threads: arguments.threads,
        ..SessionOptions::new(arguments.seed)
    };
    let training = task.training(&Adam::new(arguments.rate.into()))?;
    let mut learner = kiln::compile(&training, &options)?.session_with(&session)?;
    let mut judge = kiln::compile(&task.evaluation()?, &options)?.session_with(&session)?;
    writeln!(out, "{}", model.summary()?)?;

    let mut loader = Loader::new(&train, arguments.batch)?.shuffled(arguments.seed);
    let mut measured = Loader::new(&test, MEASURED_BATCH)?;
    let mut rate = arguments.rate;
    for number in 0..arguments.epochs {
        let label = format!("epoch {}/{}", number + 1, arguments.epochs);
        // The rate is a state of the optimizer: it changes between steps, and nothing is compiled again.
        learner.set_state("adam/learning_rate", Feed::scalar(&rate))?;
        let progress = Progress::new(&label, loader.batches() as u64);
        let start = Instant::now();
        let trained = epoch(&mut learner, &mut loader, number, |means| {
            progress.step(means);
        })?;
        let time = start.elapsed();
        progress.finish();
        rate *= arguments.decay;
        hand_over(&learner, &mut judge)?;
        let tested = epoch(&mut judge, &mut measured, 0, |_| {})?;
        writeln!(
            out,
            "{label}  {:.2} s  training: {trained}  test: {tested}",
            time.as_secs_f64()
        )?;
    }
    Ok(())
}
