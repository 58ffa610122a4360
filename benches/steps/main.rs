//! Times whole training steps, fed, forward, backward, update, loss read, and single ops beside loops written by hand.
//!
//! ```text
//! cargo bench --bench steps -- mlp --threads 1
//! mlp threads=1 step_us=2400.0 mfu=0.76 compile_ms=12.1 arena_mb=3.2 state_mb=8.0 launches=12 kernels=9
//! ```
//!
//! One line a run for the models `linreg`, `mlp`, `cnn`, `resnet`, `lstm`, `lstm512`, `gpt` and `gpt2`, and nothing else on standard output; `training.rs` says what the line means.
//!
//! - `--peers PYTHON` lets the peers' script time the same step in other frameworks, and prints its lines behind ours.
//! - `--memory` prints what the step needs of memory, and times nothing.
//!
//! `fsrs` prints a line of its own, whose figure is the time for each review; `workloads/fsrs.rs` says what it means.
//!
//! The micro workloads `add`, `axpby`, `exp`, `gelu`, `softmax`, `layernorm`, `bias_grad` and `adam` print a line for each level of the
//! memory hierarchy, behind a line with the bandwidth of the machine and the share of it that the loop `add` reaches:
//!
//! ```text
//! cargo bench --bench steps -- add
//! triad gbps=33.0 add_loop=0.98
//! add level=dram gbps=31.0 ratio=0.97
//! ```
//!
//! `gbps` counts what is read and what is written, `ratio` is the time of the loop divided by Kiln's; `micro/mod.rs` says what is fair.
//!
//! `conv` prints a line for each of six convolutions, beside the FMA peak of the machine; `micro/convolution.rs` says what it means.
//!
//! A model is a file in `workloads/`, a micro workload one in `micro/`; adding one takes a variant here and nothing else.

mod micro;
mod peers;
mod training;
mod workloads;

use clap::{Parser, ValueEnum};
use kiln::{Bindings, Options};
use micro::Micro;
use peers::Peers;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use workloads::Workload;

/// Times whole training steps, and single ops beside loops written by hand.
#[derive(Parser)]
struct Arguments {
    /// What is timed.
    workload: Name,
    /// Threads that share a step; micro workloads run on one.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Prints to standard error what the launches of a step take, beside the machine's limits.
    #[arg(long)]
    profile: bool,
    /// Prints what a step needs of memory instead of timing it.
    #[arg(long, conflicts_with_all = ["profile", "peers"])]
    memory: bool,
    /// A Python with torch, jax and optax, or tensorflow: times the same step there too.
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// The script that times the peers; beside the checkout, if not given.
    #[arg(long, value_name = "FILE", requires = "peers")]
    peers_script: Option<PathBuf>,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    /// Dense(1), batch 32, SGD, mean squared error.
    Linreg,
    /// 784-512-512-10, ReLU, batch 128, Adam.
    Mlp,
    /// Two convolutions with pools, dropout, dense(10) on 28x28x1, batch 128, Adam.
    Cnn,
    /// ResNet-20 on 32x32x3, batch 32, SGD with momentum.
    Resnet,
    /// Embedding 128, LSTM 256, dense 65 on 32 sequences of 64, Adam.
    Lstm,
    /// The same on sequences of 512.
    Lstm512,
    /// GPT of 4 layers and 128 features on 12 sequences of 64, AdamW.
    Gpt,
    /// GPT-2 124M on 4 sequences of 64, AdamW.
    Gpt2,
    /// FSRS-6 with 21 parameters on review histories, Adam; prints the time for each review.
    Fsrs,
    /// Micro: `x + y`.
    Add,
    /// Micro: `0.9 x + 0.1 y`.
    Axpby,
    /// Micro: the exponential function.
    Exp,
    /// Micro: the exact gelu.
    Gelu,
    /// Micro: rows of 1024.
    Softmax,
    /// Micro: rows of 768, forward, backward by the rows alone, and backward.
    Layernorm,
    /// Micro: the sum of the rows, of 768 columns.
    BiasGrad,
    /// Micro: the update of 60 tensors, 10 million parameters in DRAM.
    Adam,
    /// Convolutions alone, forward and both ways back, beside the FMA peak.
    Conv,
    /// Causal attention alone, forward and back, all scores at once and in blocks, at lengths from 64 to 2048.
    Attention,
}

