//! Convolutions against the sum over kernel elements of plain products, which is spelled in other ops.

use crate::{evaluate, f32s, floats, ints, own_shapes, result};
use kiln_ir::ops::{Conv, ConvAxes, ConvGroups, WindowAxis};
use kiln_ir::{Array, Builder, ConvOptions, DType, Dim, Layout, Padding, Shape, Tensor};

fn numbers(shape: &[usize]) -> Array {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|i| ((i * 7 + 3) % 11) as f64 - 5.0)
        .collect();
    floats(DType::F64, shape, &values)
}

/// One group, `b01f_01io->b01f`: the operand padded and dilated once, and for each element of the kernel a strided slice of it times that
/// element's matrix.
fn by_elements<'g>(g: &'g Builder, x: Tensor<'g>, kernel: Tensor<'g>, conv: &Conv) -> Tensor<'g> {
    let (xs, ks) = (x.ty().unwrap().shape, kernel.ty().unwrap().shape);
    let [h, w] = [&conv.window[0], &conv.window[1]];
    let zero = Dim::from(0);
    let dims = |h: &Dim, w: &Dim| [zero.clone(), h.clone(), w.clone(), zero.clone()];
    let interior = [0, h.base_dilation - 1, w.base_dilation - 1, 0];
    let padded = x.pad(
        0.0,
        &dims(&h.low, &w.low),
        &dims(&h.high, &w.high),
        &interior,
    );
    let size = |a: usize| ks[a].constant().unwrap();
    let out = g.push(conv.clone(), &[x, kernel]).ty().unwrap().shape;
    let mut sum = g.splat(DType::F64, &out, 0.0);
    for i in 0..size(0) {
        for j in 0..size(1) {
            let (top, left) = (i * h.window_dilation, j * w.window_dilation);
            let end = |start: i64, n: &Dim, stride: i64| {
                &Dim::from(start + 1) + &(&(n - &Dim::from(1)) * &Dim::from(stride))
            };
            let start = [0, top, left, 0].map(Dim::from);
            let limit = [
                xs[0].clone(),
                end(top, &out[1], h.stride),
                end(left, &out[2], w.stride),
                xs[3].clone(),
            ];
            let met = padded.slice(&start, &limit, &[1, h.stride, w.stride, 1]);
            let at = if conv.reverse {
                (size(0) - 1 - i, size(1) - 1 - j)
            } else {
                (i, j)
            };
            let begin = [at.0, at.1, 0, 0].map(Dim::from);
            let end = [
                (at.0 + 1).into(),
                (at.1 + 1).into(),
                ks[2].clone(),
                ks[3].clone(),
            ];
            let matrix = kernel.slice(&begin, &end, &[1; 4]);
            let matrix = matrix.reshape(vec![ks[2].clone(), ks[3].clone()]);
            sum = sum + met.dot(matrix);
        }
    }
    sum
}

fn axis([stride, low, high, base_dilation, window_dilation]: [i64; 5]) -> WindowAxis {
    WindowAxis {
        stride,
        low: Dim::from(low),
        high: Dim::from(high),
        base_dilation,
        window_dilation,
    }
}

fn plain(window: [[i64; 5]; 2]) -> Conv {
    Conv {
        axes: ConvAxes::channels_last(2),
        window: window.map(axis).to_vec(),
        reverse: false,
        groups: ConvGroups::default(),
        accumulate: None,
    }
}

