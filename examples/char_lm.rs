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
use kiln::nn::schedules::Cosine;
use kiln::train::data::text::{Characters, Counts, Tokenizer, Windows, bits};
use kiln::train::graphs::continuation;
use kiln::train::sample::{Sampler, Sampling};
use kiln::train::{Writer, hand_over};
use kiln::{
    Adam, Column, DType, Dim, Fit, Options, SessionOptions, SparseCrossEntropy, TensorType, Trainer,
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
const PARTS: u64 = 10;

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
    steps: u64,
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
            eprintln!("{}", kiln::error_text(&error));
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

    let sampling = Sampling {
        temperature: arguments.temperature,
        ..Sampling::default()
    };
    let sampler = Sampler::new(sampling, arguments.seed)?;

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
    let windows = TensorType::new(DType::U32, (Dim::symbol("b"), TIME));
    let part = arguments.steps.div_ceil(PARTS).max(1);
    let schedule = Cosine::over(part.saturating_mul(PARTS));
    let described = match arguments.model {
        Model::Lstm => Trainer::new((lstm, windows)).optimizer(Adam::new(4e-3).schedule(schedule)),
        Model::Gpt => {
            let adam = AdamW::new(2e-3).weight_decay(0.1).schedule(schedule);
            Trainer::new((gpt, windows)).optimizer(adam)
        }
    };
    let mut described = described
        .loss(SparseCrossEntropy)
        .options(Options::from_env()?)
        .seed(arguments.seed);
    if let Some(threads) = arguments.threads {
        described = described.threads(threads);
    }
    let mut trainer = described.compile()?;
    let random = Windows::new(&train, TIME, arguments.batch)?;
    let mut random = random.random(arguments.seed, usize::try_from(part)?)?;
    let mut in_order = Windows::new(&held_out, TIME, arguments.batch)?;
    let history = trainer.fit(&mut random, Fit::epochs(PARTS).validate(&mut in_order))?;
    for epoch in history.epochs() {
        let loss = |name: &str| shown(epoch.logs.get(name).unwrap_or(f64::NAN));
        writeln!(
            out,
            "part {}/{PARTS}  {:.1} s  training: {}  held out: {}",
            epoch.number,
            epoch.seconds,
            loss("loss"),
            loss("val_loss")
        )?;
    }

    let prompt = &unseen[..TIME];
    let options = Options::from_env()?;
    let threads = SessionOptions {
        threads: arguments.threads,
        ..SessionOptions::new(arguments.seed)
    };
    let (written, time) = match arguments.model {
        Model::Lstm => {
            let mut session = kiln::compile(&lstm.writing()?, &options)?.session_with(&threads)?;
            hand_over(trainer.master()?, &mut session)?;
            let read = |token: u32| {
                let token = Column::new("x", [1, 1], vec![token])?;
                Ok(session.step(&[token])?.get("logits")?.to_vec::<f32>()?)
            };
            write(read, sampler, prompt, arguments.sample)?
        }
        Model::Gpt => {
            let session = kiln::compile(&continuation(&gpt, TIME)?, &options)?;
            let mut writer = Writer::new(session.session_with(&threads)?, TIME);
            hand_over(trainer.master()?, writer.session_mut())?;
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
    let mut written = Vec::new();
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