/// What a name stands for.
enum Kind {
    Training(Workload),
    Fsrs,
    Micro(&'static [Micro]),
    Convolutions,
    Attention,
}

impl Name {
    fn kind(self) -> Result<Kind, Box<dyn Error>> {
        Ok(match self {
            Name::Linreg => Kind::Training(workloads::linreg::workload()?),
            Name::Mlp => Kind::Training(workloads::mlp::workload()?),
            Name::Cnn => Kind::Training(workloads::cnn::workload()?),
            Name::Resnet => Kind::Training(workloads::resnet::workload()?),
            Name::Lstm => Kind::Training(workloads::lstm::workload("lstm", 64)?),
            Name::Lstm512 => Kind::Training(workloads::lstm::workload("lstm512", 512)?),
            Name::Gpt => Kind::Training(workloads::gpt::small()?),
            Name::Gpt2 => Kind::Training(workloads::gpt::large()?),
            Name::Fsrs => Kind::Fsrs,
            Name::Add => Kind::Micro(micro::ADD),
            Name::Axpby => Kind::Micro(micro::AXPBY),
            Name::Exp => Kind::Micro(micro::EXP),
            Name::Gelu => Kind::Micro(micro::GELU),
            Name::Softmax => Kind::Micro(micro::SOFTMAX),
            Name::Layernorm => Kind::Micro(micro::LAYERNORM),
            Name::BiasGrad => Kind::Micro(micro::BIAS_GRAD),
            Name::Adam => Kind::Micro(micro::ADAM),
            Name::Conv => Kind::Convolutions,
            Name::Attention => Kind::Attention,
        })
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
    let options = Options::from_env()?;
    let threads = arguments.threads;
    match arguments.workload.kind()? {
        Kind::Training(workload) if arguments.memory => {
            let bindings = Bindings::from([("b", i64::try_from(workload.batch)?)]);
            let report = kiln::memory_report(&workload.graph, &options, &bindings, threads)?;
            print!("{report}");
        }
        Kind::Training(workload) => {
            let script = arguments
                .peers_script
                .clone()
                .unwrap_or_else(default_script);
            let peers = arguments.peers.as_ref();
            let peers = peers
                .map(|python| Peers::find(python, &script))
                .transpose()?;
            let line = training::measure(&workload, threads, &options, arguments.profile)?;
            println!("{line}");
            if let Some(peers) = peers {
                peers.run(workload.name, threads, |line| println!("{line}"))?;
            }
        }
        Kind::Fsrs => {
            refuse_options_of_models(arguments)?;
            println!("{}", workloads::fsrs::measure(threads, &options)?);
        }
        Kind::Attention => {
            refuse_options_of_models(arguments)?;
            micro::attention::measure(threads, &options, |line| println!("{line}"))?;
        }
        Kind::Micro(workloads) => {
            one_thread(arguments)?;
            micro::measure(workloads, &options, |line| println!("{line}"))?;
        }
        Kind::Convolutions => {
            one_thread(arguments)?;
            micro::convolution::measure(&options, |line| println!("{line}"))?;
        }
    }
    Ok(())
}

fn refuse_options_of_models(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let given = [
        (arguments.profile, "--profile"),
        (arguments.memory, "--memory"),
        (arguments.peers.is_some(), "--peers"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(format!("{option} is for the other models").into()),
        None => Ok(()),
    }
}

fn one_thread(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.threads != NonZeroUsize::MIN {
        return Err("--threads is for the models; a single op is timed on one thread".into());
    }
    refuse_options_of_models(arguments)
}

/// The script lies beside the checkout.
fn default_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/peers/peers.py")
}
