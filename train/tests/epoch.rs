//! Epochs on real sessions: what they feed, what they average, and how params get from one session to another.

use kiln_compiler::{Compiled, Options, compile};
use kiln_ir::{Builder, DType, Dim, Graph, Init, TensorType};
use kiln_nn::{Accuracy, Adam, Optimizer, Sequential, Sgd, SparseCrossEntropy};
use kiln_runtime::{Executable, Session, SessionOptions};
use kiln_train::data::text::Windows;
use kiln_train::data::{Column, Dataset, Loader};
use kiln_train::graphs::Task;
use kiln_train::{Means, epoch, hand_over};
use std::num::NonZeroUsize;

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

/// Outputs the mean and the whole sum of `x`, and, first of all, `x` itself.
fn statistics() -> Graph {
    let g = Builder::new("statistics");
    let x = g.input("x", DType::F32, (g.dim("b"),));
    g.output("all", x);
    g.output("mean", x.mean());
    g.output("whole sum", x.sum().convert(DType::I64));
    g.finish().unwrap()
}

#[test]
fn means_are_over_examples_and_only_over_floating_scalars() {
    let data = Dataset::new([
        Column::new("unused", [5], vec![0_u8; 5]).unwrap(),
        Column::new("x", [5], vec![1.0_f32, 2.0, 3.0, 4.0, 10.0]).unwrap(),
    ])
    .unwrap();
    let mut session = open(&statistics(), 0);
    let mut loader = Loader::new(&data, 2).unwrap();
    let mut seen = Vec::new();
    let means = epoch(&mut session, &mut loader, 0, |m| {
        seen.push(m.get("mean").unwrap());
    })
    .unwrap();
    // The mean of the batches' means would be 5.
    assert_eq!(seen, [1.5, 2.5, 4.0]);
    let mut wanted = Means::new(["mean"]);
    wanted.add(5, [4.0]);
    assert_eq!(means, wanted);
}

#[test]
fn an_epoch_over_a_text_feeds_windows_and_what_follows_them() {
    let g = Builder::new("text");
    let (b, t) = (g.dim("b"), g.dim("t"));
    let y = g.input("y", DType::U32, (b.clone(), t.clone()));
    let x = g.input("x", DType::U32, (b, t));
    g.output(
        "step",
        (y.convert(DType::F32) - x.convert(DType::F32)).mean(),
    );
    g.output("first", x.convert(DType::F32).mean());
    let mut session = open(&g.finish().unwrap(), 0);
    // Tokens that are their own places: 11 windows of 4 and one token behind the last.
    let tokens = Column::new("tokens", [45], (0..45).collect::<Vec<u32>>()).unwrap();
    let mut windows = Windows::new(&tokens, 4, 3).unwrap();
    let mut batches = 0;
    let means = epoch(&mut session, &mut windows, 0, |_| batches += 1).unwrap();
    assert_eq!(batches, 4, "the last one is of two windows");
    assert_eq!(means.get("step"), Some(1.0));
    assert_eq!(means.get("first"), Some(21.5));
    let mut random = windows.random(5, 7).unwrap();
    let run = |session: &mut Session, windows: &mut Windows<'_>| {
        epoch(session, windows, 2, |_| {}).unwrap().get("first")
    };
    let first = run(&mut session, &mut random);
    assert_ne!(first, Some(21.5));
    assert_eq!(
        run(&mut session, &mut random),
        first,
        "an epoch is the same again"
    );
}

#[test]
fn data_without_a_column_and_refused_batches_are_named() {
    let column = |name: &str, dims: &[usize]| {
        let count = dims.iter().product();
        Column::new(name, dims, vec![0.0_f32; count]).unwrap()
    };
    let mut session = open(&statistics(), 0);
    let mut message = |column| {
        let data = Dataset::new([column]).unwrap();
        let mut loader = Loader::new(&data, 2).unwrap();
        let result = epoch(&mut session, &mut loader, 3, |_| {});
        result.unwrap_err().to_string()
    };
    assert_eq!(
        message(column("z", &[4])),
        "the data cannot be fed to `statistics`: there is no column `x`; there are `z`"
    );
    let refused = message(column("x", &[4, 3]));
    assert!(
        refused.starts_with("batch 0 of epoch 3 was refused: "),
        "{refused}"
    );
    assert!(refused.contains("f32[b]"), "{refused}");
}

