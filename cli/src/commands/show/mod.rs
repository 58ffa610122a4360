//! `kiln show`: a graph, as it was written or as it is at a stage of its compilation.

mod drawing;
mod html;

use super::dims;
use crate::failure::Failure;
use crate::source;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use html::Page;
use kiln_compiler::driver::{Context, optimize, traced};
use kiln_compiler::{CompileError, Options, Stage, stage_text};
use kiln_ir::{Bindings, Dim, Graph, TextOptions};
use std::io::Write;
use std::path::PathBuf;

/// Shows a graph, as it is in its file or at a stage of its compilation.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln show model.kir --stage fused
  kiln show model.json --stage asm --no-fuse | less
  kiln show model.kir --format dot | dot -Tsvg > model.svg
  kiln show model.kir --format json > model.json
  kiln show model.kir --format html --dims b=32 > model.html
  kiln show model.onnx --dims height=48 --format html > model.html

The memory plan of `--format html` has the sizes of `--dims`; a dim that is not given is 32 there.")]
pub(crate) struct Arguments {
    /// The graph: `.kir` (text), `.json`, `.kiln` (binary) or `.onnx`.
    file: PathBuf,
    /// The stage of the compilation; without it, the graph as it is in the file.
    #[arg(long, value_parser = stages())]
    stage: Option<Stage>,
    /// How it is written. What lies behind the passes is no graph any more and has a text only.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Ends each node's line with the place in the user's program that it comes from.
    #[arg(long, conflicts_with = "stage")]
    locations: bool,
    #[command(flatten)]
    reading: source::Reading,
    /// Makes each op a kernel of its own.
    #[arg(long)]
    no_fuse: bool,
}

/// How a graph is written.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Kiln's text form, which `kiln` reads back.
    Text,
    /// The language of Graphviz.
    Dot,
    /// JSON with everything that the graph holds, which `kiln` reads back.
    Json,
    /// One page with the groups, the memory plan over time, and the kernels with their code.
    Html,
}

/// What a dim is on the page where the user says nothing.
const ASSUMED: i64 = 32;

/// Names of stages, for messages and completions, and the stages that they name.
fn stages() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.map(Stage::name)).try_map(|name| name.parse::<Stage>())
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let source = source::read(&arguments.file, &arguments.reading)?;
    if !source.dims.is_empty() && !matches!(arguments.format, Format::Html) {
        let message =
            "`--dims` is for the memory plan of `--format html`, and for extents of ONNX models";
        return Err(Failure::Usage(message.to_owned()));
    }
    let read = source.graph;
    let options = Options {
        fuse: !arguments.no_fuse,
        ..Options::default()
    };
    let refused = |error: CompileError| Failure::at(arguments.file.display(), error);
    let text = match (arguments.format, arguments.stage) {
        (Format::Text, None) => read.to_text(TextOptions {
            locations: arguments.locations,
        }),
        (Format::Text, Some(stage)) => stage_text(&read, stage, &options).map_err(refused)?,
        (Format::Dot, stage) => graph_at(read, stage, &options)
            .map_err(refused)?
            .ok_or_else(|| no_graph(stage))?
            .to_dot(),
        (Format::Json, stage) => graph_at(read, stage, &options)
            .map_err(refused)?
            .ok_or_else(|| no_graph(stage))?
            .to_json()
            .map_err(|error| Failure::at(arguments.file.display(), error))?,
        (Format::Html, Some(_)) => {
            let message = "the page has all stages; leave out `--stage`";
            return Err(Failure::Usage(message.to_owned()));
        }
        (Format::Html, None) => {
            let bindings = sizes(&read, &source.dims)?;
            let page = Page::new(&read, source.weights.as_ref(), &options, &bindings);
            let page = page.map_err(refused)?;
            return Ok(page.write(out)?);
        }
    };
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        writeln!(out)?;
    }
    Ok(())
}

/// A size for each symbol: the given ones, and [`ASSUMED`].
fn sizes(graph: &Graph, given: &[(String, Dim)]) -> Result<Bindings, Failure> {
    let mut bindings = Bindings::new();
    for symbol in dims::symbols(graph) {
        bindings.insert(symbol, ASSUMED);
    }
    for (symbol, size) in dims::known(graph, given)? {
        bindings.insert(symbol, size);
    }
    Ok(bindings)
}

/// The graph at a stage, if the stage is one of graphs.
fn graph_at(
    read: Graph,
    stage: Option<Stage>,
    options: &Options,
) -> Result<Option<Graph>, CompileError> {
    Ok(match stage {
        None | Some(Stage::Differentiated) => Some(read),
        Some(Stage::Traced) => Some(traced(&read)),
        Some(Stage::Optimized) => Some(optimize(&read, &mut Context::new(options))?.graph),
        Some(Stage::Fused | Stage::Kernels | Stage::Program | Stage::Clif | Stage::Asm) => None,
    })
}

fn no_graph(stage: Option<Stage>) -> Failure {
    let stage = stage.map_or("", Stage::name);
    Failure::Usage(format!(
        "at the stage {stage} there is no graph any more, so that it has only `--format text`; the stages traced, differentiated and \
         optimized have all formats"
    ))
}
