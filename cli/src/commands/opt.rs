//! `kiln opt`: chosen passes in a chosen order, and the graph that comes out.

use crate::failure::Failure;
use crate::source;
use clap::builder::PossibleValuesParser;
use kiln_compiler::driver::run_pass;
use kiln_compiler::fusion::{Printed, form};
use kiln_compiler::{Options, passes};
use std::io::Write;
use std::path::PathBuf;

/// What forms the groups. It is no pass, since it makes no graph, so that nothing can come behind it.
const FUSE: &str = "fuse";

/// Runs passes on a graph, in the order in which they are named, and prints what comes out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln opt model.kir --pass cse
  kiln opt model.kir --pass legalize,canonicalize,fold,cse,dce,fuse

After the last pass `fuse` forms the groups, the nodes that are computed together, and prints these.
A pass that fails is named, and the graph that it was given is kept for a replay.")]
pub(crate) struct Arguments {
    /// The graph: `.kir` (text), `.json`, `.kiln` (binary) or `.onnx`.
    file: PathBuf,
    /// The passes, separated by commas.
    #[arg(long = "pass", required = true, value_delimiter = ',', value_name = "PASS", value_parser = names())]
    passes: Vec<String>,
    #[command(flatten)]
    reading: source::Reading,
}

/// The names of all passes, and `fuse`.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(passes::names().into_iter().chain([FUSE]))
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let (fuse, passes) = match arguments.passes.split_last() {
        Some((last, before)) if last == FUSE => (true, before),
        Some(_) | None => (false, arguments.passes.as_slice()),
    };
    if passes.iter().any(|name| name == FUSE) {
        let message = "`fuse` makes groups and no graph, so that no pass can come behind it";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut graph = source::graph(&arguments.file, &arguments.reading)?;
    let options = Options::default();
    for name in passes {
        graph = run_pass(name, &graph, &options)
            .map_err(|error| Failure::at(arguments.file.display(), error))?;
    }
    if fuse {
        let groups = form(&graph, true);
        let printed = Printed {
            groups: &groups,
            graph: &graph,
        };
        write!(out, "{printed}")?;
    } else {
        write!(out, "{graph}")?;
    }
    Ok(())
}
