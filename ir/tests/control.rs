//! Control steps as data: the printed form, the serde forms, and one violation of each rule that is about them.

use kiln_ir::program::{
    Access, Branch, Buffer, Copy, Guard, Home, Launch, LiveRange, Loop, Part, Port, Program,
    Resident, Rule, Slice, Step, While, place,
};
use kiln_ir::{Bindings, BufferId, DType, Dim, Init, KernelId, Role, TensorType};

const READ: Access = Access::Read;
const WRITE: Access = Access::Write;
const UPDATE: Access = Access::ReadWrite;

fn t() -> Dim {
    Dim::symbol("t")
}

fn id(buffer: usize) -> BufferId {
    BufferId::new(buffer)
}

fn buffer(name: &str, dtype: DType, elements: impl Into<Dim>, home: Home) -> Buffer {
    Buffer {
        name: name.into(),
        dtype,
        elements: elements.into(),
        home,
    }
}

fn arena(first: usize, last: usize) -> Home {
    Home::Arena(LiveRange { first, last })
}

fn local(first: usize, last: usize) -> Home {
    Home::Local(LiveRange { first, last })
}

fn slice(of: usize, at: usize, entries: impl Into<Dim>, first: impl Into<Dim>) -> Home {
    Home::Slice(Slice {
        of: id(of),
        at,
        entries: entries.into(),
        first: first.into(),
        step: 1,
    })
}

fn port(name: &str, dtype: DType, shape: impl Into<kiln_ir::Shape>, buffer: usize) -> Port {
    Port {
        name: name.into(),
        ty: TensorType::new(dtype, shape),
        buffer: id(buffer),
    }
}

fn kernel(kernel: usize, arguments: &[(usize, Access)]) -> Step {
    Step::Kernel(vec![Launch {
        kernel: KernelId::new(kernel),
        arguments: arguments.iter().map(|(i, _)| id(*i)).collect(),
        access: arguments.iter().map(|(_, access)| *access).collect(),
        sizes: Vec::new(),
        total: Dim::from(4),
        grain: 1,
        work: Dim::from(1),
    }])
}

fn copy(name: &str, from: (usize, Dim), to: (usize, Dim), elements: i64) -> Step {
    let part = |(buffer, entry)| Part {
        buffer: id(buffer),
        entry,
    };
    Step::Copy(Copy {
        name: name.into(),
        from: part(from),
        to: part(to),
        elements: Dim::from(elements),
    })
}

fn repeat(trip: impl Into<Dim>, steps: usize, parallel: bool) -> Step {
    Step::Loop(Loop {
        name: "repeat".into(),
        trip: trip.into(),
        steps,
        parallel,
    })
}

fn program(
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
) -> Program {
    Program {
        name: "control".into(),
        inputs,
        residents: Vec::new(),
        outputs,
        buffers,
        kernels: vec!["add".into(), "move".into()],
        requirements: Vec::new(),
        steps,
    }
}

/// Sums of the rows of `x: f32[t, 4]` up to each one, by way of a temporary, with a carry of two entries.
fn sums() -> Program {
    let f32 = DType::F32;
    program(
        vec![port("x", f32, (t(), 4), 0)],
        vec![port("y", f32, (t(), 4), 1), port("last", f32, (4,), 9)],
        vec![
            buffer("x", f32, t() * 4, Home::Input),
            buffer("y", f32, t() * 4, Home::Output),
            buffer("carry", f32, 8, arena(0, 4)),
            buffer("zero", f32, 4, Home::Constant([0; 16].into())),
            buffer("x[i]", f32, 4, slice(0, 1, t(), 0)),
            buffer("y[i]", f32, 4, slice(1, 1, t(), 0)),
            buffer("c[i]", f32, 4, slice(2, 1, 2, 0)),
            buffer("c[i + 1]", f32, 4, slice(2, 1, 2, 1)),
            buffer("sum", f32, 4, arena(2, 3)),
            buffer("last", f32, 4, Home::Output),
        ],
        vec![
            copy("init", (3, Dim::from(0)), (2, Dim::from(0)), 4),
            repeat(t(), 2, false),
            kernel(0, &[(4, READ), (6, READ), (8, WRITE)]),
            kernel(1, &[(8, READ), (7, WRITE), (5, WRITE)]),
            copy("last", (2, t().modulo(&Dim::from(2))), (9, Dim::from(0)), 4),
        ],
    )
}

