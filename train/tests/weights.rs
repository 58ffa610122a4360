//! Weights between sessions and files: names, types and shapes are compared before anything is written.

use kiln_compiler::{Compiled, Options, compile};
use kiln_interop::{SaveError, TensorRef, Tensors, safetensors};
use kiln_ir::program::Resident;
use kiln_ir::{Builder, DType, Graph, Init, Role};
use kiln_runtime::{Executable, Session, SessionOptions};
use kiln_train::weights::{self, LoadWeightsError};
use std::num::NonZeroUsize;
use std::path::PathBuf;

fn open(graph: &Graph, seed: u64) -> Session {
    let Compiled { program, code, .. } = compile(graph, &Options::default()).unwrap();
    // SAFETY: the compiler made this code for this program.
    let executable = unsafe { Executable::new(program, Box::new(code)) }.unwrap();
    let options = SessionOptions {
        threads: NonZeroUsize::new(1),
        ..SessionOptions::new(seed)
    };
    executable.session_with(&options).unwrap()
}

/// Two params and two states of four types.
fn graph() -> Graph {
    let g = Builder::new("model");
    let w = g.param("fc/w", (3, 2), Init::normal(1.0));
    let b = g.param("fc/b", (2,), Init::uniform(1.0));
    let count = g.state("count", DType::I64, (), Init::Constant(5.0));
    let seen = g.state("seen", DType::Bool, (2,), Init::zeros());
    g.update(w, w + b.sum().broadcast_to((3, 2)));
    g.update(b, b * 0.5);
    g.update(count, count + 1.0);
    g.update(seen, b.gt(0.0));
    g.output("sum", w.sum());
    g.finish().unwrap()
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn content(session: &Session) -> Vec<Vec<u8>> {
    session
        .states()
        .map(|state| state.bytes().to_vec())
        .collect()
}

fn step(session: &mut Session) {
    session.step(kiln_runtime::Feed::NONE).unwrap();
}

/// The names of PyTorch for those of the graph, and no state.
fn torch(resident: &Resident) -> Option<String> {
    let name = match resident.name.as_str() {
        "fc/w" => "fc.weight",
        "fc/b" => "fc.bias",
        _ => return None,
    };
    Some(name.into())
}

/// A file in the form, from a header and data, so that elements can lie where no writer would put them.
fn file(header: &str, data: &[u8]) -> Tensors {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    safetensors::parse("file", bytes).unwrap()
}

#[test]
fn a_session_goes_on_where_its_file_was_written() {
    let graph = graph();
    let path = scratch("goes-on.safetensors");
    let mut first = open(&graph, 1);
    step(&mut first);
    weights::save(&first, &path, weights::everything).unwrap();
    let mut second = open(&graph, 2);
    assert_ne!(content(&first), content(&second));
    let read = safetensors::open(&path).unwrap();
    let unused = weights::load(&mut second, &read, weights::everything).unwrap();
    assert!(unused.is_empty());
    assert_eq!(content(&first), content(&second));
    step(&mut first);
    step(&mut second);
    assert_eq!(content(&first), content(&second));
}

#[test]
fn names_are_mapped_and_what_is_not_chosen_stays() {
    let graph = graph();
    let path = scratch("mapped.safetensors");
    let mut first = open(&graph, 1);
    step(&mut first);
    weights::save(&first, &path, torch).unwrap();
    let read = safetensors::open(&path).unwrap();
    let names: Vec<&str> = read.iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["fc.bias", "fc.weight"]);
    let mut second = open(&graph, 2);
    weights::load(&mut second, &read, torch).unwrap();
    assert_eq!(content(&first)[..2], content(&second)[..2]);
    assert_eq!(second.state("count").unwrap().scalar().unwrap(), 5.0);
}

#[test]
fn params_are_chosen_without_states_and_leftovers_are_named() {
    let graph = graph();
    let path = scratch("params.safetensors");
    let first = open(&graph, 1);
    weights::save(&first, &path, weights::everything).unwrap();
    let read = safetensors::open(&path).unwrap();
    let mut second = open(&graph, 2);
    step(&mut second);
    let unused = weights::load(&mut second, &read, weights::params).unwrap();
    assert_eq!(unused, ["count", "seen"]);
    assert_eq!(content(&first)[..2], content(&second)[..2]);
    assert_eq!(second.state("count").unwrap().scalar().unwrap(), 6.0);
    // One tensor for two params of one shape, as tied weights are.
    let g = Builder::new("tied");
    let [a, b] = ["a", "b"].map(|name| g.param(name, (3, 2), Init::zeros()));
    g.output("sum", (a + b).sum());
    let mut tied = open(&g.finish().unwrap(), 0);
    weights::load(&mut tied, &read, |_| Some("fc/w".into())).unwrap();
    let [a, b] = ["a", "b"].map(|name| tied.state(name).unwrap().to_vec::<f32>().unwrap());
    assert_eq!(a, b);
    assert_eq!(a, first.state("fc/w").unwrap().to_vec::<f32>().unwrap());
}

