//! Programs with loops and branches made by hand, and their kernels.

use super::*;
use kiln_ir::program::{Branch, Copy, Loop, Part, Slice, While};

/// An entry of `of`: in iteration `i` of the loop at `at` entry `first + i` of `entries`.
pub(crate) fn slice(of: usize, at: usize, entries: impl Into<Dim>, first: impl Into<Dim>) -> Home {
    Home::Slice(Slice {
        of: BufferId::new(of),
        at,
        entries: entries.into(),
        first: first.into(),
        step: 1,
    })
}

/// The same, from the last entry of `entries` to the first.
pub(crate) fn reversed(of: usize, at: usize, entries: impl Into<Dim>) -> Home {
    let entries = entries.into();
    Home::Slice(Slice {
        of: BufferId::new(of),
        at,
        first: entries.clone() - 1,
        entries,
        step: -1,
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

pub(crate) fn repeat_while(condition: usize, test: usize, steps: usize) -> Step {
    Step::While(While {
        name: "repeat".into(),
        condition: BufferId::new(condition),
        test,
        steps,
    })
}

pub(crate) fn branch(condition: usize, then: usize, otherwise: usize) -> Step {
    Step::Branch(Branch {
        name: "choose".into(),
        condition: BufferId::new(condition),
        then,
        otherwise,
    })
}

pub(crate) fn copy(
    (from, from_entry): (usize, impl Into<Dim>),
    (to, to_entry): (usize, impl Into<Dim>),
    elements: impl Into<Dim>,
) -> Step {
    Step::Copy(Copy {
        name: "copy".into(),
        from: Part {
            buffer: BufferId::new(from),
            entry: from_entry.into(),
        },
        to: Part {
            buffer: BufferId::new(to),
            entry: to_entry.into(),
        },
        elements: elements.into(),
    })
}

pub(crate) fn call(kernel: usize, arguments: &[(usize, Access)], total: impl Into<Dim>) -> Step {
    Step::Kernel(vec![launch(kernel, arguments, total)])
}

/// The kernels of these programs.
pub(crate) const CONTROL: [KernelFn; 5] = [add, double_into, less, next, finite];
/// `(a, b, out)`: `out[i] = a[i] + b[i]`.
pub(crate) const ADD: usize = 0;
/// `(a, out)`: `out[i] = 2 a[i]`.
pub(crate) const DOUBLE: usize = 1;
/// `(a, b, out)`: whether the integer `a` is less than `b`.
pub(crate) const LESS: usize = 2;
/// `(a)`: the integer counts up.
pub(crate) const NEXT: usize = 3;
/// `(a, out)`: whether the first element is finite.
pub(crate) const FINITE: usize = 4;

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
        kernels: ["add", "double", "less", "next", "finite"]
            .map(String::from)
            .to_vec(),
        requirements: Vec::new(),
        steps,
    }
}

pub(crate) fn zeros(elements: usize) -> Home {
    Home::Constant(vec![0; 4 * elements].into())
}

/// `h = zeros; for each x: h = h . w + x; y = h`, with `x: f32[t, m, k]`, `w: f32[k, k]` and a carry of two entries.
pub(crate) fn recurrent(m: usize, k: usize) -> Program {
    let (f32, t, state) = (DType::F32, dim("t"), m * k);
    let product = product(
        f32,
        [Dim::from(m), Dim::from(k), Dim::from(k)],
        matrix(8, k, 1),
        matrix(6, k, 1),
        matrix(1, k, 1),
    );
    let stacked = TensorType::new(f32, (t.clone(), m, k));
    program(
        vec![
            port("x", stacked.clone(), 0),
            port("w", TensorType::new(f32, (k, k)), 1),
        ],
        vec![port("y", stacked, 2)],
        vec![
            buffer("x", f32, t.clone() * state, Home::Input),
            buffer("w", f32, k * k, Home::Input),
            buffer("y", f32, t.clone() * state, Home::Output),
            buffer("zero", f32, state, zeros(state)),
            buffer("carry", f32, 2 * state, arena(0, 4)),
            buffer("x[i]", f32, state, slice(0, 1, t.clone(), 0)),
            buffer("h[i]", f32, state, slice(4, 1, 2, 0)),
            buffer("h[i + 1]", f32, state, slice(4, 1, 2, 1)),
            buffer("product", f32, state, arena(2, 3)),
            buffer("y[i]", f32, state, slice(2, 1, t.clone(), 0)),
        ],
        vec![
            copy((3, 0), (4, 0), state),
            repeat(t, 3, false),
            Step::Product(product),
            call(ADD, &[(8, READ), (5, READ), (7, WRITE)], state),
            copy((7, 0), (9, 0), state),
        ],
    )
}

/// For each `x: f32[s, k]` of `f32[t, s, k]` on its own: `y = 2 (x . w)`, row by row, `w: f32[k, k]`.
pub(crate) fn parallel(s: usize, k: usize) -> Program {
    let (f32, t, row) = (DType::F32, dim("t"), s * k);
    let product = product(
        f32,
        [Dim::from(s), Dim::from(k), Dim::from(k)],
        matrix(5, k, 1),
        matrix(3, k, 1),
        matrix(1, k, 1),
    );
    let stacked = TensorType::new(f32, (t.clone(), s, k));
    program(
        vec![
            port("x", stacked.clone(), 0),
            port("w", TensorType::new(f32, (k, k)), 1),
        ],
        vec![port("y", stacked, 2)],
        vec![
            buffer("x", f32, t.clone() * row, Home::Input),
            buffer("w", f32, k * k, Home::Input),
            buffer("y", f32, t.clone() * row, Home::Output),
            buffer("x[i]", f32, row, slice(0, 0, t.clone(), 0)),
            buffer("y[i]", f32, row, reversed(2, 0, t.clone())),
            buffer("product", f32, row, local(1, 2)),
            buffer("doubled", f32, row, local(2, 5)),
            buffer("y[i][j]", f32, k, slice(4, 3, s, 0)),
            buffer("x[i][j]", f32, k, slice(3, 3, s, 0)),
        ],
        vec![
            repeat(t, 5, true),
            Step::Product(product),
            call(DOUBLE, &[(5, READ), (6, WRITE)], row),
            repeat(s, 1, false),
            call(DOUBLE, &[(8, READ), (7, WRITE)], k),
            call(ADD, &[(6, READ), (4, READ), (4, WRITE)], row),
        ],
    )
}

/// Parameter `i` as the start of `T` elements.
///
/// # Safety
/// The kernel has a parameter `i`.
unsafe fn parameter<T>(parameters: *const *mut u8, i: usize) -> *mut T {
    // SAFETY: the caller's promise.
    unsafe { (*parameters.add(i)).cast() }
}

unsafe extern "C" fn add(
    p: *const *mut u8,
    _: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: three f32 parameters of `end` elements.
    unsafe {
        for i in start as usize..end as usize {
            let sum = *parameter::<f32>(p, 0).add(i) + *parameter::<f32>(p, 1).add(i);
            *parameter::<f32>(p, 2).add(i) = sum;
        }
    }
}

unsafe extern "C" fn double_into(
    p: *const *mut u8,
    _: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: two f32 parameters of `end` elements.
    unsafe {
        for i in start as usize..end as usize {
            *parameter::<f32>(p, 1).add(i) = 2.0 * *parameter::<f32>(p, 0).add(i);
        }
    }
}

unsafe extern "C" fn less(p: *const *mut u8, _: *const i64, _: i64, _: i64, _: *const *const u8) {
    // SAFETY: two i64 parameters and a bool.
    unsafe { *parameter::<u8>(p, 2) = u8::from(*parameter::<i64>(p, 0) < *parameter::<i64>(p, 1)) }
}

unsafe extern "C" fn next(p: *const *mut u8, _: *const i64, _: i64, _: i64, _: *const *const u8) {
    // SAFETY: one i64 parameter.
    unsafe { *parameter::<i64>(p, 0) += 1 }
}

unsafe extern "C" fn finite(p: *const *mut u8, _: *const i64, _: i64, _: i64, _: *const *const u8) {
    // SAFETY: an f32 parameter and a bool.
    unsafe { *parameter::<u8>(p, 1) = u8::from((*parameter::<f32>(p, 0)).is_finite()) }
}
