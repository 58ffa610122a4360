//! Sessions: training steps, bindings, threads, guards, params and state, limits.

mod common;

use common::*;
use kiln_ir::program::Step;
use kiln_ir::{Bindings, DType, Init, TensorType};
use kiln_runtime::{
    Bytes, Executable, Feed, ReadError, Session, SessionError, SessionOptions, StepError,
};

/// The step of [`linear`] in plain loops: (w, error, loss).
fn reference(x: &[f32], y: &[f32], w: &[f32], k: usize, n: usize) -> (Vec<f32>, Vec<f32>, f32) {
    let b = y.len() / n;
    let mut error = vec![0.0; b * n];
    for i in 0..b {
        for j in 0..n {
            let sum: f32 = (0..k).map(|d| x[i * k + d] * w[d * n + j]).sum();
            error[i * n + j] = sum - y[i * n + j];
        }
    }
    let mut w = w.to_vec();
    for d in 0..k {
        for j in 0..n {
            let gradient: f32 = (0..b).map(|i| x[i * k + d] * error[i * n + j]).sum();
            w[d * n + j] -= RATE * gradient;
        }
    }
    let loss = error.iter().map(|e| e * e).sum();
    (w, error, loss)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} and {b}");
    }
}

fn state(session: &Session, name: &str) -> Vec<f32> {
    session.state(name).unwrap().to_vec().unwrap()
}

#[test]
fn training_steps_update_params_and_state_in_place() {
    let mut session = linear_executable(4, 3)
        .session_with(&options(1, 1))
        .unwrap();
    let (x, y) = (noise(20, "x"), noise(15, "y"));
    let mut w = state(&session, "w");
    let mut losses = Vec::new();
    for step in 0..5 {
        let (next, error, loss) = reference(&x, &y, &w, 4, 3);
        let outputs = session
            .step(&[Feed::new(&x, &[5, 4]), Feed::new(&y, &[5, 3])])
            .unwrap();
        close(&[outputs.scalar("loss").unwrap() as f32], &[loss]);
        close(outputs.as_slice("error").unwrap(), &error);
        assert_eq!(outputs.shape(1).unwrap(), [5, 3]);
        losses.push(loss);
        w = state(&session, "w");
        close(&w, &next);
        assert_eq!(
            session.state("step").unwrap().scalar(),
            Ok(step as f64 + 1.0)
        );
    }
    assert!(losses[4] < losses[0]);
}

#[test]
fn feeds_may_be_named_in_any_order() {
    let executable = linear_executable(4, 3);
    let (x, y) = (noise(8, "x"), noise(6, "y"));
    let (x, y) = (Feed::new(&x, &[2, 4]), Feed::new(&y, &[2, 3]));
    let mut session = executable.session_with(&options(1, 1)).unwrap();
    let by_order = session.step(&[x, y]).unwrap().scalar(0);
    let mut session = executable.session_with(&options(1, 1)).unwrap();
    let by_name = session.step_named(&[("y", y), ("x", x)]).unwrap().scalar(0);
    assert_eq!(by_order, by_name);
}

#[test]
fn one_session_serves_every_batch_size() {
    let mut session = linear_executable(4, 3)
        .session_with(&options(1, 2))
        .unwrap();
    for b in [5, 0, 300, 1, 129, 5, 300, 0] {
        let (x, y) = (noise(b * 4, "x"), noise(b * 3, "y"));
        let w = state(&session, "w");
        // Small enough for the updates to stay bounded.
        let x: Vec<f32> = x.iter().map(|v| v * 0.05).collect();
        let (next, error, loss) = reference(&x, &y, &w, 4, 3);
        let outputs = session
            .step(&[Feed::new(&x, &[b, 4]), Feed::new(&y, &[b, 3])])
            .unwrap();
        close(&[outputs.scalar(0).unwrap() as f32], &[loss]);
        close(outputs.as_slice(1).unwrap(), &error);
        assert_eq!(outputs.shape("doubled").unwrap(), [b, 3]);
        let doubled: Vec<f32> = error.iter().map(|e| 2.0 * e).collect();
        close(outputs.as_slice(2).unwrap(), &doubled);
        close(&state(&session, "w"), &next);
        if b == 0 {
            assert_eq!(state(&session, "w"), w);
        }
    }
}

