//! A graph on its way: exported, imported again, and run beside what it was.

use super::common::Numbers;
use super::common::data::{Kind, random};
use kiln_interop::onnx::{self, Elements, ExportOptions, Import, ImportOptions, Model};
use kiln_interop::{TensorRef, npz};
use kiln_ir::{Array, Bindings, EvalError, Graph, Role, Slot, TensorType, Values, eval};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an element may be off, relative to itself or to 1.
const TOLERANCE: f64 = 1e-6;

/// A graph with the values of its params and states, exported and imported again.
pub(crate) struct Trip {
    name: String,
    pub(crate) graph: Graph,
    residents: BTreeMap<String, Array>,
    import: Import,
    folder: Option<PathBuf>,
    runs: usize,
    /// Whether inputs have infinities, NaN and the largest numbers among them, with which runtimes differ.
    extreme: bool,
}

impl Trip {
    /// Params and states have random values.
    pub(crate) fn new(name: &str, graph: Graph, numbers: &mut Numbers) -> Result<Self, String> {
        Self::with(name, graph, |_, ty| {
            given(ty, &Bindings::new(), numbers, Kind::Plain)
        })
    }

    /// Params and states have the values that `value` gives.
    pub(crate) fn with(
        name: &str,
        graph: Graph,
        mut value: impl FnMut(&Slot, &TensorType) -> Array,
    ) -> Result<Self, String> {
        let residents = graph.slots().iter().filter(|slot| slot.role != Role::Input);
        let residents = residents.map(|slot| {
            let ty = &graph.node(slot.node).expect("a slot").ty;
            (slot.name.clone(), value(slot, ty))
        });
        let residents: BTreeMap<String, Array> = residents.collect();
        let data: Vec<(&String, Elements)> = residents
            .iter()
            .map(|(name, value)| (name, Elements::from_array(value)))
            .collect();
        let values = data.iter().map(|(name, data)| {
            TensorRef::new(name, data.dtype(), data.shape(), data.bytes()).expect("as many bytes")
        });
        let bytes = onnx::export(&graph, values, &ExportOptions::default());
        let bytes = bytes.map_err(|error| error.to_string())?;
        let folder = std::env::var_os("KILN_ONNX_DIR").map(|root| PathBuf::from(root).join(name));
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(folder.join("model.onnx"), &bytes).expect("written");
        }
        let model = Model::from_bytes(name, bytes).expect("a model");
        let import = model.import(&ImportOptions::default());
        let import = import.map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            graph,
            residents,
            import,
            folder,
            runs: 0,
            extreme: false,
        })
    }

    /// Runs both on random inputs of these sizes; `false` where the graph refuses them.
    pub(crate) fn run(
        &mut self,
        sizes: &Bindings,
        numbers: &mut Numbers,
        kind: Kind,
    ) -> Result<bool, String> {
        self.extreme = kind == Kind::Odd;
        self.run_on(|_, ty| given(ty, sizes, numbers, kind))
            .map_err(|why| format!("{}: {sizes:?}, {kind:?}: {why}", self.name))
    }

    /// Runs both on inputs.
    pub(crate) fn run_on(
        &mut self,
        mut value: impl FnMut(&Slot, &TensorType) -> Array,
    ) -> Result<bool, String> {
        let inputs = self
            .graph
            .slots()
            .iter()
            .filter(|slot| slot.role == Role::Input);
        let inputs: BTreeMap<String, Array> = inputs
            .map(|slot| {
                let ty = &self.graph.node(slot.node).expect("a slot").ty;
                (slot.name.clone(), value(slot, ty))
            })
            .collect();
        let fed = eval(&self.graph, |slot| {
            let own = inputs
                .get(&slot.name)
                .or_else(|| self.residents.get(&slot.name));
            own.cloned()
        });
        let wanted = match fed.as_ref().map_err(EvalError::cause) {
            Ok(step) => step.outputs.clone(),
            Err(EvalError::Required { .. } | EvalError::Index { .. }) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        self.write(&inputs, &wanted);
        let params: BTreeMap<&str, &Elements> = self
            .import
            .params
            .iter()
            .map(|(n, e)| (n.as_str(), e))
            .collect();
        let found = eval(&self.import.graph, |slot| match inputs.get(&slot.name) {
            Some(value) => Some(value.clone()),
            None => params
                .get(slot.name.as_str())
                .and_then(|e| e.to_array().ok()),
        });
        let found = found.map_err(|error| error.to_string())?.outputs;
        for (output, (wanted, found)) in self.graph.outputs().iter().zip(wanted.iter().zip(&found))
        {
            if let Some(why) = differ(wanted, found) {
                return Err(format!("`{}`: {why}", output.name));
            }
        }
        Ok(true)
    }

    /// Writes what is fed and what must come out, for another runtime.
    fn write(&mut self, inputs: &BTreeMap<String, Array>, outputs: &[Array]) {
        let Some(folder) = &self.folder else {
            return;
        };
        let names = self.graph.outputs().iter().map(|o| &o.name);
        let outputs = names.zip(outputs);
        let run = match self.extreme {
            true => format!("{}_extreme", self.runs),
            false => self.runs.to_string(),
        };
        save(&folder.join(format!("{run}_in.npz")), inputs.iter());
        save(&folder.join(format!("{run}_out.npz")), outputs);
        self.runs += 1;
    }
}

fn save<'a>(path: &Path, arrays: impl Iterator<Item = (&'a String, &'a Array)>) {
    let data: Vec<(&String, Elements)> =
        arrays.map(|(n, a)| (n, Elements::from_array(a))).collect();
    let tensors = data.iter().map(|(name, data)| {
        TensorRef::new(name, data.dtype(), data.shape(), data.bytes()).expect("as many bytes")
    });
    npz::save(path, tensors).expect("written");
}

/// Random elements of a type.
pub(crate) fn given(ty: &TensorType, sizes: &Bindings, numbers: &mut Numbers, kind: Kind) -> Array {
    let shape = ty.shape.iter().map(|d| d.eval_size(sizes));
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().expect("sizes");
    random(numbers, ty.dtype, &shape, kind)
}

/// The first element that is further off than it may be.
fn differ(wanted: &Array, found: &Array) -> Option<String> {
    if (wanted.dtype(), wanted.shape()) != (found.dtype(), found.shape()) {
        return Some(format!(
            "{}{:?} became {}{:?}",
            wanted.dtype(),
            wanted.shape(),
            found.dtype(),
            found.shape()
        ));
    }
    let pairs: Vec<(f64, f64)> = match (wanted.values(), found.values()) {
        (Values::Float(a), Values::Float(b)) => a.iter().copied().zip(b.iter().copied()).collect(),
        (Values::Int(a), Values::Int(b)) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b)?;
            return Some(format!("element {at} is {}, not {}", b[at], a[at]));
        }
        (Values::Float(_) | Values::Int(_), _) => return Some("of another family".into()),
    };
    let off = |(a, b): &(f64, f64)| {
        let same = a == b || a.is_nan() && b.is_nan();
        let near = (a - b).abs() <= TOLERANCE * a.abs().max(1.0);
        !same && !near
    };
    let at = pairs.iter().position(off)?;
    Some(format!(
        "element {at} is {:e}, not {:e}",
        pairs[at].1, pairs[at].0
    ))
}
