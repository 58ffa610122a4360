//! Models that others trained give in Kiln, imported from ONNX and compiled, what they give in onnxruntime.
//!
//! Outputs must lie within 1e-4 of onnxruntime's, each element. It needs a Python with `numpy` and `onnxruntime`, and a folder with the
//! unpacked wheels `rapidocr-onnxruntime` 1.4.4, `magika` 1.0.3 and `silero-vad` 6.2.3; `results.md` has what was found:
//!
//! ```text
//! KILN_PYTHON=python3 KILN_ONNX_MODELS=DIR cargo test --release --test onnx_models -- --ignored --nocapture
//! ```
//!
//! Both run on one thread, by turns, and the fastest run of each counts. A model is compiled once and serves all of its sizes.
//! `KILN_ONNX_MODEL` chooses one by name; with `KILN_ONNX_PROFILE` set the launches of each case are printed.

use kiln::interop::onnx::{Elements, ImportOptions, read};
use kiln::interop::{TensorRef, Tensors, npz};
use kiln::ir::{Array, Values};
use kiln::runtime::TensorView;
use kiln::runtime::memory::AlignedBytes;
use kiln::train::weights;
use kiln::{DType, Feed, Options, Session, SessionOptions};
use std::error::Error;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How far an element of an output may lie from onnxruntime's.
const BAR: f64 = 1e-4;
/// Turns of each side.
const ROUNDS: usize = 3;
/// What a turn takes.
const TURN: Duration = Duration::from_millis(300);

/// A model and what it is run on.
struct Case {
    name: &'static str,
    /// Its file, below the folder of models.
    file: &'static str,
    /// Extents that the import is told.
    dims: &'static [(&'static str, &'static str)],
    /// An integer input that decides what the model does, and its value.
    fixed: Option<(&'static str, i64)>,
    /// Whether weights are constants.
    frozen: bool,
    /// What `models.py` draws inputs by.
    sizes: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        name: "magika",
        file: "magika/models/standard_v3_3/model.onnx",
        dims: &[],
        fixed: None,
        frozen: false,
        sizes: &["magika:1", "magika:8"],
    },
    Case {
        name: "cls",
        file: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        dims: &[("x_2", "48"), ("x_3", "192")],
        fixed: None,
        frozen: false,
        sizes: &["picture:1,48,192", "picture:6,48,192"],
    },
    Case {
        name: "det",
        file: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        dims: &[
            ("p2o_DynamicDimension_1", "32*h"),
            ("p2o_DynamicDimension_2", "32*w"),
        ],
        fixed: None,
        frozen: false,
        sizes: &["picture:1,320,320", "picture:1,480,640", "picture:2,64,96"],
    },
    Case {
        name: "rec",
        file: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        dims: &[("x_2", "48")],
        fixed: None,
        frozen: false,
        sizes: &["picture:1,48,320", "picture:6,48,320", "picture:1,48,100"],
    },
    Case {
        name: "silero",
        file: "silero_vad/data/silero_vad.onnx",
        dims: &[("input_0", "b"), ("input_1", "576"), ("state_1", "b")],
        fixed: Some(("sr", 16000)),
        frozen: false,
        sizes: &["silero:1", "silero:5"],
    },
    Case {
        name: "silero, frozen",
        file: "silero_vad/data/silero_vad.onnx",
        dims: &[("input_0", "b"), ("input_1", "576"), ("state_1", "b")],
        fixed: Some(("sr", 16000)),
        frozen: true,
        sizes: &["silero:1", "silero:5"],
    },
];

#[test]
#[ignore = "needs KILN_PYTHON with onnxruntime and the models below KILN_ONNX_MODELS"]
fn models_give_what_onnxruntime_gives() -> Result<(), Box<dyn Error>> {
    let python = std::env::var_os("KILN_PYTHON").ok_or("KILN_PYTHON names no Python")?;
    let models = std::env::var_os("KILN_ONNX_MODELS").ok_or("KILN_ONNX_MODELS names no folder")?;
    let chosen = std::env::var("KILN_ONNX_MODEL").ok();
    let (mut failures, mut opened) = (Vec::new(), Vec::new());
    println!("| model | input | largest error | Kiln, ms | onnxruntime, ms |");
    println!("|---|---|---|---|---|");
    for case in &CASES {
        if chosen.as_ref().is_some_and(|chosen| chosen != case.name) {
            continue;
        }
        let path = Path::new(&models).join(case.file);
        let (mut session, times) = open(case, &path)?;
        opened.push(times);
        for size in case.sizes {
            let mut peer = Peer::start(&python, &path, size)?;
            let Measured { error, kiln, other } = compare(&mut session, &mut peer)?;
            let name = case.name;
            println!("| `{name}` | {size} | {error:.1e} | {kiln:.3} | {other:.3} |");
            if error.is_nan() || error >= BAR {
                failures.push(format!("{name} {size}: {error:e}"));
            }
            if std::env::var_os("KILN_ONNX_PROFILE").is_some() {
                println!("{}", session.profile());
            }
        }
    }
    println!("\n| model | nodes | params | import, ms | compile, ms |\n|---|---|---|---|---|");
    println!("{}", opened.join("\n"));
    assert!(failures.is_empty(), "{failures:?}");
    Ok(())
}

