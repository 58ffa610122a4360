//! Mistakes in loops and branches: one message each, at the user's line, and results that can be used all the same.

use kiln_ir::{
    Builder, DType, Diagnostic, Init, OutOfRange, ScanOptions, Scanned, Tensor, Yield, grad,
};

/// The one mistake of a graph, which stands in this file.
#[track_caller]
fn mistake(g: Builder) -> Diagnostic {
    let found = g.finish().expect_err("the graph has a mistake");
    assert_eq!(found.0.len(), 1, "{found}");
    let found = found.0.into_iter().next().unwrap();
    assert_eq!(&*found.location.file, "ir/tests/regions/mistakes.rs");
    for note in &found.notes {
        assert!(note.contains("ir/tests/regions/mistakes.rs"), "{note}");
    }
    found
}

#[track_caller]
fn says(g: Builder, line: u32, message: &str) {
    let found = mistake(g);
    assert_eq!(found.refusal.message, message);
    assert_eq!(found.location.line, line, "{found}");
}

/// Uses results as somebody would who does not know that there is a mistake.
fn used<'g>(scanned: &Scanned<'g>, carries: usize, stacked: usize) -> Option<Tensor<'g>> {
    assert_eq!(scanned.carries.len(), carries);
    assert_eq!(scanned.stacked.len(), stacked);
    let all = scanned.carries.iter().chain(&scanned.stacked);
    all.map(|t| t.exp()).reduce(|a, b| a.sum() + b.sum())
}

const PLAIN: ScanOptions = ScanOptions {
    reverse: false,
    save: kiln_ir::ops::Save::Results,
    trip: None,
    checkpoint: None,
};

const SEGMENTS: ScanOptions = ScanOptions {
    checkpoint: Some(2),
    ..PLAIN
};

#[test]
fn a_carry_keeps_its_type() {
    for options in [PLAIN, SEGMENTS] {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, (4, 2));
        let h = g.input("h", DType::F32, [1]);
        let line = line!() + 1;
        let scanned = g.scan(&options, &[h], &[xs], |it| {
            let next = it.carry(0) + it.entry(0);
            Yield::new(&[next], &[next, next])
        });
        used(&scanned, 1, 2);
        let message = "carry 0 of `scan` begins as f32[1], but the body yields f32[2]";
        says(g, line, message);
    }
}

#[test]
fn what_is_scanned_has_one_extent() {
    for options in [PLAIN, SEGMENTS] {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, (4, 2));
        let ys = g.input("ys", DType::F32, (5, 2));
        let line = line!() + 1;
        let scanned = g.scan(&options, &[], &[xs, ys], |it| {
            Yield::new(&[], &[it.entry(0) + it.entry(1)])
        });
        used(&scanned, 0, 1);
        says(g, line, "`scan` over 4 entries of a tensor f32[5, 2]");
    }
}

#[test]
fn a_scalar_has_no_entries() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, ());
    let line = line!() + 1;
    let scanned = g.scan(&PLAIN, &[], &[x], |it| Yield::new(&[], &[it.entry(0)]));
    used(&scanned, 0, 1);
    says(
        g,
        line,
        "`scan` needs tensors whose axis 0 it goes over, or the number of iterations",
    );
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, ());
    let xs = g.input("xs", DType::F32, [3]);
    let line = line!() + 1;
    let scanned = g.scan(&PLAIN, &[], &[x, xs], |it| Yield::new(&[], &[it.entry(0)]));
    used(&scanned, 0, 1);
    says(g, line, "`scan` over 3 entries of a tensor f32[]");
}

#[test]
fn carries_and_entries_are_counted() {
    for options in [PLAIN, SEGMENTS] {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, [4]);
        let zero = g.splat(DType::F32, (), 0.0);
        let line = line!() + 1;
        let scanned = g.scan(&options, &[zero, zero], &[xs], |it| {
            Yield::new(&[it.carry(0)], &[])
        });
        used(&scanned, 2, 0);
        says(g, line, "the body of `scan` yields 1 carries, but takes 2");

        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, [4]);
        let zero = g.splat(DType::F32, (), 0.0);
        let line = line!() + 2;
        let scanned = g.scan(&options, &[zero], &[xs], |it| {
            let next = it.carry(0) + it.entry(1);
            Yield::new(&[next], &[next])
        });
        used(&scanned, 1, 1);
        says(g, line, "there is no scanned tensor 1; there are 1");
    }
}

#[test]
fn a_mistake_in_a_body_has_its_own_line_and_no_other() {
    for options in [PLAIN, SEGMENTS] {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, (4, 2));
        let w = g.param("w", [3], Init::zeros());
        let zero = g.splat(DType::F32, [2], 0.0);
        let line = line!() + 2;
        let scanned = g.scan(&options, &[zero], &[xs], |it| {
            let next = it.entry(0) + w;
            Yield::new(&[next], &[next.tanh()])
        });
        g.output("y", scanned.carries[0] + scanned.stacked[0]);
        used(&scanned, 1, 1);
        let found = mistake(g);
        assert_eq!(found.location.line, line, "{found}");
        assert_eq!(found.notes.len(), 2);
    }
}

