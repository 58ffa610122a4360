//! What holds for every compiled graph, whatever it computes: memory does not overlap, bits do not depend on threads, a refused step leaves
//! no trace, and bindings take turns.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, array, random};
use common::generate::graph;
use common::jit::{
    Results, VARIANTS, Variant, executable, inputs, program, residents, session, session_at,
    states, step,
};
use kiln_compiler::{Options, Stage, stage_text};
use kiln_ir::program::{ALIGNMENT, Home, Program, Step, place, root_of};
use kiln_ir::{
    Array, BindError, Bindings, Builder, DType, Dim, Graph, Init, OutOfRange, ReduceKind,
    ScatterKind, Values, grad,
};
use kiln_runtime::{Session, StepError};

const FUSED: Variant = VARIANTS[1];

/// A training step of two layers with a guard on the loss, over the symbol `b`.
fn mlp(width: i64) -> Graph {
    let g = Builder::new("mlp");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 20));
    let y = g.input("y", DType::F32, (b, 4));
    let params = [
        g.param("w1", (20, width), Init::normal(0.3)),
        g.param("b1", (width,), Init::zeros()),
        g.param("w2", (width, 4), Init::normal(0.3)),
        g.param("b2", (4,), Init::zeros()),
    ];
    let h = x.dot(params[0]) + params[1];
    let h = h.maximum(0.0);
    let logits = h.dot(params[2]) + params[3];
    let shifted = logits
        - logits
            .reduce(ReduceKind::Max, &[1])
            .reshape((g.dim("b"), 1));
    let total = shifted.exp().reduce(ReduceKind::Sum, &[1]).log();
    let loss = (total.reshape((g.dim("b"), 1)) - shifted).times(y).mean();
    let loss = loss.require(loss.is_finite(), "the loss is not finite");
    for (param, gradient) in params.into_iter().zip(grad(loss, &params)) {
        let (name, shape) = (
            format!("m{:?}", param.id()),
            param.ty().expect("typed").shape,
        );
        let moment = g.state(&name, DType::F32, shape, Init::zeros());
        let next = moment * 0.9 + gradient;
        g.update(moment, next);
        g.update(param, param - next * 0.1);
    }
    g.output("loss", loss);
    g.output(
        "accuracy",
        logits.argmax(1).eq(y.argmax(1)).convert(DType::F32).mean(),
    );
    g.finish().expect("a graph")
}

fn feeds(graph: &Graph, b: i64, kind: Kind, seed: u64) -> Vec<Fed> {
    let bindings = Bindings::from([("b", b), ("t", 3)]);
    let mut numbers = Numbers::new(seed);
    let made = inputs(graph).map(|slot| {
        let ty = &graph.node(slot.node).expect("a node").ty;
        let sizes = ty.shape.iter().map(|d| d.eval_size(&bindings));
        let shape: Vec<usize> = sizes.collect::<Result<_, _>>().expect("sizes");
        Fed::new(&random(&mut numbers, ty.dtype, &shape, kind), false)
    });
    made.collect()
}

fn all_bits(results: &Results) -> impl Iterator<Item = &Array> {
    results.outputs.iter().chain(&results.states)
}

fn assert_same(what: &str, a: &Results, b: &Results) {
    for (i, (a, b)) in all_bits(a).zip(all_bits(b)).enumerate() {
        if let Some(why) = bits_differ(a, b) {
            panic!("{what}, result {i}: {why}");
        }
    }
}

/// The steps in which each buffer of the arena is touched, in parts too, from the steps themselves.
fn touched(program: &Program) -> Vec<Option<(usize, usize)>> {
    let mut ranges: Vec<Option<(usize, usize)>> = vec![None; program.buffers.len()];
    for (position, step) in program.steps.iter().enumerate() {
        for id in step.buffers() {
            let range = &mut ranges[root_of(&program.buffers, id).index()];
            *range = Some((range.map_or(position, |r| r.0), position));
        }
    }
    ranges
}

