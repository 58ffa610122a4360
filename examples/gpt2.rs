//! Trains GPT-2, 124 million parameters, on a text: from drawn weights, or on from weights in a safetensors file. Then it goes on with the
//! beginning of the text, a compiled step a token, which keeps the keys and values of the tokens before.
//!
//! The loop is one of its own, on the level below the trainer: it reads weights under the names of another program, and shows every step.
//!
//! Without a tokenizer the tokens are the bytes of the text. GPT-2's own weights need its own tokens: build with `--features tokenizers` and
//! give the `tokenizer.json` that comes with them. Names are those of the files that Hugging Face distributes (`wte.weight`, `h.0.ln_1.bias`,
//! ...), for reading and writing.
//!
//! ```text
//! cargo run --release --example gpt2 -- --steps 10
//! cargo run --release --features tokenizers --example gpt2 -- --text book.txt --weights model.safetensors --tokenizer tokenizer.json
//! ```

use clap::Parser;
use kiln::interop::{can_replace, safetensors};
use kiln::ir::Role;
use kiln::ir::program::Resident;
use kiln::nn::{AdamW, ClipByGlobalNorm};
use kiln::train::data::text::{Bytes, Tokenizer, Windows};
use kiln::train::graphs::{Task, continuation};
use kiln::train::sample::{Sampler, Sampling};
use kiln::train::{Writer, hand_over, weights};
use kiln::{
    Column, DType, Dim, Options, Session, SessionOptions, SparseCrossEntropy, TensorType, epoch,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[path = "models/gpt.rs"]
mod gpt;

use gpt::Gpt;

/// What is learned from, unless a file is given.
const TEXT: &str = include_str!("../ARCHITECTURE.md");

/// GPT-2 small: Radford et al. (2019), table 2.
const MODEL: Gpt = Gpt {
    vocabulary: 50_257,
    context: 1024,
    layers: 12,
    heads: 12,
    width: 768,
    bias: true,
};

/// Trains GPT-2, 124 million parameters, on a text.
#[derive(Parser)]
struct Arguments {
    /// What is learned from; Kiln's ARCHITECTURE.md unless given.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Weights to go on from, a safetensors file; they are drawn unless given.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The `tokenizer.json` that belongs to the weights; bytes are the tokens unless given.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Where the weights are written at the end.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Steps of training.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Windows in a batch.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens in a window, at most 1024.
    #[arg(long, default_value_t = 64)]
    length: usize,
    /// Tokens that are written at the end.
    #[arg(long, default_value_t = 32)]
    sample: usize,
    /// What logits are divided by before a token is drawn; 0 takes the likeliest.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// The learning rate of AdamW.
    #[arg(long, default_value_t = 3e-4)]
    rate: f64,
    /// What weights and windows are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads that share a step; as many as there are cores, if not given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
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
    if arguments.weights.is_some() && arguments.tokenizer.is_none() {
        return Err("weights belong to a tokenizer; give its file with --tokenizer".into());
    }
    if !arguments.rate.is_finite() || arguments.rate <= 0.0 {
        return Err(format!("a rate of {} is no rate of learning", arguments.rate).into());
    }
    if !(1..=MODEL.context as usize).contains(&arguments.length) {
        let message = format!("windows have 1 to {} tokens", MODEL.context);
        return Err(format!("{message}, not {}", arguments.length).into());
    }
    if let Some(path) = &arguments.save {
        can_replace(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let sampling = Sampling {
        temperature: arguments.temperature,
        ..Sampling::default()
    };
    let sampler = Sampler::new(sampling, arguments.seed)?;
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    let text = match &arguments.text {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None => TEXT.to_owned(),
    };
    let tokenizer = tokenizer(arguments)?;
    let tokens = tokenizer.encode(&text)?;
    if let Some(token) = tokens.iter().find(|t| i64::from(**t) >= MODEL.vocabulary) {
        return Err(format!("the tokenizer gives {token}, which GPT-2 has no token for").into());
    }
    writeln!(out, "{} tokens", tokens.len())?;
    let prompt = tokens[..tokens.len().min(arguments.length)].to_vec();
    let column = Column::new("tokens", [tokens.len()], tokens)?;

    let windows = TensorType::new(DType::U32, (Dim::symbol("b"), Dim::symbol("t")));
    let task = Task {
        model: &MODEL,
        input: &windows,
        target: &windows,
        loss: &SparseCrossEntropy,
        metrics: &[],
    };
    let optimizer = ClipByGlobalNorm::new(1.0, AdamW::new(arguments.rate).weight_decay(0.1));
    let start = Instant::now();
    let training = kiln::compile(&task.training(&optimizer)?, &Options::from_env()?)?;
    let compiled = 1e3 * start.elapsed().as_secs_f64();
    let options = SessionOptions {
        threads: arguments.threads,
        ..SessionOptions::new(arguments.seed)
    };
    let mut session = training.session_with(&options)?;
    if let Some(path) = &arguments.weights {
        let file = safetensors::open(path)?;
        let prefixed = file.get("transformer.wte.weight").is_some();
        let prefix = if prefixed { "transformer." } else { "" };
        let named = |resident: &Resident| Some(format!("{prefix}{}", stored(resident)?));
        weights::load(&mut session, &file, named)?;
    }
    writeln!(out, "compiled in {compiled:.0} ms")?;

    let per_step = arguments.batch * arguments.length;
    for step in 0..arguments.steps as u64 {
        let windows = Windows::new(&column, arguments.length, arguments.batch)?;
        let mut one = windows.random(arguments.seed.wrapping_add(step), 1)?;
        let start = Instant::now();
        let means = epoch(&mut session, &mut one, 0, |_| {})?;
        let rate = per_step as f64 / start.elapsed().as_secs_f64();
        writeln!(out, "step {}  {means}  {rate:.0} tokens/s", step + 1)?;
    }
    if let Some(path) = &arguments.save {
        weights::save(&session, path, stored)?;
        writeln!(out, "weights written to {}", path.display())?;
    }
    if arguments.sample > 0 {
        let writer = writer(&session, &options)?;
        let written = write(writer, sampler, arguments.sample, &*tokenizer, &prompt)?;
        writeln!(out, "\n{}|{}", tokenizer.decode(&prompt)?, written.0)?;
        writeln!(out, "{:.1} tokens/s written", written.1)?;
    }
    Ok(())
}

/// The step that writes, with what was learned.
fn writer(learner: &Session, options: &SessionOptions) -> Result<Writer, Box<dyn Error>> {
    let context = MODEL.context as usize;
    let executable = kiln::compile(&continuation(&MODEL, context)?, &Options::from_env()?)?;
    let mut writer = Writer::new(executable.session_with(options)?, context);
    hand_over(learner, writer.session_mut())?;
    Ok(writer)
}

/// Goes on behind a prompt by `count` tokens; the text, and the tokens written in a second.
fn write(
    mut writer: Writer,
    mut sampler: Sampler,
    count: usize,
    tokenizer: &dyn Tokenizer,
    prompt: &[u32],
) -> Result<(String, f64), Box<dyn Error>> {
    for token in prompt.iter().rev().skip(1).rev() {
        writer.read(*token)?;
    }
    let mut token = *prompt.last().ok_or("an empty text is no prompt")?;
    let mut written = Vec::new();
    let start = Instant::now();
    for _ in 0..count {
        // Of the rows that the model has, the tokenizer may know fewer.
        let logits = writer.read(token)?;
        let known = tokenizer.vocabulary().min(logits.len());
        token = sampler.draw(&logits[..known])? as u32;
        written.push(token);
    }
    let rate = written.len() as f64 / start.elapsed().as_secs_f64();
    Ok((tokenizer.decode(&written)?, rate))
}

#[cfg(feature = "tokenizers")]
fn tokenizer(arguments: &Arguments) -> Result<Box<dyn Tokenizer>, Box<dyn Error>> {
    Ok(match &arguments.tokenizer {
        Some(path) => Box::new(kiln::train::data::text::HuggingFace::load(path)?),
        None => Box::new(Bytes),
    })
}

#[cfg(not(feature = "tokenizers"))]
fn tokenizer(arguments: &Arguments) -> Result<Box<dyn Tokenizer>, Box<dyn Error>> {
    match &arguments.tokenizer {
        Some(_) => Err("--tokenizer needs a build with --features tokenizers".into()),
        None => Ok(Box::new(Bytes)),
    }
}

/// The name that a weight has in a file of GPT-2; `None` for what is no weight.
fn stored(resident: &Resident) -> Option<String> {
    if !matches!(resident.role, Role::Param(_)) {
        return None;
    }
    let (layer, name) = resident.name.rsplit_once('/')?;
    let kind = match name {
        "w" | "gain" => "weight",
        _ => "bias",
    };
    let place = match layer {
        "tokens" => "wte".to_owned(),
        "positions" => "wpe".to_owned(),
        "norm" => "ln_f".to_owned(),
        _ => {
            let (block, inner) = layer.strip_prefix("block_")?.split_once('/')?;
            let inner = match inner {
                "attention_norm" => "ln_1",
                "attention/qkv" => "attn.c_attn",
                "attention/out" => "attn.c_proj",
                "feed_forward_norm" => "ln_2",
                "feed_forward/up" => "mlp.c_fc",
                _ => "mlp.c_proj",
            };
            format!("h.{block}.{inner}")
        }
    };
    Some(format!("{place}.{kind}"))
}
