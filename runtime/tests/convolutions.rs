//! Convolutions as steps: symbolic batches, epilogues on every row once, both gradients, and views that leave their buffers.

mod common;

use common::*;
use kiln_ir::program::{
    Convolution, Home, KernelFn, Launch, Program, Step, Summation, View, WindowAxis,
};
use kiln_ir::{BufferId, DType, Dim, TensorType};
use kiln_runtime::{ConvolutionProblem, Executable, Feed, LoadError, PlanError, StepError};

/// Features of the input and of the result, the extent of the image, of the window and of the result along both axes.
const SIZES: [i64; 5] = [5, 20, 12, 3, 6];
const STRIDE: usize = 2;
const PADDING: i64 = 1;

fn view(buffer: usize, offset: i64, strides: Vec<Dim>) -> View {
    View {
        buffer: BufferId::new(buffer),
        offset: Dim::from(offset),
        strides,
    }
}

fn dims(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|v| Dim::from(*v)).collect()
}

fn axis([input, window, output]: [i64; 3], padding: i64) -> WindowAxis {
    WindowAxis {
        input: Dim::from(input),
        window: Dim::from(window),
        output: Dim::from(output),
        stride: 1,
        padding: Dim::from(padding),
        lhs_dilation: 1,
        rhs_dilation: 1,
    }
}

/// `out` from inputs of any length, with an epilogue that marks its rows; the views are buffers 0, 1 and 2.
fn program(convolution: Convolution, out: Vec<Dim>) -> Program {
    let dtype = convolution.dtype;
    let input = |name: &str, extent: &str, buffer| {
        port(name, TensorType::new(dtype, (dim(extent),)), buffer)
    };
    let ty = TensorType::new(dtype, out);
    let elements = ty.shape.elements();
    Program {
        name: "convolution".into(),
        inputs: vec![
            input("lhs", "p", 0),
            input("rhs", "q", 1),
            port("batch", TensorType::new(DType::Bool, (dim("b"),)), 3),
        ],
        residents: Vec::new(),
        outputs: vec![port("out", ty, 2)],
        buffers: vec![
            buffer("lhs", dtype, dim("p"), Home::Input),
            buffer("rhs", dtype, dim("q"), Home::Input),
            buffer("out", dtype, elements, Home::Output),
            buffer("batch", DType::Bool, dim("b"), Home::Input),
        ],
        kernels: vec!["mark".into()],
        requirements: Vec::new(),
        steps: vec![Step::Convolution(convolution)],
    }
}

/// `out[row] = 1000 row + out[row]`.
unsafe extern "C" fn mark(
    p: *const *mut u8,
    sizes: *const i64,
    start: i64,
    end: i64,
    _: *const *const u8,
) {
    // SAFETY: one f32 parameter of `end` rows at least, whose length is the one size.
    unsafe {
        let (out, n) = ((*p).cast::<f32>(), *sizes);
        for row in start..end {
            for col in 0..n {
                *out.offset((row * n + col) as isize) += 1000.0 * row as f32;
            }
        }
    }
}

fn load_one(program: Program) -> Result<Executable, LoadError> {
    load(program, &[mark as KernelFn])
}

fn epilogue(total: Dim, row: i64) -> Option<Launch> {
    Some(Launch {
        sizes: dims(&[row]),
        ..launch(0, &[(2, UPDATE)], total)
    })
}

/// The forward pass: images and windows with features last.
fn forward() -> Convolution {
    let [features_in, features_out, size, window, output] = SIZES;
    let each = WindowAxis {
        stride: STRIDE,
        ..axis([size, window, output], PADDING)
    };
    Convolution {
        name: "forward".into(),
        dtype: DType::F32,
        accumulate: DType::F32,
        summation: Summation::Window,
        batch: dim("b"),
        groups: Dim::from(1),
        features_in: Dim::from(features_in),
        features_out: Dim::from(features_out),
        axes: vec![each.clone(), each],
        lhs: view(
            0,
            0,
            dims(&[
                size * size * features_in,
                1,
                1,
                size * features_in,
                features_in,
            ]),
        ),
        rhs: view(
            1,
            0,
            dims(&[
                1,
                features_out,
                1,
                window * features_in * features_out,
                features_in * features_out,
            ]),
        ),
        dst: view(
            2,
            0,
            dims(&[
                output * output * features_out,
                1,
                1,
                output * features_out,
                features_out,
            ]),
        ),
        epilogue: epilogue(dim("b") * (output * output), features_out),
    }
}