/// Counts up to `n`, then takes one of two ways.
fn counter() -> Program {
    let (i64, bool) = (DType::I64, DType::Bool);
    program(
        vec![port("n", i64, (), 0), port("up", bool, (), 1)],
        vec![port("count", i64, (), 2), port("way", i64, (), 3)],
        vec![
            buffer("n", i64, 1, Home::Input),
            buffer("up", bool, 1, Home::Input),
            buffer("count", i64, 1, Home::Output),
            buffer("way", i64, 1, Home::Output),
            buffer("zero", i64, 1, Home::Constant([0; 8].into())),
            buffer("more", bool, 1, arena(1, 3)),
            buffer("doubled", i64, 1, arena(5, 8)),
        ],
        vec![
            copy("zero", (4, Dim::from(0)), (2, Dim::from(0)), 1),
            Step::While(While {
                name: "count".into(),
                condition: id(5),
                test: 1,
                steps: 1,
            }),
            kernel(0, &[(2, READ), (0, READ), (5, WRITE)]),
            kernel(1, &[(2, UPDATE)]),
            Step::Branch(Branch {
                name: "way".into(),
                condition: id(1),
                then: 2,
                otherwise: 1,
            }),
            kernel(1, &[(2, READ), (6, WRITE)]),
            kernel(1, &[(6, READ), (3, WRITE)]),
            kernel(1, &[(4, READ), (3, WRITE)]),
            kernel(1, &[(3, UPDATE)]),
        ],
    )
}

/// Copies the rows of `x: f32[t, 4]` by way of a row of each thread's own.
fn parallel() -> Program {
    let f32 = DType::F32;
    program(
        vec![port("x", f32, (t(), 4), 0)],
        vec![port("y", f32, (t(), 4), 1)],
        vec![
            buffer("x", f32, t() * 4, Home::Input),
            buffer("y", f32, t() * 4, Home::Output),
            buffer("x[i]", f32, 4, slice(0, 0, t(), 0)),
            buffer("y[i]", f32, 4, slice(1, 0, t(), 0)),
            buffer("row", f32, 4, local(1, 2)),
        ],
        vec![
            repeat(t(), 2, true),
            kernel(1, &[(2, READ), (4, WRITE)]),
            kernel(1, &[(4, READ), (3, WRITE)]),
        ],
    )
}

#[test]
fn bodies_are_indented_and_slices_say_where_they_are() {
    assert_eq!(
        sums().to_string(),
        r#"program @control<t> {
  input x: f32[t, 4] in $0
  output y: f32[t, 4] in $1
  output last: f32[4] in $9
buffers:
  $0: f32[4*t] input "x"
  $1: f32[4*t] output "y"
  $2: f32[8] arena, live 0..=4 "carry"
  $3: f32[4] constant of 16 bytes "zero"
  $4: f32[4] slice $0[(0 + i) mod t] of the loop at step 1 "x[i]"
  $5: f32[4] slice $1[(0 + i) mod t] of the loop at step 1 "y[i]"
  $6: f32[4] slice $2[(0 + i) mod 2] of the loop at step 1 "c[i]"
  $7: f32[4] slice $2[(1 + i) mod 2] of the loop at step 1 "c[i + 1]"
  $8: f32[4] arena, live 2..=3 "sum"
  $9: f32[4] output "last"
steps:
  0: copy "init" $3[0] to $2[0], 4 elements
  1: loop "repeat" over t: 2 steps
    2: kernel k0 add(read $4, read $6, write $8) over 4, work 1
    3: kernel k1 move(read $8, write $7, write $5) over 4, work 1
  4: copy "last" $2[mod(t, 2)] to $9[0], 4 elements
}
"#
    );
    let text = counter().to_string();
    let steps = &text[text.find("steps:").unwrap()..];
    assert_eq!(
        steps,
        r#"steps:
  0: copy "zero" $4[0] to $2[0], 1 elements
  1: while "count" $5: 1 steps set it, then 1 steps
    2: kernel k0 add(read $2, read $0, write $5) over 4, work 1
    3: kernel k1 move(update $2) over 4, work 1
  4: branch "way" $1: 2 steps, else 1 steps
    5: kernel k1 move(read $2, write $6) over 4, work 1
    6: kernel k1 move(read $6, write $3) over 4, work 1
    7: kernel k1 move(read $4, write $3) over 4, work 1
  8: kernel k1 move(update $3) over 4, work 1
}
"#
    );
    let text = parallel().to_string();
    assert!(text.contains("  0: parallel loop \"repeat\" over t: 2 steps\n    1: kernel"));
}

