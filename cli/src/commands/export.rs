//! `kiln export`: a graph as an ONNX model.

use crate::failure::Failure;
use crate::source;
use kiln_interop::onnx::{self, ExportOptions};
use kiln_interop::{Tensors, npz, safetensors};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a graph as an ONNX model, with the values of its params and states in it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln export model.kir --weights weights.safetensors --to model.onnx
  kiln export training.kir --weights weights.safetensors --output prediction --to model.onnx")]
pub(crate) struct Arguments {
    /// The graph: `.kir` (text), `.json`, `.kiln` (binary) or `.onnx`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The model to write.
    #[arg(long, value_name = "MODEL.onnx")]
    to: PathBuf,
    /// Values of params and states under their names, `.safetensors` or `.npz`; may be given more than once. Without it an ONNX model keeps
    /// its own.
    #[arg(long, value_name = "FILE")]
    weights: Vec<PathBuf>,
    /// An output that the model has; may be given more than once. Without it the model has all outputs of the graph.
    #[arg(long, value_name = "NAME")]
    output: Vec<String>,
    #[command(flatten)]
    reading: source::Reading,
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let source = source::unbound(&arguments.file, &arguments.reading)?;
    let files = arguments.weights.iter().map(|path| open(path));
    let mut files: Vec<Tensors> = files.collect::<Result<_, _>>()?;
    if files.is_empty() {
        files.extend(source.weights);
    }
    let values = files.iter().flat_map(Tensors::iter);
    let options = ExportOptions {
        outputs: arguments.output.clone(),
    };
    let written = onnx::save(&arguments.to, &source.graph, values, &options);
    written.map_err(|error| Failure::at(arguments.file.display(), error))?;
    writeln!(out, "wrote {}", arguments.to.display())?;
    Ok(())
}

fn open(path: &Path) -> Result<Tensors, Failure> {
    let extension = path.extension().map(|e| e.to_string_lossy());
    let opened = match extension.as_deref() {
        Some("safetensors") => safetensors::open(path),
        Some("npz") => npz::open(path),
        Some(_) | None => {
            let what = "weights are in `.safetensors` or `.npz` files";
            return Err(Failure::at(path.display(), what));
        }
    };
    opened.map_err(|error| Failure::Wrong(error.to_string()))
}
