//! Programs made by hand, and kernels written in Rust in place of compiled ones.
//!
//! [`linear`] is one training step of a linear model: a product with an epilogue that uses scratch, a guard, a product with a transposed
//! operand, an update in place and a counter.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod control;

use kiln_ir::program::{
    Access, Buffer, Code, Guard, Home, KernelFn, Launch, LiveRange, Matrix, Port, Product,
    ProductSummation, Program, Resident, Step,
};
use kiln_ir::{BufferId, DType, Dim, Init, KernelId, Role, TensorType};
use kiln_runtime::{Executable, LoadError, SessionOptions};
use std::num::NonZeroUsize;

pub(crate) const READ: Access = Access::Read;
pub(crate) const WRITE: Access = Access::Write;
pub(crate) const UPDATE: Access = Access::ReadWrite;

/// Kernels by id.
pub(crate) struct Mock(pub(crate) Vec<KernelFn>);

// SAFETY: the kernels below access their parameters as the programs of this file say, within the range and the sizes they are given.
unsafe impl Code for Mock {
    fn entry(&self, kernel: KernelId) -> Option<KernelFn> {
        self.0.get(kernel.index()).copied()
    }

    fn helpers(&self) -> *const *const u8 {
        std::ptr::null()
    }
}

pub(crate) fn load(program: Program, kernels: &[KernelFn]) -> Result<Executable, LoadError> {
    // SAFETY: every test passes the kernels that its program was written for.
    unsafe { Executable::new(program, Box::new(Mock(kernels.to_vec()))) }
}

pub(crate) fn options(seed: u64, threads: usize) -> SessionOptions {
    SessionOptions {
        threads: NonZeroUsize::new(threads),
        ..SessionOptions::new(seed)
    }
}