#[test]
fn a_convolution_is_the_sum_over_the_elements_of_its_kernel() {
    let inputs = [numbers(&[2, 6, 5, 3]), numbers(&[3, 2, 3, 4])];
    let rows = [
        [1, 0, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [2, 1, 0, 1, 1],
        [2, 0, 0, 1, 1],
        [3, 2, 4, 1, 2],
        [1, 0, 1, 2, 1],
        [2, 1, 2, 3, 2],
    ];
    for (i, h) in rows.into_iter().enumerate() {
        let w = rows[(i + 3) % rows.len()];
        for reverse in [false, true] {
            let conv = Conv {
                reverse,
                ..plain([h, w])
            };
            let found = result(&inputs, |g, t| g.push(conv.clone(), t));
            let expected = evaluate(&inputs, &own_shapes(&inputs), |g, t| {
                by_elements(g, t[0], t[1], &conv)
            });
            assert_eq!(found, expected.unwrap(), "{h:?} {w:?} {reverse}");
        }
    }
}

#[test]
fn layouts_are_transposes_of_one_another() {
    let (x, k) = (numbers(&[2, 4, 5, 3]), numbers(&[2, 3, 3, 4]));
    let conv = plain([[2, 1, 0, 1, 1], [1, 0, 2, 1, 2]]);
    let expected = result(&[x.clone(), k.clone()], |g, t| g.push(conv.clone(), t));
    // Orders that bring b01f and 01io into the spelling's order, and its result back into b01f.
    for (dims, lhs, rhs, out) in [
        ("bf01_oi01->bf01", [0, 3, 1, 2], [3, 2, 0, 1], [0, 2, 3, 1]),
        ("f1b0_0o1i->10bf", [3, 2, 0, 1], [0, 3, 1, 2], [2, 1, 0, 3]),
        ("01bf_io10->fb10", [1, 2, 0, 3], [2, 3, 1, 0], [1, 3, 2, 0]),
    ] {
        let other = Conv {
            axes: dims.parse().unwrap(),
            ..conv.clone()
        };
        let found = result(&[x.clone(), k.clone()], |g, t| {
            let operands = [t[0].transpose(&lhs), t[1].transpose(&rhs)];
            g.push(other.clone(), &operands).transpose(&out)
        });
        assert_eq!(found, expected, "{dims}");
    }
}

#[test]
fn groups_are_convolutions_side_by_side() {
    let part = |t: Tensor<'_>, axis: usize, group: i64| -> (Vec<Dim>, Vec<Dim>) {
        let shape = t.ty().unwrap().shape;
        let size = shape[axis].exact_div(&Dim::from(2)).unwrap();
        let mut start = vec![Dim::from(0); shape.len()];
        let mut limit = shape.to_vec();
        start[axis] = &size * &Dim::from(group);
        limit[axis] = &size * &Dim::from(group + 1);
        (start, limit)
    };
    let inputs = [numbers(&[2, 4, 4, 6]), numbers(&[3, 3, 3, 4])];
    let batches = [numbers(&[2, 4, 4, 3]), numbers(&[3, 3, 3, 4])];
    for (inputs, groups, divided) in [
        (inputs, ConvGroups::features(2), 3),
        (batches, ConvGroups::batches(2), 0),
    ] {
        let one = plain([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1]]);
        let conv = Conv {
            groups,
            ..one.clone()
        };
        let shapes = own_shapes(&inputs);
        let found = evaluate(&inputs, &shapes, |g, t| g.push(conv.clone(), t));
        let expected = evaluate(&inputs, &shapes, |g, t| {
            let parts = [0, 1].map(|group| {
                let (start, limit) = part(t[0], divided, group);
                let x = t[0].slice(&start, &limit, &[1; 4]);
                let (start, limit) = part(t[1], 3, group);
                g.push(one.clone(), &[x, t[1].slice(&start, &limit, &[1; 4])])
            });
            g.concat(&parts, 3)
        });
        assert_eq!(found.unwrap(), expected.unwrap());
    }
}

