//! Products as steps: batches, strides, empty extents, epilogues, integer and widened sums, and matrices that leave their buffers.

mod common;

use common::*;
use kiln_ir::program::{Home, KernelFn, Launch, Matrix, Product, Program, Step};
use kiln_ir::{DType, Dim, TensorType};
use kiln_runtime::{Executable, Feed, PlanError, StepError};

/// `out = lhs . rhs` for inputs of any length; the product's matrices are buffers 0, 1 and 2.
fn program(product: Product, out: Vec<Dim>) -> Program {
    let dtype = product.dtype;
    let input = |name: &str, extent: &str, buffer| {
        port(name, TensorType::new(dtype, (dim(extent),)), buffer)
    };
    let ty = TensorType::new(dtype, out);
    let elements = ty.shape.elements();
    Program {
        name: "product".into(),
        inputs: vec![input("lhs", "p", 0), input("rhs", "q", 1)],
        residents: Vec::new(),
        outputs: vec![port("out", ty, 2)],
        buffers: vec![
            buffer("lhs", dtype, dim("p"), Home::Input),
            buffer("rhs", dtype, dim("q"), Home::Input),
            buffer("out", dtype, elements, Home::Output),
        ],
        kernels: vec!["mark".into()],
        requirements: Vec::new(),
        steps: vec![Step::Product(product)],
    }
}

/// `out[row] = 1000 row + out[row]` for the rows that a panel has.
unsafe extern "C" fn mark(
    p: *const *mut u8,
    sizes: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: one f32 parameter of `end` rows, whose length is the one size.
    unsafe {
        let (out, n) = ((*p).cast::<f32>(), *sizes);
        for row in start..end {
            for col in 0..n {
                *out.offset((row * n + col) as isize) += 1000.0 * row as f32;
            }
        }
    }
}

fn load_one(program: Program) -> Executable {
    load(program, &[mark as KernelFn]).unwrap()
}

fn dims(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|v| Dim::from(*v)).collect()
}

fn batched(base: Matrix, strides: &[i64]) -> Matrix {
    Matrix {
        batch_strides: dims(strides),
        ..base
    }
}

/// `[2, b, m, k] x [b, k, n]` with the right side shared by the outer axis, and an epilogue over all rows.
fn batch(m: i64, n: i64, k: i64) -> Executable {
    let b = dim("b");
    let strides = |outer: Dim, inner: i64| vec![outer, Dim::from(inner)];
    let matrix = |buffer: usize, columns: i64, batch_strides: Vec<Dim>| Matrix {
        batch_strides,
        ..matrix(buffer, columns, 1)
    };
    let mut one = program(
        Product {
            batch: vec![Dim::from(2), b.clone()],
            epilogue: Some(Launch {
                sizes: dims(&[n]),
                ..launch(0, &[(2, UPDATE)], b.clone() * 2 * m)
            }),
            ..product(
                DType::F32,
                [m, n, k].map(Dim::from),
                matrix(2, n, strides(b.clone() * (m * n), m * n)),
                matrix(0, k, strides(b.clone() * (m * k), m * k)),
                matrix(1, n, strides(Dim::from(0), k * n)),
            )
        },
        vec![Dim::from(2), b.clone(), Dim::from(m), Dim::from(n)],
    );
    let shape = |a: i64, z: i64| vec![Dim::from(a), b.clone(), Dim::from(z)];
    one.inputs[0].ty = TensorType::new(DType::F32, shape(2, m * k));
    one.inputs[1].ty = TensorType::new(DType::F32, shape(1, k * n));
    one.buffers[0].elements = one.inputs[0].ty.shape.elements();
    one.buffers[1].elements = one.inputs[1].ty.shape.elements();
    load_one(one)
}

