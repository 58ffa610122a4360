//! Random graphs, with gradients and updates, in every way to compute them.
//!
//! Machine code is compared bit for bit with machine code: optimised or not, fused or not, on 1, 2 and 4 threads, over several steps and
//! bindings of one compilation. And each op is compared with the interpreter, in each iteration of a loop too, on the operands that the machine
//! code itself had, so that bounds are those of one op and do not add up (`each_op.rs`).
//!
//! `KILN_DIFFERENTIAL=first..last` runs other seeds than the few of every test run, and `KILN_DIFFERENTIAL_STEPS=n` graphs of another
//! size, which is how a failure is made smaller.

#[path = "../common/mod.rs"]
mod common;
mod each_op;

use common::Numbers;
use common::compare::{bits_differ, op_differs};
use common::custom::register_all;
use common::data::{Fed, Kind, random};
use common::generate::{DTYPES, SIZES, graph};
use common::jit::{Results, VARIANTS, executable, inputs, residents, session_at, states, step};
use common::ops::COMPOUND;
use kiln_ir::ops::Op;
use kiln_ir::{
    Array, Bindings, Dim, EvalError, Graph, Node, NodeId, Output, Slot, TensorType, eval,
};
use kiln_runtime::{Session, StepError};
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The seeds of a test run, shared out among the tests of this file.
const SEEDS: Range<u64> = 0..32;
const SHARES: u64 = 4;
/// How many ops the smallest graphs have, and how many sizes there are.
const STEPS: (usize, u64) = (4, 22);

#[test]
fn first_share() {
    run_share(0);
}

#[test]
fn second_share() {
    run_share(1);
}

#[test]
fn third_share() {
    run_share(2);
}

#[test]
fn fourth_share() {
    run_share(3);
}

#[test]
fn the_generator_makes_every_op_and_every_type() {
    let mut made = BTreeSet::new();
    for seed in 0..400 {
        let graph = graph(seed, 20);
        for (_, node) in graph.nodes() {
            made.insert(node.op.rules().name().to_owned());
            made.insert(node.ty.dtype.name().to_owned());
        }
    }
    let ops = Op::representatives();
    let ops = ops.iter().map(|op| op.rules().name());
    for name in ops.chain(DTYPES.iter().map(|dtype| dtype.name())) {
        // Of the ops of several results only loops are made.
        let others = COMPOUND.contains(&name) && !["scan", "part"].contains(&name);
        let made = made.contains(name) || others;
        assert!(made, "no graph has {name}");
    }
}

