//! Convolutions in programs: their text, and what the verifier refuses.

use kiln_ir::program::{
    Access, Buffer, Convolution, Home, Launch, Port, Program, Rule, Step, Summation, View,
    WindowAxis,
};
use kiln_ir::{BufferId, DType, Dim, KernelId, TensorType};

fn b() -> Dim {
    Dim::symbol("b")
}

fn dims(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|v| Dim::from(*v)).collect()
}

fn view(buffer: usize, strides: &[i64]) -> View {
    View {
        buffer: BufferId::new(buffer),
        offset: Dim::from(0),
        strides: dims(strides),
    }
}

fn axis(input: i64, window: i64, output: i64) -> WindowAxis {
    WindowAxis {
        input: Dim::from(input),
        window: Dim::from(window),
        output: Dim::from(output),
        stride: 1,
        padding: Dim::from(0),
        lhs_dilation: 1,
        rhs_dilation: 1,
    }
}

/// A window of 3 x 2 over images of 8 x 6 with 3 features, to 4 features; the rows of the result have an epilogue.
fn program() -> Program {
    let f32 = DType::F32;
    let port = |name: &str, shape: Vec<Dim>, buffer| Port {
        name: name.into(),
        ty: TensorType::new(f32, shape),
        buffer: BufferId::new(buffer),
    };
    let buffer = |name: &str, elements: Dim, home| Buffer {
        name: name.into(),
        dtype: f32,
        elements,
        home,
    };
    let shape = |sizes: &[i64]| [vec![b()], dims(sizes)].concat();
    Program {
        name: "conv".into(),
        inputs: vec![
            port("x", shape(&[8, 6, 3]), 0),
            port("w", dims(&[3, 2, 3, 4]), 1),
        ],
        residents: Vec::new(),
        outputs: vec![port("y", shape(&[4, 5, 4]), 2)],
        buffers: vec![
            buffer("x", b() * 144, Home::Input),
            buffer("w", Dim::from(72), Home::Input),
            buffer("y", b() * 80, Home::Output),
        ],
        kernels: vec!["relu".into()],
        requirements: Vec::new(),
        steps: vec![Step::Convolution(Convolution {
            name: "conv".into(),
            dtype: f32,
            accumulate: f32,
            summation: Summation::Window,
            batch: b(),
            groups: Dim::from(1),
            features_in: Dim::from(3),
            features_out: Dim::from(4),
            axes: vec![
                WindowAxis {
                    stride: 2,
                    padding: Dim::from(1),
                    ..axis(8, 3, 4)
                },
                axis(6, 2, 5),
            ],
            lhs: view(0, &[144, 3, 1, 18, 3]),
            rhs: view(1, &[4, 4, 1, 24, 12]),
            dst: view(2, &[80, 4, 1, 20, 4]),
            epilogue: Some(Launch {
                kernel: KernelId::new(0),
                arguments: vec![BufferId::new(2)],
                access: vec![Access::ReadWrite],
                sizes: dims(&[4]),
                total: b() * 20,
                grain: 1,
                work: Dim::from(4),
            }),
        })],
    }
}

