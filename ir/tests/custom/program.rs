//! Custom calls as steps of a program: printed, written, and one violation of each rule.

use kiln_ir::ops::{CallAttributes, CustomCall};
use kiln_ir::program::{
    Access, Argument, Buffer, Custom, Home, Launch, LiveRange, Loop, Port, Program, Resident, Rule,
    Step,
};
use kiln_ir::{BufferId, DType, Dim, Init, KernelId, Role, TensorType};

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

fn port(name: &str, ty: &TensorType, buffer: usize) -> Port {
    Port {
        name: name.into(),
        ty: ty.clone(),
        buffer: id(buffer),
    }
}

/// Splits `x: f32[b, 4]` in two, of which one is an output, and then updates `w` in place.
fn split() -> Program {
    let b = Dim::symbol("b");
    let whole = TensorType::new(DType::F32, (b.clone(), 4));
    let half = TensorType::new(DType::F32, (b.clone(), 2));
    let weights = TensorType::new(DType::F32, [4]);
    let temporary = Home::Arena(LiveRange { first: 0, last: 1 });
    Program {
        name: "split".into(),
        inputs: vec![port("x", &whole, 0)],
        residents: vec![Resident {
            name: "w".into(),
            role: Role::Param(Init::zeros()),
            ty: weights,
            buffer: id(1),
        }],
        outputs: vec![port("left", &half, 2)],
        buffers: vec![
            buffer("x", DType::F32, b.clone() * 4, Home::Input),
            buffer("w", DType::F32, 4, Home::Resident),
            buffer("left", DType::F32, b.clone() * 2, Home::Output),
            buffer("right", DType::F32, b.clone() * 2, temporary),
        ],
        kernels: vec!["update".into()],
        requirements: Vec::new(),
        steps: vec![
            Step::Custom(Custom {
                name: "head:custom_call".into(),
                call: CustomCall {
                    target: "split".into(),
                    attributes: CallAttributes::of(&[("at", "2")]),
                    results: vec![half.clone(), half],
                },
                inputs: vec![Argument {
                    buffer: id(0),
                    ty: whole,
                }],
                outputs: vec![id(2), id(3)],
                location: "net.py:3:4".into(),
            }),
            Step::Kernel(vec![Launch {
                kernel: KernelId::new(0),
                arguments: vec![id(3), id(1)],
                access: vec![Access::Read, Access::ReadWrite],
                sizes: Vec::new(),
                total: Dim::from(4),
                grain: 1,
                work: Dim::from(1),
            }]),
        ],
    }
}

fn custom(program: &mut Program) -> &mut Custom {
    match &mut program.steps[0] {
        Step::Custom(custom) => custom,
        other => panic!("step 0 is a custom call, not {other:?}"),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Program), expected: &[(Rule, &str)]) {
    crate::refused::refused(split(), change, expected);
}

#[test]
fn a_call_prints_what_it_reads_and_writes() {
    let program = split();
    assert_eq!(program.verify(), Ok(()));
    let text = program.to_string();
    let steps = text.split("steps:\n").nth(1).expect("steps");
    assert_eq!(
        steps,
        r#"  0: custom call "head:custom_call" of "split" at="2"
       reads $0: f32[b, 4]
       writes $2: f32[b, 2]
       writes $3: f32[b, 2]
  1: kernel k0 update(read $3, update $1) over 4, work 1
}
"#
    );
    let json = serde_json::to_string(&program).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Program>(&json).expect("a program"),
        program
    );
    let bytes = postcard::to_stdvec(&program).expect("bytes");
    assert_eq!(
        postcard::from_bytes::<Program>(&bytes).expect("a program"),
        program
    );
}

#[test]
fn tensors_must_fit_their_buffers() {
    refused(
        |program| custom(program).inputs[0].ty.dtype = DType::I32,
        &[(
            Rule::Custom,
            "step 0: $0 is f32[4*b], but the call has i32[b, 4]",
        )],
    );
    refused(
        |program| custom(program).call.results[0] = TensorType::new(DType::F32, [2]),
        &[(
            Rule::Custom,
            "step 0: $2 is f32[2*b], but the call has f32[2]",
        )],
    );
    refused(
        |program| custom(program).inputs[0].buffer = id(9),
        &[(Rule::Exists, "step 0: there is no buffer $9")],
    );
}

#[test]
fn each_result_has_a_buffer_of_its_own() {
    refused(
        |program| custom(program).call.results.truncate(1),
        &[
            (Rule::Custom, "step 0: it has 2 buffers for 1 results"),
            (
                Rule::Written,
                "step 1: it reads $3 (right), which nothing has written yet",
            ),
        ],
    );
    refused(
        |program| {
            custom(program).outputs[1] = id(2);
            program.steps.pop();
            program.buffers[3].home = Home::Scratch;
        },
        &[(
            Rule::Custom,
            "step 0: result 0 lies in $2 (left), which the call has for another tensor too",
        )],
    );
    refused(
        |program| {
            let half = custom(program).call.results[0].clone();
            custom(program).inputs.push(Argument {
                buffer: id(3),
                ty: half,
            });
        },
        &[
            (
                Rule::Custom,
                "step 0: result 1 lies in $3 (right), which the call has for another tensor too",
            ),
            (
                Rule::Written,
                "step 0: it reads $3 (right), which nothing has written yet",
            ),
        ],
    );
}

#[test]
fn no_resident_is_written_before_a_call_or_by_one() {
    refused(
        |program| {
            let four = TensorType::new(DType::F32, [4]);
            let call = custom(program);
            call.call.results.push(four);
            call.outputs.push(id(1));
        },
        &[(
            Rule::Custom,
            "step 0: it writes $1 (w), resident, though it may fail halfway",
        )],
    );
    refused(
        |program| {
            let again = program.steps[0].clone();
            program.steps.push(again);
            program.buffers[3].home = Home::Arena(LiveRange { first: 0, last: 2 });
        },
        &[(
            Rule::Guard,
            "step 2: the custom call \"head:custom_call\" comes after step 1, which writes $1 (w)",
        )],
    );
}

#[test]
fn a_call_is_no_step_of_a_parallel_loop_and_reads_no_scratch() {
    let mut program = split();
    program.steps.pop();
    let body = program.steps.len();
    program.steps.insert(
        0,
        Step::Loop(Loop {
            name: "shared out".into(),
            trip: Dim::from(9),
            steps: body,
            parallel: true,
        }),
    );
    program.buffers[3].home = Home::Scratch;
    let text = program.verify().unwrap_err().to_string();
    assert!(
        text.contains("a custom call in the parallel loop at step 0"),
        "{text}"
    );
    assert!(
        text.contains("$3 (right) is scratch, which only kernels have"),
        "{text}"
    );
}
