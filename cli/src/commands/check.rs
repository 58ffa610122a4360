//! `kiln check`: reads and verifies graphs, and says in a line what each one is.

use crate::failure::Failure;
use crate::source;
use kiln_ir::{Graph, Role};
use std::io::Write;
use std::path::PathBuf;

/// Reads and verifies graphs; every mistake is reported with its place.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln check model.kir
  kiln check dumps/*.kir && echo all are good
  kiln check model.onnx --dims height=32*h,width=32*w")]
pub(crate) struct Arguments {
    /// The graphs: `.kir` (text), `.json`, `.kiln` (binary) or `.onnx`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reading: source::Reading,
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for path in &arguments.files {
        match source::graph(path, &arguments.reading) {
            Ok(graph) => writeln!(out, "{}: {}", path.display(), summary(&graph))?,
            Err(Failure::Wrong(message)) => wrong.push(message),
            Err(failure) => return Err(failure),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Wrong(wrong.join("\n"))),
    }
}

/// A graph in one line: `graph @linear, 9 nodes, 2 inputs, 1 param, 0 states, 1 output, 1 update`.
fn summary(graph: &Graph) -> String {
    let slots = |wanted: fn(&Role) -> bool| {
        let slots = graph.slots().iter();
        slots.filter(|slot| wanted(&slot.role)).count()
    };
    let counts = [
        (graph.len(), "node"),
        (slots(|role| matches!(role, Role::Input)), "input"),
        (slots(|role| matches!(role, Role::Param(_))), "param"),
        (slots(|role| matches!(role, Role::State(_))), "state"),
        (graph.outputs().len(), "output"),
        (graph.updates().len(), "update"),
    ];
    let counts = counts.map(|(count, what)| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    });
    format!("graph @{}, {}", graph.name, counts.join(", "))
}
