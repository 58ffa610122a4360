//! Where a file becomes a graph.
//!
//! The name's extension says which form the file has. All readers verify what they read, so a graph from here is a valid one. ONNX models
//! are imported (`model`), as the command line says of their extents and inputs.

mod model;

pub(crate) use model::unfit;

use crate::failure::Failure;
use kiln_interop::Tensors;
use kiln_ir::{Dim, Graph};
use std::fs;
use std::path::Path;

/// The forms, as help texts list them.
pub(crate) const FORMS: &str = "`.kir` (text), `.json`, `.kiln` (binary) and `.onnx`";

/// What the command line says of a graph before it is read.
#[derive(clap::Args, Default)]
pub(crate) struct Reading {
    /// Sizes of symbolic dims, `b=4,t=16`; of an ONNX model's extents also what else is known, `height=32*h`.
    #[arg(long, value_name = "DIM=SIZE", value_delimiter = ',', value_parser = binding)]
    pub(crate) dims: Vec<(String, Dim)>,
    /// The numbers of an input of an ONNX model that decides a shape or a branch, `rate=16000`; it is no input any more.
    #[arg(long, value_name = "INPUT=NUMBERS", value_parser = fixed)]
    fix: Vec<(String, Vec<f64>)>,
}

/// A binding of `--dims`.
fn binding(text: &str) -> Result<(String, Dim), String> {
    let wanted = || "expected DIM=SIZE, as in b=4".to_owned();
    let (symbol, size) = text.split_once('=').ok_or_else(wanted)?;
    let dim: Dim = size.trim().parse().map_err(|_| wanted())?;
    match dim.constant() {
        Some(..0) => Err("a size is not negative".to_owned()),
        Some(0..) | None => Ok((symbol.trim().to_owned(), dim)),
    }
}

/// The numbers of `--fix`.
fn fixed(text: &str) -> Result<(String, Vec<f64>), String> {
    let wanted = || "expected INPUT=NUMBERS, as in rate=16000 or shape=2,3".to_owned();
    let (name, numbers) = text.split_once('=').ok_or_else(wanted)?;
    let numbers = numbers.split(',').map(|number| number.trim().parse());
    let numbers: Result<Vec<f64>, _> = numbers.collect();
    Ok((name.trim().to_owned(), numbers.map_err(|_| wanted())?))
}

/// A graph from a file, and what else is known with it.
pub(crate) struct Source {
    /// The graph.
    pub(crate) graph: Graph,
    /// The weights of an ONNX model.
    pub(crate) weights: Option<Tensors>,
    /// What `--dims` says of other things than the extents of an ONNX model.
    pub(crate) dims: Vec<(String, Dim)>,
    /// Inputs of an ONNX model that are none of the graph, which was made for their values.
    pub(crate) settled: Vec<String>,
}

/// The graph in the file at `path`, as the command line has it.
///
/// # Errors
/// [`Failure::Wrong`]: a file that cannot be read, of an unknown form, or that is no valid graph; with every mistake that the reader
/// found, one on a line. [`Failure::Usage`]: options that the file has no use for.
pub(crate) fn read(path: &Path, reading: &Reading) -> Result<Source, Failure> {
    read_for(path, reading, &[])
}

/// As [`read`], to be run on what `inputs` hold: an ONNX model whose shapes or branches hang on its inputs is made for these.
///
/// # Errors
/// As [`read`], and inputs of other types than the model's.
pub(crate) fn read_for(
    path: &Path,
    reading: &Reading,
    inputs: &[Tensors],
) -> Result<Source, Failure> {
    let file = path.display();
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy());
    let bytes = || fs::read(path).map_err(|error| Failure::at(&file, error));
    let graph = match extension.as_deref() {
        Some("onnx") => return model::import(path, reading, inputs),
        Some("kir") => parse(path, &text(path, bytes()?)?)?,
        Some("json") => {
            Graph::from_json(&text(path, bytes()?)?).map_err(|error| Failure::at(&file, error))?
        }
        Some("kiln") => Graph::from_bytes(&bytes()?).map_err(|error| Failure::at(&file, error))?,
        Some(_) | None => {
            return Err(Failure::at(
                &file,
                format!("the name does not say which form the file has; graphs are in {FORMS}"),
            ));
        }
    };
    if let Some((name, _)) = reading.fix.first() {
        let message = format!("--fix {name}: {file} is no ONNX model");
        return Err(Failure::Usage(message));
    }
    Ok(Source {
        graph,
        weights: None,
        dims: reading.dims.clone(),
        settled: Vec::new(),
    })
}

/// The graph in the file at `path`, where nothing but an ONNX model has a use for `--dims`.
///
/// # Errors
/// As [`read`].
pub(crate) fn graph(path: &Path, reading: &Reading) -> Result<Graph, Failure> {
    Ok(unbound(path, reading)?.graph)
}

/// As [`graph`], with the weights of an ONNX model.
///
/// # Errors
/// As [`read`].
pub(crate) fn unbound(path: &Path, reading: &Reading) -> Result<Source, Failure> {
    let source = read(path, reading)?;
    match source.dims.first() {
        None => Ok(source),
        Some((name, _)) => Err(Failure::Usage(format!(
            "--dims: `{name}` is no extent of an ONNX model's inputs; a graph is shown and checked for all sizes"
        ))),
    }
}

/// The bytes as text.
fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let what = format!("the byte at offset {offset} is no text in UTF-8");
        Failure::at(path.display(), what)
    })
}

/// The graph of a text. Each mistake has file, line and column before it, which editors jump to.
fn parse(path: &Path, text: &str) -> Result<Graph, Failure> {
    let file = path.display().to_string();
    Graph::parse_file(&file, text).map_err(|errors| {
        let lines: Vec<String> = errors.0.iter().map(|e| format!("{file}:{e}")).collect();
        Failure::Wrong(lines.join("\n"))
    })
}
