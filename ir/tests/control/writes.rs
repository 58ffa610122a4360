//! Who may write what, and in which order.

use super::*;

#[test]
fn what_may_not_run_does_not_write() {
    // A carry without a first value.
    refused(
        sums,
        |p| {
            p.buffers[8].home = arena(0, 3);
            p.steps[0] = copy("init", (3, Dim::from(0)), (8, Dim::from(0)), 4);
        },
        &[(
            Rule::Written,
            "step 2: it reads $6 (c[i]), a slice of $2 (carry), which nothing has written yet",
        )],
    );
    // The loop may have no iteration; with a known one the same is well.
    let last = |p: &mut Program| {
        p.steps[4] = copy("last", (8, Dim::from(0)), (9, Dim::from(0)), 4);
        p.buffers[8].home = arena(1, 4);
    };
    refused(
        sums,
        last,
        &[(
            Rule::Written,
            "step 4: it reads $8 (sum), which may not have been written",
        )],
    );
    let mut known = sums();
    last(&mut known);
    known.steps[1] = repeat(3, 2, false);
    assert_eq!(known.verify(), Ok(()));
    // So may the body of a `while`.
    refused(
        counter,
        |p| {
            p.steps[3] = kernel(1, &[(2, UPDATE), (6, WRITE)]);
            p.steps[5] = kernel(1, &[(6, READ)]);
            p.buffers[6].home = arena(1, 6);
        },
        &[
            (
                Rule::Written,
                "step 5: it reads $6 (doubled), which may not have been written",
            ),
            (
                Rule::Written,
                "step 6: it reads $6 (doubled), which may not have been written",
            ),
        ],
    );
    // One side of a branch.
    refused(
        counter,
        |p| p.steps[8] = kernel(1, &[(6, READ), (3, UPDATE)]),
        &[(
            Rule::Written,
            "step 8: it reads $6 (doubled), which may not have been written",
        )],
    );
    refused(
        counter,
        |p| {
            p.steps[7] = kernel(1, &[(2, UPDATE)]);
            p.steps.pop();
            p.buffers[6].home = arena(5, 7);
        },
        &[(
            Rule::Written,
            "output `way`: only steps that may not run write it",
        )],
    );
}

#[test]
fn copies_are_of_one_type() {
    refused(
        sums,
        |p| p.buffers[3] = buffer("zero", DType::I32, 4, Home::Constant([0; 16].into())),
        &[(
            Rule::Copy,
            "step 0: it copies $3 (zero) to $2 (carry), i32 to f32",
        )],
    );
    refused(
        sums,
        |p| p.steps[0] = copy("init", (77, Dim::from(0)), (2, Dim::from(0)), 4),
        &[(Rule::Exists, "step 0: there is no buffer $77")],
    );
}

fn with_resident(program: &mut Program) {
    let at = program.buffers.len();
    program
        .buffers
        .push(buffer("w", DType::F32, 4, Home::Resident));
    program.residents.push(Resident {
        name: "w".into(),
        role: Role::State(Init::zeros()),
        ty: TensorType::new(DType::F32, (4,)),
        buffer: id(at),
    });
}

fn guard(condition: usize) -> Step {
    Step::Guard(Guard {
        condition: id(condition),
        message: "not finite".into(),
        location: "main.rs:1:1".into(),
    })
}

#[test]
fn residents_are_written_behind_guards_and_outside_of_loops() {
    refused(
        sums,
        |p| {
            with_resident(p);
            p.steps[3] = kernel(1, &[(8, READ), (7, WRITE), (5, WRITE), (10, WRITE)]);
        },
        &[(
            Rule::ReadOnly,
            "step 3: it writes $10 (w), resident, in the loop at step 1",
        )],
    );
    let guarded = |p: &mut Program| {
        with_resident(p);
        p.buffers
            .push(buffer("finite", DType::Bool, 1, arena(3, 4)));
        p.steps[1] = repeat(t(), 3, false);
        p.steps[3] = kernel(1, &[(8, READ), (7, WRITE), (5, WRITE), (11, WRITE)]);
        p.steps.insert(4, guard(11));
        p.buffers[2].home = arena(0, 5);
    };
    let mut good = sums();
    guarded(&mut good);
    good.steps
        .push(copy("w", (2, Dim::from(0)), (10, Dim::from(0)), 4));
    good.buffers[2].home = arena(0, 6);
    assert_eq!(good.verify(), Ok(()));
    refused(
        sums,
        |p| {
            guarded(p);
            p.steps[0] = copy("init", (3, Dim::from(0)), (10, Dim::from(0)), 4);
            p.steps[2] = kernel(0, &[(4, READ), (10, READ), (8, WRITE)]);
        },
        &[(
            Rule::Guard,
            "step 4: the guard \"not finite\" comes after step 0, which writes $10 (w)",
        )],
    );
}