#[test]
fn more_bindings_than_plans_are_kept_still_work() {
    let mut session = linear_executable(2, 1)
        .session_with(&options(1, 1))
        .unwrap();
    for b in (0..150).chain([0, 3, 149]) {
        let (x, y) = (vec![0.0_f32; b * 2], vec![1.0_f32; b]);
        let outputs = session
            .step(&[Feed::new(&x, &[b, 2]), Feed::new(&y, &[b, 1])])
            .unwrap();
        assert_eq!(outputs.scalar(0), Ok(b as f64));
    }
}

/// The launches and products of these sizes are above the thresholds of sharing, and the epilogue uses scratch.
#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let executable = linear_executable(64, 48);
    let b = 1000;
    let (x, y) = (noise(b * 64, "x"), noise(b * 48, "y"));
    let x: Vec<f32> = x.iter().map(|v| v * 0.01).collect();
    let run = |threads: usize| {
        let mut session = executable.session_with(&options(3, threads)).unwrap();
        assert_eq!(session.threads().get(), threads);
        let mut bits: Vec<u32> = Vec::new();
        for _ in 0..3 {
            let outputs = session
                .step(&[Feed::new(&x, &[b, 64]), Feed::new(&y, &[b, 48])])
                .unwrap();
            for view in outputs.iter() {
                bits.extend(view.as_slice::<f32>().unwrap().iter().map(|v| v.to_bits()));
            }
        }
        bits.extend(state(&session, "w").iter().map(|v| v.to_bits()));
        bits
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4) && one == run(7));
    assert!(one.iter().all(|bits| f32::from_bits(*bits).is_finite()));
}

