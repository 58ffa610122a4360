//! `kiln run`: one step of a graph on arrays from NumPy, compiled or by the interpreter.
//!
//! What is given is read and compared with the graph first (`given`), then one of two ways computes the same [`Results`].

mod compiled;
mod differentiate;
mod given;
mod interpreted;

use crate::failure::Failure;
use crate::listed::listed;
use crate::source;
use given::Given;
use kiln_interop::{TensorRef, npz};
use kiln_ir::{Array, DType};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Runs one step of a graph on arrays from npz files, and says what comes out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kiln run model.kir --inputs batch.npz --outputs out.npz
  kiln run model.kir --inputs batch.npz --inputs weights.npz --states after.npz
  kiln run model.kir --inputs batch.npz --grad loss --wrt x,fc1/w --outputs gradients.npz
  kiln run model.kir --dims b=4 --interpret --outputs oracle.npz
  kiln run model.onnx --inputs batch.npz --profile

Inputs, params and states are found in the npz files by their names; params and states that are not there are drawn
from their initialisers, or are those of the ONNX model. Sizes are needed where inputs do not give them. Inputs that
decide a shape or a branch of an ONNX model are taken from the npz files as it is read. Gradients are further outputs,
`grad/NAME`. The results of the compiled program and of the interpreter can be compared by `kiln diff`.")]
pub(crate) struct Arguments {
    /// The graph: `.kir` (text), `.json`, `.kiln` (binary) or `.onnx`.
    file: PathBuf,
    /// Values of inputs, params and states by name; may be given several times.
    #[arg(long, value_name = "NPZ")]
    inputs: Vec<PathBuf>,
    /// Where the outputs go.
    #[arg(long, value_name = "NPZ")]
    outputs: Option<PathBuf>,
    /// Where all params and states go, as they are after the step.
    #[arg(long, value_name = "NPZ")]
    states: Option<PathBuf>,
    /// The scalar output to differentiate.
    #[arg(long, value_name = "OUTPUT")]
    grad: Option<String>,
    /// What it is differentiated by: names of inputs, params and states, separated by commas; all params where nothing is said.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "grad")]
    wrt: Vec<String>,
    #[command(flatten)]
    reading: source::Reading,
    /// The number of threads; one for each of the machine's where nothing is said.
    #[arg(long, value_name = "N", conflicts_with = "interpret")]
    threads: Option<NonZeroUsize>,
    /// Computes by the interpreter, op by op in f64: slow, and the oracle that the compiler is tested against.
    #[arg(long)]
    interpret: bool,
    /// Makes each op a kernel of its own.
    #[arg(long, conflicts_with = "interpret")]
    no_fuse: bool,
    /// Prints what each launch took.
    #[arg(long, conflicts_with = "interpret")]
    profile: bool,
    /// What initialisers draw with.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A named tensor that came out.
struct Held {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Held {
    fn lend(&self) -> Result<TensorRef<'_>, Failure> {
        TensorRef::new(&self.name, self.dtype, &self.shape, &self.bytes)
            .map_err(|error| Failure::Wrong(error.to_string()))
    }
}

/// What a step gives.
struct Results {
    outputs: Vec<Held>,
    /// All params and states as they are after it.
    states: Vec<Held>,
    /// What the launches took, where that was asked for.
    profile: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let files = given::open(&arguments.inputs)?;
    let mut source = source::read_for(&arguments.file, &arguments.reading, &files)?;
    if let Some(output) = &arguments.grad {
        source.graph = differentiate::differentiate(source.graph, output, &arguments.wrt)
            .map_err(|what| Failure::at(arguments.file.display(), what))?;
    }
    let given = Given::new(&mut source, files)?;
    let graph = &source.graph;
    let results = if arguments.interpret {
        interpreted::run(graph, &given, arguments.seed)
    } else {
        compiled::run(graph, &given, arguments)
    };
    let results = results.map_err(|what| Failure::at(arguments.file.display(), what))?;
    save(arguments.outputs.as_deref(), &results.outputs)?;
    save(arguments.states.as_deref(), &results.states)?;
    for output in &results.outputs {
        writeln!(out, "{}", line(output)?)?;
    }
    if let Some(profile) = &results.profile {
        write!(out, "{profile}")?;
    }
    Ok(())
}

fn save(path: Option<&Path>, tensors: &[Held]) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let tensors: Vec<TensorRef<'_>> = tensors.iter().map(Held::lend).collect::<Result<_, _>>()?;
    npz::save(path, tensors).map_err(|error| Failure::Wrong(error.to_string()))
}

/// An output in a line: a single number itself, else the range of the elements.
fn line(output: &Held) -> Result<String, Failure> {
    let array = output.lend()?.to_array();
    let array = array.map_err(|error| Failure::at(&output.name, error))?;
    let Held {
        name, dtype, shape, ..
    } = output;
    Ok(format!("{name}: {dtype}{shape:?} {}", told(&array)))
}

/// The elements of an array in a few words.
fn told(array: &Array) -> String {
    let count = output_len(array);
    let all = (0..count).filter_map(|i| array.as_f64(i));
    let (mut low, mut high, mut nans) = (f64::INFINITY, f64::NEG_INFINITY, 0usize);
    for value in all {
        if value.is_nan() {
            nans += 1;
        } else {
            (low, high) = (low.min(value), high.max(value));
        }
    }
    match (count, nans) {
        (0, _) => "no elements".to_owned(),
        (1, 0) => format!("= {low}"),
        (_, 0) => format!("from {low} to {high}"),
        (count, nans) if count == nans => "all NaN".to_owned(),
        (_, nans) => format!("from {low} to {high}, {nans} NaN"),
    }
}

fn output_len(array: &Array) -> usize {
    array.shape().iter().product()
}

/// Names as a message lists them.
fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    listed(names.map(|name| format!("`{name}`")))
}
