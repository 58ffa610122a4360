//! The `kiln` command: looks at graphs, checks them, runs them.
//!
//! A command is a file in `commands/` with its arguments and one function that writes to the output it is given. Graphs come from files in
//! one place, `source`. The exit code is 0 where all is good, 1 where a file is wrong or two differ, and 2 where
//! the command line is.

mod commands;
mod failure;
mod listed;
mod source;

use clap::{CommandFactory, Parser};
use failure::Failure;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

/// Looks at Kiln's graphs, checks them, runs them.
#[derive(Parser)]
#[command(name = "kiln", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all is good, 1 a file is wrong or two files differ, 2 the command line is wrong.";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = cli.command.run(Cli::command(), &mut out);
    // What was written before a failure is worth reading too.
    let flushed = out.flush().map_err(Failure::from);
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the pipe has read enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => Cli::command()
            .error(clap::error::ErrorKind::ArgumentConflict, message)
            .exit(),
        Err(Failure::Differ) => ExitCode::FAILURE,
        Err(failure @ (Failure::Wrong(_) | Failure::Output(_))) => {
            // Where standard error is closed, the exit code has to do.
            let _ = writeln!(io::stderr().lock(), "{}", kiln_ir::error_text(&failure));
            ExitCode::FAILURE
        }
    }
}
