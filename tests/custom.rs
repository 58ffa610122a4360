//! Custom calls through the whole way: compiled in every way and interpreted, bit for bit, within loops and branches, and what becomes of a
//! step whose custom op fails.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::custom::register_all;
use common::data::{Fed, Kind, random};
use common::jit::{VARIANTS, executable, inputs, residents, session, states, step};
use kiln::ir::{
    Array, Call, CallAttributes, CustomOp, Iteration, ScanOptions, Slot, Yield, eval, register,
};
use kiln::{Bindings, Builder, DType, Feed, Graph, Init, Options, StepError, TensorType, grad};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Compiles the graph in every way, runs two steps at each size, and compares everything with the interpreter, bit for bit.
fn check(graph: &Graph, sizes: &[i64]) {
    for size in sizes {
        let bindings = Bindings::from([("b", *size)]);
        let mut numbers = Numbers::new(7);
        let mut draw = |slot: &Slot| {
            let ty = &graph.node(slot.node).expect("a node").ty;
            let shape = ty.shape.iter().map(|d| d.eval_size(&bindings));
            let shape: Vec<usize> = shape.collect::<Result<_, _>>().expect("sizes");
            random(&mut numbers, ty.dtype, &shape, Kind::Plain)
        };
        let fed: Vec<Array> = inputs(graph).map(&mut draw).collect();
        let feeds: Vec<Fed> = fed.iter().map(|a| Fed::new(a, false)).collect();
        for variant in VARIANTS {
            let executable = executable(graph, variant).expect("it compiles");
            for threads in [1, 2, 4] {
                let mut session = session(&executable, threads);
                for _ in 0..2 {
                    let before = states(&session);
                    let found = step(&mut session, &feeds).expect("a step");
                    let expected = interpreted(graph, &fed, &before);
                    let found = found.outputs.iter().chain(&found.states);
                    assert_eq!(found.clone().count(), expected.len());
                    for (position, (found, expected)) in found.zip(&expected).enumerate() {
                        if let Some(why) = bits_differ(found, expected) {
                            panic!("{variant:?}, {threads} threads, b = {size}, {position}: {why}");
                        }
                    }
                }
            }
        }
    }
}

/// The outputs and then the params and states behind the step.
fn interpreted(graph: &Graph, fed: &[Array], before: &[Array]) -> Vec<Array> {
    let mut feeds = fed.iter().cloned();
    let mut kept = before.iter().cloned();
    let step = eval(graph, |slot| match slot.role {
        kiln::ir::Role::Input => feeds.next(),
        kiln::ir::Role::Param(_) | kiln::ir::Role::State(_) => kept.next(),
    })
    .expect("the interpreter runs");
    let after = residents(graph).zip(before).map(|(slot, before)| {
        let update = step.updates.iter().find(|(node, _)| *node == slot.node);
        update.map_or_else(|| before.clone(), |(_, value)| value.clone())
    });
    let after: Vec<Array> = after.collect();
    step.outputs.into_iter().chain(after).collect()
}

#[test]
fn compiled_calls_give_the_bits_of_the_interpreter() {
    register_all();
    let g = Builder::new("calls");
    let x = g.input("x", DType::F32, (g.dim("b"), 5));
    let w = g.param("w", (3, 5), Init::uniform(1.0));
    let y = x * 0.5 + 1.0;
    let [wide, positive, count] = g.custom_call("tests/mirror", &[], &[y]);
    let [scaled] = g.custom_call("tests/scale", &[], &[y, x.reshape((g.dim("b"), 5))]);
    // A view and a constant are written out before the call.
    let one = g.splat(DType::F32, (5, g.dim("b")), 1.5);
    let [turned] = g.custom_call("tests/scale", &[], &[x.transpose(&[1, 0]), one]);
    g.output("wide", wide * 2.0);
    g.output("positive", positive);
    g.output("count", count + count);
    g.output("scaled", scaled);
    g.output("turned", turned);
    // First and second order, elementwise, so that no sum has another order.
    let [cube] = g.custom_call("tests/scale", &[], &[scaled, y]);
    let first = grad(cube.sum(), &[x])[0];
    g.output("dx", first);
    g.output("ddx", grad(first.sum(), &[x])[0]);
    let [squared] = g.custom_call("tests/scale", &[], &[w, w]);
    g.update(w, w - grad(squared.sum(), &[w])[0] * 0.25);
    check(&g.finish().expect("a graph"), &[0, 1, 4, 33]);
}