#[test]
fn notes_name_the_line_of_a_carry_and_of_a_result() {
    let g = Builder::new("m");
    let zero = g.splat(DType::F32, [2], 0.0);
    let made = line!() + 5;
    let options = ScanOptions {
        trip: Some(4.into()),
        ..PLAIN
    };
    let scanned = g.scan(&options, &[zero], &[], |it| {
        let _ = it.carry(0).dot(it.carry(0) + 1.0);
        Yield::new(&[it.carry(0)], &[])
    });
    let _ = scanned.carries[0] + g.splat(DType::F32, [3], 0.0);
    let found = mistake(g);
    assert!(found.notes[0].contains(&format!(":{made}:")), "{found}");
}

#[test]
fn a_mistake_before_the_loop_is_the_only_one() {
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, (4, 2));
    let line = line!() + 1;
    let wrong = xs + g.splat(DType::F32, [3], 0.0);
    let zero = g.splat(DType::F32, [2], 0.0);
    let scanned = g.scan(&PLAIN, &[zero], &[wrong], |it| {
        let next = it.carry(0) + it.entry(0);
        Yield::new(&[next], &[next, it.number()])
    });
    used(&scanned, 1, 2);
    let repeated = g.while_loop(
        &[scanned.carries[0]],
        |it| it.carry(0).sum().lt(3.0),
        |it| vec![it.carry(0) + 1.0],
    );
    let chosen = g.cond(repeated[0].sum().gt(0.0), |_| vec![xs], |_| vec![wrong]);
    g.output("y", chosen[0]);
    let found = mistake(g);
    assert_eq!(found.location.line, line);
}

#[test]
fn bodies_have_no_signature() {
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, [4]);
    let w = g.param("w", (), Init::zeros());
    let line = line!() + 2;
    let scanned = g.scan(&PLAIN, &[], &[xs], |it| {
        it.builder().update(w, it.entry(0));
        Yield::new(&[], &[it.entry(0)])
    });
    used(&scanned, 0, 1);
    says(
        g,
        line,
        "the body of a control op has no updates; carry the value, and update behind the loop",
    );
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, [4]);
    let line = line!() + 2;
    g.scan(&PLAIN, &[], &[xs], |it| {
        it.builder().output("x", it.entry(0));
        Yield::new(&[], &[it.entry(0)])
    });
    says(
        g,
        line,
        "the body of a control op has no outputs; what a body computes it yields",
    );
}

#[test]
fn bodies_do_not_fail() {
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, [4]);
    let line = line!() + 1;
    let scanned = g.scan(&PLAIN, &[], &[xs], |it| {
        let x = it.entry(0);
        Yield::new(&[], &[x.require(x.gt(0.0), "positive")])
    });
    used(&scanned, 0, 1);
    says(g, line, "`require`, which may fail, in the body of `scan`");
    let g = Builder::new("m");
    let table = g.input("table", DType::F32, (9, 2));
    let xs = g.input("xs", DType::I32, [4]);
    let line = line!() + 1;
    g.scan(&PLAIN, &[], &[xs], |it| {
        let row = table.gather(0, it.entry(0), OutOfRange::Fail);
        Yield::new(&[], &[row])
    });
    says(g, line, "`gather`, which may fail, in the body of `scan`");
}

#[test]
fn tensors_of_another_builder_are_refused() {
    let other = Builder::new("other");
    let foreign = other.input("x", DType::F32, ());
    for options in [PLAIN, SEGMENTS] {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, [4]);
        let line = line!() + 2;
        let scanned = g.scan(&options, &[], &[xs], |it| {
            let sum = it.entry(0) + foreign;
            Yield::new(&[], &[sum])
        });
        used(&scanned, 0, 1);
        says(g, line, "an operand belongs to another builder");
    }
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, [4]);
    let line = line!() + 1;
    let scanned = g.scan(&PLAIN, &[foreign], &[xs], |it| {
        Yield::new(&[it.carry(0)], &[])
    });
    used(&scanned, 1, 0);
    says(g, line, "an operand belongs to another builder");
    assert!(other.finish().is_ok());
}

#[test]
fn segments_divide_the_loop() {
    for (trip, every) in [("5", 2), ("4", 0), ("t", 2), ("4", 3)] {
        let g = Builder::new("m");
        let trip: kiln_ir::Dim = trip.parse().unwrap();
        let xs = g.input("xs", DType::F32, [trip.clone()]);
        let zero = g.splat(DType::F32, (), 0.0);
        let options = ScanOptions {
            checkpoint: Some(every),
            ..PLAIN
        };
        let line = line!() + 1;
        let scanned = g.scan(&options, &[zero], &[xs], |it| {
            let next = it.carry(0) + it.entry(0);
            Yield::new(&[next], &[next, next])
        });
        used(&scanned, 1, 2);
        let message = format!("segments of {every} iterations do not divide a scan of {trip}");
        says(g, line, &message);
    }
}