#[test]
fn iterations_of_a_parallel_loop_leave_each_other_alone() {
    let other = "which is not another entry in each iteration of the parallel loop at step 0, nor local to a thread";
    let message = format!("step 2: it writes $3 (y[i]), {other}");
    let written = [(Rule::Parallel, message.as_str())];
    refused(parallel, |p| slice_of(p, 3).first = Dim::from(1), &written);
    refused(parallel, |p| slice_of(p, 3).step = -1, &written);
    let mut reversed = parallel();
    *slice_of(&mut reversed, 3) = Slice {
        first: t() - 1,
        step: -1,
        ..slice_of(&mut parallel(), 3).clone()
    };
    assert_eq!(reversed.verify(), Ok(()));
    let temporary = |p: &mut Program| p.buffers[4].home = arena(1, 2);
    let message = format!("step 1: it writes $4 (row), {other}");
    refused(parallel, temporary, &[(Rule::Parallel, &message)]);
    refused(
        parallel,
        |p| p.steps[1] = kernel(1, &[(1, READ), (4, WRITE)]),
        &[
            (
                Rule::Parallel,
                "step 1: it touches $1 (y), which other iterations of the parallel loop at step 0 write",
            ),
            (
                Rule::Written,
                "step 1: it reads $1 (y), which nothing has written yet",
            ),
        ],
    );
    refused(
        parallel,
        |p| p.steps.swap(1, 2),
        &[(
            Rule::Written,
            "step 1: it reads $4 (row), which nothing has written yet",
        )],
    );
    refused(
        parallel,
        |p| {
            p.buffers.push(buffer("fine", DType::Bool, 1, local(1, 2)));
            p.buffers[4].home = local(1, 3);
            p.steps[1] = kernel(1, &[(2, READ), (4, WRITE), (5, WRITE)]);
            p.steps.insert(2, guard(5));
            p.steps[0] = repeat(t(), 3, true);
        },
        &[(
            Rule::Parallel,
            "step 2: a guard in the parallel loop at step 0",
        )],
    );
    // What is local to a thread is gone when the loop is done.
    refused(
        parallel,
        |p| {
            p.steps
                .push(copy("late", (4, Dim::from(0)), (1, Dim::from(0)), 4))
        },
        &[(
            Rule::LiveRange,
            "step 3: it uses $4 (row), which lives 1..=2",
        )],
    );
    refused(
        parallel,
        |p| p.buffers[4].home = local(1, 3),
        &[
            (
                Rule::LiveRange,
                "$4 (row): it lives 1..=3 in a program of 3 steps",
            ),
            (
                Rule::LiveRange,
                "$4 (row): it lives 1..=3, neither within the body of the loop at steps 0 to 2 nor throughout",
            ),
            (
                Rule::Parallel,
                "$4 (row): it is local and lives 1..=3, not within the body of one parallel loop",
            ),
        ],
    );
}

/// A carry of `f32[b, 4]`, of which an iteration computes the next value from the last one in a parallel loop.
fn carried_in_parallel(entries: i64) -> Program {
    let f32 = DType::F32;
    let b = || Dim::symbol("b");
    program(
        vec![port("x", f32, (b(), 4), 0)],
        vec![port("y", f32, (b(), 4), 1)],
        vec![
            buffer("x", f32, b() * 4, Home::Input),
            buffer("y", f32, b() * 4, Home::Output),
            buffer("carry", f32, b() * 4 * entries, arena(0, 4)),
            buffer("c[i]", f32, b() * 4, slice(2, 1, entries, 0)),
            buffer("c[i + 1]", f32, b() * 4, slice(2, 1, entries, 1)),
            buffer("c[i][j]", f32, 4, slice(3, 2, b(), 0)),
            buffer("c[i + 1][j]", f32, 4, slice(4, 2, b(), 0)),
        ],
        vec![
            copy("init", (0, Dim::from(0)), (2, Dim::from(0)), 4),
            repeat(6, 2, false),
            repeat(b(), 1, true),
            kernel(1, &[(5, READ), (6, WRITE)]),
            copy("last", (2, Dim::from(0)), (1, Dim::from(0)), 4),
        ],
    )
}

#[test]
fn a_parallel_loop_may_read_what_an_outer_iteration_finds_and_write_what_it_leaves() {
    for entries in [2, 7] {
        assert_eq!(carried_in_parallel(entries).verify(), Ok(()));
    }
    let touched = [(
        Rule::Parallel,
        "step 3: it touches $5 (c[i][j]), which other iterations of the parallel loop at step 2 write",
    )];
    let both = [
        touched[0],
        (
            Rule::Parallel,
            "step 3: it touches $6 (c[i + 1][j]), which other iterations of the parallel loop at step 2 write",
        ),
    ];
    // The same entry, one that is two further, and one in the other direction.
    for first in [0, 2] {
        let change = |p: &mut Program| slice_of(p, 4).first = Dim::from(first);
        refused(|| carried_in_parallel(7), change, &touched);
    }
    refused(
        || carried_in_parallel(7),
        |p| slice_of(p, 4).step = -1,
        &touched,
    );
    // As many entries as nobody needs, of which the one before the first is the last.
    refused(|| carried_in_parallel(1), |_| {}, &touched);
    let write_both = |p: &mut Program| {
        p.steps[3] = kernel(1, &[(5, WRITE), (6, WRITE)]);
        slice_of(p, 4).first = Dim::from(2);
    };
    refused(|| carried_in_parallel(7), write_both, &both);
}