#[test]
fn both_serde_forms_give_control_steps_back() {
    for program in [sums(), counter(), parallel()] {
        let json = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
        let bytes = postcard::to_stdvec(&program).unwrap();
        assert_eq!(postcard::from_bytes::<Program>(&bytes).unwrap(), program);
    }
}

#[test]
fn good_programs_verify_and_slices_take_no_room() {
    for program in [sums(), counter(), parallel()] {
        assert_eq!(program.verify(), Ok(()));
    }
    let placement = place(&sums().buffers, &Bindings::from([("t", 7)])).unwrap();
    assert_eq!((placement.arena, placement.scratch), (128, 0));
    assert_eq!(placement.offsets[4..8], [None; 4]);
    assert_eq!(placement.bytes[5], 16);
}

#[track_caller]
fn refused(program: fn() -> Program, change: impl FnOnce(&mut Program), rules: &[(Rule, &str)]) {
    let mut program = program();
    change(&mut program);
    let errors = program.verify().unwrap_err();
    let found: Vec<(Rule, String)> = errors
        .iter()
        .map(|e| (e.rule, format!("{}: {}", e.place, e.message)))
        .collect();
    let found: Vec<(Rule, &str)> = found.iter().map(|(r, m)| (*r, m.as_str())).collect();
    assert_eq!(found, rules);
    assert!(program.to_string().starts_with("program @control"));
}

fn slice_of(program: &mut Program, buffer: usize) -> &mut Slice {
    match &mut program.buffers[buffer].home {
        Home::Slice(slice) => slice,
        other => panic!("it is a slice, not {other:?}"),
    }
}

#[test]
fn bodies_lie_in_the_program_and_nest() {
    let rest = |p: &mut Program| p.steps[1] = repeat(t(), 9, false);
    refused(
        sums,
        |p| {
            rest(p);
            p.steps.pop();
            p.outputs.pop();
            p.buffers.pop();
            p.buffers[2].home = arena(0, 3);
        },
        &[(
            Rule::Body,
            "step 1: its body ends at step 11, and the program at step 4",
        )],
    );
    refused(
        parallel,
        |p| p.steps[0] = repeat(t(), 0, true),
        &[
            (Rule::Body, "step 0: a body of it has no step"),
            (
                Rule::Parallel,
                "$4 (row): it is local and lives 1..=2, not within the body of one parallel loop",
            ),
            (
                Rule::Slice,
                "step 1: it uses $2 (x[i]), a slice that only steps in the loop at step 0 have",
            ),
            (
                Rule::Slice,
                "step 2: it uses $3 (y[i]), a slice that only steps in the loop at step 0 have",
            ),
        ],
    );
    // A loop in the first side of a branch would reach into the second.
    refused(
        counter,
        |p| {
            p.steps[6] = repeat(2, 1, false);
            p.buffers[6].home = arena(5, 5);
        },
        &[(
            Rule::Body,
            "step 6: its body ends at step 8, and the body of step 4 at step 7",
        )],
    );
    let mut deep = counter();
    deep.steps = (0..100_000)
        .map(|at| repeat(1, 100_000 - at, false))
        .chain([kernel(1, &[(2, WRITE), (3, WRITE)])])
        .collect();
    deep.buffers.truncate(5);
    let errors = deep.verify().unwrap_err();
    let first = errors.iter().next().unwrap();
    assert_eq!(first.rule, Rule::Body);
    assert_eq!(first.message, "it lies within 64 others, which is the most");
}