/// The gradient of the input: lhs is that of the result, and the window is read from its end.
fn of_input() -> Convolution {
    let [features_in, features_out, size, window, output] = SIZES;
    let forward = forward();
    let each = WindowAxis {
        lhs_dilation: STRIDE,
        ..axis([output, window, size], window - 1 - PADDING)
    };
    let strides = |view: &View, order: [usize; 5]| order.map(|i| view.strides[i].clone());
    let reversed = forward.rhs.strides[3..].iter().map(|s| s.clone() * -1);
    let last = (window * window - 1) * features_in * features_out;
    Convolution {
        name: "of input".into(),
        features_in: Dim::from(features_out),
        features_out: Dim::from(features_in),
        axes: vec![each.clone(), each],
        lhs: View {
            buffer: BufferId::new(0),
            ..forward.dst.clone()
        },
        rhs: view(
            1,
            last,
            strides(&forward.rhs, [0, 2, 1, 3, 4])[..3]
                .iter()
                .cloned()
                .chain(reversed)
                .collect(),
        ),
        dst: View {
            buffer: BufferId::new(2),
            ..forward.lhs.clone()
        },
        epilogue: epilogue(dim("b") * (size * size), features_in),
        ..forward
    }
}

/// The gradient of the window: lhs is the input, rhs the gradient of the result.
fn of_window() -> Convolution {
    let [features_in, features_out, size, window, output] = SIZES;
    let forward = forward();
    let each = WindowAxis {
        rhs_dilation: STRIDE,
        ..axis([size, output, window], PADDING)
    };
    let strides = |view: &View, order: [usize; 5]| -> Vec<Dim> {
        order.map(|i| view.strides[i].clone()).to_vec()
    };
    Convolution {
        name: "of window".into(),
        summation: Summation::Lines,
        batch: Dim::from(features_in),
        features_in: dim("b"),
        axes: vec![each.clone(), each],
        lhs: view(0, 0, strides(&forward.lhs, [2, 1, 0, 3, 4])),
        rhs: view(1, 0, strides(&forward.dst, [1, 0, 2, 3, 4])),
        dst: view(2, 0, strides(&forward.rhs, [1, 0, 2, 3, 4])),
        epilogue: epilogue(Dim::from(window * window * features_in), features_out),
        ..forward
    }
}

/// What each pass is by its definition over plain arrays, in f64: `visit(n, output position, input position, window position)` for each
/// pair of elements that meet.
fn pairs(b: usize, mut visit: impl FnMut(usize, usize, usize, usize)) {
    let [_, _, size, window, output] = SIZES.map(|s| s as usize);
    for n in 0..b {
        for (oy, ox) in (0..output * output).map(|o| (o / output, o % output)) {
            for (wy, wx) in (0..window * window).map(|w| (w / window, w % window)) {
                let at = |o: usize, w: usize| (o * STRIDE + w).checked_sub(PADDING as usize);
                if let (Some(y), Some(x)) = (at(oy, wy), at(ox, wx))
                    && y < size
                    && x < size
                {
                    visit(n, oy * output + ox, y * size + x, wy * window + wx);
                }
            }
        }
    }
}

fn step(
    executable: &Executable,
    threads: usize,
    b: usize,
    lhs: &[f32],
    rhs: &[f32],
) -> Result<Vec<f32>, StepError> {
    let mut session = executable.session_with(&options(1, threads)).unwrap();
    let batch = vec![false; b];
    let feeds = [Feed::from(lhs), Feed::from(rhs), Feed::from(&batch[..])];
    let outputs = session.step(&feeds)?;
    Ok(outputs.as_slice::<f32>(0).unwrap().to_vec())
}