/// The model, imported and compiled, with its weights in place; and a row that says what that took.
fn open(case: &Case, path: &Path) -> Result<(Session, String), Box<dyn Error>> {
    let mut options = ImportOptions {
        frozen: case.frozen,
        ..ImportOptions::default()
    };
    for (name, dim) in case.dims {
        options.dims.insert((*name).to_owned(), dim.parse()?);
    }
    if let Some((name, value)) = case.fixed {
        let array = Array::new(DType::I64, vec![], Values::Int(vec![value]))?;
        let value = Elements::from_array(&array);
        options.fixed.insert(name.to_owned(), value);
    }
    let begin = Instant::now();
    let import = read(path)?.import(&options)?;
    let imported = begin.elapsed();
    let begin = Instant::now();
    let executable = kiln::compile(&import.graph, &Options::from_env()?)?;
    let compiled = begin.elapsed();
    let times = format!(
        "| `{}` | {} | {} | {:.0} | {:.0} |",
        case.name,
        import.graph.len(),
        import.params.len(),
        1e3 * imported.as_secs_f64(),
        1e3 * compiled.as_secs_f64(),
    );
    let mut session = executable.session_with(&SessionOptions {
        threads: NonZeroUsize::new(1),
        ..SessionOptions::default()
    })?;
    weights::load(&mut session, &import.weights(), weights::everything)?;
    Ok((session, times))
}

/// onnxruntime in a process of its own.
struct Peer {
    process: Child,
    answers: BufReader<ChildStdout>,
    tensors: Tensors,
}

impl Peer {
    /// Starts it; when this returns it has written the inputs and outputs of a case.
    fn start(python: &OsStr, model: &Path, case: &str) -> Result<Peer, Box<dyn Error>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_models/models.py");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx_models.npz");
        let mut peer = Command::new(python);
        let peer = peer.arg(script).args([model, Path::new(case), &file]);
        let mut process = peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut answers = BufReader::new(process.stdout.take().ok_or("no output")?);
        answers.read_line(&mut String::new())?;
        Ok(Peer {
            process,
            answers,
            tensors: npz::open(&file)?,
        })
    }

    /// The milliseconds of the fastest run in a turn.
    fn turn(&mut self) -> Result<f64, Box<dyn Error>> {
        let input = self.process.stdin.as_mut().ok_or("no input")?;
        writeln!(input, "{}", TURN.as_secs_f64())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends where its input does.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

struct Measured {
    /// The largest difference of an element of any output.
    error: f64,
    /// The fastest run of each side, in milliseconds.
    kiln: f64,
    other: f64,
}

/// Runs a case in Kiln and compares it with onnxruntime.
fn compare(session: &mut Session, peer: &mut Peer) -> Result<Measured, Box<dyn Error>> {
    let mut held = Vec::new();
    for port in &session.program().inputs {
        let tensor = peer.tensors.get(&format!("in/{}", port.name));
        let tensor = tensor.ok_or_else(|| format!("the case has no input `{}`", port.name))?;
        let mut bytes = AlignedBytes::zeroed(tensor.bytes().len())?;
        bytes.bytes_mut().copy_from_slice(tensor.bytes());
        held.push((tensor.dtype(), tensor.shape().to_vec(), bytes));
    }
    let feeds: Vec<Feed<'_>> = held
        .iter()
        .map(|(dtype, shape, bytes)| Feed::from_bytes(*dtype, shape, bytes.bytes()))
        .collect::<Result<_, _>>()?;
    let mut error = 0.0f64;
    for output in session.step(&feeds)?.iter() {
        error = error.max(distance(&output, &peer.tensors)?);
    }
    session.record(std::env::var_os("KILN_ONNX_PROFILE").is_some());
    let (mut kiln, mut other) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        other = other.min(peer.turn()?);
        let end = Instant::now() + TURN;
        while Instant::now() < end {
            let begin = Instant::now();
            session.step(&feeds)?;
            kiln = kiln.min(1e3 * begin.elapsed().as_secs_f64());
        }
    }
    Ok(Measured { error, kiln, other })
}

/// The largest difference of an element from that of onnxruntime; a NaN is as far away as can be.
fn distance(output: &TensorView<'_>, wanted: &Tensors) -> Result<f64, Box<dyn Error>> {
    let wanted = wanted.get(&format!("out/{}", output.name()));
    let wanted = wanted.ok_or_else(|| format!("no output `{}`", output.name()))?;
    assert_eq!(output.shape(), wanted.shape(), "`{}`", output.name());
    let (dtype, shape, bytes) = (output.dtype(), output.shape(), output.bytes());
    let got = TensorRef::new(output.name(), dtype, shape, bytes)?.to_array()?;
    let wanted = wanted.to_array()?;
    let pairs = got.floats()?.iter().zip(wanted.floats()?);
    let off = pairs.map(|(got, wanted)| (got - wanted).abs());
    Ok(off.fold(0.0, |most, off| {
        most.max(if off.is_nan() { f64::INFINITY } else { off })
    }))
}
