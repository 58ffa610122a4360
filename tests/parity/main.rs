//! A GPT and an LSTM train as they do in PyTorch: 100 steps from the same weights and batches.
//!
//! The losses of all steps must lie within 1e-4 of PyTorch's and the gradients of the first step within 1e-5, each tensor in norm. Two small
//! models are held to numbers of PyTorch that lie beside this file. The sizes of the benches `gpt` and `lstm` need a Python with `torch` and
//! `safetensors`; `results.md` has what was found:
//!
//! ```text
//! KILN_PYTHON=python3 cargo test --release --test parity -- --ignored --nocapture
//! KILN_PYTHON=python3 KILN_PARITY_WRITE=1 cargo test --release --test parity -- --ignored --nocapture   # renews small.json too
//! ```
//!
//! PyTorch runs in f32 and in f64. A deviation from its f64 run is Kiln's rounding alone, and the one between its two runs says how much f32
//! can be expected to give.

mod cases;

use cases::{BATCH_STREAMS, Case, Weights};
use kiln::interop::{TensorRef, Tensors, safetensors};
use kiln::{Feed, Options, Session};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many steps are compared.
const STEPS: usize = 100;
/// How far a loss may lie from PyTorch's, as a share of it.
const LOSSES: f64 = 1e-4;
/// How far a tensor of gradients may lie from PyTorch's, as a share of its norm.
const GRADIENTS: f64 = 1e-5;

