//! The subcommands, one a file.

mod check;
mod completions;
mod diff;
mod dims;
mod export;
mod man;
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
            Command::Export(arguments) => export::run(arguments, out),
            Command::Completions(arguments) => completions::run(arguments, cli, out),
            Command::Man(arguments) => man::run(arguments, cli, out),
        }
    }
}

/// How many things a message lists before it counts the rest.
const LISTED: usize = 20;

/// Things as a message lists them: `a`, `b` and 3 more; "none" where there are none.
fn listed(things: impl Iterator<Item = String>) -> String {
    let things: Vec<String> = things.collect();
    let shown = things[..things.len().min(LISTED)].join(", ");
    match things.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        Some(0) | None if things.is_empty() => "none".to_owned(),
        Some(0) | None => shown,
    }
}