fn run_share(share: u64) {
    let seeds = match std::env::var("KILN_DIFFERENTIAL") {
        Ok(text) => {
            let (first, last) = text.split_once("..").expect("first..last");
            first.parse().expect("a seed")..last.parse().expect("a seed")
        }
        Err(_) => SEEDS,
    };
    let fixed: Option<usize> = std::env::var("KILN_DIFFERENTIAL_STEPS")
        .ok()
        .map(|n| n.parse().expect("a number of steps"));
    let mut failures = Vec::new();
    for seed in seeds.filter(|s| s % SHARES == share) {
        let steps = fixed.unwrap_or(STEPS.0 + (seed % STEPS.1) as usize);
        if let Some(why) = failure(seed, steps) {
            let (steps, why) = smallest(seed, steps, why);
            let text = catch_unwind(|| graph(seed, steps).to_string());
            let text = text.unwrap_or_else(|_| "the generator panics".into());
            failures.push(format!("seed {seed}, {steps} steps: {why}\n{text}"));
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// The smallest graph of the seed that fails, and how.
fn smallest(seed: u64, steps: usize, why: String) -> (usize, String) {
    (0..steps)
        .find_map(|fewer| Some((fewer, failure(seed, fewer)?)))
        .unwrap_or((steps, why))
}

/// How the graph of the seed fails, if it does. A panic is a failure too.
fn failure(seed: u64, steps: usize) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| check(seed, steps))) {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// A step's values: of the inputs and, before the first step, of params and state.
struct Feeds {
    bindings: Bindings,
    inputs: Vec<Array>,
    shift: bool,
}

fn check(seed: u64, steps: usize) -> Result<(), String> {
    let graph = graph(seed, steps);
    kiln_ir::verify(&graph).map_err(|e| format!("the graph does not verify: {e}"))?;
    let mut numbers = Numbers::new(seed ^ 0xFEED);
    check_graph(&graph, &mut numbers)?;
    large(&graph, &mut numbers)
}

#[test]
fn every_filetest_that_compiles_is_computed_alike() {
    register_all();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let folders = [
        "parse",
        "verify",
        "optimized",
        "fused",
        "kernels",
        "program",
    ];
    let (mut failures, mut run) = (Vec::new(), 0);
    for folder in folders {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a text");
            let Ok(graph) = Graph::parse(&text) else {
                continue;
            };
            // Custom ops that nobody has written cannot be called.
            let computable = |(_, node): (NodeId, &Node)| {
                let known =
                    !matches!(&node.op, Op::CustomCall(call) if !call.target.starts_with("tests/"));
                known && DTYPES.contains(&node.ty.dtype)
            };
            if text.contains("; error:") || !graph.nodes().all(computable) {
                continue;
            }
            run += 1;
            let found = catch_unwind(AssertUnwindSafe(|| {
                check_graph(&graph, &mut Numbers::new(1))
            }));
            match found {
                Ok(Ok(())) => {}
                Ok(Err(why)) => failures.push(format!("{}: {why}", path.display())),
                Err(_) => failures.push(format!("{}: panic", path.display())),
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    assert!(run > 80, "only {run} files are computed");
}

fn check_graph(graph: &Graph, numbers: &mut Numbers) -> Result<(), String> {
    let fixed = fixed(graph, numbers);
    let sequence: Vec<Feeds> = (0..3).map(|i| feeds(graph, numbers, &fixed, i)).collect();
    let initial: Vec<Array> = residents(graph)
        .map(|slot| value(graph, slot, numbers, &sequence[0].bindings, Kind::Plain))
        .collect();
    let mut expected: Option<Vec<Result<Results, StepError>>> = None;
    for variant in VARIANTS {
        let executable = executable(graph, variant).map_err(|e| format!("{variant:?}: {e}"))?;
        for threads in [1, 2, 4] {
            let mut session = session_at(&executable, threads, fixed.clone());
            start(graph, &mut session, &initial)?;
            let found = run(&mut session, &sequence);
            match &expected {
                None => expected = Some(found),
                Some(expected) => {
                    same(expected, &found)
                        .map_err(|e| format!("{variant:?} on {threads} threads: {e}"))?;
                }
            }
        }
    }
    let expected = expected.unwrap_or_default();
    updates_are_outputs(graph, &fixed, &sequence, &initial, &expected)?;
    each_op::each_op(graph, &fixed, &sequence, &initial, &expected)
}

/// Sizes for the symbols of params and state, which stay for a session.
fn fixed(graph: &Graph, numbers: &mut Numbers) -> Bindings {
    let mut fixed = Bindings::new();
    for slot in residents(graph) {
        let shape = &graph.node(slot.node).expect("a slot has a node").ty.shape;
        for symbol in shape.iter().flat_map(Dim::symbols) {
            if fixed.get(&symbol).is_none() {
                fixed.insert(symbol, numbers.pick(&SIZES));
            }
        }
    }
    fixed
}

/// Sizes at which launches and products are shared out among threads; too large for the interpreter.
fn large(graph: &Graph, numbers: &mut Numbers) -> Result<(), String> {
    let (b, t) = numbers.pick(&[(150, 90), (700, 17), (3, 2000)]);
    let bindings = Bindings::from([("b", b), ("t", t)]);
    let initial: Vec<Array> = residents(graph)
        .map(|slot| value(graph, slot, numbers, &bindings, Kind::Plain))
        .collect();
    let feeds = feeds_of(graph, numbers, bindings, false);
    let mut expected: Option<Vec<Result<Results, StepError>>> = None;
    for variant in &VARIANTS[..2] {
        let executable = executable(graph, *variant).map_err(|e| format!("{variant:?}: {e}"))?;
        for threads in [1, 2, 4] {
            let mut session = session_at(&executable, threads, Bindings::new());
            start(graph, &mut session, &initial)?;
            let found = run(&mut session, std::slice::from_ref(&feeds));
            match &expected {
                None => expected = Some(found),
                Some(expected) => same(expected, &found).map_err(|e| {
                    format!("{variant:?} on {threads} threads, b = {b}, t = {t}: {e}")
                })?,
            }
        }
    }
    Ok(())
}

fn feeds(graph: &Graph, numbers: &mut Numbers, fixed: &Bindings, position: usize) -> Feeds {
    let mut bindings = fixed.clone();
    let shapes = graph.nodes().map(|(_, node)| &node.ty.shape);
    for symbol in shapes.flat_map(|s| s.iter()).flat_map(Dim::symbols) {
        if bindings.get(&symbol).is_none() {
            bindings.insert(symbol, numbers.pick(&SIZES));
        }
    }
    feeds_of(graph, numbers, bindings, position % 2 == 1)
}

fn feeds_of(graph: &Graph, numbers: &mut Numbers, bindings: Bindings, shift: bool) -> Feeds {
    let kind = numbers.pick(&[Kind::Plain, Kind::Plain, Kind::Odd, Kind::Ties]);
    let inputs = inputs(graph)
        .map(|slot| value(graph, slot, numbers, &bindings, kind))
        .collect();
    Feeds {
        bindings,
        inputs,
        shift,
    }
}

fn value(
    graph: &Graph,
    slot: &Slot,
    numbers: &mut Numbers,
    bindings: &Bindings,
    kind: Kind,
) -> Array {
    let ty = &graph.node(slot.node).expect("a slot has a node").ty;
    // A size that cannot be is refused by the step.
    let shape: Vec<usize> = ty
        .shape
        .iter()
        .map(|d| d.eval_size(bindings).unwrap_or(0))
        .collect();
    random(numbers, ty.dtype, &shape, kind)
}

fn start(graph: &Graph, session: &mut Session, values: &[Array]) -> Result<(), String> {
    for (slot, value) in residents(graph).zip(values) {
        let fed = Fed::new(value, false);
        session
            .set_state(&slot.name, fed.feed())
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// All steps of the sequence, then the first again, so that a plan is used a second time. A refused step leaves the states.
fn run(session: &mut Session, sequence: &[Feeds]) -> Vec<Result<Results, StepError>> {
    let order = (0..sequence.len()).chain([0]);
    order
        .map(|i| {
            let fed: Vec<Fed> = sequence[i]
                .inputs
                .iter()
                .map(|a| Fed::new(a, sequence[i].shift))
                .collect();
            let before = states(session);
            let found = step(session, &fed);
            if found.is_err() {
                let after = states(session);
                let kept = before
                    .iter()
                    .zip(&after)
                    .all(|(b, a)| bits_differ(b, a).is_none());
                assert!(kept, "a refused step changed a state");
            }
            found
        })
        .collect()
}

fn same(
    expected: &[Result<Results, StepError>],
    found: &[Result<Results, StepError>],
) -> Result<(), String> {
    for (i, pair) in expected.iter().zip(found).enumerate() {
        match pair {
            (Ok(e), Ok(f)) => {
                let outputs = e.outputs.iter().zip(&f.outputs).enumerate();
                for (o, (e, f)) in outputs {
                    if let Some(why) = bits_differ(e, f) {
                        return Err(format!("step {i}, output {o}: {why}"));
                    }
                }
                for (s, (e, f)) in e.states.iter().zip(&f.states).enumerate() {
                    if let Some(why) = bits_differ(e, f) {
                        return Err(format!("step {i}, state {s}: {why}"));
                    }
                }
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(e)) | (Err(e), Ok(_)) => {
                return Err(format!("step {i} is refused in one way only: {e}"));
            }
        }
    }
    Ok(())
}

/// The same updates as outputs give what the states become.
fn updates_are_outputs(
    graph: &Graph,
    fixed: &Bindings,
    sequence: &[Feeds],
    initial: &[Array],
    expected: &[Result<Results, StepError>],
) -> Result<(), String> {
    let mut shown = Graph::empty(&graph.name);
    graph.nodes().for_each(|(_, n)| {
        shown.push(n.clone());
    });
    graph
        .slots()
        .iter()
        .for_each(|s| shown.push_slot(s.clone()));
    graph
        .outputs()
        .iter()
        .for_each(|o| shown.push_output(o.clone()));
    for (i, update) in graph.updates().iter().enumerate() {
        shown.push_output(Output {
            name: format!("update {i}"),
            node: update.value,
        });
    }
    let executable = executable(&shown, VARIANTS[1])?;
    let mut session = session_at(&executable, 1, fixed.clone());
    start(&shown, &mut session, initial)?;
    let found = run(&mut session, &sequence[..1]);
    let (Ok(found), Some(Ok(expected))) = (&found[0], expected.first()) else {
        return Ok(());
    };
    let targets: Vec<NodeId> = residents(graph).map(|s| s.node).collect();
    for (i, target) in targets.iter().enumerate() {
        let update = graph.updates().iter().position(|u| u.target == *target);
        let wanted = match update {
            Some(at) => &found.outputs[graph.outputs().len() + at],
            None => &initial[i],
        };
        if let Some(why) = bits_differ(wanted, &expected.states[i]) {
            return Err(format!("state {i} is not the value of its update: {why}"));
        }
    }
    Ok(())
}