/// Losses of all steps, and the gradients of the first one.
struct Run {
    losses: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[test]
fn small_models_train_as_in_pytorch() -> Result<(), Box<dyn Error>> {
    let kept: Value = serde_json::from_str(include_str!("small.json"))?;
    for case in cases::small() {
        let kept = kept.get(case.name).ok_or("the file has every case")?;
        let found = kiln(&case, &case.weights()?)?;
        let losses: Vec<f64> = serde_json::from_value(kept["losses"].clone())?;
        assert_eq!(losses.len(), STEPS);
        let (step, most) = farthest(&found.losses, &losses);
        assert!(most < LOSSES, "{}: {most:e} off in step {step}", case.name);
        assert!(losses[STEPS - 1] < 0.7 * losses[0], "{}", case.name);
        let norms: BTreeMap<String, f64> = serde_json::from_value(kept["gradient_norms"].clone())?;
        assert!(norms.keys().eq(found.gradients.keys()), "{norms:?}");
        for (name, wanted) in norms {
            let off = (norm(&found.gradients[&name]) / wanted - 1.0).abs();
            assert!(off < GRADIENTS, "{} {name}: {off:e} off", case.name);
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs KILN_PYTHON with torch and safetensors, and minutes without optimisation"]
fn benched_models_train_as_in_pytorch() -> Result<(), Box<dyn Error>> {
    let python = std::env::var_os("KILN_PYTHON").ok_or("KILN_PYTHON names no Python")?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut kept = Map::new();
    let mut failures = Vec::new();
    let small = cases::small();
    for case in small.iter().chain(&cases::benched()) {
        let weights = case.weights()?;
        let (given, answer) = (
            folder.join(format!("parity-{}.safetensors", case.name)),
            folder.join(format!("parity-{}-torch.safetensors", case.name)),
        );
        write(case, &weights, &given)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/parity.py");
        let mut peer = Command::new(&python);
        let status = peer.arg(script).args([&given, &answer]).status()?;
        assert!(status.success(), "{}: {status}", case.name);
        let answer = safetensors::open(&answer)?;
        let [single, double] = ["32", "64"].map(|bits| read(&answer, bits));
        let (single, double) = (single?, double?);
        let found = kiln(case, &weights)?;
        report(case.name, &found, &single, &double);
        let loss = farthest(&found.losses, &single.losses).1;
        let gradients = found.gradients.iter();
        let mut gradients = gradients.map(|(name, x)| distance(x, &single.gradients[name]));
        if !(loss < LOSSES && gradients.all(|off| off < GRADIENTS)) {
            failures.push(case.name);
        }
        if small.iter().any(|small| small.name == case.name) {
            let norms = double.gradients.iter();
            let norms: Map<String, Value> = norms
                .map(|(name, values)| (name.clone(), json!(norm(values))))
                .collect();
            let one = json!({ "losses": double.losses, "gradient_norms": norms });
            kept.insert(case.name.to_owned(), one);
        }
    }
    if std::env::var_os("KILN_PARITY_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/small.json");
        std::fs::write(path, serde_json::to_string(&kept)? + "\n")?;
    }
    assert!(failures.is_empty(), "{failures:?}");
    Ok(())
}

/// Prints how far three runs lie from each other, in a fifth of the steps and for each tensor.
fn report(case: &str, found: &Run, single: &Run, double: &Run) {
    let pairs = [(found, single), (found, double), (single, double)];
    let (first, last) = (found.losses[0], found.losses[STEPS - 1]);
    println!("\n## `{case}`: loss {first:.6} to {last:.6}\n");
    println!("| | Kiln from f32 | Kiln from f64 | f32 from f64 |\n|---|---|---|---|");
    let row =
        |what: String, [x, y, z]: [f64; 3]| println!("| {what} | {x:.1e} | {y:.1e} | {z:.1e} |");
    for start in (0..STEPS).step_by(STEPS / 5) {
        let steps = start..start + STEPS / 5;
        let off =
            pairs.map(|(x, y)| farthest(&x.losses[steps.clone()], &y.losses[steps.clone()]).1);
        row(
            format!("losses of steps {} to {}", start + 1, steps.end),
            off,
        );
    }
    for name in found.gradients.keys() {
        let off = pairs.map(|(x, y)| distance(&x.gradients[name], &y.gradients[name]));
        row(format!("gradient of `{name}`"), off);
    }
}

/// Trains in Kiln.
fn kiln(case: &Case, weights: &Weights) -> Result<Run, Box<dyn Error>> {
    let start = |graph| -> Result<Session, Box<dyn Error>> {
        let mut session = kiln::compile(&graph, &Options::default())?.session(cases::SEED)?;
        for (name, (shape, values)) in weights {
            session.set_state(name, Feed::new(values, shape))?;
        }
        Ok(session)
    };
    let shape = [case.batch, case.time];
    let [x, y] = BATCH_STREAMS.map(|name| case.tokens(name));
    let (x, y) = (
        x.chunks(case.batch * case.time),
        y.chunks(case.batch * case.time),
    );
    let batches: Vec<[Feed<'_>; 2]> = x
        .zip(y)
        .map(|(x, y)| [x, y].map(|tokens| Feed::new(tokens, &shape)))
        .collect();
    let mut differentiated = start(case.gradients()?)?;
    let outputs = differentiated.step(&batches[0])?;
    let mut gradients = BTreeMap::new();
    for name in weights.keys() {
        let values = outputs.as_slice::<f32>(name.as_str())?.iter();
        gradients.insert(name.clone(), values.map(|x| f64::from(*x)).collect());
    }
    let mut session = start(case.training()?)?;
    let mut losses = Vec::with_capacity(STEPS);
    for batch in &batches {
        losses.push(session.step(batch)?.scalar("loss")?);
    }
    Ok(Run { losses, gradients })
}

/// Writes weights, batches and settings for PyTorch.
fn write(case: &Case, weights: &Weights, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = weights.iter().map(|(name, (shape, values))| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        (name.as_str(), kiln::DType::F32, shape.clone(), bytes)
    });
    let batches = BATCH_STREAMS.map(|name| {
        let tokens = case.tokens(name);
        let bytes = tokens.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![STEPS, case.batch, case.time];
        (name, kiln::DType::I32, shape, bytes)
    });
    let all: Vec<_> = bytes.chain(batches).collect();
    let tensors: Result<Vec<TensorRef<'_>>, _> = all
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorRef::new(name, *dtype, shape, bytes))
        .collect();
    Ok(safetensors::save(path, tensors?, &case.texts())?)
}

/// What PyTorch found with floats of `bits`.
fn read(answer: &Tensors, bits: &str) -> Result<Run, Box<dyn Error>> {
    let values = |name: &str| -> Result<Vec<f64>, Box<dyn Error>> {
        let tensor = answer.get(name).ok_or_else(|| name.to_owned())?;
        Ok(tensor.to_array()?.floats()?.to_vec())
    };
    let prefix = format!("gradients{bits}/");
    let names = answer.iter().filter_map(|t| t.name().strip_prefix(&prefix));
    let gradients = names.map(|name| Ok((name.to_owned(), values(&format!("{prefix}{name}"))?)));
    Ok(Run {
        gradients: gradients.collect::<Result<_, Box<dyn Error>>>()?,
        losses: values(&format!("losses{bits}"))?,
    })
}

/// The step, counted from 1, in which the losses lie farthest apart, and how far, as a share.
fn farthest(found: &[f64], wanted: &[f64]) -> (usize, f64) {
    let off = found.iter().zip(wanted).map(|(x, y)| (x / y - 1.0).abs());
    let numbered = off.enumerate().map(|(i, off)| (i + 1, off));
    numbered.fold((0, 0.0), |most, one| {
        if one.1 > most.1 || one.1.is_nan() {
            one
        } else {
            most
        }
    })
}

/// The norm of the difference, as a share of the norm of what is wanted.
fn distance(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let difference: Vec<f64> = found.iter().zip(wanted).map(|(x, y)| x - y).collect();
    norm(&difference) / norm(wanted)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}