#[test]
fn results_that_nobody_reads_have_memory_too() {
    register_all();
    let g = Builder::new("one of three");
    let x = g.input("x", DType::F32, (g.dim("b"), 5));
    let [_, _, count] = g.custom_call("tests/mirror", &[], &[x]);
    g.output("count", count);
    check(&g.finish().expect("a graph"), &[2, 9]);
}

#[test]
fn results_without_elements_stand_beside_others() {
    register_all();
    let g = Builder::new("empty");
    let x = g.input("x", DType::F32, (g.dim("b"), 0));
    let [wide, _, count] = g.custom_call("tests/mirror", &[], &[x]);
    g.output("wide", wide);
    g.output("count", count + 1.0);
    let ys = g.input("ys", DType::F32, (3, g.dim("b")));
    let none = g.splat(DType::F32, (0,), 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[none], &[ys], |it| {
        Yield::new(&[it.carry(0) * 2.0], &[it.entry(0) * 2.0])
    });
    g.output("scanned", scanned.stacked[0]);
    check(&g.finish().expect("a graph"), &[1, 3]);
}

/// Twice its operand; a second call while one is running is an error.
struct Alone;

static RUNNING: AtomicBool = AtomicBool::new(false);

impl CustomOp for Alone {
    fn name(&self) -> &str {
        "tests/alone"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        Ok(operands.iter().map(|ty| (*ty).clone()).collect())
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        if RUNNING.swap(true, Ordering::SeqCst) {
            return Err("called while it runs".into());
        }
        let x = call.input::<f32>(0)?;
        for (to, x) in call.output::<f32>(0)?.iter_mut().zip(x) {
            *to = 2.0 * x;
        }
        RUNNING.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn bodies_of_loops_and_branches_call_too_one_after_the_other() {
    register_all();
    register(Alone).expect("its own name");
    let g = Builder::new("bodies");
    let xs = g.input("xs", DType::F32, (32, g.dim("b")));
    let w = g.param("w", (32,), Init::uniform(1.0));
    // Without carries, and with enough iterations to be shared out if they could be.
    let each = g.scan(&ScanOptions::default(), &[], &[xs], |it| {
        let [twice] = it.builder().custom_call("tests/alone", &[], &[it.entry(0)]);
        Yield::new(&[], &[twice + 1.0])
    });
    g.output("each", each.stacked[0]);
    let zero = g.splat(DType::F32, (g.dim("b"),), 1.0);
    let chained = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let [next] = it
            .builder()
            .custom_call("tests/scale", &[], &[it.carry(0), it.entry(0)]);
        let next = next * 0.5 + it.entry(0);
        Yield::new(&[next], &[next])
    });
    g.output("chained", chained.stacked[0]);
    g.output("dxs", grad(chained.carries[0].sum(), &[xs])[0]);
    let doubled = g.while_loop(
        &[w],
        |it| {
            it.carry(0)
                .abs()
                .reduce(kiln::ir::ReduceKind::Max, &[0])
                .lt(8.0)
        },
        |it: Iteration<'_, '_>| {
            let [twice] = it.builder().custom_call("tests/alone", &[], &[it.carry(0)]);
            vec![twice]
        },
    );
    g.output("doubled", doubled[0]);
    let first = w.slice_axis(0, 0, 1).reshape(());
    let chosen = g.cond(
        first.lt(0.0),
        |it| {
            let [squared] = it.builder().custom_call("tests/scale", &[], &[w, w]);
            vec![squared]
        },
        |_| vec![w],
    );
    g.output("chosen", chosen[0]);
    g.update(w, w - grad(chosen[0].sum(), &[w])[0] * 0.25);
    check(&g.finish().expect("a graph"), &[1, 6]);
}

