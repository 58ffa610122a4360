//! ONNX's backend tests: folders with a model, and with tensors that go in and must come out.
//!
//! A folder has `model.onnx` and `test_data_set_0/input_0.pb`, `output_0.pb` and so on. Inputs that decide shapes are fixed at their
//! values, since a graph's shapes are known when it is built.

use super::elements::Elements;
use super::{Import, ImportOptions, Model, read, read_tensor};
use kiln_ir::{Array, DType, EvalError, Graph, Role, Slot, Values};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are as they must be.
    Pass,
    /// The model ran with wrong results, or failed to run.
    Fail(String),
    /// The model cannot be imported, or the tensors are of types that Kiln does not have.
    Unsupported(String),
}

/// Computes the outputs of a graph, in order, from the values of inputs and params by name.
pub type Execute<'e> = dyn Fn(&Graph, &BTreeMap<String, Array>) -> Result<Vec<Array>, String> + 'e;

/// ONNX's own tolerances: `|got - wanted| <= ABSOLUTE + RELATIVE |wanted|`.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

/// Runs a graph with the interpreter.
///
/// # Errors
/// What the interpreter says.
pub fn interpret(graph: &Graph, feeds: &BTreeMap<String, Array>) -> Result<Vec<Array>, String> {
    let feed = |slot: &Slot| match slot.role {
        Role::Input | Role::Param(_) | Role::State(_) => feeds.get(&slot.name).cloned(),
    };
    let step = kiln_ir::eval(graph, feed);
    step.map(|s| s.outputs)
        .map_err(|e: EvalError| e.to_string())
}

/// Runs all data sets of a test's folder.
pub fn run_folder(folder: &Path, execute: &Execute<'_>) -> Outcome {
    let model = match read(folder.join("model.onnx")) {
        Ok(model) => model,
        Err(error) => return Outcome::Fail(error.to_string()),
    };
    let sets = match data_sets(folder) {
        Ok(sets) => sets,
        Err(error) => return Outcome::Fail(format!("cannot list {}: {error}", folder.display())),
    };
    if sets.is_empty() {
        return Outcome::Fail("there is no data to test with".into());
    }
    for set in sets {
        match run_set(&model, &set, execute) {
            Outcome::Pass => {}
            other @ (Outcome::Fail(_) | Outcome::Unsupported(_)) => return other,
        }
    }
    Outcome::Pass
}

fn data_sets(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir()
            && path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("test_data_set_"))
        {
            sets.push(path);
        }
    }
    sets.sort();
    Ok(sets)
}

fn run_set(model: &Model, set: &Path, execute: &Execute<'_>) -> Outcome {
    let mut given: BTreeMap<String, Elements> = BTreeMap::new();
    for (position, name) in model.inputs().into_iter().enumerate() {
        let path = set.join(format!("input_{position}.pb"));
        if !path.exists() {
            continue;
        }
        match read_tensor(&path) {
            Ok(tensor) => given.insert(name.to_owned(), as_declared(tensor, model, name)),
            Err(error) => return Outcome::Unsupported(error.to_string()),
        };
    }
    let import = match specialised(model, &given) {
        Ok(import) => import,
        Err(reason) => return Outcome::Unsupported(reason),
    };
    let mut feeds = BTreeMap::new();
    for (name, data) in given
        .iter()
        .chain(import.params.iter().map(|(n, d)| (n, d)))
    {
        match data.to_array() {
            Ok(array) => feeds.insert(name.clone(), array),
            Err(error) => return Outcome::Fail(error.to_string()),
        };
    }
    let results = match execute(&import.graph, &feeds) {
        Ok(results) => results,
        Err(error) => return Outcome::Fail(error),
    };
    for (position, (name, got)) in model.outputs().into_iter().zip(results).enumerate() {
        let wanted = match read_tensor(set.join(format!("output_{position}.pb"))) {
            Ok(wanted) => as_declared(wanted, model, name),
            Err(error) => return Outcome::Unsupported(error.to_string()),
        };
        let difference = match wanted.to_array() {
            Ok(wanted) => difference(&got, &wanted),
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = difference {
            return Outcome::Fail(format!("output `{name}`: {what}"));
        }
    }
    Outcome::Pass
}

/// NumPy has no bf16, so the files of the tests hold its bits as u16.
fn as_declared(tensor: Elements, model: &Model, name: &str) -> Elements {
    match model.declared(name) {
        Some(DType::BF16) if tensor.dtype() == DType::U16 => tensor.into_bf16(),
        Some(_) | None => tensor,
    }
}

/// Imports the model, with those inputs fixed that decide shapes: those that the errors name, then all integers.
fn specialised(model: &Model, given: &BTreeMap<String, Elements>) -> Result<Import, String> {
    let mut options = ImportOptions::default();
    loop {
        let errors = match model.import(&options) {
            Ok(import) => return Ok(import),
            Err(errors) => errors,
        };
        let fixed = options.fixed.len();
        let unknown = errors.0.iter().filter_map(|e| e.unknown.as_ref());
        for name in unknown.clone() {
            if let Some(data) = given.get(name) {
                options.fixed.insert(name.clone(), data.clone());
            }
        }
        if options.fixed.len() == fixed && unknown.count() > 0 {
            let integers = given.iter().filter(|(_, data)| !data.dtype().is_float());
            options
                .fixed
                .extend(integers.map(|(n, d)| (n.clone(), d.clone())));
        }
        if options.fixed.len() == fixed {
            return Err(errors.to_string().replace('\n', " "));
        }
    }
}

/// The first difference beyond the tolerance; `None` where there is none.
fn difference(got: &Array, wanted: &Array) -> Option<String> {
    if got.dtype() != wanted.dtype() || got.shape() != wanted.shape() {
        return Some(format!(
            "got {} of shape {:?}, wanted {} of shape {:?}",
            got.dtype(),
            got.shape(),
            wanted.dtype(),
            wanted.shape()
        ));
    }
    match (got.values(), wanted.values()) {
        (Values::Float(got), Values::Float(wanted)) => {
            let close = |g: f64, w: f64| {
                let equal = g == w || g.is_nan() && w.is_nan();
                equal || w.is_finite() && (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs()
            };
            let at = got.iter().zip(wanted).position(|(g, w)| !close(*g, *w))?;
            Some(format!(
                "element {at} is {}, wanted {}",
                got[at], wanted[at]
            ))
        }
        (Values::Int(got), Values::Int(wanted)) => {
            let at = got.iter().zip(wanted).position(|(g, w)| g != w)?;
            Some(format!(
                "element {at} is {}, wanted {}",
                got[at], wanted[at]
            ))
        }
        (Values::Float(_) | Values::Int(_), _) => Some("of another class".into()),
    }
}
