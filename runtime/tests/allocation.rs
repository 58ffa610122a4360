//! After the first step of a binding a step allocates nothing, on any thread.
//!
//! The file holds one test, so that nothing else runs while allocations are counted.

mod common;

use common::*;
use kiln_ir::program::{Convolution, Home, Program, Step, Summation, View, WindowAxis};
use kiln_ir::{BufferId, DType, Dim, TensorType};
use kiln_runtime::{Feed, Session, StepError};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The allocations of the quietest of three runs: the test harness may allocate on a thread of its own, but not every time.
fn allocations(mut run: impl FnMut()) -> usize {
    let count = |_| {
        let before = ALLOCATIONS.load(SeqCst);
        run();
        ALLOCATIONS.load(SeqCst) - before
    };
    (0..3).map(count).min().unwrap()
}

fn step(session: &mut Session, data: &[f32], b: usize) -> Result<f64, StepError> {
    let (x_shape, y_shape) = ([b, 8], [b, 40]);
    let x = Feed::new(&data[..b * 8], &x_shape);
    let y = Feed::new(&data[..b * 40], &y_shape);
    let outputs = session.step_named(&[("y", y), ("x", x)])?;
    let loss = outputs.scalar("loss").unwrap();
    let by_index = session.step(&[x, y])?.scalar(0).unwrap();
    assert!(by_index <= loss);
    Ok(by_index)
}

/// `b` signals of 64 samples and 16 features, a window of 3, and that window's gradient from signals of 62 samples and 32 features.
fn convolutions() -> Program {
    let f32 = DType::F32;
    let [signal, result, window] = [
        TensorType::new(f32, (dim("b"), 64, 16)),
        TensorType::new(f32, (dim("b"), 62, 32)),
        TensorType::new(f32, (3, 16, 32)),
    ];
    let view = |buffer: usize, strides: [i64; 4]| View {
        buffer: BufferId::new(buffer),
        offset: Dim::from(0),
        strides: strides.map(Dim::from).to_vec(),
    };
    let axis = |window: i64, output: i64| WindowAxis {
        input: Dim::from(64),
        window: Dim::from(window),
        output: Dim::from(output),
        stride: 1,
        padding: Dim::from(0),
        lhs_dilation: 1,
        rhs_dilation: 1,
    };
    let forward = Convolution {
        name: "forward".into(),
        dtype: f32,
        accumulate: f32,
        summation: Summation::Window,
        batch: dim("b"),
        groups: Dim::from(1),
        features_in: Dim::from(16),
        features_out: Dim::from(32),
        axes: vec![axis(3, 62)],
        lhs: view(0, [64 * 16, 0, 1, 16]),
        rhs: view(2, [0, 32, 1, 16 * 32]),
        dst: view(3, [62 * 32, 0, 1, 32]),
        epilogue: None,
    };
    let gradient = Convolution {
        name: "gradient".into(),
        summation: Summation::Lines,
        batch: Dim::from(16),
        features_in: dim("b"),
        axes: vec![axis(62, 3)],
        lhs: view(0, [1, 0, 64 * 16, 16]),
        rhs: view(1, [0, 62 * 32, 1, 32]),
        dst: view(4, [32, 0, 1, 16 * 32]),
        ..forward.clone()
    };
    let filled = |name: &str, ty: &TensorType, home| buffer(name, f32, ty.shape.elements(), home);
    Program {
        name: "convolutions".into(),
        inputs: vec![
            port("x", signal.clone(), 0),
            port("g", result.clone(), 1),
            port("w", window.clone(), 2),
        ],
        residents: Vec::new(),
        outputs: vec![port("y", result.clone(), 3), port("dw", window.clone(), 4)],
        buffers: vec![
            filled("x", &signal, Home::Input),
            filled("g", &result, Home::Input),
            filled("w", &window, Home::Input),
            filled("y", &result, Home::Output),
            filled("dw", &window, Home::Output),
        ],
        kernels: Vec::new(),
        requirements: Vec::new(),
        steps: vec![Step::Convolution(forward), Step::Convolution(gradient)],
    }
}

#[test]
fn a_step_allocates_nothing_after_the_first_of_its_binding() {
    let executable = load(linear(8, 40), &LINEAR).unwrap();
    let data: Vec<f32> = noise(40_000, "data").iter().map(|v| v * 0.01).collect();
    for threads in [1, 2] {
        let mut session = executable.session_with(&options(1, threads)).unwrap();
        // The larger binding comes second, so that blocks move under the plan of the first. 1,000 rows are shared out among threads.
        for b in [16, 1000, 16] {
            step(&mut session, &data, b).unwrap();
        }
        let alternating = allocations(|| {
            for _ in 0..20 {
                for b in [16, 16, 1000, 1000, 16] {
                    step(&mut session, &data, b).unwrap();
                }
            }
        });
        assert_eq!(alternating, 0, "{threads} threads");
        // The count works: new bindings do allocate.
        let mut b = 16;
        let growing = allocations(|| {
            b += 1;
            step(&mut session, &data, b).unwrap();
        });
        assert!(growing > 0);
    }
    let executable = load(convolutions(), &[]).unwrap();
    let data = noise(9 * 64 * 32, "signals");
    let window = [3, 16, 32];
    for threads in [1, 2] {
        let mut session = executable.session_with(&options(1, threads)).unwrap();
        let mut step = |b: usize| {
            let (x, g) = ([b, 64, 16], [b, 62, 32]);
            let feeds = [
                Feed::new(&data[..b * 64 * 16], &x),
                Feed::new(&data[..b * 62 * 32], &g),
                Feed::new(&data[..3 * 16 * 32], &window),
            ];
            session.step(&feeds).unwrap();
        };
        // The second is above the threshold of sharing.
        [1, 9].into_iter().for_each(&mut step);
        let alternating = allocations(|| [1, 9, 9, 1].into_iter().for_each(&mut step));
        assert_eq!(alternating, 0, "{threads} threads");
    }
    // Loops, with products and with threads of their own; 24 iterations are above the threshold of sharing.
    let (x, w) = (noise(24 * 16 * 32, "x"), noise(32 * 32, "w"));
    for threads in [1, 2] {
        for program in [control::recurrent(16, 32), control::parallel(16, 32)] {
            let executable = load(program, &control::CONTROL).unwrap();
            let mut session = executable.session_with(&options(1, threads)).unwrap();
            let mut step = |t: usize| {
                let (of_x, of_w) = ([t, 16, 32], [32, 32]);
                let feeds = [Feed::new(&x[..t * 16 * 32], &of_x), Feed::new(&w, &of_w)];
                session.step(&feeds).unwrap();
            };
            [2, 24, 0].into_iter().for_each(&mut step);
            let looping = allocations(|| [24, 2, 0, 2, 24].into_iter().for_each(&mut step));
            assert_eq!(looping, 0, "{threads} threads");
        }
    }
}
