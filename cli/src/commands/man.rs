//! `kiln man`: the manual pages, made from what `--help` says.

use crate::failure::Failure;
use clap_mangen::Man;
use std::io::Write;

/// Prints a manual page: that of `kiln`, or of one of its commands.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln man > kiln.1
  kiln man show | man -l -")]
pub(crate) struct Arguments {
    /// The command; without it, the page of `kiln` itself.
    command: Option<String>,
}

pub(crate) fn run(
    arguments: &Arguments,
    mut command: clap::Command,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // Gives every command its full name, `kiln show`.
    command.build();
    let page = match &arguments.command {
        None => Man::new(command),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => Man::new(found.clone()),
            None => {
                let known: Vec<&str> = command.get_subcommands().map(|c| c.get_name()).collect();
                return Err(Failure::Usage(format!(
                    "there is no command `{name}`; the commands are {}",
                    known.join(", ")
                )));
            }
        },
    };
    Ok(page.render(out)?)
}