fn assert_apart(program: &Program, bindings: &Bindings) {
    let placement = match place(&program.buffers, bindings) {
        Ok(placement) => placement,
        // A window larger than what it goes over.
        Err(BindError::OutOfRange { .. }) => return,
        Err(other) => panic!("{}: {other}", program.name),
    };
    let touched = touched(program);
    let repeats = program.steps.iter().any(|s| matches!(s, Step::Loop(_)));
    let mut placed: Vec<(usize, usize, (usize, usize))> = Vec::new();
    for (i, buffer) in program.buffers.iter().enumerate() {
        let (Home::Arena(live), Some(at)) = (&buffer.home, touched[i]) else {
            continue;
        };
        let lives = (live.first, live.last);
        if repeats {
            // A loop goes back, so that what lives in it may live longer than it is touched: `Program::verify` knows.
            assert!(
                live.first <= at.0 && at.1 <= live.last,
                "{}: buffer {i}",
                program.name
            );
        } else {
            assert_eq!(lives, at, "{}: buffer {i}", program.name);
        }
        let offset = placement.offsets[i].expect("an offset");
        assert_eq!(offset % ALIGNMENT, 0);
        let end = offset + placement.bytes[i];
        assert!(end <= placement.arena, "{}: buffer {i}", program.name);
        for (start, stop, other) in &placed {
            let meet = lives.0 <= other.1 && other.0 <= lives.1;
            let overlap = offset < *stop && *start < end;
            assert!(
                !(meet && overlap),
                "{}: buffer {i} overlaps under {bindings:?}",
                program.name
            );
        }
        placed.push((offset, end, lives));
    }
    assert!(placement.live_peak <= placement.arena);
}

#[test]
fn no_two_live_buffers_overlap() {
    let mut arenas = 0;
    let graphs = (0..60).map(|seed| graph(500 + seed, 6 + (seed % 20) as usize));
    for graph in graphs.chain([mlp(32)]) {
        let program = program(&graph);
        assert_eq!(program.verify(), Ok(()));
        arenas += usize::from(
            program
                .buffers
                .iter()
                .filter(|b| matches!(b.home, Home::Arena(_)))
                .count()
                > 1,
        );
        for (b, t) in [(0, 1), (1, 1), (1, 17), (16, 3), (33, 33)] {
            assert_apart(&program, &Bindings::from([("b", b), ("t", t)]));
        }
    }
    assert!(arenas > 20, "{arenas} programs have something to place");
}

#[test]
fn every_stage_prints_the_same_twice_and_code_has_no_trap() {
    for graph in (0..8).map(|seed| graph(900 + seed, 14)).chain([mlp(32)]) {
        let text = |stage| stage_text(&graph, stage, &Options::default()).expect("it compiles");
        for stage in Stage::ALL {
            let printed = text(stage);
            assert!(printed == text(stage), "{}: {stage} differs", graph.name);
            assert!(printed.ends_with('\n'), "{}: {stage}", graph.name);
        }
        let (kernels, clif) = (text(Stage::Kernels), text(Stage::Clif));
        let count = |text: &str, begin: &str| text.lines().filter(|l| l.starts_with(begin)).count();
        assert_eq!(count(&kernels, "kernel "), count(&clif, "function "));
        let mut accesses = 0;
        for line in clif.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let touches = words.iter().any(|w| {
                let op = w.split('.').next().unwrap_or(w);
                ["load", "store", "uload8", "sload8", "istore8"].contains(&op)
            });
            accesses += usize::from(touches);
            assert!(
                !touches || words.contains(&"notrap"),
                "{}: {line}",
                graph.name
            );
            assert!(
                !words.iter().any(|w| w.starts_with("trap")),
                "{}: {line}",
                graph.name
            );
        }
        assert!(accesses > 0, "{}: no load or store is known", graph.name);
    }
}

#[test]
fn a_training_step_has_the_same_bits_on_any_number_of_threads() {
    // Large enough that launches and products are shared out.
    let graph = mlp(256);
    let mut expected: Option<Vec<Results>> = None;
    for variant in [FUSED, VARIANTS[0]] {
        let executable = executable(&graph, variant).expect("it compiles");
        for threads in [1, 2, 4] {
            let mut session = session(&executable, threads);
            let found: Vec<Results> = (0..5)
                .map(|i| {
                    let b = [700, 130, 700, 1, 129][i as usize];
                    let fed = feeds(&graph, b, Kind::Plain, i);
                    step(&mut session, &fed).expect("a step")
                })
                .collect();
            let loss = |r: &Results| r.outputs[0].as_f64(0).expect("a loss");
            assert!(loss(&found[2]).is_finite());
            match &expected {
                None => expected = Some(found),
                Some(expected) => {
                    for (i, (e, f)) in expected.iter().zip(&found).enumerate() {
                        assert_same(&format!("{variant:?}, {threads} threads, step {i}"), e, f);
                    }
                }
            }
        }
    }
}

