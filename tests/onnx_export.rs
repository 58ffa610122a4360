//! ONNX export: every op on operands of every element type, random graphs, loops and trained models are written as models, read again by our
//! import, and give what they gave.
//!
//! `KILN_ONNX_DIR=folder` also writes each model beside what it is fed and what it must give, for `tests/onnxruntime/check.py`, which asks
//! onnxruntime. An op without a case here fails.

mod common;

use common::Numbers;
use common::data::{Kind, random};
use common::generate::{self, DTYPES};
use common::ops::{CONTROL, Case, cases};
use kiln_interop::onnx::{self, Elements, ExportOptions, Import, ImportOptions, Model};
use kiln_interop::{TensorRef, npz};
use kiln_ir::ops::Op;
use kiln_ir::{
    Array, Bindings, Builder, DType, EvalError, Graph, Role, Tensor, TensorType, Values, eval,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What an element may be off, relative to itself or to 1.
const TOLERANCE: f64 = 1e-6;

/// A graph with the values of its params and states, exported and imported again.
struct Trip {
    name: String,
    graph: Graph,
    residents: BTreeMap<String, Array>,
    import: Import,
    folder: Option<PathBuf>,
    runs: usize,
}

impl Trip {
    fn new(name: &str, graph: Graph, numbers: &mut Numbers) -> Result<Self, String> {
        let residents = graph.slots().iter().filter(|slot| slot.role != Role::Input);
        let residents = residents.map(|slot| {
            let ty = &graph.node(slot.node).expect("a slot").ty;
            let value = given(ty, &Bindings::new(), numbers, Kind::Plain);
            (slot.name.clone(), value)
        });
        let residents: BTreeMap<String, Array> = residents.collect();
        Self::of(name, graph, residents)
    }

    fn of(name: &str, graph: Graph, residents: BTreeMap<String, Array>) -> Result<Self, String> {
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
        })
    }

    /// Runs both on inputs for these sizes; `false` where the graph refuses them.
    fn run(&mut self, sizes: &Bindings, numbers: &mut Numbers, kind: Kind) -> Result<bool, String> {
        let inputs = self.graph.slots().iter().filter(|slot| slot.role == Role::Input);
        let inputs: BTreeMap<String, Array> = inputs
            .map(|slot| {
                let ty = &self.graph.node(slot.node).expect("a slot").ty;
                (slot.name.clone(), given(ty, sizes, numbers, kind))
            })
            .collect();
        let fed = eval(&self.graph, |slot| {
            let own = inputs.get(&slot.name).or_else(|| self.residents.get(&slot.name));
            own.cloned()
        });
        let wanted = match fed.as_ref().map_err(EvalError::cause) {
            Ok(step) => step.outputs.clone(),
            Err(EvalError::Required { .. } | EvalError::Index { .. }) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        self.write(&inputs, &wanted);
        let params: BTreeMap<&str, &Elements> =
            self.import.params.iter().map(|(n, e)| (n.as_str(), e)).collect();
        let found = eval(&self.import.graph, |slot| match inputs.get(&slot.name) {
            Some(value) => Some(value.clone()),
            None => params.get(slot.name.as_str()).and_then(|e| e.to_array().ok()),
        });
        let found = found.map_err(|error| format!("{sizes:?}: {error}"))?.outputs;
        for (output, (wanted, found)) in self.graph.outputs().iter().zip(wanted.iter().zip(&found)) {
            if let Some(why) = differ(wanted, found) {
                return Err(format!("{}: `{}`, {sizes:?}, {kind:?}: {why}", self.name, output.name));
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
        save(&folder.join(format!("{}_in.npz", self.runs)), inputs.iter());
        save(&folder.join(format!("{}_out.npz", self.runs)), outputs);
        self.runs += 1;
    }
}

fn save<'a>(path: &Path, arrays: impl Iterator<Item = (&'a String, &'a Array)>) {
    let data: Vec<(&String, Elements)> = arrays.map(|(n, a)| (n, Elements::from_array(a))).collect();
    let tensors = data.iter().map(|(name, data)| {
        TensorRef::new(name, data.dtype(), data.shape(), data.bytes()).expect("as many bytes")
    });
    npz::save(path, tensors).expect("written");
}

fn given(ty: &TensorType, sizes: &Bindings, numbers: &mut Numbers, kind: Kind) -> Array {
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
        !same && !((a - b).abs() <= TOLERANCE * a.abs().max(1.0))
    };
    let at = pairs.iter().position(off)?;
    Some(format!("element {at} is {:e}, not {:e}", pairs[at].1, pairs[at].0))
}