fn refused(change: impl Fn(&mut Convolution), expected: &[(Rule, &str)]) {
    let mut program = program();
    match &mut program.steps[0] {
        Step::Convolution(convolution) => change(convolution),
        other => panic!("a convolution, not {other:?}"),
    }
    let errors = program.verify().expect_err("a violation");
    let found: Vec<(Rule, String)> = errors
        .iter()
        .map(|e| (e.rule, format!("{}: {}", e.place, e.message)))
        .collect();
    let expected: Vec<(Rule, String)> = expected.iter().map(|(r, m)| (*r, (*m).into())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_good_convolution_verifies_and_prints() {
    let program = program();
    assert_eq!(program.verify(), Ok(()));
    let text = program.to_string();
    let steps = &text[text.find("steps:").unwrap()..];
    assert_eq!(
        steps,
        "steps:\n  \
         0: convolution \"conv\" f32 batch b, groups 1, features 3 -> 4, by window\n       \
         axis 8 * 3 -> 4, stride 2, padding 1\n       \
         axis 6 * 2 -> 5\n       \
         dst $2 strides [80, 4, 1, 20, 4]\n       \
         lhs $0 strides [144, 3, 1, 18, 3]\n       \
         rhs $1 strides [4, 4, 1, 24, 12]\n       \
         epilogue k0 relu(update $2) over 20*b, sizes [4], work 4\n\
         }\n"
    );
    assert_eq!(program.symbols().len(), 1);
}

#[test]
fn rows_may_lie_with_their_images_inside() {
    // A gradient of a window has its batch inside of its positions.
    let mut inside = program();
    if let Step::Convolution(c) = &mut inside.steps[0] {
        c.dst.strides = vec![Dim::from(4), Dim::from(4), Dim::from(1), b() * 20, b() * 4];
    }
    assert_eq!(inside.verify(), Ok(()));
    refused(
        |c| c.dst.strides = dims(&[80, 4, 1, 4, 16]),
        &[(
            Rule::Epilogue,
            "epilogue of step 0: its rows are not all features of a position, in the order [batch, output..] or [output.., batch]: \
             dst $2 strides [80, 4, 1, 4, 16]",
        )],
    );
    refused(
        |c| {
            c.dst.strides = dims(&[80, 80, 20, 5, 1]);
            c.epilogue = None;
            c.dst.strides[4] = Dim::from(2);
        },
        &[(
            Rule::Convolution,
            "step 0: dst $2 strides [80, 80, 20, 5, 2] has gaps, or elements that overlap",
        )],
    );
}

#[test]
fn convolutions_are_well_formed() {
    refused(
        |c| {
            c.axes[0].stride = 0;
            c.axes[1].lhs_dilation = 0;
            c.axes[1].rhs_dilation = 0;
            c.lhs.strides.pop();
            c.rhs.buffer = BufferId::new(9);
        },
        &[
            (Rule::Convolution, "step 0: the stride of axis 0 is 0"),
            (Rule::Convolution, "step 0: the lhs dilation of axis 1 is 0"),
            (Rule::Convolution, "step 0: the rhs dilation of axis 1 is 0"),
            (Rule::Convolution, "step 0: lhs has 4 strides for 5 axes"),
            (Rule::Exists, "step 0: there is no buffer $9"),
        ],
    );
    refused(
        |c| c.axes.clear(),
        &[
            (
                Rule::Convolution,
                "step 0: 0 spatial axes, and not one to three",
            ),
            (Rule::Convolution, "step 0: lhs has 5 strides for 3 axes"),
            (Rule::Convolution, "step 0: rhs has 5 strides for 3 axes"),
            (Rule::Convolution, "step 0: dst has 5 strides for 3 axes"),
        ],
    );
    refused(
        |c| {
            c.dtype = DType::F64;
            c.epilogue = None;
        },
        &[
            (
                Rule::Convolution,
                "step 0: lhs $0 is f32, but the convolution is f64",
            ),
            (
                Rule::Convolution,
                "step 0: rhs $1 is f32, but the convolution is f64",
            ),
            (
                Rule::Convolution,
                "step 0: dst $2 is f32, but the convolution is f64",
            ),
        ],
    );
    refused(
        |c| {
            let epilogue = c.epilogue.as_mut().unwrap();
            epilogue.total = b();
            epilogue.grain = 4;
        },
        &[
            (
                Rule::Epilogue,
                "epilogue of step 0: it counts b of 20*b rows",
            ),
            (
                Rule::Epilogue,
                "epilogue of step 0: its grain is 4, but rows end anywhere",
            ),
        ],
    );
    refused(
        |c| {
            c.dst.buffer = BufferId::new(0);
            c.epilogue = None;
        },
        &[
            (Rule::Convolution, "step 0: dst $0 is an operand too"),
            (Rule::ReadOnly, "step 0: it writes $0 (x), input"),
            (Rule::Written, "output `y`: no step writes it"),
        ],
    );
}
