//! The subcommands, one a file.

mod check;
mod completions;
mod diff;
mod dims;
mod export;
mod man;
mod onnx_test;
mod opt;
mod run;
mod show;

use crate::failure::Failure;
use std::io::Write;

/// What `kiln` is asked to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Check(check::Arguments),
    Show(show::Arguments),
    Opt(opt::Arguments),
    Run(run::Arguments),
    Diff(diff::Arguments),
    OnnxTest(onnx_test::Arguments),
    Export(export::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Does it. What it has to say goes to `out`; `cli` is the whole command line, for what speaks about it.
    pub(crate) fn run(&self, cli: clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Command::Check(arguments) => check::run(arguments, out),
            Command::Show(arguments) => show::run(arguments, out),
            Command::Opt(arguments) => opt::run(arguments, out),
            Command::Run(arguments) => run::run(arguments, out),
            Command::Diff(arguments) => diff::run(arguments, out),
            Command::OnnxTest(arguments) => onnx_test::run(arguments, out),
            Command::Export(arguments) => export::run(arguments, out),
            Command::Completions(arguments) => completions::run(arguments, cli, out),
            Command::Man(arguments) => man::run(arguments, cli, out),
        }
    }
}