#[test]
fn batches_with_broadcast_and_epilogue_agree_with_the_definition() {
    // The last is above the threshold of sharing, with a short last panel.
    for (b, m, n, k) in [
        (1, 1, 1, 1),
        (3, 5, 4, 2),
        (0, 3, 3, 3),
        (3, 0, 2, 2),
        (3, 2, 0, 2),
        (3, 2, 2, 0),
        (3, 300, 20, 17),
    ] {
        let executable = batch(m as i64, n as i64, k as i64);
        let (lhs, rhs) = (noise(2 * b * m * k, "lhs"), noise(b * k * n, "rhs"));
        let mut bits: Vec<Vec<u32>> = Vec::new();
        for threads in [1, 2, 4] {
            let mut session = executable.session_with(&options(1, threads)).unwrap();
            let outputs = session
                .step(&[
                    Feed::new(&lhs, &[2, b, m * k]),
                    Feed::new(&rhs, &[1, b, k * n]),
                ])
                .unwrap();
            assert_eq!(outputs.shape(0).unwrap(), [2, b, m, n]);
            let out: &[f32] = outputs.as_slice(0).unwrap();
            for matrix in 0..2 * b {
                for row in 0..m {
                    for col in 0..n {
                        let sum: f32 = (0..k)
                            .map(|d| {
                                lhs[(matrix * m + row) * k + d]
                                    * rhs[(matrix % b * k + d) * n + col]
                            })
                            .sum();
                        let found = out[(matrix * m + row) * n + col];
                        let expected = sum + 1000.0 * (matrix * m + row) as f32;
                        assert!(
                            (found - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                            "{found} and {expected}"
                        );
                    }
                }
            }
            bits.push(out.iter().map(|v| v.to_bits()).collect());
        }
        assert!(bits[0] == bits[1] && bits[0] == bits[2]);
    }
}

#[test]
fn strides_may_be_negative_and_sums_wider() {
    // lhs read backwards along both axes, rhs transposed.
    let reversed = Matrix {
        offset: Dim::from(5),
        ..matrix(0, -3, -1)
    };
    let step = Product {
        accumulate: DType::F64,
        ..product(
            DType::F32,
            [2, 2, 3].map(Dim::from),
            matrix(2, 2, 1),
            reversed,
            matrix(1, 1, 3),
        )
    };
    let mut session = load_one(program(step, dims(&[2, 2])))
        .session_with(&options(1, 1))
        .unwrap();
    let lhs = [4.0_f32, 5.0, 6.0, -1e8, 1.0, 1e8];
    let rhs = [1.0_f32, 1.0, 1.0, 0.0, 1.0, 0.0];
    let outputs = session.step(&[Feed::from(&lhs), Feed::from(&rhs)]).unwrap();
    assert_eq!(outputs.as_slice::<f32>(0), Ok(&[1.0, 1.0, 15.0, 5.0][..]));
}

#[test]
fn integers_have_products() {
    let step = Product {
        accumulate: DType::I32,
        ..product(
            DType::I8,
            [2, 1, 2].map(Dim::from),
            matrix(2, 1, 1),
            matrix(0, 2, 1),
            matrix(1, 1, 1),
        )
    };
    let mut session = load_one(program(step, dims(&[2, 1])))
        .session_with(&options(1, 1))
        .unwrap();
    let (lhs, rhs) = ([100_i8, 2, -3, 4], [2_i8, 1]);
    let outputs = session.step(&[Feed::from(&lhs), Feed::from(&rhs)]).unwrap();
    assert_eq!(outputs.as_slice::<i8>(0), Ok(&[-54, -2][..]));
}

#[test]
fn matrices_that_leave_their_buffers_are_refused_under_each_binding() {
    let refusal = |change: &dyn Fn(&mut Product), lhs: usize| {
        let mut step = product(
            DType::F32,
            [2, 2, 3].map(Dim::from),
            matrix(2, 2, 1),
            matrix(0, 3, 1),
            matrix(1, 2, 1),
        );
        change(&mut step);
        let out = dims(&[2, 2]);
        let mut session = load_one(program(step, out))
            .session_with(&options(1, 1))
            .unwrap();
        let (lhs, rhs) = (vec![1.0_f32; lhs], [1.0_f32; 6]);
        match session.step(&[Feed::from(&lhs), Feed::from(&rhs)]) {
            Ok(_) => None,
            Err(StepError::Plan(error)) => Some(error),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(refusal(&|_| {}, 6), None);
    assert_eq!(refusal(&|_| {}, 7), None);
    assert_eq!(
        refusal(&|_| {}, 5).unwrap().to_string(),
        "the product \"product\" at step 0 reaches outside of the buffer of its lhs: elements 0 to 5 of 5; the program is not valid"
    );
    let out_of_bounds = |change: &dyn Fn(&mut Product)| match refusal(change, 6) {
        Some(PlanError::OutOfBounds {
            role, first, last, ..
        }) => Some((role, first, last)),
        Some(_) | None => None,
    };
    assert_eq!(
        out_of_bounds(&|p| p.rhs.row_stride = Dim::from(-2)),
        Some(("rhs", -4, 1))
    );
    assert_eq!(
        out_of_bounds(&|p| p.dst.offset = Dim::from(1)),
        Some(("dst", 1, 4))
    );
    assert_eq!(
        out_of_bounds(&|p| p.lhs.row_stride = Dim::from(i64::MAX)),
        Some(("lhs", 0, i128::from(i64::MAX) + 2))
    );
    // Without a contracted element nothing is read, wherever it would lie.
    assert_eq!(
        refusal(
            &|p| {
                p.k = Dim::from(0);
                p.lhs.offset = Dim::from(1_i64 << 40);
            },
            6
        ),
        None
    );
    assert!(matches!(
        refusal(
            &|p| {
                p.batch = dims(&[i64::MAX, i64::MAX]);
                p.lhs = batched(p.lhs.clone(), &[0, 0]);
                p.rhs = batched(p.rhs.clone(), &[0, 0]);
                p.dst = batched(p.dst.clone(), &[i64::MAX, 4]);
            },
            6
        ),
        Some(PlanError::TooLarge { .. })
    ));
}
