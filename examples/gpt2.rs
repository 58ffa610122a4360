//! Trains GPT-2, 124 million parameters, on a text: from drawn weights, or on from weights in a safetensors file.
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
use kiln::interop::safetensors;
use kiln::ir::Role;
use kiln::ir::program::Resident;
use kiln::nn::{AdamW, ClipByGlobalNorm};
use kiln::train::data::text::{Bytes, Tokenizer, Windows};
use kiln::train::graphs::Task;
use kiln::train::weights;
use kiln::{Column, DType, Dim, Options, SessionOptions, SparseCrossEntropy, TensorType, epoch};
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
            eprintln!("error: {error}");
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
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    let text = match &arguments.text {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None => TEXT.to_owned(),
    };
    let tokens = tokenizer(arguments)?.encode(&text)?;
    if let Some(token) = tokens.iter().find(|t| i64::from(**t) >= MODEL.vocabulary) {
        return Err(format!("the tokenizer gives {token}, which GPT-2 has no token for").into());
    }
    writeln!(out, "{} tokens", tokens.len())?;
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
    Ok(())
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
