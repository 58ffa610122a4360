//! ONNX's backend tests: folders with a model, and with tensors that go in and must come out.
//!
//! A folder has `model.onnx` and `test_data_set_0/input_0.pb`, `output_0.pb` and so on. A model is imported for the inputs of each set, as
//! [`Model::import_for`] does.

use super::elements::Elements;
use super::error::OnnxError;
use super::limits::Kind;
use super::proto::{OptionalProto, SequenceProto, TensorProto};
use super::{ImportOptions, Model, decode, read, read_tensor};
use kiln_ir::{Array, DType, Dim, EvalError, Graph, Role, Shape, Slot, TensorType, Values};
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

/// ONNX's own tolerances: `|got - wanted| <= ABSOLUTE + RELATIVE |wanted|`. Where a sum cancels, what is left of it is the rounding of its
/// terms, so that `ABSOLUTE` is the distance of the tensor's largest element to the next f32 where that is more.
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
    let mut given = Given::default();
    for (position, name) in model.inputs().into_iter().enumerate() {
        let path = set.join(format!("input_{position}.pb"));
        if !path.exists() {
            continue;
        }
        match read_value(&path, model, name) {
            Ok(TestValue::Tensor(tensor)) => {
                given.tensors.insert(name.to_owned(), tensor);
            }
            Ok(TestValue::Parts(parts)) => {
                given.parts.insert(name.to_owned(), parts);
            }
            Ok(TestValue::Absent) => {}
            Err(error) => return Outcome::Unsupported(error.to_string()),
        }
    }
    let import = match model.import_for(&given.tensors, &options(&given)) {
        Ok(import) => import,
        Err(errors) => return Outcome::Unsupported(errors.to_string().replace('\n', " ")),
    };
    let parts = given.parts.iter().flat_map(|(name, parts)| {
        let single = model.is_optional_tensor(name);
        let element = move |(i, part): (usize, &Elements)| match single {
            true => (name.clone(), part.clone()),
            false => (format!("{name}.{i}"), part.clone()),
        };
        parts.iter().enumerate().map(element)
    });
    let mut feeds = BTreeMap::new();
    let tensors = given.tensors.clone().into_iter();
    for (name, data) in tensors.chain(parts).chain(import.params.iter().cloned()) {
        match data.to_array() {
            Ok(array) => feeds.insert(name, array),
            Err(error) => return Outcome::Fail(error.to_string()),
        };
    }
    let results = match execute(&import.graph, &feeds) {
        Ok(results) => results,
        Err(error) => return Outcome::Fail(error),
    };
    let mut results = results.into_iter();
    for (position, name) in model.outputs().into_iter().enumerate() {
        let path = set.join(format!("output_{position}.pb"));
        let wanted = match read_value(&path, model, name) {
            Ok(TestValue::Tensor(tensor)) => vec![tensor],
            Ok(TestValue::Parts(parts)) => parts,
            Ok(TestValue::Absent) => Vec::new(),
            Err(error) => return Outcome::Unsupported(error.to_string()),
        };
        let count = import.sequences.get(name).copied().unwrap_or(1);
        if count != wanted.len() {
            return Outcome::Fail(format!(
                "output `{name}`: {count} elements, wanted {}",
                wanted.len()
            ));
        }
        for (got, wanted) in results.by_ref().take(count).zip(wanted) {
            let difference = match wanted.to_array() {
                Ok(wanted) => difference(&got, &wanted),
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = difference {
                return Outcome::Fail(format!("output `{name}`: {what}"));
            }
        }
    }
    Outcome::Pass
}

/// The inputs of a data set.
#[derive(Default)]
struct Given {
    tensors: BTreeMap<String, Elements>,
    /// The elements of sequences and optionals.
    parts: BTreeMap<String, Vec<Elements>>,
}

/// What a file of a data set holds.
enum TestValue {
    Tensor(Elements),
    Parts(Vec<Elements>),
    /// An empty optional.
    Absent,
}

/// Reads an input or output as what the model declares it to be.
fn read_value(path: &Path, model: &Model, name: &str) -> Result<TestValue, OnnxError> {
    let ty = model.ty(name);
    let optional = ty.and_then(|t| t.optional_type.as_deref());
    let within = optional.map_or(ty, |o| o.elem_type.as_deref());
    let sequence = within.is_some_and(|t| t.sequence_type.is_some());
    let file = path.display().to_string();
    let elements = |tensor: &TensorProto| Elements::read(&file, path.parent(), tensor);
    let all = |s: &SequenceProto| -> Result<Vec<Elements>, OnnxError> {
        s.tensor_values.iter().map(elements).collect()
    };
    Ok(match (optional.is_some(), sequence) {
        (false, false) => TestValue::Tensor(as_declared(read_tensor(path)?, model, name)),
        (false, true) => TestValue::Parts(all(&decode(path, "sequence", Kind::Sequence)?)?),
        (true, _) => {
            let value: OptionalProto = decode(path, "optional value", Kind::Optional)?;
            match (&value.tensor_value, &value.sequence_value) {
                (Some(tensor), _) => TestValue::Parts(vec![elements(tensor)?]),
                (None, Some(sequence)) => TestValue::Parts(all(sequence)?),
                (None, None) => TestValue::Absent,
            }
        }
    })
}

/// NumPy has no bf16, so the files of the tests hold its bits as u16.
fn as_declared(tensor: Elements, model: &Model, name: &str) -> Elements {
    match model.declared(name) {
        Some(DType::BF16) if tensor.dtype() == DType::U16 => tensor.into_bf16(),
        Some(_) | None => tensor,
    }
}

/// The types of the parts that are given, as an import wants them.
fn options(given: &Given) -> ImportOptions {
    let ty = |e: &Elements| {
        let shape = e.shape().iter().map(|d| Dim::from(*d));
        TensorType::new(e.dtype(), shape.collect::<Shape>())
    };
    let types =
        |(name, parts): (&String, &Vec<Elements>)| (name.clone(), parts.iter().map(ty).collect());
    ImportOptions {
        parts: given.parts.iter().map(types).collect(),
        ..ImportOptions::default()
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
            let finite = wanted.iter().map(|w| w.abs()).filter(|w| w.is_finite());
            let absolute = (finite.fold(0.0, f64::max) * f64::from(f32::EPSILON)).max(ABSOLUTE);
            let close = |g: f64, w: f64| {
                let equal = g == w || g.is_nan() && w.is_nan();
                equal || w.is_finite() && (g - w).abs() <= absolute + RELATIVE * w.abs()
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
