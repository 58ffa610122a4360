//! What is wrong with feeds, options and programs, and the messages that say so.

mod common;

use common::*;
use kiln_ir::program::{Guard, Home, Program, Step};
use kiln_ir::{Bindings, BufferId, DType, Dim, Init, Role, TensorType};
use kiln_runtime::{Feed, LoadError, Session, SessionOptions, StepError, ToFeed};
use std::cell::Cell;

fn session() -> Session {
    linear_executable(4, 3)
        .session_with(&options(1, 1))
        .unwrap()
}

#[track_caller]
fn refused(feeds: &[Feed<'_>], expected: &str) {
    let mut session = session();
    let error = session.step(feeds).unwrap_err();
    assert_eq!(error.to_string(), expected);
    // Nothing is half done: the session goes on.
    let x = [0.0_f32; 8];
    session
        .step(&[Feed::new(&x, &[2, 4]), Feed::new(&x[..6], &[2, 3])])
        .unwrap();
}

#[test]
fn feeds_are_checked_against_the_inputs() {
    let data = [0.0_f32; 12];
    let x = Feed::new(&data[..8], &[2, 4]);
    let y = Feed::new(&data[..6], &[2, 3]);
    refused(
        &[x],
        "1 feeds for 2 inputs; the inputs are `x`: f32[b, 4], `y`: f32[b, 3]",
    );
    refused(
        &[x, Feed::new(&[0.0_f64; 6], &[2, 3])],
        "`y` is f32[b, 3], but was given f64[2, 3]; nothing is converted here, so convert the data to f32 first",
    );
    refused(
        &[Feed::from(&data[..8]), y],
        "`x` is f32[b, 4], but was given f32[8]; it takes 2 axes and not 1",
    );
    refused(
        &[Feed::new(&data[..6], &[2, 3]), y],
        "`x` is f32[b, 4], but was given f32[2, 3]; axis 1 must be 4",
    );
    refused(
        &[Feed::new(&data[..7], &[2, 4]), y],
        "`x` is f32[b, 4], but was given f32[2, 4] with 28 bytes of data, which is not as many as the shape has",
    );
    refused(
        &[x, Feed::new(&data[..9], &[3, 3])],
        "axis 0 of input `y` has size 3, but `b` is 2 there (`b` = 2 from axis 0 of input `x`)",
    );
    refused(
        &[Feed::new(&data, &[usize::MAX, 4]), y],
        &format!(
            "`x` is f32[b, 4], but was given f32[{}, 4] with 48 bytes of data, which is not as many as the shape has",
            usize::MAX
        ),
    );
}

#[test]
fn names_are_checked() {
    let data = [0.0_f32; 8];
    let x = Feed::new(&data, &[2, 4]);
    let y = Feed::new(&data[..6], &[2, 3]);
    let mut session = session();
    let mut message = |feeds: &[(&str, Feed<'_>)]| {
        let error = session.step_named(feeds).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        message(&[("x", x), ("z", y)]),
        "there is no input `z`; the inputs are `x`: f32[b, 4], `y`: f32[b, 3]"
    );
    assert_eq!(message(&[("x", x)]), "the input `y`, f32[b, 3], is not fed");
    assert_eq!(
        message(&[("x", x), ("y", y), ("x", x)]),
        "the input `x` is fed twice"
    );
}

/// A feed that shrinks when it is asked for again.
struct Shrinking {
    data: Vec<f32>,
    asked: Cell<usize>,
    from: usize,
}

impl ToFeed for Shrinking {
    fn to_feed(&self) -> Feed<'_> {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() < self.from {
            Feed::new(&self.data, &[2, 3])
        } else {
            Feed::new(&self.data[..0], &[2, 3])
        }
    }
}