#[test]
fn a_failed_guard_leaves_the_state_and_the_session_goes_on() {
    let graph = mlp(16);
    let executable = executable(&graph, FUSED).expect("it compiles");
    let (mut disturbed, mut calm) = (session(&executable, 2), session(&executable, 2));
    for i in 0..3 {
        let before = states(&disturbed);
        let mut fed = feeds(&graph, 9, Kind::Plain, i);
        fed[0] = Fed::new(
            &random(&mut Numbers::new(i), DType::F32, &[9, 20], Kind::Odd),
            false,
        );
        let refused = step(&mut disturbed, &fed);
        let Err(StepError::Guard { message, location }) = refused else {
            panic!("not refused: {refused:?}");
        };
        assert_eq!(message, "the loss is not finite");
        assert!(location.contains("properties.rs"), "{location}");
        for (before, after) in before.iter().zip(&states(&disturbed)) {
            assert_eq!(bits_differ(before, after), None);
        }
        let fed = feeds(&graph, 9, Kind::Plain, i);
        let (a, b) = (step(&mut disturbed, &fed), step(&mut calm, &fed));
        assert_same("behind a refusal", &a.expect("a step"), &b.expect("a step"));
    }
}

#[test]
fn an_index_out_of_range_that_must_fail_leaves_the_state() {
    let g = Builder::new("embedding");
    let table = g.param("table", (10, 3), Init::normal(1.0));
    let index = g.input("i", DType::I64, (g.dim("b"),));
    let rows = table.gather(0, index, OutOfRange::Fail);
    g.update(
        table,
        table.scatter(ScatterKind::Add, 0, index, rows, OutOfRange::Fail),
    );
    g.output("rows", rows);
    let graph = g.finish().expect("a graph");
    for variant in VARIANTS {
        let executable = executable(&graph, variant).expect("it compiles");
        let mut session = session(&executable, 1);
        let index = |values: Vec<i64>| {
            let shape = vec![values.len()];
            let array = Array::new(DType::I64, shape, Values::Int(values)).expect("an array");
            vec![Fed::new(&array, false)]
        };
        for bad in [vec![0, 10], vec![-1], vec![i64::MIN, 3], vec![i64::MAX]] {
            let before = states(&session);
            let refused = step(&mut session, &index(bad));
            assert!(
                matches!(refused, Err(StepError::Guard { .. })),
                "{refused:?}"
            );
            assert_eq!(bits_differ(&before[0], &states(&session)[0]), None);
        }
        let before = states(&session);
        let found = step(&mut session, &index(vec![9, 9, 0])).expect("a step");
        assert_eq!(found.outputs[0].shape(), [3, 3]);
        let (old, new) = (
            before[0].floats().unwrap(),
            found.states[0].floats().unwrap(),
        );
        assert_eq!(
            new[27],
            f64::from((old[27] as f32 + old[27] as f32) + old[27] as f32)
        );
        assert_eq!(new[3..27], old[3..27]);
    }
}

#[test]
fn bindings_take_turns_on_one_compilation() {
    let graph = mlp(24);
    let executable = executable(&graph, FUSED).expect("it compiles");
    let mut many = session(&executable, 2);
    let initial: Vec<Array> = states(&many);
    let reset = |session: &mut Session| {
        for (slot, value) in residents(&graph).zip(&initial) {
            let fed = Fed::new(value, false);
            session.set_state(&slot.name, fed.feed()).expect("a state");
        }
    };
    for (i, b) in [32, 7, 32, 0, 1, 129, 7, 32, 33].into_iter().enumerate() {
        reset(&mut many);
        // The mean of no losses is no number, and so refused; that too is the same in a session of its own.
        let fed = feeds(&graph, b, Kind::Plain, i as u64);
        let mut one = session(&executable, 1);
        reset(&mut one);
        match (step(&mut many, &fed), step(&mut one, &fed)) {
            (Ok(a), Ok(b)) => assert_same("a binding of many", &a, &b),
            (Err(_), Err(_)) => assert_eq!(b, 0),
            (a, b) => panic!("{a:?} against {b:?}"),
        }
    }
}

