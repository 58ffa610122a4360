//! Learns to write a text, a character at a time: an LSTM, or a small GPT.
//!
//! Without a file it reads Kiln's own sources, which are embedded. The last tenth of the text is held out. Prints the loss on it in nats and
//! in bits per character, beside what counting single characters and triples of them reaches, and a sample, written with one compiled step a
//! character: the LSTM keeps its state between steps, the GPT the keys and values of a window, which begins anew with its last half when it
//! is full.
//!
//! ```text
//! cargo run --release --example char_lm
//! cargo run --release --example char_lm -- --model gpt --text shakespeare.txt
//! ```

use clap::{Parser, ValueEnum};
use kiln::nn::AdamW;
use kiln::train::data::text::{Characters, Counts, Tokenizer, Windows, bits};
use kiln::train::graphs::{Task, continuation};
use kiln::train::progress::Progress;
use kiln::train::sample::{Sampler, Sampling};
use kiln::train::{Writer, hand_over};
use kiln::{
    Adam, Column, DType, Dim, Feed, Layer, Optimizer, Options, SessionOptions, SparseCrossEntropy,
    TensorType, epoch,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[path = "models/char_lstm.rs"]
mod char_lstm;
#[path = "models/gpt.rs"]
mod gpt;

use char_lstm::CharLstm;
use gpt::Gpt;

/// Kiln's own sources.
const SOURCES: &str = concat!(
    include_str!("../ARCHITECTURE.md"),
    include_str!("../ir/src/builder.rs"),
    include_str!("../ir/src/builder/tensor.rs"),
    include_str!("../ir/src/builder/control.rs"),
    include_str!("../ir/src/verify.rs"),
    include_str!("../ir/src/autodiff.rs"),
    include_str!("../ir/src/dim.rs"),
    include_str!("../ir/src/ops/control/adjoint.rs"),
    include_str!("../ir/src/ops/control/scan.rs"),
    include_str!("../ir/src/text/parse/body.rs"),
    include_str!("../ir/src/text/print.rs"),
    include_str!("../compiler/src/fusion/mod.rs"),
    include_str!("../compiler/src/plan/order.rs"),
    include_str!("../compiler/src/kernel/mod.rs"),
    include_str!("../compiler/src/emit/nest.rs"),
    include_str!("../nn/src/layers/recurrent/mod.rs"),
    include_str!("../nn/src/layers/recurrent/sequence.rs"),
    include_str!("../nn/src/layers/recurrent/cells.rs"),
    include_str!("../nn/src/layer.rs"),
    include_str!("../train/src/epoch.rs"),
);

/// The characters of a window.
const TIME: usize = 64;

/// How often the held-out text is measured.
const PARTS: usize = 10;

/// The share of the text that is held out.
const HELD_OUT: f64 = 0.1;

/// Learns to write a text, a character at a time.
#[derive(Parser)]
struct Arguments {
    /// What is learned from; Kiln's sources unless given.
    #[arg(long)]
    text: Option<PathBuf>,
    /// The model.
    #[arg(long, value_enum, default_value_t = Model::Lstm)]
    model: Model,
    /// Steps of training.
    #[arg(long, default_value_t = 1500)]
    steps: usize,
    /// Windows in a batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Characters that are written at the end.
    #[arg(long, default_value_t = 400)]
    sample: usize,
    /// What characters are divided by before one is drawn; 0 takes the likeliest.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// What weights, windows and characters are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step; as many as there are cores, if not given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Model {
    /// An LSTM of 256 units on 128 features.
    Lstm,
    /// 4 layers, 4 heads, 128 wide.
    Gpt,
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
    let text = match &arguments.text {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None => SOURCES.to_owned(),
    };
    let tokenizer = Characters::of(&text);
    let vocabulary = tokenizer.vocabulary();
    let tokens = tokenizer.encode(&text)?;
    let (train, held_out) = Column::new("tokens", [tokens.len()], tokens)?.split_end(HELD_OUT)?;
    writeln!(
        out,
        "{} characters, {vocabulary} different ones, the last {} held out",
        train.examples() + held_out.examples(),
        held_out.examples()
    )?;
    let (learned, unseen) = (train.values::<u32>()?, held_out.values::<u32>()?);
    for (name, order) in [("unigram", 1), ("trigram", 3)] {
        let nats = Counts::of(learned, vocabulary, order)?.nats(unseen)?;
        writeln!(out, "{name}: {}", shown(nats))?;
    }

    let lstm = CharLstm {
        vocabulary: vocabulary as i64,
        features: 128,
        units: 256,
    };
    let gpt = Gpt {
        vocabulary: vocabulary as i64,
        context: TIME as i64,
        layers: 4,
        heads: 4,
        width: 128,
        bias: false,
    };
    let (model, optimizer, rate_name, rate): (&dyn Layer, Box<dyn Optimizer>, _, f32) =
        match arguments.model {
            Model::Lstm => {
                let adam = Box::new(Adam::new(4e-3));
                (&lstm, adam, "adam/learning_rate", 4e-3)
            }
            Model::Gpt => {
                let adam = Box::new(AdamW::new(2e-3).weight_decay(0.1));
                (&gpt, adam, "adamw/learning_rate", 2e-3)
            }
        };
    let windows = TensorType::new(DType::U32, (Dim::symbol("b"), TIME));
    let task = Task {
        model,
        input: &windows,
        target: &windows,
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let options = Options::from_env()?;
    let threads = SessionOptions {
        threads: arguments.threads,
        ..SessionOptions::new(arguments.seed)
    };
    let start = Instant::now();
    let training = kiln::compile(&task.training(&*optimizer)?, &options)?;
    let compiled = 1e3 * start.elapsed().as_secs_f64();
    writeln!(out, "compiled in {compiled:.0} ms")?;
    let mut learner = training.session_with(&threads)?;
    let mut judge = kiln::compile(&task.evaluation()?, &options)?.session_with(&threads)?;

    let part = arguments.steps.div_ceil(PARTS).max(1);
    let mut random = Windows::new(&train, TIME, arguments.batch)?.random(arguments.seed, part)?;
    let mut in_order = Windows::new(&held_out, TIME, arguments.batch)?;
    for number in 0..PARTS as u64 {
        // Along half a cosine; the rate is a state of the optimizer.
        let share = number as f32 / PARTS as f32;
        let rate = rate * 0.5 * (1.0 + (std::f32::consts::PI * share).cos());
        learner.set_state(rate_name, Feed::scalar(&rate))?;
        let label = format!("part {}/{PARTS}", number + 1);
        let progress = Progress::new(&label, part as u64);
        let start = Instant::now();
        let trained = epoch(&mut learner, &mut random, number, |means| {
            progress.step(means)
        })?;
        let time = start.elapsed().as_secs_f64();
        progress.finish();
        hand_over(&learner, &mut judge)?;
        let judged = epoch(&mut judge, &mut in_order, 0, |_| {})?;
        let loss = judged
            .get("loss")
            .ok_or("the held-out text is shorter than a window")?;
        writeln!(
            out,
            "{label}  {time:.1} s  training: {trained}  held out: {}",
            shown(loss)
        )?;
    }

    let sampling = Sampling {
        temperature: arguments.temperature,
        ..Sampling::default()
    };
    let sampler = Sampler::new(sampling, arguments.seed)?;
    let prompt = &unseen[..TIME];
    let (written, time) = match arguments.model {
        Model::Lstm => {
            let mut session = kiln::compile(&lstm.writing()?, &options)?.session_with(&threads)?;
            hand_over(&learner, &mut session)?;
            let read = |token: u32| {
                let token = Column::new("x", [1, 1], vec![token])?;
                Ok(session.step(&[token])?.get("logits")?.to_vec::<f32>()?)
            };
            write(read, sampler, prompt, arguments.sample)?
        }
        Model::Gpt => {
            let session = kiln::compile(&continuation(&gpt, TIME)?, &options)?;
            let mut writer = Writer::new(session.session_with(&threads)?, TIME);
            hand_over(&learner, writer.session_mut())?;
            let read = |token| Ok(writer.read(token)?.to_vec());
            write(read, sampler, prompt, arguments.sample)?
        }
    };
    writeln!(
        out,
        "\n{}|{}",
        tokenizer.decode(prompt)?,
        tokenizer.decode(&written)?
    )?;
    writeln!(out, "{:.0} characters/s written", 1.0 / time)?;
    Ok(())
}

fn shown(nats: f64) -> String {
    format!("{nats:.3} nats, {:.3} bits per character", bits(nats))
}

/// Goes on behind a prompt, a step a character; also the seconds that each step took. `read` takes a character and gives the logits of the
/// next one.
fn write(
    mut read: impl FnMut(u32) -> Result<Vec<f32>, Box<dyn Error>>,
    mut sampler: Sampler,
    prompt: &[u32],
    count: usize,
) -> Result<(Vec<u32>, f64), Box<dyn Error>> {
    let start = Instant::now();
    let mut written = Vec::with_capacity(count);
    let mut logits = Vec::new();
    for token in prompt {
        logits = read(*token)?;
    }
    while written.len() < count {
        let drawn = sampler.draw(&logits)? as u32;
        written.push(drawn);
        logits = read(drawn)?;
    }
    let steps = prompt.len() + written.len();
    Ok((written, start.elapsed().as_secs_f64() / steps as f64))
}