/// Its operand, unless an element is above the attribute `limit`; then it fails, or panics where `how` is that.
struct Careful;

impl CustomOp for Careful {
    fn name(&self) -> &str {
        "tests/careful"
    }

    fn infer(
        &self,
        attributes: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        attributes.parse::<f32>("limit")?;
        Ok(operands.iter().map(|ty| (*ty).clone()).collect())
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let limit = call.attributes().parse::<f32>("limit")?;
        let x = call.input::<f32>(0)?;
        let large = x.iter().position(|x| *x > limit);
        if let Some(position) = large {
            let message = format!("element {position} is above {limit}");
            match call.attributes().get("how") {
                Some("panic") => panic!("{message}"),
                Some(_) | None => return Err(message),
            }
        }
        call.output::<f32>(0)?.copy_from_slice(x);
        Ok(())
    }
}

#[test]
fn a_call_that_fails_fails_the_step_and_nothing_else() {
    register(Careful).expect("its own name");
    for (how, said) in [("error", ""), ("panic", "panicked: ")] {
        let g = Builder::new("careful");
        let x = g.input("x", DType::F32, (g.dim("b"),));
        let w = g.param("w", (), Init::Constant(1.0));
        let count = g.state("count", DType::I32, (), Init::zeros());
        let scope = g.scope("encoder");
        let line = line!() + 1;
        let [kept] = g.custom_call("tests/careful", &[("limit", "2.5"), ("how", how)], &[x]);
        let looped = g.scan(&ScanOptions::default(), &[w], &[kept], |it| {
            let attributes = [("limit", "1000"), ("how", how)];
            let [next] = it.builder().custom_call(
                "tests/careful",
                &attributes,
                &[it.carry(0) + it.entry(0)],
            );
            Yield::new(&[next], &[])
        });
        g.output("total", looped.carries[0]);
        // Neither waits for the calls by what it computes.
        g.update(w, w + x.sum());
        g.update(count, count + 1.0);
        drop(scope);
        let graph = g.finish().expect("a graph");
        for variant in VARIANTS {
            let executable = executable(&graph, variant).expect("it compiles");
            let mut session = session(&executable, 2);
            let good = [1.0_f32, 2.0];
            session.step(&[Feed::new(&good, &[2])]).expect("a step");
            let before = states(&session);
            let bad = [1.0_f32, 3.0];
            let error = session.step(&[Feed::new(&bad, &[2])]).unwrap_err();
            let text = error.to_string();
            let expected = format!("custom op `tests/careful`: {said}element 1 is above 2.5 (");
            assert!(text.starts_with(&expected), "{text}");
            assert!(text.contains(&format!("custom.rs:{line}:")), "{text}");
            assert!(text.contains("in \"encoder\""), "{text}");
            assert!(matches!(error, StepError::Call { .. }), "{error:?}");
            assert_eq!(states(&session), before, "{variant:?}");
            // In the body of a loop, at its second iteration.
            let bad = [2.0_f32, -500.0, 2.0];
            session
                .set_state("w", Feed::scalar(&999.5_f32))
                .expect("it is there");
            let before = states(&session);
            let error = session.step(&[Feed::new(&bad, &[3])]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("element 0 is above 1000"), "{text}");
            assert_eq!(states(&session), before, "{variant:?}");
            session
                .set_state("w", Feed::scalar(&1.0_f32))
                .expect("it is there");
            let again = session.step(&[Feed::new(&good, &[2])]).expect("it goes on");
            assert_eq!(again.scalar("total"), Ok(4.0));
        }
        let interpreted = eval(&graph, |slot| {
            let values = if slot.name == "x" {
                vec![9.0]
            } else {
                vec![1.0]
            };
            let shape = if slot.name == "x" { vec![1] } else { vec![] };
            match slot.name.as_str() {
                "encoder/count" | "count" => {
                    Array::new(DType::I32, shape, kiln::ir::Values::Int(vec![0])).ok()
                }
                _ => Array::new(DType::F32, shape, kiln::ir::Values::Float(values)).ok(),
            }
        });
        let text = interpreted.unwrap_err().to_string();
        assert!(
            text.contains(&format!("`tests/careful`: {said}element 0")),
            "{text}"
        );
        assert!(text.contains(&format!("custom.rs:{line}:")), "{text}");
    }
}

