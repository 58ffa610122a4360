//! Learns to tell clothes apart: the full Fashion-MNIST, 60,000 pictures to learn from and 10,000 to be measured on.
//!
//! The files are not part of this repository; Debian's package `dataset-fashion-mnist` installs them where this program looks.
//!
//! ```text
//! apt-get install dataset-fashion-mnist
//! cargo run --release --example fashion_mnist -- [FOLDER]
//! cargo run --release --example fashion_mnist -- --model cnn
//! cargo run --release --example fashion_mnist -- --model resnet20 --augment
//! cargo run --release --example fashion_mnist -- --model cnn --runs runs/cnn --resume
//! ```

#[path = "models/resnet.rs"]
mod resnet;

use clap::{Parser, ValueEnum};
use kiln::nn::metrics::ConfusionMatrix;
use kiln::nn::schedules::Cosine;
use kiln::train::callbacks::{Checkpoint, CsvLog, TensorBoard};
use kiln::train::data::{Augment, FASHION_MNIST_DIR, Pipeline, fashion_mnist};
use kiln::train::plot::Confusion;
use kiln::{
    Accuracy, Adam, DType, Dataset, Dim, Fit, Optimizer, Options, Sequential, Sgd,
    SparseCrossEntropy, Trainer,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mean and deviation of all pixels to learn from, on a scale from 0 to 1.
const MEAN: f32 = 0.286;
const DEVIATION: f32 = 0.353;
/// How many examples are measured at a time.
const MEASURED_BATCH: usize = 1000;
/// How many batches are prepared ahead of the step.
const PREFETCHED: usize = 4;
const CLASSES: [&str; 10] = [
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
];

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
    /// The learning rate in the first step, if not the one that suits the model; it falls along half a cosine.
    #[arg(long)]
    rate: Option<f64>,
    /// What the order, the weights and the dropout are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step, one for each core unless given; the result does not depend on them.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Where checkpoints, logs and pictures go; nowhere unless given.
    #[arg(long)]
    runs: Option<PathBuf>,
    /// Goes on from the latest checkpoint in `--runs`, if there is one: that of the last epoch, or that of Ctrl-C.
    #[arg(long, requires = "runs")]
    resume: bool,
    /// Mirrors and moves the pictures to learn from, each a little different in each epoch.
    #[arg(long)]
    augment: bool,
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
    /// By the rate in the first step and the number of steps, along which it falls as half a cosine.
    optimizer: fn(f64, u64) -> Box<dyn Optimizer>,
    rate: f64,
    batch: usize,
    epochs: u64,
}

impl Model {
    fn recipe(self) -> Recipe {
        let adam = |model, rate, batch| Recipe {
            model,
            optimizer: |rate, steps| Box::new(Adam::new(rate).schedule(Cosine::over(steps))),
            rate,
            batch,
            epochs: 5,
        };
        match self {
            Model::Mlp => {
                let model = Sequential::new([28, 28]);
                let model = model
                    .flatten()
                    .dense(512)
                    .relu()
                    .dense(512)
                    .relu()
                    .dense(10);
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
                optimizer: |rate, steps| {
                    Box::new(Sgd::new(rate).momentum(0.9).schedule(Cosine::over(steps)))
                },
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
            eprintln!("{}", kiln::error_text(&error));
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

    let rate = arguments.rate.unwrap_or(recipe.rate);
    let batch = arguments.batch.unwrap_or(recipe.batch);
    let epochs = arguments.epochs.unwrap_or(recipe.epochs);
    let steps = epochs.saturating_mul(train.len().div_ceil(batch.max(1)) as u64);
    let mut trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy)
        .metric(ConfusionMatrix)
        .optimizer((recipe.optimizer)(rate, steps.max(1)))
        .options(Options::from_env()?)
        .seed(arguments.seed);
    if let Some(threads) = arguments.threads {
        trainer = trainer.threads(threads);
    }
    let mut trainer = trainer.compile()?;
    write!(out, "{}", trainer.summary(&train, batch)?)?;

    let mut fit = Fit::until(epochs).validate(&test);
    if let Some(runs) = &arguments.runs {
        if arguments.resume
            && let Some(checkpoint) = Checkpoint::latest(runs)?
        {
            trainer.load(&checkpoint)?;
            writeln!(out, "goes on from {}", checkpoint.display())?;
        }
        fit = fit
            .callback(Checkpoint::every_epoch(runs).keep(2))
            .callback(CsvLog::new(runs.join("history.csv")))
            .callback(TensorBoard::new(runs))
            .save_on_ctrl_c(Checkpoint::interrupted(runs));
    }
    let mut pipeline = Pipeline::new(train, batch)?.shuffled(arguments.seed);
    if arguments.augment {
        pipeline = pipeline.with(Augment::images("x").flip().shift(2))?;
    }
    let history = trainer.fit(&mut pipeline.prefetch(PREFETCHED), fit)?;
    for epoch in history.epochs() {
        let (number, seconds) = (epoch.number, epoch.seconds);
        writeln!(
            out,
            "epoch {number}/{epochs}  {seconds:.2} s  {}",
            epoch.logs
        )?;
    }
    if let Some(why) = history.stopped() {
        writeln!(out, "stopped: {why}")?;
    }
    if let (Some(runs), false) = (&arguments.runs, history.epochs().is_empty()) {
        history.plot(runs.join("curves.svg"))?;
        trainer.evaluate(&test, MEASURED_BATCH)?;
        let cells = trainer.statistics("confusion_matrix").unwrap_or_default();
        let picture = Confusion::new(ConfusionMatrix::rows(cells), CLASSES);
        picture.write(runs.join("confusion.svg"))?;
        writeln!(out, "pictures in {}", runs.display())?;
    }
    Ok(())
}