#[test]
fn a_guard_that_fails_leaves_everything_as_it_was() {
    let executable = linear_executable(4, 3);
    let (x, y) = (noise(8, "x"), noise(6, "y"));
    let mut bad = x.clone();
    bad[3] = f32::INFINITY;
    let y = Feed::new(&y, &[2, 3]);
    let mut session = executable.session_with(&options(1, 2)).unwrap();
    session.step(&[Feed::new(&x, &[2, 4]), y]).unwrap();
    let before = (
        state(&session, "w"),
        session.state("step").unwrap().scalar(),
    );
    for _ in 0..2 {
        let error = session.step(&[Feed::new(&bad, &[2, 4]), y]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the loss is not finite (main.rs:12:5 in \"linear\"); no param or state has changed"
        );
        let after = (
            state(&session, "w"),
            session.state("step").unwrap().scalar(),
        );
        assert_eq!(after, before);
    }
    session.step(&[Feed::new(&x, &[2, 4]), y]).unwrap();

    // As if the refused steps had never been.
    let mut straight = executable.session_with(&options(1, 2)).unwrap();
    for _ in 0..2 {
        straight.step(&[Feed::new(&x, &[2, 4]), y]).unwrap();
    }
    assert_eq!(state(&session, "w"), state(&straight, "w"));
}

#[test]
fn initial_values_are_those_of_the_seed_and_the_name() {
    // Above the size that is shared out among threads.
    let executable = linear_executable(300, 200);
    let drawn = |seed, threads| {
        let session = executable.session_with(&options(seed, threads)).unwrap();
        state(&session, "w")
    };
    let sampler = Init::uniform(0.5).sampler(7, "w", &[300, 200]);
    let expected: Vec<f32> = (0..60_000).map(|i| sampler.at(i) as f32).collect();
    assert!(drawn(7, 1) == expected && drawn(7, 3) == expected);
    assert!(drawn(8, 1) != expected);
}

#[test]
fn params_and_state_can_be_listed_read_and_set() {
    let mut session = linear_executable(2, 2)
        .session_with(&options(1, 1))
        .unwrap();
    let all: Vec<String> = session.states().map(|view| format!("{view:?}")).collect();
    assert_eq!(all, ["w: f32[2, 2]", "step: i64[]"]);
    session
        .set_state("w", Feed::new(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2]))
        .unwrap();
    session.set_state("step", Feed::scalar(&41_i64)).unwrap();
    let outputs = session
        .step(&[
            Feed::new(&[1.0_f32, 1.0], &[1, 2]),
            Feed::new(&[4.0_f32, 6.0], &[1, 2]),
        ])
        .unwrap();
    // The error is 0, so the params stay.
    assert_eq!(outputs.scalar("loss"), Ok(0.0));
    assert_eq!(state(&session, "w"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        session.state("step").unwrap().as_slice::<i64>(),
        Ok(&[42][..])
    );

    let message = |r: Result<(), kiln_runtime::SetError>| r.unwrap_err().to_string();
    let four = [0.0_f32; 4];
    assert_eq!(
        message(session.set_state("v", Feed::new(&four, &[2, 2]))),
        "there is no param or state `v`; known are `w`, `step`"
    );
    assert_eq!(
        message(session.set_state("w", Feed::new(&[0.0_f64; 4], &[2, 2]))),
        "`w` is f32[2, 2], but was given f64[2, 2]; nothing is converted here, so convert the data to f32 first"
    );
    assert_eq!(
        message(session.set_state("w", Feed::new(&four, &[4, 1]))),
        "`w` is f32[2, 2], but was given f32[4, 1]; axis 0 must be 2"
    );
    assert_eq!(
        message(session.set_state("w", &four[..])),
        "`w` is f32[2, 2], but was given f32[4]; it takes 2 axes and not 1"
    );
    assert_eq!(state(&session, "w"), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn memory_is_known_before_and_refused_beyond_the_limit() {
    let executable = linear_executable(4, 3);
    let report = executable
        .memory_with(&Bindings::from([("b", 100)]), 2)
        .unwrap();
    // Every buffer takes up whole lines of 64 bytes.
    assert_eq!(
        (report.params, report.state, report.constants),
        (64, 64, 64)
    );
    assert_eq!(report.outputs, 64 + 2 * 1216);
    assert_eq!(report.inputs, 1600 + 1216);
    // The epilogue's own line, and behind it what products pack, which the instruction set of the machine decides.
    assert!(report.scratch >= 64 && report.scratch.is_multiple_of(64));
    // The flag and the gradient do not live at the same time.
    assert_eq!((report.arena, report.live_peak), (64, 64));
    assert_eq!(report.total(), 192 + 2496 + 64 + 2 * report.scratch);

    let limited = SessionOptions {
        memory_limit: Some(report.total()),
        ..options(1, 2)
    };
    let mut session = executable.session_with(&limited).unwrap();
    let data = noise(800, "x");
    let mut step = |b: usize| {
        let (x, y) = (&data[..b * 4], &data[..b * 3]);
        let fed = session.step(&[Feed::new(x, &[b, 4]), Feed::new(y, &[b, 3])]);
        fed.map(|outputs| outputs.scalar(0).unwrap())
    };
    step(100).unwrap();
    let error = step(101).unwrap();
    assert!(error.is_finite());
    let error = step(200).unwrap_err();
    assert!(matches!(error, StepError::OverLimit(_)));
    let needed = executable
        .memory_with(&Bindings::from([("b", 200)]), 2)
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "with b = 200, the session needs {needed}; the limit is {}",
            Bytes(report.total())
        )
    );
    step(100).unwrap();
    assert_eq!(session.memory().total(), report.total());

    let none = SessionOptions {
        memory_limit: Some(191),
        ..options(1, 2)
    };
    let error = executable.session_with(&none).unwrap_err();
    assert!(matches!(error, SessionError::OverLimit(_)));
    assert!(
        error.to_string().ends_with("; the limit is 191 B"),
        "{error}"
    );
    assert_eq!(Bytes(191).to_string(), "191 B");
}

#[test]
fn the_machine_running_out_of_memory_is_an_error_too() {
    let executable = linear_executable(4, 3);
    assert!(executable.memory(&Bindings::new()).is_err());
    let huge = Bindings::from([("b", 1 << 55)]);
    let report = executable.memory_with(&huge, 1).unwrap();
    assert!(report.total() > 1 << 58);
    let mut program = linear(4, 3);
    program.residents[0].ty = TensorType::new(DType::F32, (1_i64 << 56,));
    program.buffers[2].elements = kiln_ir::Dim::from(1_i64 << 56);
    let error = load(program, &LINEAR)
        .unwrap()
        .session_with(&options(1, 1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no memory for params and state: cannot allocate 288230376151711808 bytes"
    );
}

#[test]
fn outputs_say_why_they_cannot_be_read() {
    let mut session = linear_executable(2, 2)
        .session_with(&options(1, 1))
        .unwrap();
    let outputs = session
        .step(&[
            Feed::new(&[1.0_f32, 1.0], &[1, 2]),
            Feed::new(&[4.0_f32, 6.0], &[1, 2]),
        ])
        .unwrap();
    assert_eq!(outputs.len(), 3);
    let message = |e: ReadError| e.to_string();
    assert_eq!(
        message(outputs.scalar(3).unwrap_err()),
        "there is no output 3; there are 3"
    );
    assert_eq!(
        message(outputs.get("losses").unwrap_err()),
        "there is no output `losses`; known are `loss`, `error`, `doubled`"
    );
    assert_eq!(
        message(outputs.scalar("error").unwrap_err()),
        "`error` is f32[1, 2], and not a single number"
    );
    assert_eq!(
        message(outputs.as_slice::<f64>("error").unwrap_err()),
        "`error` is f32[1, 2] and cannot be read as f64"
    );
}

#[test]
fn sessions_may_move_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Send + Sync>() {}
    send::<Session>();
    sync::<Executable>();
    let mut session = linear_executable(2, 1).session(5).unwrap();
    let steps = std::thread::spawn(move || {
        session
            .step(&[
                Feed::new(&[1.0_f32, 1.0], &[1, 2]),
                Feed::new(&[4.0_f32], &[1, 1]),
            ])
            .unwrap();
        session.state("step").unwrap().scalar()
    });
    assert_eq!(steps.join().unwrap(), Ok(1.0));
}

#[test]
fn a_profile_counts_the_launches_of_the_recorded_steps() {
    let mut session = linear_executable(4, 3)
        .session_with(&options(1, 1))
        .unwrap();
    let data = noise(80, "x");
    let steps = |session: &mut Session, count: usize| {
        for _ in 0..count {
            let (x, y) = (&data[..40], &data[..30]);
            session
                .step(&[Feed::new(x, &[10, 4]), Feed::new(y, &[10, 3])])
                .unwrap();
        }
    };
    steps(&mut session, 2);
    assert!(session.profile().entries().is_empty());
    session.record(true);
    steps(&mut session, 3);
    let profile = session.profile();
    assert_eq!(profile.entries().len(), session.program().steps.len());
    assert!(profile.entries().iter().all(|e| e.calls == 3));
    // The products of the prediction and of the gradient have as many multiplications: 10 x 4 x 3, three times.
    let flops: u64 = profile.entries().iter().map(|e| e.flops).sum();
    assert_eq!(flops, 2 * 3 * 2 * 10 * 4 * 3);
    assert!(profile.to_string().starts_with("launch"));
    session.record(false);
    steps(&mut session, 1);
    assert!(session.profile().entries().is_empty());
}

/// The program of [`linear`] with its last three kernels in one launch.
fn joined(k: i64, n: i64) -> kiln_ir::program::Program {
    let mut program = linear(k, n);
    let last = program.steps.split_off(4);
    let parts = last.iter().flat_map(|step| step.calls().iter().cloned());
    program.steps.push(Step::Kernel(parts.collect()));
    program
}

#[test]
fn parts_of_a_launch_run_once_each_at_any_number_of_threads() {
    // Large enough for forks: an update and a map that are cut, beside a counter that is not.
    let (k, n, b) = (64, 96, 700);
    let (x, y) = (noise(b * k as usize, "x"), noise(b * n as usize, "y"));
    let run = |program, threads| {
        let executable = load(program, &LINEAR).unwrap();
        let mut session = executable.session_with(&options(1, threads)).unwrap();
        let mut doubled = Vec::new();
        for _ in 0..3 {
            let shapes = [[b, k as usize], [b, n as usize]];
            let feeds = [Feed::new(&x, &shapes[0]), Feed::new(&y, &shapes[1])];
            let outputs = session.step(&feeds).unwrap();
            doubled = outputs.as_slice::<f32>("doubled").unwrap().to_vec();
        }
        let steps = session.state("step").unwrap().scalar().unwrap();
        (state(&session, "w"), doubled, steps)
    };
    let expected = run(linear(k, n), 1);
    assert_eq!(expected.2, 3.0);
    for threads in 1..5 {
        assert!(run(joined(k, n), threads) == expected, "{threads} threads");
    }
}
