//! Carries of which one result is what iterations find, and another, a stretch, what they leave.

use super::refusals::refused;
use super::*;
use kiln_ir::program::Stretch;

/// Sums of the rows of `x: f32[t, w]` before each one and up to it, and the latter doubled by a loop over the stretch.
fn kept(w: usize) -> Program {
    let t = dim("t");
    let entries = t.clone() + 1;
    let rows = || TensorType::new(F32, (dim("t"), w));
    program(
        vec![port("x", rows(), 0)],
        vec![
            port("before", rows(), 1),
            port("after", rows(), 2),
            port("doubled", rows(), 3),
        ],
        vec![
            buffer("x", F32, t.clone() * w, Home::Input),
            buffer("before", F32, t.clone() * w, Home::Output),
            buffer("after", F32, t.clone() * w, Home::Output),
            buffer("doubled", F32, t.clone() * w, Home::Output),
            buffer("zero", F32, w, zeros(w)),
            buffer("carry", F32, entries.clone() * w, arena(0, 6)),
            buffer(
                "left",
                F32,
                t.clone() * w,
                Home::Stretch(Stretch {
                    of: BufferId::new(5),
                    skip: w.into(),
                    rest: 0.into(),
                }),
            ),
            buffer("x[i]", F32, w, slice(0, 1, t.clone(), 0)),
            buffer("c[i]", F32, w, slice(5, 1, entries.clone(), 0)),
            buffer("c[i + 1]", F32, w, slice(5, 1, entries, 1)),
            buffer("left[i]", F32, w, reversed(6, 5, t.clone())),
            buffer("doubled[i]", F32, w, reversed(3, 5, t.clone())),
        ],
        vec![
            copy((4, 0), (5, 0), w),
            repeat(t.clone(), 1, false),
            call(ADD, &[(7, READ), (8, READ), (9, WRITE)], w),
            copy((5, 0), (1, 0), t.clone() * w),
            copy((6, 0), (2, 0), t.clone() * w),
            repeat(t, 1, false),
            call(DOUBLE, &[(10, READ), (11, WRITE)], w),
        ],
    )
}

#[test]
fn a_stretch_has_what_was_written_to_the_whole() {
    for w in [1, 5] {
        let mut session = open(kept(w), 1);
        for t in [3, 0, 1, 17] {
            let x = noise(t * w, "x");
            let outputs = session.step(&[Feed::new(&x, &[t, w])]).unwrap();
            let (history, doubled) = expected_sums(&x, w);
            let found = |name: &str| outputs.as_slice::<f32>(name).unwrap();
            assert_eq!(found("before"), &history[..t * w]);
            assert_eq!(found("after"), &history[w..]);
            assert_eq!(found("doubled"), doubled);
        }
    }
}

#[test]
fn entries_of_a_whole_and_of_its_stretch_are_not_known_to_be_apart() {
    let mut program = kept(2);
    // Entry `i` of the stretch is entry `i + 1` of the whole, which the iteration writes; so far nobody counts that far.
    program.buffers[10].home = slice(6, 1, dim("t"), 0);
    program.steps[2] = call(ADD, &[(7, READ), (10, READ), (9, WRITE)], 2);
    program.steps.truncate(5);
    program.steps.push(copy((6, 0), (3, 0), dim("t") * 2));
    program.buffers[5].home = arena(0, 5);
    program.buffers.pop();
    let x = noise(8, "x");
    let error = refused(
        program,
        &[Feed::new(&x, &[4, 2])],
        "step 2 touches \"c[i + 1]\" and \"left[i]\", which share memory in some iteration, and writes one of them; the program is not valid",
    );
    assert!(matches!(error, PlanError::Overlap { .. }));
}