pub(crate) fn dim(name: &str) -> Dim {
    Dim::symbol(name)
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

pub(crate) fn port(name: &str, ty: TensorType, buffer: usize) -> Port {
    Port {
        name: name.into(),
        ty,
        buffer: BufferId::new(buffer),
    }
}

pub(crate) fn resident(name: &str, role: Role, ty: TensorType, buffer: usize) -> Resident {
    Resident {
        name: name.into(),
        role,
        ty,
        buffer: BufferId::new(buffer),
    }
}

pub(crate) fn launch(
    kernel: usize,
    arguments: &[(usize, Access)],
    total: impl Into<Dim>,
) -> Launch {
    Launch {
        kernel: KernelId::new(kernel),
        arguments: arguments.iter().map(|(i, _)| BufferId::new(*i)).collect(),
        access: arguments.iter().map(|(_, access)| *access).collect(),
        sizes: Vec::new(),
        total: total.into(),
        grain: 1,
        work: Dim::from(1),
    }
}

pub(crate) fn matrix(
    buffer: usize,
    row_stride: impl Into<Dim>,
    column_stride: impl Into<Dim>,
) -> Matrix {
    Matrix {
        buffer: BufferId::new(buffer),
        offset: Dim::from(0),
        row_stride: row_stride.into(),
        column_stride: column_stride.into(),
        batch_strides: Vec::new(),
    }
}

pub(crate) fn product(
    dtype: DType,
    [m, n, k]: [Dim; 3],
    dst: Matrix,
    lhs: Matrix,
    rhs: Matrix,
) -> Product {
    Product {
        name: "product".into(),
        dtype,
        accumulate: dtype,
        summation: ProductSummation::Chain,
        batch: Vec::new(),
        m,
        n,
        k,
        lhs,
        rhs,
        dst,
        epilogue: None,
    }
}

/// The rate of [`linear`]'s updates.
pub(crate) const RATE: f32 = 0.125;

/// `error = x . w - y; loss = sum(error^2); doubled = 2 error; w -= RATE * x^T . error; step += 1`, refused where the loss is not finite.
///
/// `x` is `f32[b, k]`, `y` and the outputs `error` and `doubled` are `f32[b, n]`.
pub(crate) fn linear(k: i64, n: i64) -> Program {
    let (f32, b) = (DType::F32, dim("b"));
    let rows = |width: i64| TensorType::new(f32, (b.clone(), width));
    let [error, doubled, loss] = [4, 5, 6];
    let epilogue = Launch {
        sizes: vec![Dim::from(n)],
        work: Dim::from(n),
        ..launch(0, &[(error, UPDATE), (1, READ), (9, WRITE)], b.clone())
    };
    Program {
        name: "linear".into(),
        inputs: vec![port("x", rows(k), 0), port("y", rows(n), 1)],
        residents: vec![
            resident(
                "w",
                Role::Param(Init::uniform(0.5)),
                TensorType::new(f32, (k, n)),
                2,
            ),
            resident(
                "step",
                Role::State(Init::zeros()),
                TensorType::new(DType::I64, ()),
                3,
            ),
        ],
        outputs: vec![
            port("loss", TensorType::new(f32, ()), loss),
            port("error", rows(n), error),
            port("doubled", rows(n), doubled),
        ],
        buffers: vec![
            buffer("x", f32, b.clone() * k, Home::Input),
            buffer("y", f32, b.clone() * n, Home::Input),
            buffer("w", f32, k * n, Home::Resident),
            buffer("step", DType::I64, 1, Home::Resident),
            buffer("error", f32, b.clone() * n, Home::Output),
            buffer("doubled", f32, b.clone() * n, Home::Output),
            buffer("loss", f32, 1, Home::Output),
            buffer("finite", DType::Bool, 1, arena(1, 2)),
            buffer("gradient", f32, k * n, arena(3, 4)),
            buffer("row", f32, n, Home::Scratch),
            buffer("rate", f32, 1, Home::Constant(RATE.to_le_bytes().into())),
        ],
        kernels: ["subtract", "loss", "double", "update", "count"]
            .map(String::from)
            .to_vec(),
        requirements: Vec::new(),
        steps: vec![
            Step::Product(Product {
                epilogue: Some(epilogue),
                ..product(
                    f32,
                    [b.clone(), Dim::from(n), Dim::from(k)],
                    matrix(error, n, 1),
                    matrix(0, k, 1),
                    matrix(2, n, 1),
                )
            }),
            Step::Kernel(vec![Launch {
                sizes: vec![b.clone() * n],
                work: b.clone() * n,
                ..launch(1, &[(error, READ), (loss, WRITE), (7, WRITE)], 1)
            }]),
            Step::Guard(Guard {
                condition: BufferId::new(7),
                message: "the loss is not finite".into(),
                location: "main.rs:12:5 in \"linear\"".into(),
            }),
            Step::Product(product(
                f32,
                [Dim::from(k), Dim::from(n), b.clone()],
                matrix(8, n, 1),
                matrix(0, 1, k),
                matrix(error, n, 1),
            )),
            Step::Kernel(vec![launch(
                3,
                &[(2, READ), (8, READ), (10, READ), (2, WRITE)],
                k * n,
            )]),
            Step::Kernel(vec![launch(4, &[(3, UPDATE)], 1)]),
            Step::Kernel(vec![Launch {
                grain: 16,
                ..launch(2, &[(error, READ), (doubled, WRITE)], b * n)
            }]),
        ],
    }
}

/// The kernels of [`linear`].
pub(crate) const LINEAR: [KernelFn; 5] = [subtract, sum_of_squares, double, update, count];

pub(crate) fn linear_executable(k: i64, n: i64) -> Executable {
    load(linear(k, n), &LINEAR).unwrap()
}

/// Parameter `i` as the start of `T` elements.
///
/// # Safety
/// The kernel has a parameter `i`.
unsafe fn parameter<T>(parameters: *const *mut u8, i: usize) -> *mut T {
    // SAFETY: the caller's promise.
    unsafe { (*parameters.add(i)).cast() }
}

/// `error[row] -= y[row]`, by way of a row of scratch.
unsafe extern "C" fn subtract(
    p: *const *mut u8,
    sizes: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: three f32 parameters of `end` rows and of one row; one size, the length of a row.
    unsafe {
        let (error, y, row) = (
            parameter::<f32>(p, 0),
            parameter::<f32>(p, 1),
            parameter::<f32>(p, 2),
        );
        let n = *sizes as usize;
        for i in start as usize..end as usize {
            for j in 0..n {
                *row.add(j) = *error.add(i * n + j);
            }
            for j in 0..n {
                *error.add(i * n + j) = *row.add(j) - *y.add(i * n + j);
            }
        }
    }
}

/// `loss = sum(error^2)` and whether it is finite.
unsafe extern "C" fn sum_of_squares(
    p: *const *mut u8,
    sizes: *const i64,
    _: i64,
    _: i64,
    _: *const *const u8,
) {
    // SAFETY: as many f32 elements as the size says, one f32 and one bool.
    unsafe {
        let error = parameter::<f32>(p, 0);
        let sum: f32 = (0..*sizes as usize)
            .map(|i| *error.add(i) * *error.add(i))
            .sum();
        *parameter::<f32>(p, 1) = sum;
        *parameter::<u8>(p, 2) = u8::from(sum.is_finite());
    }
}

/// `out[i] = 2 in[i]`.
unsafe extern "C" fn double(
    p: *const *mut u8,
    _: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    assert_eq!(start % 16, 0, "ranges begin at multiples of the grain");
    // SAFETY: two f32 parameters of `end` elements.
    unsafe {
        for i in start as usize..end as usize {
            *parameter::<f32>(p, 1).add(i) = 2.0 * *parameter::<f32>(p, 0).add(i);
        }
    }
}

/// `w[i] -= rate * g[i]`, in place.
unsafe extern "C" fn update(
    p: *const *mut u8,
    _: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: f32 parameters of `end` elements, but the rate, which is one.
    unsafe {
        for i in start as usize..end as usize {
            let step = *parameter::<f32>(p, 2) * *parameter::<f32>(p, 1).add(i);
            *parameter::<f32>(p, 3).add(i) = *parameter::<f32>(p, 0).add(i) - step;
        }
    }
}

/// `step += 1`.
unsafe extern "C" fn count(p: *const *mut u8, _: *const i64, _: i64, _: i64, _: *const *const u8) {
    // SAFETY: one i64 parameter.
    unsafe { *parameter::<i64>(p, 0) += 1 }
}

/// `count` numbers in [-1, 1), of which no two tests need the same.
pub(crate) fn noise(count: usize, name: &str) -> Vec<f32> {
    let stream = kiln_ir::philox::Stream::new(11, name, 0);
    (0..count as u64)
        .map(|i| 2.0 * stream.uniform_f32(i) - 1.0)
        .collect()
}