#[test]
fn negative_numbers_of_iterations_are_refused() {
    let g = Builder::new("m");
    let zero = g.splat(DType::F32, (), 0.0);
    let options = ScanOptions {
        trip: Some((-1).into()),
        ..PLAIN
    };
    let line = line!() + 1;
    let scanned = g.scan(&options, &[zero], &[], |it| {
        Yield::new(&[it.carry(0)], &[it.carry(0)])
    });
    used(&scanned, 1, 1);
    says(g, line, "`scan` of -1 iterations");
}

#[test]
fn a_scan_that_yields_nothing_is_refused() {
    let g = Builder::new("m");
    let xs = g.input("xs", DType::F32, [4]);
    let line = line!() + 1;
    let scanned = g.scan(&PLAIN, &[], &[xs], |_| Yield::new(&[], &[]));
    used(&scanned, 0, 0);
    says(g, line, "the body of `scan` yields 0 values for 0 carries");
}

#[test]
fn whiles_have_no_gradient_and_no_number() {
    let g = Builder::new("m");
    let x = g.param("x", (), Init::zeros());
    let line = line!() + 1;
    let results = g.while_loop(&[x], |it| it.carry(0).lt(9.0), |it| vec![it.carry(0) * 2.0]);
    // The loop, and then the param that the gradient does not reach.
    let _ = grad(results[0], &[x]);
    let found = g.finish().unwrap_err();
    assert_eq!(found.0.len(), 2, "{found}");
    assert_eq!(
        found.0[0].refusal.message,
        "the gradient through `while`, whose number of iterations is not known beforehand"
    );
    assert_eq!(found.0[0].location.line, line);

    let g = Builder::new("m");
    let x = g.input("x", DType::I64, ());
    let line = line!() + 4;
    let results = g.while_loop(
        &[x],
        |it| it.carry(0).lt(9.0),
        |it| vec![it.carry(0) + it.number()],
    );
    results[0].exp();
    says(
        g,
        line,
        "the body of a `while` has no number of the iteration",
    );
}

#[test]
fn whiles_test_one_bool_and_keep_their_types() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    let line = line!() + 1;
    let results = g.while_loop(&[x], |it| it.carry(0).lt(9.0), |it| vec![it.carry(0) * 2.0]);
    results[0].exp();
    says(
        g,
        line,
        "the test of `while` yields something else than one bool",
    );
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    let line = line!() + 1;
    let results = g.while_loop(
        &[x],
        |it| it.carry(0).sum().lt(9.0),
        |it| vec![it.carry(0).sum()],
    );
    results[0].exp();
    says(
        g,
        line,
        "the body of `while` yields other types than its carries begin with",
    );
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    g.while_loop(&[x], |it| it.carry(1).sum().lt(9.0), |it| vec![it.carry(0)]);
    let found = mistake(g);
    assert_eq!(found.refusal.message, "there is no carry 1; there are 1");
}

#[test]
fn both_branches_yield_the_same_types() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    let line = line!() + 1;
    let chosen = g.cond(x.sum().gt(0.0), |_| vec![x, x], |_| vec![x]);
    chosen[1].exp();
    says(
        g,
        line,
        "the regions of `cond` yield (f32[2], f32[2]) and (f32[2])",
    );
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    let line = line!() + 1;
    let chosen = g.cond(x.gt(0.0), |_| vec![x], |_| vec![x]);
    chosen[0].exp();
    says(g, line, "the condition of `cond` is bool[2], not one bool");
}

#[test]
fn loops_are_not_built_deeper_than_they_can_be_read() {
    fn deeper<'g>(x: Tensor<'g>, levels: usize) -> Tensor<'g> {
        if levels == 0 {
            return x + 1.0;
        }
        let options = ScanOptions {
            trip: Some(1.into()),
            ..PLAIN
        };
        let scanned = x.builder().scan(&options, &[x], &[], |it| {
            Yield::new(&[deeper(it.carry(0), levels - 1)], &[])
        });
        scanned.carries[0]
    }
    for (levels, fits) in [(16, true), (17, false)] {
        let g = Builder::new("m");
        let x = g.input("x", DType::F32, ());
        g.output("y", deeper(x, levels));
        if fits {
            assert!(kiln_ir::verify(&g.finish().unwrap()).is_ok());
        } else {
            let found = mistake(g);
            assert_eq!(
                found.refusal.message,
                "regions within regions, more than 16 deep"
            );
        }
    }
}