/// Two blobs of points, one for each class.
fn blobs() -> Dataset {
    let stream = kiln_ir::philox::Stream::new(1, "blobs", 0);
    let labels: Vec<u8> = (0..90).map(|i| (i % 2) as u8).collect();
    let point = |i: u64| stream.normal(i) as f32 * 0.5 + if i / 2 % 2 == 1 { 2.0 } else { -2.0 };
    let points: Vec<f32> = (0..180).map(point).collect();
    Dataset::new([
        Column::new("y", [90], labels).unwrap(),
        Column::new("x", [90, 2], points).unwrap(),
    ])
    .unwrap()
}

#[test]
fn a_model_learns_in_one_session_and_is_measured_in_another() {
    let model = Sequential::new([2]).dense(8).relu().dropout(0.1).dense(2);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[&Accuracy],
    };
    let mut learner = open(&task.training(&Adam::new(0.02)).unwrap(), 7);
    let mut judge = open(&task.evaluation().unwrap(), 8);
    let data = blobs();
    let mut loader = Loader::new(&data, 16).unwrap().shuffled(1);
    let mut whole = Loader::new(&data, 64).unwrap();
    let before = epoch(&mut judge, &mut whole, 0, |_| {}).unwrap();
    for number in 0..20 {
        epoch(&mut learner, &mut loader, number, |_| {}).unwrap();
    }
    hand_over(&learner, &mut judge).unwrap();
    let after = epoch(&mut judge, &mut whole, 0, |_| {}).unwrap();
    assert_eq!(after.get("accuracy"), Some(1.0));
    assert!(
        after.get("loss") < before.get("loss"),
        "{before} then {after}"
    );
    assert!(after.get("loss") < Some(0.1), "{after}");
    for name in ["dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"] {
        let (given, taken) = (learner.state(name).unwrap(), judge.state(name).unwrap());
        assert_eq!(given.bytes(), taken.bytes(), "{name}");
    }
    // A pass without updates changes nothing, however the batches are cut.
    let mut other = Loader::new(&data, 7).unwrap();
    let again = epoch(&mut judge, &mut other, 0, |_| {}).unwrap();
    assert!((again.get("loss").unwrap() - after.get("loss").unwrap()).abs() < 1e-6);
}

#[test]
fn a_hand_over_that_does_not_fit_changes_nothing() {
    let session = |names: &[(&str, i64)], seed| {
        let g = Builder::new("model");
        let x = g.input("x", DType::F32, (g.dim("b"), 1));
        let mut sum = x.mean();
        for (name, size) in names {
            sum = sum + g.param(name, [*size], Init::normal(1.0)).mean();
        }
        g.output("loss", sum);
        Sgd::new(0.1).minimize(sum);
        open(&g.finish().unwrap(), seed)
    };
    let values = |s: &Session| -> Vec<Vec<u8>> { s.states().map(|v| v.bytes().to_vec()).collect() };
    let from = session(&[("a", 2), ("b", 3)], 1);
    for (names, wanted) in [
        (
            vec![("a", 2), ("c", 1)],
            "`model` needs `c`, which `model` does not have",
        ),
        (vec![("a", 2), ("b", 4)], "`b`"),
    ] {
        let mut to = session(&names, 2);
        let before = values(&to);
        let error = hand_over(&from, &mut to).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(values(&to), before);
    }
    let mut to = session(&[("b", 3)], 2);
    hand_over(&from, &mut to).unwrap();
    assert_eq!(
        to.state("b").unwrap().bytes(),
        from.state("b").unwrap().bytes()
    );
}

#[test]
fn a_state_that_the_giver_lacks_stays_as_it_is() {
    let session = |state: &[&str], seed| {
        let g = Builder::new("model");
        let mut sum = g.param("a", (), Init::normal(1.0));
        for name in state {
            sum = sum + g.state(name, DType::F32, (), Init::Constant(seed as f64));
        }
        g.output("sum", sum);
        open(&g.finish().unwrap(), seed)
    };
    let (from, mut to) = (session(&["shared"], 1), session(&["own", "shared"], 2));
    hand_over(&from, &mut to).unwrap();
    let values: Vec<f64> = to.states().map(|s| s.scalar().unwrap()).collect();
    let given = from.state("a").unwrap().scalar().unwrap();
    assert_eq!(values, [given, 2.0, 1.0]);
}
