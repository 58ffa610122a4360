//! Learns to tell clothes apart: the full Fashion-MNIST, 60,000 pictures to learn from and 10,000 to be measured on.
//!
//! The files are not part of this repository; Debian's package `dataset-fashion-mnist` installs them where this program looks.
//!
//! ```text
//! apt-get install dataset-fashion-mnist
//! cargo run --release --example fashion_mnist -- [FOLDER]
//! cargo run --release --example fashion_mnist -- --model cnn
//! cargo run --release --example fashion_mnist -- --model resnet20
//! ```

#[path = "models/resnet.rs"]
mod resnet;

use clap::{Parser, ValueEnum};
use kiln::train::data::{FASHION_MNIST_DIR, fashion_mnist};
use kiln::train::graphs::Task;
use kiln::train::hand_over;
use kiln::train::progress::Progress;
use kiln::{
    Accuracy, Adam, DType, Dataset, Dim, Feed, Loader, Optimizer, Options, Sequential,
    SessionOptions, Sgd, SparseCrossEntropy, TensorType, epoch,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Mean and deviation of all pixels to learn from, on a scale from 0 to 1.
const MEAN: f32 = 0.286;
const DEVIATION: f32 = 0.353;
/// How many examples are measured at a time.
const MEASURED_BATCH: usize = 1000;

/// Learns to tell clothes apart on Fashion-MNIST.
#[derive(Parser)]
struct Arguments {
    /// The folder with the four IDX files, plain or compressed.
    #[arg(default_value = FASHION_MNIST_DIR)]
    folder: PathBuf,
    /// What learns.
    #[arg(long, value_enum, default_value_t = Model::Mlp)]
    model: Model,
    /// How often all examples are seen; 5 times unless given, and 10 times by `resnet20`.
    #[arg(long)]
    epochs: Option<u64>,
    /// Examples in a batch; 128 unless given, and 64 for `cnn`.
    #[arg(long)]
    batch: Option<usize>,
    /// The learning rate in the first epoch, if not the one that suits the model; it falls along half a cosine.
    #[arg(long)]
    rate: Option<f32>,
    /// What the order, the weights and the dropout are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step, one for each core unless given; the result does not depend on them.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// 784-512-512-10, Adam.
    Mlp,
    /// Keras' simple convnet: two convolutions with pools, dropout, and a dense layer, Adam.
    Cnn,
    /// The residual network of 20 layers, SGD with momentum.
    Resnet20,
}

/// How a model is trained, unless the command line says otherwise.
struct Recipe {
    model: Sequential,
    optimizer: fn(f64) -> Box<dyn Optimizer>,
    /// The state with the learning rate.
    rate_name: &'static str,
    rate: f32,
    batch: usize,
    epochs: u64,
}

impl Model {
    fn recipe(self) -> Recipe {
        let adam = |model, rate, batch| Recipe {
            model,
            optimizer: |rate| Box::new(Adam::new(rate)),
            rate_name: "adam/learning_rate",
            rate,
            batch,
            epochs: 5,
        };
        match self {
            Model::Mlp => {
                let model = Sequential::new([784]);
                let model = model.dense(512).relu().dense(512).relu().dense(10);
                adam(model, 1e-3, 128)
            }
            Model::Cnn => {
                let model = Sequential::new([28, 28, 1])
                    .conv2d(32, 3)
                    .relu()
                    .max_pool2d(2)
                    .conv2d(64, 3)
                    .relu()
                    .max_pool2d(2)
                    .flatten()
                    .dropout(0.5)
                    .dense(10);
                adam(model, 4e-3, 64)
            }
            Model::Resnet20 => Recipe {
                model: resnet::resnet20([28, 28, 1], 10),
                optimizer: |rate| Box::new(Sgd::new(rate).momentum(0.9)),
                rate_name: "sgd/learning_rate",
                rate: 0.1,
                batch: 128,
                epochs: 10,
            },
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
    let (train, test) = fashion_mnist(&arguments.folder)?;
    let recipe = arguments.model.recipe();
    let model = recipe.model;
    let input = model.input_type(DType::F32);
    // The batch is the only symbol of the shape.
    let example = input.shape[1..].iter().filter_map(Dim::constant);
    let example: Vec<usize> = example.map(usize::try_from).collect::<Result<_, _>>()?;
    let fit = |data: Dataset| {
        data.reshape("x", &example)?
            .map_f32("x", |pixel| (pixel / 255.0 - MEAN) / DEVIATION)
    };
    let (train, test) = (fit(train)?, fit(test)?);

    let task = Task {
        model: &model,
        input: &input,
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[&Accuracy],
    };
    let options = Options::from_env()?;
    let session = SessionOptions {
        threads: arguments.threads,
        ..SessionOptions::new(arguments.seed)
    };
    let rate = arguments.rate.unwrap_or(recipe.rate);
    let batch = arguments.batch.unwrap_or(recipe.batch);
    let epochs = arguments.epochs.unwrap_or(recipe.epochs);
    let training = task.training(&*(recipe.optimizer)(rate.into()))?;
    let mut learner = kiln::compile(&training, &options)?.session_with(&session)?;
    let mut judge = kiln::compile(&task.evaluation()?, &options)?.session_with(&session)?;
    writeln!(out, "{}", model.summary()?)?;

    let mut loader = Loader::new(&train, batch)?.shuffled(arguments.seed);
    let mut measured = Loader::new(&test, MEASURED_BATCH)?;
    for number in 0..epochs {
        let label = format!("epoch {}/{}", number + 1, epochs);
        // The rate is a state of the optimizer: it changes between steps, and nothing is compiled again.
        let rate = rate * half_cosine(number, epochs);
        learner.set_state(recipe.rate_name, Feed::scalar(&rate))?;
        let progress = Progress::new(&label, loader.batches() as u64);
        let start = Instant::now();
        let trained = epoch(&mut learner, &mut loader, number, |means| {
            progress.step(means);
        })?;
        let time = start.elapsed();
        progress.finish();
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

/// From 1 in the first of `epochs` epochs towards 0: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (ICLR
/// 2017), equation 5, without restarts.
fn half_cosine(epoch: u64, epochs: u64) -> f32 {
    let progress = epoch as f32 / epochs as f32;
    0.5 * (1.0 + (std::f32::consts::PI * progress).cos())
}