#[test]
fn conditions_are_one_bool_and_set_by_the_test() {
    refused(
        counter,
        |p| p.buffers[5].elements = Dim::from(2),
        &[(
            Rule::Condition,
            "step 1: the condition $5 is bool[2], and not one bool",
        )],
    );
    refused(
        counter,
        |p| {
            let Step::Branch(branch) = &mut p.steps[4] else {
                panic!("step 4 is a branch")
            };
            branch.condition = id(0);
        },
        &[(
            Rule::Condition,
            "step 4: the condition $0 is i64[1], and not one bool",
        )],
    );
    refused(
        counter,
        |p| p.steps.swap(2, 3),
        &[(
            Rule::Written,
            "step 1: its test does not write the condition $5 (more)",
        )],
    );
}

#[test]
fn slices_are_entries_of_a_buffer_in_a_loop() {
    refused(
        sums,
        |p| slice_of(p, 4).step = 2,
        &[(
            Rule::Slice,
            "$4 (x[i]): it moves by 2 entries, and not by 1 or -1",
        )],
    );
    refused(
        sums,
        |p| p.buffers[4].elements = Dim::from(5),
        &[(
            Rule::Slice,
            "$4 (x[i]): t entries of f32[5] do not make up $0 (x), f32[4*t]",
        )],
    );
    refused(
        sums,
        |p| slice_of(p, 4).at = 0,
        &[
            (
                Rule::Slice,
                "$4 (x[i]): step 0 is to move it, which is no loop",
            ),
            (
                Rule::Slice,
                "step 2: it uses $4 (x[i]), a slice that only steps in the loop at step 0 have",
            ),
        ],
    );
    refused(
        sums,
        |p| {
            let twin = slice(6, 1, 1, 0);
            p.buffers.push(buffer("twin", DType::F32, 4, twin));
        },
        &[(
            Rule::Slice,
            "$10 (twin): $6 (c[i]) is moved by step 1, which is no loop around step 1",
        )],
    );
    refused(
        parallel,
        |p| {
            p.buffers.push(buffer("fine", DType::F32, 4, Home::Scratch));
            let part = slice(5, 0, 1, 0);
            p.buffers.push(buffer("part", DType::F32, 4, part));
        },
        &[(
            Rule::Slice,
            "$6 (part): it is a slice of scratch, $5 (fine)",
        )],
    );
    refused(
        parallel,
        |p| {
            let part = slice(4, 0, 1, 0);
            p.buffers.push(buffer("part", DType::F32, 4, part));
        },
        &[(
            Rule::LiveRange,
            "$5 (part): $4 (row) lives 1..=2, and not throughout the loop at steps 0 to 2",
        )],
    );
    refused(
        sums,
        |p| slice_of(p, 4).of = id(77),
        &[(Rule::Exists, "$4 (x[i]): there is no buffer $77")],
    );
    refused(
        sums,
        |p| p.steps[3] = kernel(1, &[(8, READ), (7, WRITE), (5, WRITE), (4, WRITE)]),
        &[(
            Rule::ReadOnly,
            "step 3: it writes $4 (x[i]), a slice of $0 (x), input",
        )],
    );
}

#[test]
fn live_ranges_lie_within_a_body_or_around_its_loop() {
    refused(
        sums,
        |p| p.buffers[2].home = arena(0, 2),
        &[
            (
                Rule::LiveRange,
                "$6 (c[i]): $2 (carry) lives 0..=2, and not throughout the loop at steps 1 to 3",
            ),
            (
                Rule::LiveRange,
                "$7 (c[i + 1]): $2 (carry) lives 0..=2, and not throughout the loop at steps 1 to 3",
            ),
            (
                Rule::LiveRange,
                "$2 (carry): it lives 0..=2, neither within the body of the loop at steps 1 to 3 nor throughout",
            ),
            (
                Rule::LiveRange,
                "step 4: it uses $2 (carry), which lives 0..=2",
            ),
        ],
    );
    refused(
        sums,
        |p| p.buffers[8].home = arena(2, 4),
        &[(
            Rule::LiveRange,
            "$8 (sum): it lives 2..=4, neither within the body of the loop at steps 1 to 3 nor throughout",
        )],
    );
    refused(
        counter,
        |p| p.buffers[5].home = arena(2, 3),
        &[(
            Rule::LiveRange,
            "step 1: it uses $5 (more), which lives 2..=3",
        )],
    );
}

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
