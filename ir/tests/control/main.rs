//! Control steps as data: the printed form, the serde forms, and one violation of each rule that is about them.

mod bodies;
#[path = "../common/refused.rs"]
mod refused;
mod stretches;
mod writes;

use kiln_ir::program::{
    Access, Branch, Buffer, Copy, Guard, Home, Launch, LiveRange, Loop, Part, Port, Program,
    Resident, Rule, Slice, Step, While, place,
};
use kiln_ir::{Bindings, BufferId, DType, Dim, Init, KernelId, Role, TensorType};

pub(crate) const READ: Access = Access::Read;
pub(crate) const WRITE: Access = Access::Write;
pub(crate) const UPDATE: Access = Access::ReadWrite;

pub(crate) fn t() -> Dim {
    Dim::symbol("t")
}

pub(crate) fn id(buffer: usize) -> BufferId {
    BufferId::new(buffer)
}

pub(crate) fn buffer(name: &str, dtype: DType, elements: impl Into<Dim>, home: Home) -> Buffer {
    Buffer {
        name: name.into(),
        dtype,
        elements: elements.into(),
        home,
    }
}

pub(crate) fn arena(first: usize, last: usize) -> Home {
    Home::Arena(LiveRange { first, last })
}

pub(crate) fn local(first: usize, last: usize) -> Home {
    Home::Local(LiveRange { first, last })
}

pub(crate) fn slice(of: usize, at: usize, entries: impl Into<Dim>, first: impl Into<Dim>) -> Home {
    Home::Slice(Slice {
        of: id(of),
        at,
        entries: entries.into(),
        first: first.into(),
        step: 1,
    })
}

pub(crate) fn port(
    name: &str,
    dtype: DType,
    shape: impl Into<kiln_ir::Shape>,
    buffer: usize,
) -> Port {
    Port {
        name: name.into(),
        ty: TensorType::new(dtype, shape),
        buffer: id(buffer),
    }
}

pub(crate) fn kernel(kernel: usize, arguments: &[(usize, Access)]) -> Step {
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

pub(crate) fn copy(name: &str, from: (usize, Dim), to: (usize, Dim), elements: i64) -> Step {
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

pub(crate) fn repeat(trip: impl Into<Dim>, steps: usize, parallel: bool) -> Step {
    Step::Loop(Loop {
        name: "repeat".into(),
        trip: trip.into(),
        steps,
        parallel,
    })
}

pub(crate) fn program(
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
pub(crate) fn sums() -> Program {
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
pub(crate) fn counter() -> Program {
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
pub(crate) fn parallel() -> Program {
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
pub(crate) fn refused(
    program: fn() -> Program,
    change: impl FnOnce(&mut Program),
    expected: &[(Rule, &str)],
) {
    refused::refused(program(), change, expected);
}

pub(crate) fn slice_of(program: &mut Program, buffer: usize) -> &mut Slice {
    match &mut program.buffers[buffer].home {
        Home::Slice(slice) => slice,
        other => panic!("it is a slice, not {other:?}"),
    }
}
