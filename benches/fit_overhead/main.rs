//! What `fit` adds to the bare step: shuffling, gathering a batch, adding up losses, callbacks.
//!
//! ```text
//! cargo bench --bench fit_overhead
//! mlp threads=1 bare_us=2400.0 fit_us=2430.0 added_us=30.0 added=1.3%
//! ```
//!
//! Both run the same graph on the same data. The bare step is fed batches that were gathered before, in turn; `fit` shuffles and gathers
//! them itself. Rounds of both alternate, and the best of each counts. It is to add at most 3 % or 1 us.
//!
//! The last lines are the times in which 60,000 shuffled pictures of 28 x 28 f32 are given in batches of 128: by a loader, by a pipeline that
//! mirrors and moves them, and by one that turns them as well, each on one thread.

use kiln::ir::philox::Stream;
use kiln::train::TrainerBuilder;
use kiln::train::data::{Augment, Batches, Pipeline};
use kiln::train::graphs::Task;
use kiln::{
    Adam, Column, DType, Dataset, Dim, Fit, Loader, MeanSquaredError, Options, Sequential, Session,
    SessionOptions, Sgd, SparseCrossEntropy, TensorType, Trainer,
};
use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 5;
/// How long a round lasts about, in seconds.
const ROUND: f64 = 0.4;

fn main() -> ExitCode {
    let run = || -> Result<(), Box<dyn Error>> {
        linreg()?.measure()?;
        mlp()?.measure()?;
        cnn()?.measure()?;
        loaders()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", kiln::error_text(&error));
            ExitCode::FAILURE
        }
    }
}

struct Case {
    name: &'static str,
    batch: usize,
    data: Dataset,
    trainer: Trainer,
    session: Session,
}

impl Case {
    fn measure(mut self) -> Result<(), Box<dyn Error>> {
        let mut loader = Loader::new(&self.data, self.batch)?;
        let mut batches = Vec::new();
        while let Some(batch) = loader.next_batch() {
            batches.push(batch.columns().to_vec());
        }
        let start = Instant::now();
        self.bare(&batches, 1)?;
        self.fit(1)?;
        let once = start.elapsed().as_secs_f64() / 2.0;
        let epochs = (ROUND / once).max(1.0) as u64;
        let (mut bare, mut fit) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..ROUNDS {
            bare = bare.min(self.bare(&batches, epochs)?);
            fit = fit.min(self.fit(epochs)?);
        }
        let steps = epochs as f64 * batches.len() as f64;
        let (bare, fit) = (1e6 * bare / steps, 1e6 * fit / steps);
        println!(
            "{} threads=1 bare_us={bare:.3} fit_us={fit:.3} added_us={:.3} added={:.1}%",
            self.name,
            fit - bare,
            100.0 * (fit / bare - 1.0)
        );
        Ok(())
    }

    fn bare(&mut self, batches: &[Vec<Column>], epochs: u64) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let mut sum = 0.0;
        for _ in 0..epochs {
            for batch in batches {
                sum += self.session.step(batch)?.scalar(0)?;
            }
        }
        finite(sum)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn fit(&mut self, epochs: u64) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let fit = Fit::epochs(epochs).batch(self.batch).quiet();
        let history = self.trainer.fit(&self.data, fit)?;
        finite(history.last("loss").unwrap_or(f64::NAN))?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn finite(loss: f64) -> Result<(), Box<dyn Error>> {
    if loss.is_finite() {
        Ok(())
    } else {
        Err("the loss is not finite: what is timed is not training".into())
    }
}

fn linreg() -> Result<Case, Box<dyn Error>> {
    let x = normal(64 * 32);
    let y: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
    let model = || Sequential::new([1]).dense(1);
    let task = Task {
        model: &model(),
        input: &model().input_type(DType::F32),
        target: &TensorType::new(DType::F32, (Dim::symbol("b"), 1)),
        loss: &MeanSquaredError,
        metrics: &[],
    };
    Ok(Case {
        name: "linreg",
        batch: 32,
        data: Dataset::new([
            Column::new("x", [x.len(), 1], x)?,
            Column::new("y", [y.len(), 1], y)?,
        ])?,
        session: session(&task.training(&Sgd::new(0.01))?)?,
        trainer: trainer(
            Trainer::new(model())
                .loss(MeanSquaredError)
                .optimizer(Sgd::new(0.01)),
        )?,
    })
}

fn mlp() -> Result<Case, Box<dyn Error>> {
    let model = || {
        Sequential::new([784])
            .dense(512)
            .relu()
            .dense(512)
            .relu()
            .dense(10)
    };
    classifier("mlp", &[784], 32, &model)
}

fn cnn() -> Result<Case, Box<dyn Error>> {
    let model = || {
        let model = Sequential::new([28, 28, 1])
            .conv2d(32, 3)
            .relu()
            .max_pool2d(2);
        let model = model.conv2d(64, 3).relu().max_pool2d(2);
        model.flatten().dropout(0.5).dense(10)
    };
    classifier("cnn", &[28, 28, 1], 8, &model)
}

fn classifier(
    name: &'static str,
    example: &[usize],
    batches: usize,
    model: &dyn Fn() -> Sequential,
) -> Result<Case, Box<dyn Error>> {
    let count = 128 * batches;
    let shape: Vec<usize> = [&[count], example].concat();
    let labels: Vec<u8> = (0..count).map(|i| (i * 7 % 10) as u8).collect();
    let task = Task {
        model: &model(),
        input: &model().input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let builder = Trainer::new(model()).loss(SparseCrossEntropy);
    Ok(Case {
        name,
        batch: 128,
        data: Dataset::new([
            Column::new("x", shape, normal(count * 784))?,
            Column::new("y", [count], labels)?,
        ])?,
        session: session(&task.training(&Adam::new(1e-3))?)?,
        trainer: trainer(builder.optimizer(Adam::new(1e-3)))?,
    })
}

fn session(graph: &kiln::Graph) -> Result<Session, Box<dyn Error>> {
    let options = SessionOptions {
        threads: NonZeroUsize::new(1),
        ..SessionOptions::new(42)
    };
    Ok(kiln::compile(graph, &Options::default())?.session_with(&options)?)
}

fn trainer(builder: TrainerBuilder) -> Result<Trainer, Box<dyn Error>> {
    Ok(builder.seed(42).threads(NonZeroUsize::MIN).compile()?)
}

fn loaders() -> Result<(), Box<dyn Error>> {
    let data = Arc::new(Dataset::new([
        Column::new("x", [60_000, 28, 28], vec![0.5f32; 60_000 * 784])?,
        Column::new("y", [60_000], vec![0u8; 60_000])?,
    ])?);
    let pipeline = || Pipeline::new(Arc::clone(&data), 128).map(|all| all.shuffled(1));
    let moved = || Augment::images("x").flip().shift(2);
    given("loader", &mut Loader::new(&data, 128)?.shuffled(1));
    given("flip_shift", &mut pipeline()?.with(moved())?);
    given(
        "flip_shift_rotate",
        &mut pipeline()?.with(moved().rotate(10.0))?,
    );
    Ok(())
}

fn given(name: &str, batches: &mut dyn Batches) {
    let mut best = f64::INFINITY;
    for epoch in 0..3 {
        let start = Instant::now();
        batches.start_epoch(epoch);
        while batches.next_batch().is_some() {}
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name} examples=60000 seconds={best:.3}");
}

fn normal(count: usize) -> Vec<f32> {
    let stream = Stream::new(1, "x", 0);
    (0..count as u64).map(|i| stream.normal(i) as f32).collect()
}