/// The sums with the mark of each row, against those of f64, at several numbers of threads with the same bits.
fn check(
    convolution: Convolution,
    out: Vec<Dim>,
    row: usize,
    b: usize,
    lhs: &[f32],
    rhs: &[f32],
    expected: &[f64],
) {
    let name = convolution.name.clone();
    let executable = load_one(program(convolution, out)).unwrap();
    let single = step(&executable, 1, b, lhs, rhs).unwrap();
    assert_eq!(single.len(), expected.len());
    for (index, (found, expected)) in single.iter().zip(expected).enumerate() {
        let expected = expected + 1000.0 * (index / row) as f64;
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= 1e-6 * (10.0 + expected.abs()),
            "{name} of {b} at {index}: {found} and {expected}"
        );
    }
    for threads in [2, 3, 4] {
        let several = step(&executable, threads, b, lhs, rhs).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&single) == bits(&several), "{name}, {threads} threads");
    }
}

#[test]
fn all_passes_agree_with_the_definition_and_mark_each_row_once() {
    let [fi, fo, size, window, output] = SIZES.map(|s| s as usize);
    let [fi_dim, fo_dim, size_dim, window_dim, output_dim] = SIZES.map(Dim::from);
    // 17 are enough to be shared out.
    for b in [0, 1, 3, 17] {
        let x = noise(b * size * size * fi, "x");
        let w = noise(window * window * fi * fo, "w");
        let g = noise(b * output * output * fo, "g");
        let mut y = vec![0.0; b * output * output * fo];
        let mut dx = vec![0.0; x.len()];
        let mut dw = vec![0.0; w.len()];
        pairs(b, |n, o, i, k| {
            for ci in 0..fi {
                for co in 0..fo {
                    let x_at = (n * size * size + i) * fi + ci;
                    let y_at = (n * output * output + o) * fo + co;
                    let w_at = (k * fi + ci) * fo + co;
                    y[y_at] += f64::from(x[x_at]) * f64::from(w[w_at]);
                    dx[x_at] += f64::from(g[y_at]) * f64::from(w[w_at]);
                    dw[w_at] += f64::from(x[x_at]) * f64::from(g[y_at]);
                }
            }
        });
        let image = |size: &Dim, features: &Dim| {
            vec![dim("b"), size.clone(), size.clone(), features.clone()]
        };
        check(forward(), image(&output_dim, &fo_dim), fo, b, &x, &w, &y);
        check(of_input(), image(&size_dim, &fi_dim), fi, b, &g, &w, &dx);
        let of_window_out = vec![
            window_dim.clone(),
            window_dim.clone(),
            fi_dim.clone(),
            fo_dim.clone(),
        ];
        check(of_window(), of_window_out, fo, b, &x, &g, &dw);
    }
}

#[test]
fn rows_in_another_order_get_their_epilogue_in_the_end() {
    // Positions outside of images: a forward pass that tells of no row.
    let [fi, fo, size, window, output] = SIZES;
    let b = 3;
    let mut convolution = forward();
    convolution.dst.strides = vec![
        Dim::from(fo),
        Dim::from(1),
        Dim::from(1),
        dim("b") * (output * fo),
        dim("b") * fo,
    ];
    let (x, w) = (
        noise(b * (size * size * fi) as usize, "x"),
        noise((window * window * fi * fo) as usize, "w"),
    );
    let out = [output, output].map(Dim::from).to_vec();
    let out = [out, vec![dim("b"), Dim::from(fo)]].concat();
    let turned = load_one(program(convolution, out)).unwrap();
    let out = vec![
        dim("b"),
        Dim::from(output),
        Dim::from(output),
        Dim::from(fo),
    ];
    let straight = Convolution {
        epilogue: None,
        ..forward()
    };
    let straight = load_one(program(straight, out)).unwrap();
    let straight = step(&straight, 1, b, &x, &w).unwrap();
    for threads in [1, 2] {
        let turned = step(&turned, threads, b, &x, &w).unwrap();
        let (positions, fo) = ((output * output) as usize, fo as usize);
        for n in 0..b {
            for o in 0..positions {
                let row = o * b + n;
                for f in 0..fo {
                    let plain = straight[(n * positions + o) * fo + f];
                    assert_eq!(turned[row * fo + f], plain + 1000.0 * row as f32);
                }
            }
        }
    }
}

