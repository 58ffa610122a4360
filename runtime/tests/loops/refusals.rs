//! What a guard within a loop refuses, and what a binding does.

use super::*;

/// [`sums`] with a guard in the loop, and a state that takes the last sum.
fn guarded(w: usize) -> Program {
    let mut program = sums(w, false, false);
    let state = TensorType::new(F32, (w,));
    let role = Role::State(Init::zeros());
    program.residents.push(resident("state", role, state, 9));
    program
        .buffers
        .push(buffer("state", F32, w, Home::Resident));
    program
        .buffers
        .push(buffer("finite", DType::Bool, 1, arena(3, 4)));
    program.steps[1] = repeat(dim("t"), 4, false);
    program
        .steps
        .insert(3, call(FINITE, &[(7, READ), (10, WRITE)], 1));
    program.steps.insert(
        4,
        Step::Guard(Guard {
            condition: BufferId::new(10),
            message: "a sum is not finite".into(),
            location: "main.rs:3:4".into(),
        }),
    );
    program.steps.push(copy((8, 0), (9, 0), w));
    program
}

#[test]
fn a_guard_in_a_loop_refuses_the_step_and_leaves_no_trace() {
    let w = 2;
    let mut session = open(guarded(w), 1);
    let mut x = vec![1.0_f32; 4 * w];
    session.step(&[Feed::new(&x, &[4, w])]).unwrap();
    let state = |session: &Session| session.state("state").unwrap().to_vec::<f32>().unwrap();
    assert_eq!(state(&session), [4.0; 2]);
    x[2 * w] = f32::INFINITY;
    let error = session.step(&[Feed::new(&x, &[4, w])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a sum is not finite (main.rs:3:4); no param or state has changed"
    );
    assert_eq!(state(&session), [4.0; 2]);
    x[2 * w] = 0.0;
    session.step(&[Feed::new(&x, &[4, w])]).unwrap();
    assert_eq!(state(&session), [3.0, 4.0]);
}

#[track_caller]
pub(crate) fn refused(program: Program, feeds: &[Feed<'_>], message: &str) -> PlanError {
    match open(program, 1).step(feeds) {
        Err(StepError::Plan(error)) => {
            assert_eq!(error.to_string(), message);
            error
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the step ran"),
    }
}

#[test]
fn what_leaves_its_buffer_or_meets_itself_is_refused_when_sizes_are_bound() {
    let x = noise(8, "x");
    let feeds = [Feed::new(&x, &[4, 2])];
    let mut program = sums(2, true, false);
    program.steps[4] = copy((2, dim("t") + 1), (8, 0), 2);
    let error = refused(
        program,
        &feeds,
        "the copy \"copy\" at step 4 reaches outside of the buffer that it reads: elements 10 to 11 of 10; the program is not valid",
    );
    assert!(matches!(error, PlanError::CopyOutOfBounds { .. }));
    let mut program = sums(2, true, false);
    program.steps[0] = copy((3, 0), (2, dim("t") - 5), 2);
    refused(
        program,
        &feeds,
        "the copy \"copy\" at step 0 reaches outside of the buffer that it writes: elements -2 to -1 of 10; the program is not valid",
    );
    // A carry whose next entry is the one that is read: with 4 entries beside the first, entry 5 is entry 0.
    let mut program = sums(2, true, false);
    program.buffers[7].home = slice(2, 1, dim("t") + 1, 5);
    let error = refused(
        program,
        &feeds,
        "step 2 touches \"c[i + 1]\" and \"c[i]\", which share memory in some iteration, and writes one of them; the program is not valid",
    );
    assert!(matches!(error, PlanError::Overlap { .. }));
    // More iterations than entries are well, since entries come round; but not over none.
    let mut program = sums(2, false, false);
    program.steps[1] = repeat(dim("t") + 1, 2, false);
    let mut session = open(program.clone(), 1);
    assert!(session.step(&feeds).is_ok());
    let error = refused(
        program,
        &[Feed::new(&x[..0], &[0, 2])],
        "the loop at step 1 runs 1 times over \"x[i]\", 0 entries of 8 bytes in a buffer of 0 bytes; the program is not valid",
    );
    assert!(matches!(error, PlanError::Entries { .. }));
}