#[test]
fn states_change_together_when_the_step_ends() {
    let g = Builder::new("together");
    let [a, b, c] = ["a", "b", "c"].map(|n| g.state(n, DType::I32, [3], Init::zeros()));
    // A swap, a rotation of elements, and a value that others read before and after.
    g.update(a, b);
    g.update(b, a);
    g.update(c, c.reverse(&[0]) + a);
    g.output("old", a * 10.0 + b);
    g.output("c", c);
    let graph = g.finish().expect("a graph");
    for variant in VARIANTS {
        let executable = executable(&graph, variant).expect("it compiles");
        let mut session = session(&executable, 2);
        for (name, values) in [("a", [1i32, 2, 3]), ("b", [4, 5, 6]), ("c", [7, 8, 9])] {
            session.set_state(name, values.to_vec()).expect("a state");
        }
        let ints = |a: &Array| a.ints().expect("integers").to_vec();
        let first = step(&mut session, &[]).expect("a step");
        assert_eq!(ints(&first.outputs[0]), [14, 25, 36], "{variant:?}");
        assert_eq!(ints(&first.outputs[1]), [7, 8, 9]);
        let expected = [[4, 5, 6], [1, 2, 3], [10, 10, 10]];
        for (state, expected) in first.states.iter().zip(expected) {
            assert_eq!(ints(state), expected, "{variant:?}");
        }
        let second = step(&mut session, &[]).expect("a step");
        assert_eq!(ints(&second.outputs[0]), [41, 52, 63]);
        assert_eq!(ints(&second.states[2]), [14, 15, 16]);
    }
}

#[test]
fn sizes_that_a_window_does_not_fit_are_refused_before_anything_is_read() {
    let g = Builder::new("window");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(),));
    let two = Dim::from(2);
    g.output(
        "head",
        x.slice(&[Dim::from(0)], &[Dim::from(3)], &[1]).exp(),
    );
    g.output(
        "rest",
        x.slice(std::slice::from_ref(&two), &[b], &[1]) * 2.0,
    );
    let graph = g.finish().expect("a graph");
    for variant in VARIANTS {
        let executable = executable(&graph, variant).expect("it compiles");
        let mut session = session(&executable, 1);
        for size in [0, 1, 2] {
            let refused = step(&mut session, &feeds(&graph, size, Kind::Plain, 1));
            let message = refused.expect_err("a window").to_string();
            assert!(message.contains("ends behind its size b"), "{message}");
            assert!(message.contains("properties.rs"), "{message}");
        }
        let found = step(&mut session, &feeds(&graph, 3, Kind::Plain, 1)).expect("it fits");
        assert_eq!(found.outputs[1].shape(), [1]);
    }
}

#[test]
fn symbols_of_states_are_fixed_for_a_session() {
    let g = Builder::new("fixed");
    let n = g.dim("n");
    let s = g.state("s", DType::F64, (n.clone(), 2), Init::Constant(1.0));
    let x = g.input("x", DType::F64, (n,));
    g.update(s, s + x.reshape((g.dim("n"), 1)));
    g.output("sum", s.sum());
    let graph = g.finish().expect("a graph");
    let executable = executable(&graph, FUSED).expect("it compiles");
    assert!(executable.session(1).is_err());
    let mut session = session_at(&executable, 1, Bindings::from([("n", 3)]));
    let fed = |n: usize| {
        let values = Values::Float(vec![0.5; n]);
        vec![Fed::new(
            &Array::new(DType::F64, vec![n], values).expect("an array"),
            false,
        )]
    };
    assert!(step(&mut session, &fed(4)).is_err());
    let found = step(&mut session, &fed(3)).expect("a step");
    assert_eq!(found.outputs[0].as_f64(0), Some(6.0));
    let view = session.state("s").expect("a state");
    assert_eq!(array(&view).floats().expect("floats"), [1.5; 6]);
}
