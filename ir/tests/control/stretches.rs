//! Buffers that are others without their first elements, or their last ones.

use super::*;
use kiln_ir::program::Stretch;

fn stretch(of: usize, skip: impl Into<Dim>, rest: impl Into<Dim>) -> Home {
    Home::Stretch(Stretch {
        of: id(of),
        skip: skip.into(),
        rest: rest.into(),
    })
}

/// Sums of the rows of `x: f32[t, 4]` up to each one, which are the carries that iterations leave, and the sums before each one.
fn kept() -> Program {
    let f32 = DType::F32;
    let entries = || t() + Dim::from(1);
    program(
        vec![port("x", f32, (t(), 4), 0)],
        vec![
            port("before", f32, (t(), 4), 1),
            port("after", f32, (t(), 4), 2),
        ],
        vec![
            buffer("x", f32, t() * 4, Home::Input),
            buffer("before", f32, t() * 4, Home::Output),
            buffer("after", f32, t() * 4, Home::Output),
            buffer("zero", f32, 4, Home::Constant([0; 16].into())),
            buffer("carry", f32, t() * 4 + 4, arena(0, 4)),
            buffer("left", f32, t() * 4, stretch(4, 4, 0)),
            buffer("x[i]", f32, 4, slice(0, 1, t(), 0)),
            buffer("c[i]", f32, 4, slice(4, 1, entries(), 0)),
            buffer("c[i + 1]", f32, 4, slice(4, 1, entries(), 1)),
        ],
        vec![
            copy("init", (3, Dim::from(0)), (4, Dim::from(0)), 4),
            repeat(t(), 1, false),
            kernel(0, &[(6, READ), (7, READ), (8, WRITE)]),
            kernel(1, &[(4, READ), (1, WRITE)]),
            kernel(1, &[(5, READ), (2, WRITE)]),
        ],
    )
}

#[test]
fn stretches_say_whose_they_are_and_lie_there() {
    let text = kept().to_string();
    assert!(
        text.contains("  $5: f32[4*t] stretch of $4 behind 4 and before 0 \"left\"\n"),
        "{text}"
    );
    assert_eq!(kept().verify(), Ok(()));
    let mut odd = kept();
    odd.buffers[5].home = stretch(4, 4, Dim::symbol("odd"));
    assert_eq!(
        odd.symbols(),
        [kiln_ir::Symbol::new("odd"), kiln_ir::Symbol::new("t")]
    );
    // Behind a larger buffer, which lives as long.
    let mut two = kept();
    two.buffers
        .push(buffer("more", DType::F32, t() * 16, arena(0, 4)));
    let placement = place(&two.buffers, &Bindings::from([("t", 4)])).unwrap();
    assert_eq!(placement.arena, 384);
    assert_eq!(placement.offsets[4], Some(256));
    assert_eq!(placement.offsets[5], Some(272));
    let json = serde_json::to_string(&kept()).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), kept());
    let bytes = postcard::to_stdvec(&kept()).unwrap();
    assert_eq!(postcard::from_bytes::<Program>(&bytes).unwrap(), kept());
}

#[test]
fn a_binding_under_which_a_stretch_leaves_its_whole_is_refused() {
    let odd = || Dim::symbol("odd");
    let mut program = kept();
    program.buffers[5] = buffer(
        "left",
        DType::F32,
        t() * 4 + odd(),
        stretch(4, 4, Dim::from(0) - odd()),
    );
    assert_eq!(program.verify(), Ok(()));
    let at = |odd| place(&program.buffers, &Bindings::from([("t", 4), ("odd", odd)]));
    assert_eq!(at(-4).unwrap().offsets[5], Some(16));
    assert!(at(1).is_err());
}

#[test]
fn a_stretch_is_part_of_an_arena_buffer() {
    refused(
        kept,
        |p| p.buffers[5].elements = t() * 4 + 1,
        &[(
            Rule::Stretch,
            "$5 (left): f32[4*t + 1] between 4 and 0 others do not make up $4 (carry), f32[4*t + 4]",
        )],
    );
    refused(
        kept,
        |p| p.buffers[5].dtype = DType::I32,
        &[(
            Rule::Stretch,
            "$5 (left): i32[4*t] between 4 and 0 others do not make up $4 (carry), f32[4*t + 4]",
        )],
    );
    refused(
        kept,
        |p| p.buffers[5].home = stretch(0, 0, 0),
        &[(Rule::Stretch, "$5 (left): it is a stretch of $0 (x), input")],
    );
    // Neither a stretch of a stretch nor one of itself.
    for of in [5, 9] {
        let mut nested = kept();
        nested.buffers[5].home = stretch(of, 0, 0);
        let first = buffer("first", DType::F32, t() * 4, stretch(4, 4, 0));
        nested.buffers.push(first);
        let errors = nested.verify().unwrap_err();
        assert!(errors.iter().any(|e| e.rule == Rule::Stretch), "{errors}");
    }
    refused(
        kept,
        |p| p.buffers[5].home = stretch(77, 0, 0),
        &[(Rule::Exists, "$5 (left): there is no buffer $77")],
    );
}

#[test]
fn a_stretch_is_used_while_the_whole_lives_and_has_been_written() {
    refused(
        kept,
        |p| p.buffers[4].home = arena(0, 3),
        &[(
            Rule::LiveRange,
            "step 4: it uses $5 (left), a stretch of $4 (carry), which lives 0..=3",
        )],
    );
    refused(
        kept,
        |p| p.steps.swap(0, 4),
        &[
            (
                Rule::Written,
                "step 0: it reads $5 (left), a stretch of $4 (carry), which nothing has written yet",
            ),
            (
                Rule::Written,
                "step 2: it reads $7 (c[i]), a slice of $4 (carry), which nothing has written yet",
            ),
        ],
    );
    // Entries of a stretch are too: of one whose whole lives through their loop, which no step writes.
    let scanned = |p: &mut Program| {
        p.steps.truncate(4);
        p.steps.push(repeat(t(), 1, false));
        p.steps.push(kernel(1, &[(9, READ), (10, WRITE)]));
        p.buffers
            .push(buffer("left[i]", DType::F32, 4, slice(5, 4, t(), 0)));
        p.buffers
            .push(buffer("after[i]", DType::F32, 4, slice(2, 4, t(), 0)));
        p.buffers[4].home = arena(0, 5);
    };
    let mut good = kept();
    scanned(&mut good);
    assert_eq!(good.verify(), Ok(()));
    refused(
        kept,
        |p| {
            scanned(p);
            p.buffers[4].home = arena(0, 3);
        },
        &[(
            Rule::LiveRange,
            "$9 (left[i]): $5 (left) lives 0..=3, and not throughout the loop at steps 4 to 5",
        )],
    );
}