#[test]
fn all_that_differs_is_told_and_nothing_is_changed() {
    let path = scratch("differs.safetensors");
    let bytes = [1u8; 24];
    let tensors = [
        TensorRef::new("fc.weight", DType::F32, &[2, 3], &bytes).unwrap(),
        TensorRef::new("count", DType::I32, &[], &bytes[..4]).unwrap(),
        TensorRef::new("seen", DType::Bool, &[2], &[1, 2]).unwrap(),
    ];
    safetensors::save(&path, tensors, &Default::default()).unwrap();
    let read = safetensors::open(&path).unwrap();
    let mut session = open(&graph(), 1);
    let before = content(&session);
    let error = weights::load(&mut session, &read, |resident| {
        torch(resident).or_else(|| weights::everything(resident))
    })
    .unwrap_err();
    let wanted = format!(
        "{} does not fit `model`, in which nothing has changed:
  `fc/w` is f32[3, 2], but `fc.weight` in the file is f32[2, 3] (its transpose; PyTorch keeps dense weights that way)
  the file has no `fc.bias`, which is to become `fc/b`
  `count` is i64[], but `count` in the file is i32[]
  `seen` in the file: byte 1 of the bool elements is 2; truth values are 0 and 1",
        path.display()
    );
    assert_eq!(error.to_string(), wanted);
    assert_eq!(content(&session), before);
}

#[test]
fn a_missing_name_alone_leaves_the_others_unwritten() {
    let path = scratch("missing.safetensors");
    let graph = graph();
    let other = open(&graph, 2);
    weights::save(&other, &path, |resident| {
        (resident.name != "seen").then(|| resident.name.clone())
    })
    .unwrap();
    let mut session = open(&graph, 1);
    let before = content(&session);
    let read = safetensors::open(&path).unwrap();
    let error = weights::load(&mut session, &read, weights::everything).unwrap_err();
    assert!(
        error.to_string().ends_with("\n  the file has no `seen`"),
        "{error}"
    );
    assert_eq!(content(&session), before);
}

#[test]
fn long_lists_of_differences_are_counted() {
    let g = Builder::new("many");
    for i in 0..13 {
        let w = g.param(&format!("w{i}"), (), Init::zeros());
        g.output(&format!("o{i}"), w + 1.0);
    }
    let mut session = open(&g.finish().unwrap(), 0);
    let error = weights::load(&mut session, &file("{}", &[]), weights::everything).unwrap_err();
    let message = error.to_string();
    assert_eq!(message.lines().count(), 12, "{message}");
    assert!(
        message.ends_with("\n  the file has no `w9`\n  and 3 more"),
        "{message}"
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let path = scratch("damaged.safetensors");
    let graph = graph();
    weights::save(&open(&graph, 2), &path, weights::everything).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let read = safetensors::parse("file", bytes).unwrap();
    let mut session = open(&graph, 1);
    let before = content(&session);
    let error = weights::load(&mut session, &read, weights::everything).unwrap_err();
    assert!(matches!(error, LoadWeightsError::File(_)), "{error}");
    assert!(
        error.to_string().contains("the file was damaged since"),
        "{error}"
    );
    assert_eq!(content(&session), before);
}

#[test]
fn elements_that_lie_askew_in_the_file_are_copied() {
    let header = r#"{"pad":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"count":{"dtype":"I64","shape":[],"data_offsets":[1,9]},"fc/b":{"dtype":"F32","shape":[2],"data_offsets":[9,17]}}"#;
    let mut data = vec![0];
    data.extend(77i64.to_le_bytes());
    data.extend([1.5f32, -2.5].iter().flat_map(|x| x.to_le_bytes()));
    let read = file(header, &data);
    let mut session = open(&graph(), 1);
    let unused = weights::load(&mut session, &read, |resident| {
        ["count", "fc/b"]
            .contains(&resident.name.as_str())
            .then(|| resident.name.clone())
    })
    .unwrap();
    assert_eq!(unused, ["pad"]);
    assert_eq!(session.state("count").unwrap().scalar().unwrap(), 77.0);
    assert_eq!(
        session.state("fc/b").unwrap().to_vec::<f32>().unwrap(),
        [1.5, -2.5]
    );
}

#[test]
fn two_of_one_name_are_not_saved() {
    let path = scratch("one-name.safetensors");
    let session = open(&graph(), 1);
    let error = weights::save(&session, &path, |resident| match resident.role {
        Role::Param(_) => Some("w".into()),
        Role::State(_) | Role::Input => None,
    });
    assert!(matches!(error.unwrap_err(), SaveError::Duplicate { name } if name == "w"));
    assert!(!path.exists());
}
