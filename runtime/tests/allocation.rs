//! After the first step of a binding a step allocates nothing, on any thread.
//!
//! The file holds one test, so that nothing else runs while allocations are counted.

mod common;

use common::*;
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
}
