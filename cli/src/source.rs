//! Where a file becomes a graph.
//!
//! The name's extension says which form the file has. All readers verify what they read, so a graph from here is a valid one.

use crate::failure::Failure;
use kiln_ir::Graph;
use std::fs;
use std::path::Path;

/// The forms, as help texts list them.
pub(crate) const FORMS: &str = "`.kir` (text), `.json` and `.kiln` (binary)";

/// The graph in the file at `path`.
///
/// # Errors
/// [`Failure::Wrong`]: a file that cannot be read, of an unknown form, or that is no valid graph; with every mistake that the reader
/// found, one on a line.
pub(crate) fn graph(path: &Path) -> Result<Graph, Failure> {
    let file = path.display();
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy());
    let bytes = || fs::read(path).map_err(|error| Failure::at(&file, error));
    match extension.as_deref() {
        Some("kir") => parse(path, &text(path, bytes()?)?),
        Some("json") => {
            Graph::from_json(&text(path, bytes()?)?).map_err(|error| Failure::at(&file, error))
        }
        Some("kiln") => Graph::from_bytes(&bytes()?).map_err(|error| Failure::at(&file, error)),
        Some(_) | None => Err(Failure::at(
            &file,
            format!("the name does not say which form the file has; graphs are in {FORMS}"),
        )),
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