#[test]
fn views_that_leave_their_buffers_are_refused_under_each_binding() {
    let [fi, fo, size, window, output] = SIZES;
    let refusal = |change: &dyn Fn(&mut Convolution), x: usize| {
        let mut convolution = Convolution {
            epilogue: None,
            ..forward()
        };
        change(&mut convolution);
        let out = vec![
            dim("b"),
            Dim::from(output),
            Dim::from(output),
            Dim::from(fo),
        ];
        let executable = load_one(program(convolution, out)).unwrap();
        let x = vec![1.0; x];
        let w = vec![1.0; (window * window * fi * fo) as usize];
        match step(&executable, 1, 2, &x, &w) {
            Ok(_) => None,
            Err(StepError::Plan(error)) => Some(error),
            Err(other) => panic!("{other}"),
        }
    };
    let enough = (2 * size * size * fi) as usize;
    assert_eq!(refusal(&|_| {}, enough), None);
    assert_eq!(
        refusal(&|_| {}, enough - 1).unwrap().to_string(),
        format!(
            "the convolution \"forward\" at step 0 reaches outside of the buffer of its lhs: elements 0 to {} of {}; \
             the program is not valid",
            enough - 1,
            enough - 1
        )
    );
    let problem = |change: &dyn Fn(&mut Convolution)| match refusal(change, enough) {
        Some(PlanError::Convolution { problem, .. }) => Some(problem),
        Some(other) => panic!("{other}"),
        None => None,
    };
    assert!(matches!(
        problem(&|c| c.rhs.strides[3] = Dim::from(-1)),
        Some(ConvolutionProblem::OutOfBounds {
            role: "rhs",
            first: -2,
            ..
        })
    ));
    assert!(matches!(
        problem(&|c| c.dst.offset = Dim::from(1)),
        Some(ConvolutionProblem::OutOfBounds { role: "dst", .. })
    ));
    assert_eq!(
        problem(&|c| c.axes[0].padding = Dim::from(i64::MIN)),
        Some(ConvolutionProblem::TooLarge)
    );
    // Where there is nothing to read, it does not matter where it would lie.
    assert_eq!(
        problem(&|c| {
            c.axes[0].input = Dim::from(0);
            c.lhs.offset = Dim::from(1_i64 << 40);
        }),
        None
    );
}

#[test]
fn types_without_a_convolution_are_refused_when_loaded() {
    let convolution = Convolution {
        accumulate: DType::I32,
        epilogue: None,
        ..forward()
    };
    let [_, fo, _, _, output] = SIZES;
    let out = vec![
        dim("b"),
        Dim::from(output),
        Dim::from(output),
        Dim::from(fo),
    ];
    let error = load_one(program(convolution, out)).unwrap_err();
    assert!(matches!(
        error,
        LoadError::UnsupportedConvolution {
            dtype: DType::F32,
            accumulate: DType::I32,
            ..
        }
    ));
}

#[test]
fn scratch_is_a_part_of_the_plan() {
    let [_, fo, size, _, output] = SIZES;
    let out = vec![
        dim("b"),
        Dim::from(output),
        Dim::from(output),
        Dim::from(fo),
    ];
    let executable = load_one(program(forward(), out)).unwrap();
    let mut bindings = kiln_ir::Bindings::new();
    for (symbol, value) in [("b", 2), ("p", 2 * size * size * 5), ("q", 900)] {
        bindings.insert(kiln_ir::Symbol::new(symbol), value);
    }
    let report = executable.memory_with(&bindings, 2).unwrap();
    // A packed window of 45 terms by two vectors, at the least.
    assert!(report.scratch >= 45 * 32 * 4, "{}", report.scratch);
}