#[test]
fn a_feed_that_changes_while_it_is_looked_at_is_never_read() {
    let mut program = linear(3, 3);
    program.name = "shrinking".into();
    let executable = load(program, &LINEAR).unwrap();
    let mut refusals = 0;
    for from in 1..20 {
        let mut session = executable.session_with(&options(1, 1)).unwrap();
        let feed = || Shrinking {
            data: vec![0.5; 6],
            asked: Cell::new(0),
            from,
        };
        match session.step(&[feed(), feed()]) {
            Ok(_) => {}
            Err(StepError::Feed(_) | StepError::Plan(_)) => refusals += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refusals >= 3, "{refusals}");
}

/// `y = x` for a state and an input of symbolic size.
fn symbolic() -> Program {
    let mut program = linear(4, 3);
    let h = dim("h");
    program.residents.push(resident(
        "moment",
        Role::State(Init::ones()),
        TensorType::new(DType::F32, (h.clone(),)),
        11,
    ));
    program
        .buffers
        .push(buffer("moment", DType::F32, h, Home::Resident));
    program
}

#[test]
fn symbols_without_an_input_are_bound_by_the_options() {
    let executable = load(symbolic(), &LINEAR).unwrap();
    let with = |bindings: Bindings| {
        executable.session_with(&SessionOptions {
            bindings,
            ..options(1, 1)
        })
    };
    assert_eq!(
        with(Bindings::new()).unwrap_err().to_string(),
        "the state `moment`, f32[h], lives as long as the session, so its extents must be bound in the session's options: the dim `h` in \
         `h` has no value; feed an input that has it, or bind it"
    );
    assert_eq!(
        with(Bindings::from([("h", 2), ("t", 5)]))
            .unwrap_err()
            .to_string(),
        "the program has no dim `t` to bind; it has `b`, `h`"
    );
    assert!(with(Bindings::from([("h", -2)])).is_err());
    let mut session = with(Bindings::from([("h", 2), ("b", 3)])).unwrap();
    assert_eq!(
        session.state("moment").unwrap().as_slice::<f32>(),
        Ok(&[1.0, 1.0][..])
    );
    let three = [0.0_f32; 3];
    assert_eq!(
        session
            .set_state("moment", Feed::from(&three))
            .unwrap_err()
            .to_string(),
        "`moment` is f32[h], but was given f32[3]; in this session its shape is [2]"
    );
    let data = [0.0_f32; 12];
    let step = |session: &mut Session, b: usize| {
        let (x, y) = (&data[..b * 4], &data[..b * 3]);
        let fed = session.step(&[Feed::new(x, &[b, 4]), Feed::new(y, &[b, 3])]);
        fed.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(step(&mut session, 3), Ok(()));
    assert_eq!(
        step(&mut session, 2),
        Err(
            "axis 0 of input `x` has size 2, but `b` is 3 there (`b` = 3 from the session's options)"
                .into()
        )
    );
}

#[test]
fn a_dim_that_nothing_binds_is_named() {
    let mut program = linear(4, 3);
    program.steps[4].calls_mut()[0].sizes.push(dim("t"));
    let mut session = load(program, &LINEAR)
        .unwrap()
        .session_with(&options(1, 1))
        .unwrap();
    let data = [0.0_f32; 4];
    let error = session
        .step(&[Feed::new(&data, &[1, 4]), Feed::new(&data[..3], &[1, 3])])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the dim `t` in `t` has no value; feed an input that has it, or bind it"
    );
}

#[test]
fn programs_that_cannot_run_are_refused_when_loaded() {
    let message = |r: Result<_, LoadError>| r.map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        message(load(linear(4, 3), &LINEAR[..3])),
        "the code has no kernel k3 (update); program and code do not belong together"
    );
    let mut half = linear(4, 3);
    if let Step::Product(product) = &mut half.steps[0] {
        product.accumulate = DType::BF16;
    }
    assert_eq!(
        message(load(half, &LINEAR)),
        "the product \"product\" at step 0 multiplies f32 with sums in bf16, which does not exist; f32 sums in f32 or f64, f64 in f64, \
         and integers in integers at least as wide"
    );
    let mut late = linear(4, 3);
    late.steps.push(Step::Guard(Guard {
        condition: BufferId::new(7),
        message: "too late".into(),
        location: String::new(),
    }));
    late.buffers[7].home = arena(1, 7);
    assert_eq!(
        message(load(late, &LINEAR)),
        "the program is not valid:\nerror[guard]: step 7: the guard \"too late\" comes after step 4, which writes $2 (w)"
    );
}

#[test]
fn a_program_without_inputs_steps_on_nothing() {
    let count = LINEAR[4];
    let program = Program {
        name: "count".into(),
        inputs: Vec::new(),
        residents: vec![resident(
            "step",
            Role::State(Init::Constant(40.0)),
            TensorType::new(DType::I64, ()),
            0,
        )],
        outputs: Vec::new(),
        buffers: vec![buffer("step", DType::I64, Dim::from(1), Home::Resident)],
        kernels: vec!["count".into()],
        requirements: Vec::new(),
        steps: vec![Step::Kernel(vec![launch(0, &[(0, UPDATE)], 1)])],
    };
    let mut session = load(program, &[count])
        .unwrap()
        .session_with(&options(1, 1))
        .unwrap();
    assert!(session.step(Feed::NONE).unwrap().is_empty());
    session.step_named::<Feed>(&[]).unwrap();
    assert_eq!(session.state("step").unwrap().scalar(), Ok(42.0));
}