/// Its operand, and a count of calls beside.
struct Counted;

static CALLS: AtomicUsize = AtomicUsize::new(0);

impl CustomOp for Counted {
    fn name(&self) -> &str {
        "tests/counted"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        Ok(operands.iter().map(|ty| (*ty).clone()).collect())
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        let x = call.input::<f32>(0)?;
        call.output::<f32>(0)?.copy_from_slice(x);
        Ok(())
    }
}

#[test]
fn equal_calls_are_made_once_and_unread_ones_not_at_all() {
    register(Counted).expect("its own name");
    let g = Builder::new("counted");
    let x = g.input("x", DType::F32, (g.dim("b"),));
    let [first] = g.custom_call("tests/counted", &[("of", "a")], &[x]);
    let [second] = g.custom_call("tests/counted", &[("of", "a")], &[x]);
    let [other] = g.custom_call("tests/counted", &[("of", "b")], &[x]);
    let [_unread] = g.custom_call("tests/counted", &[("of", "c")], &[x]);
    g.output("sum", first + second + other);
    let graph = g.finish().expect("a graph");
    let mut session = kiln::compile(&graph, &Options::default())
        .map(|executable| executable.session(0).expect("a session"))
        .expect("it compiles");
    let outputs = session.step(&[vec![1.0_f32, 2.0]]).expect("a step");
    assert_eq!(outputs.as_slice::<f32>("sum"), Ok(&[3.0_f32, 6.0][..]));
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    // Nothing that runs holds the tensors of the calls in one place for good.
    let text = session.program().to_string();
    assert_eq!(text.matches("custom call").count(), 2, "{text}");
}

/// A graph as a file has it.
fn graph(call: &str) -> Graph {
    let text = format!(
        "kiln 1
graph @read<b>(%x: f32[b, 5]) {{
  %0: f32[b, 10] = custom_call %x {{{call}}} @ net.py:12:3 \"head\"
  %1: f32[b, 10] = part %0 {{index = [0]}}
  return y: %1
}}"
    );
    text.parse().expect("a graph")
}

#[test]
fn what_is_not_there_is_named_when_a_program_is_loaded() {
    let missing = graph("target = \"nobody/knows\", results = (f32[b, 10])");
    let error = kiln::compile(&missing, &Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("custom op `nobody/knows` is not registered in this program"),
        "{text}"
    );
    assert!(text.contains("`kiln_ir::register`"), "{text}");
    assert!(
        text.ends_with("it is called at net.py:12:3 in \"head\""),
        "{text}"
    );
    // All that only writes the graph down works.
    assert!(kiln::compiler::compile(&missing, &Options::default()).is_ok());
}

#[test]
fn another_op_of_the_name_is_refused_when_a_program_is_loaded() {
    register_all();
    let other = graph("target = \"tests/mirror\", results = (f32[b, 10])");
    let error = kiln::compile(&other, &Options::default()).unwrap_err();
    let text = error.to_string();
    let expected = "custom op `tests/mirror` gives (f32[b, 10], bool[b, 5], i64[]), but the graph says (f32[b, 10]); it is called at net.py:12:3";
    assert!(text.starts_with(expected), "{text}");
}
