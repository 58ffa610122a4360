//! `kiln completions`: the script by which a shell completes commands, options, stages and passes.

use crate::failure::Failure;
use clap_complete::Shell;
use std::io::Write;

/// Prints the script by which a shell completes what is typed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln completions bash > ~/.local/share/bash-completion/completions/kiln
  kiln completions zsh > ~/.zfunc/_kiln
  kiln completions fish > ~/.config/fish/completions/kiln.fish")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(
    arguments: &Arguments,
    mut command: clap::Command,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // `generate` panics where it cannot write, and a closed pipe is no reason to.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "kiln", &mut script);
    Ok(out.write_all(&script)?)
}