#[test]
fn ranks_element_types_and_sizes_at_the_edges() {
    let pair = [
        f32s(&[1, 3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        f32s(&[2, 1, 2], &[1.0, 10.0, 100.0, 1.0]),
    ];
    let depthwise = evaluate(&pair, &own_shapes(&pair), |_, t| {
        let options = ConvOptions {
            groups: 2,
            ..ConvOptions::default()
        };
        t[0].conv(t[1], &options)
    });
    let depthwise = depthwise.unwrap();
    assert_eq!(depthwise, f32s(&[1, 2, 2], &[301.0, 24.0, 503.0, 46.0]));
    let wrapped = result(
        &[
            ints(DType::I8, &[1, 1, 3], &[100, 100, 1]),
            ints(DType::I8, &[1, 1, 2], &[1, 2]),
        ],
        |_, t| {
            t[0].conv(
                t[1],
                &ConvOptions {
                    layout: Layout::ChannelsFirst,
                    ..ConvOptions::default()
                },
            )
        },
    );
    assert_eq!(wrapped, ints(DType::I8, &[1, 1, 2], &[44, 102]));
    let volume = result(
        &[numbers(&[1, 2, 2, 2, 1]), numbers(&[2, 2, 2, 1, 1])],
        |_, t| t[0].conv(t[1], &ConvOptions::default()),
    );
    let dot: f64 = numbers(&[8]).floats().unwrap().iter().map(|x| x * x).sum();
    assert_eq!(volume, floats(DType::F64, &[1, 1, 1, 1, 1], &[dot]));
    // No examples, no features, nothing along the spatial axis.
    for (x, k, shape) in [
        ([0, 3, 2], [2, 2, 3], vec![0, 2, 3]),
        ([1, 3, 0], [2, 0, 3], vec![1, 2, 3]),
        ([1, 3, 2], [2, 2, 0], vec![1, 2, 0]),
        ([1, 0, 2], [1, 2, 3], vec![1, 0, 3]),
    ] {
        let empty = evaluate(
            &[numbers(&x), numbers(&k)],
            &own_shapes(&[numbers(&x), numbers(&k)]),
            |_, t| t[0].conv(t[1], &ConvOptions::default()),
        );
        let count = shape.iter().product();
        assert_eq!(
            empty.unwrap(),
            floats(DType::F64, &shape, &vec![0.0; count])
        );
    }
}

#[test]
fn gradients_of_tensors_without_elements_are_zeros() {
    for (x, k) in [
        ([0, 3, 2], [2, 2, 3]),
        ([1, 0, 2], [1, 2, 3]),
        ([1, 3, 0], [2, 0, 3]),
    ] {
        let g = Builder::new("empty");
        let x = g.param_of("x", DType::F64, x, kiln_ir::Init::zeros());
        let k = g.param_of("k", DType::F64, k, kiln_ir::Init::zeros());
        let loss = x.conv(k, &ConvOptions::default()).sum();
        for (d, of) in kiln_ir::grad(loss, &[x, k]).into_iter().zip([x, k]) {
            assert_eq!(d.ty(), of.ty());
        }
        assert!(g.finish().is_ok());
    }
}

#[test]
fn a_transposed_convolution_doubles_a_symbolic_extent() {
    let g = Builder::new("up");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("h"), g.dim("w"), 8));
    let k = g.param("k", [2, 2, 8, 4], kiln_ir::Init::zeros());
    let options = ConvOptions {
        lhs_dilation: vec![2],
        padding: Padding::both(1),
        reverse: true,
        ..ConvOptions::default()
    };
    let y = x.conv(k, &options);
    let expected: Shape = [g.dim("b"), g.dim("h") * 2, g.dim("w") * 2, Dim::from(4)].into();
    assert_eq!(y.ty().unwrap().shape, expected);
    assert!(g.finish().is_ok());
}

#[test]
fn layouts_have_names() {
    for name in ["NWC", "NHWC", "NDHWC"] {
        assert_eq!(name.parse(), Ok(Layout::ChannelsLast));
    }
    for name in ["NCW", "NCHW", "NCDHW"] {
        assert_eq!(name.parse(), Ok(Layout::ChannelsFirst));
    }
    assert!("HWCN".parse::<Layout>().is_err());
}
