//! `kiln onnx-test`: folders of ONNX's backend tests, one line each.

use crate::failure::Failure;
use kiln_compiler::{CompileError, Options};
use kiln_interop::TensorRef;
use kiln_interop::onnx::backend::{Outcome, interpret, run_folder};
use kiln_ir::{Array, Graph};
use kiln_runtime::memory::AlignedBytes;
use kiln_runtime::{Feed, SessionOptions, TensorView};
use kiln_train::Error as CompilingError;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Runs ONNX's backend tests: models, and tensors that go in and must come out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln onnx-test onnx/backend/test/data/node
  kiln onnx-test --interpret node/test_add node/test_conv_with_strides_padding

A test is a folder with `model.onnx` and `test_data_set_*/input_*.pb` and `output_*.pb`. Each one gets a line,
`pass NAME`, `fail NAME REASON` or `unsupported NAME REASON`, and the last line has the sums. The exit code is 1
where a test failed; one that is unsupported fails nothing.")]
pub(crate) struct Arguments {
    /// Folders of tests, or folders with such folders.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Computes by the interpreter instead of compiling.
    #[arg(long)]
    interpret: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut tests = Vec::new();
    for folder in &arguments.folders {
        tests.extend(tests_in(folder)?);
    }
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for folder in tests {
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        let name = name.to_string_lossy();
        match outcome(&folder, arguments.interpret) {
            Outcome::Pass => {
                passed += 1;
                writeln!(out, "pass {name}")?;
            }
            Outcome::Fail(reason) => {
                failed += 1;
                writeln!(out, "fail {name} {}", line(&reason))?;
            }
            Outcome::Unsupported(reason) => {
                unsupported += 1;
                writeln!(out, "unsupported {name} {}", line(&reason))?;
            }
        }
    }
    writeln!(
        out,
        "{passed} pass, {failed} fail, {unsupported} unsupported"
    )?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("{failed} tests failed")))
    }
}

/// A reason in one line.
fn line(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    words.join(" ")
}

/// The folder itself if it is a test, else the tests in it, by name.
fn tests_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_test = |folder: &PathBuf| folder.join("model.onnx").exists();
    if is_test(&folder.to_path_buf()) {
        return Ok(vec![folder.to_path_buf()]);
    }
    let wrong = |error| Failure::at(folder.display(), error);
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    let entries: Result<Vec<PathBuf>, _> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut tests = entries.map_err(wrong)?;
    tests.retain(is_test);
    tests.sort();
    if tests.is_empty() {
        let what = "neither it nor a folder in it has a `model.onnx`";
        return Err(Failure::at(folder.display(), what));
    }
    Ok(tests)
}

fn outcome(folder: &Path, interpreted: bool) -> Outcome {
    if interpreted {
        return run_folder(folder, &interpret);
    }
    let refused = Cell::new(false);
    let outcome = run_folder(folder, &|graph, feeds| {
        compiled(graph, feeds).map_err(|error| {
            let compiling = error.downcast_ref::<CompilingError>();
            refused.set(matches!(
                compiling,
                Some(CompilingError::Compile(
                    CompileError::ElementType { .. } | CompileError::Window { .. }
                ))
            ));
            error.to_string()
        })
    });
    match outcome {
        Outcome::Fail(reason) if refused.get() => Outcome::Unsupported(reason),
        Outcome::Pass | Outcome::Fail(_) | Outcome::Unsupported(_) => outcome,
    }
}

/// The outputs of the compiled graph, from the values of inputs and params by name.
fn compiled(graph: &Graph, values: &BTreeMap<String, Array>) -> Result<Vec<Array>, Box<dyn Error>> {
    let mut session =
        kiln_train::compile(graph, &Options::default())?.session_with(&SessionOptions {
            threads: NonZeroUsize::new(1),
            ..SessionOptions::default()
        })?;
    let mut held = BTreeMap::new();
    for (name, array) in values {
        let bytes = array.to_bytes();
        let mut aligned = AlignedBytes::zeroed(bytes.len())?;
        aligned.bytes_mut().copy_from_slice(&bytes);
        held.insert(name.as_str(), (array, aligned));
    }
    let feed = |name: &str| -> Result<Feed<'_>, Box<dyn Error>> {
        let value = held.get(name);
        let (array, bytes) = value.ok_or_else(|| format!("`{name}` has no value"))?;
        let feed = Feed::from_bytes(array.dtype(), array.shape(), bytes.bytes());
        Ok(feed.map_err(|error| format!("`{name}`: {error}"))?)
    };
    let program = session.program();
    let residents: Vec<String> = program.residents.iter().map(|r| r.name.clone()).collect();
    for name in residents {
        session.set_state(&name, feed(&name)?)?;
    }
    let inputs = session.program().inputs.iter();
    let feeds: Result<Vec<Feed<'_>>, _> = inputs.map(|port| feed(&port.name)).collect();
    let outputs = session.step(&feeds?)?;
    let array = |view: TensorView<'_>| {
        let (dtype, shape) = (view.dtype(), view.shape());
        let tensor = TensorRef::new(view.name(), dtype, shape, view.bytes())?;
        Ok(tensor.to_array()?)
    };
    outputs.iter().map(array).collect()
}