fn accepts(case: &Case) -> bool {
    let types: Vec<&TensorType> = case.operands.iter().collect();
    case.op.rules().infer(&types).is_ok()
}

/// One op as a graph, whose inputs are its operands.
fn alone(case: &Case) -> Graph {
    let g = Builder::new("one");
    // Binds the symbol also where no operand has it.
    let first = g.input("b", DType::F32, (g.dim("b"),));
    let operands = case.operands.iter().enumerate();
    let operands: Vec<Tensor<'_>> = operands
        .map(|(o, ty)| g.input(&format!("x{o}"), ty.dtype, &ty.shape))
        .collect();
    let made = match &case.op {
        Op::Source(_) => first,
        op => g.push(op.clone(), &operands),
    };
    g.output("y", made);
    g.finish().expect("the case fits")
}

/// Why ONNX cannot say it, for the few of which that is known.
fn is_refused(case: &Case) -> bool {
    let from = case.operands.first().map(|ty| ty.dtype);
    match &case.op {
        Op::Bitcast(op) => {
            from != Some(op.to) && (op.to.is_float() || from.is_some_and(DType::is_float))
        }
        Op::Conv(_) => !from.is_some_and(DType::is_float),
        _ => false,
    }
}

#[test]
fn every_op_of_every_type_comes_back() {
    let mut failures = Vec::new();
    let mut covered = BTreeSet::new();
    for (position, op) in Op::representatives().into_iter().enumerate() {
        if CONTROL.contains(&op.rules().name()) {
            continue;
        }
        for dtype in DTYPES {
            for (number, case) in cases(&op, dtype).iter().filter(|c| accepts(c)).enumerate() {
                let name = format!("{}-{position}-{dtype}-{number}", case.op.rules().name());
                let mut numbers = Numbers::new(7);
                let trip = Trip::new(&name, alone(case), &mut numbers);
                let mut trip = match (trip, is_refused(case)) {
                    (Ok(trip), false) => trip,
                    (Err(_), true) => continue,
                    (Ok(_), true) => {
                        failures.push(format!("{name} is exported, of which nothing was known"));
                        continue;
                    }
                    (Err(why), false) => {
                        failures.push(format!("{name}: {:?}: {why}", case.op));
                        continue;
                    }
                };
                covered.insert(op.rules().name());
                for (b, kind) in [(5, Kind::Plain), (4, Kind::Ties), (1, Kind::Plain), (17, Kind::Odd)] {
                    let run = trip.run(&Bindings::from([("b", b)]), &mut numbers, kind);
                    if let Err(why) = run {
                        failures.push(format!("{:?} of {:?}: {why}", case.op, case.operands));
                        break;
                    }
                }
            }
        }
        let name = op.rules().name();
        assert!(covered.contains(name) || !failures.is_empty(), "{name} has no case");
    }
    let count = failures.len();
    failures.truncate(20);
    assert!(failures.is_empty(), "{count}\n{}", failures.join("\n"));
}

#[test]
fn random_graphs_come_back() {
    let mut failures = Vec::new();
    for seed in 0..48 {
        let graph = generate::graph(seed, 3 + seed as usize % 16);
        let mut numbers = Numbers::new(seed);
        let trip = Trip::new(&format!("random-{seed}"), graph, &mut numbers);
        let mut trip = match trip {
            Ok(trip) => trip,
            // What ONNX has not, the other test knows.
            Err(why) if why.contains("cannot read the bits") || why.contains("convolves floats") => continue,
            Err(why) => {
                failures.push(format!("seed {seed}: {why}"));
                continue;
            }
        };
        for (b, t) in [(4, 3), (1, 5)] {
            let sizes = Bindings::from([("b", b), ("t", t)]);
            if let Err(why) = trip.run(&sizes, &mut numbers, Kind::Plain) {
                failures.push(format!("{why}\n{}", trip.graph));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
