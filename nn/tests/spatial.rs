//! Convolutions, pools, paddings and upsamplings beside plain loops, their params, and layouts.

mod common;

use common::{Loop, close, floats};
use kiln_ir::philox::Stream;
use kiln_ir::{Array, Builder, DType, Dim, Layout, Padding};
use kiln_nn::{
    AvgPool2d, Context, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, DepthwiseConv2d,
    GlobalAvgPool, GlobalMaxPool, Layer, MaxPool1d, MaxPool2d, MaxPool3d, SeparableConv2d,
    Sequential, Upsample1d, Upsample2d, ZeroPad2d,
};

/// Numbers from a normal distribution.
fn normal(name: &str, shape: &[usize]) -> Array {
    let stream = Stream::new(3, name, 0);
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count as u64).map(|i| stream.normal(i)).collect();
    floats(DType::F64, shape, &values)
}

/// A layer applied to `x` in f64 under the name `l`: its result, and its params and states.
fn run(layer: &dyn Layer, x: &Array) -> (Array, Loop) {
    let g = Builder::new("m");
    let shape: Vec<i64> = x.shape().iter().map(|d| *d as i64).collect();
    let input = g.input("x", DType::F64, &shape[..]);
    g.output("y", Context::training(&g).layer("l", layer, input));
    let mut run = Loop::new(g.finish().unwrap_or_else(|e| panic!("{e}")), 9);
    let y = run.step(&[("x", x.clone())]).remove("y").unwrap();
    (y, run)
}

/// `a[indices]` in row-major order.
fn at(a: &Array, indices: &[usize]) -> f64 {
    let flat = indices.iter().zip(a.shape()).fold(0, |f, (i, n)| f * n + i);
    a.floats().unwrap()[flat]
}

/// A convolution of pictures as its definition has it; `low` is the padding before, `out` the positions.
struct Plain {
    stride: [usize; 2],
    low: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    out: [usize; 2],
}

impl Plain {
    fn convolve(&self, x: &Array, w: &Array) -> Vec<f64> {
        let [b, h, width, _] = x.shape() else {
            panic!("a batch of pictures")
        };
        let [kh, kw, input, output] = w.shape() else {
            panic!("a kernel")
        };
        let mut y = Vec::new();
        for n in 0..*b {
            for (p, q) in (0..self.out[0]).flat_map(|p| (0..self.out[1]).map(move |q| (p, q))) {
                for o in 0..*output {
                    let group = o / (output / self.groups);
                    let mut sum = 0.0;
                    for (i, j) in (0..*kh).flat_map(|i| (0..*kw).map(move |j| (i, j))) {
                        let row = p * self.stride[0] + i * self.dilation[0];
                        let column = q * self.stride[1] + j * self.dilation[1];
                        let (Some(row), Some(column)) = (
                            row.checked_sub(self.low[0]),
                            column.checked_sub(self.low[1]),
                        ) else {
                            continue;
                        };
                        if row >= *h || column >= *width {
                            continue;
                        }
                        for c in 0..*input {
                            let feature = group * input + c;
                            sum += at(x, &[n, row, column, feature]) * at(w, &[i, j, c, o]);
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }
}

#[test]
fn conv2d_is_the_plain_loop() {
    let x = normal("x", &[2, 7, 6, 4]);
    let plain = Plain {
        stride: [1, 1],
        low: [0, 0],
        dilation: [1, 1],
        groups: 1,
        out: [5, 4],
    };
    let same = Plain {
        stride: [2, 3],
        // 4 positions of 3 rows reach 9 of 7: one before, one behind; 2 positions of 2 columns reach 5 of 6.
        low: [1, 0],
        out: [4, 2],
        ..plain
    };
    let dilated = Plain {
        low: [2, 1],
        dilation: [2, 1],
        groups: 2,
        out: [6, 7],
        ..plain
    };
    let explicit = Padding::Explicit(vec![(Dim::from(2), Dim::from(1)), (1.into(), 1.into())]);
    for (case, layer) in [
        (&plain, Conv2d::new(6, 3)),
        (
            &same,
            Conv2d::new(6, [3, 2]).stride([2, 3]).padding(Padding::Same),
        ),
        (
            &dilated,
            Conv2d::new(6, [3, 2])
                .padding(explicit)
                .dilation([2, 1])
                .groups(2),
        ),
    ] {
        let (y, run) = run(&layer.bias(kiln_ir::Init::Constant(0.25)), &x);
        assert_eq!(y.shape(), [2, case.out[0], case.out[1], 6]);
        let w = run.array("l/w");
        let expected: Vec<f64> = case.convolve(&x, w).iter().map(|y| y + 0.25).collect();
        close(y.floats().unwrap(), &expected, 1e-12);
    }
}

#[test]
fn a_depthwise_convolution_has_a_group_a_feature() {
    let x = normal("x", &[2, 6, 6, 3]);
    let (y, run) = run(&DepthwiseConv2d::new(3).multiplier(2).without_bias(), &x);
    assert_eq!(run.names(), ["l/w"]);
    let w = run.array("l/w");
    assert_eq!(w.shape(), [3, 3, 1, 6]);
    let plain = Plain {
        stride: [1, 1],
        low: [0, 0],
        dilation: [1, 1],
        groups: 3,
        out: [4, 4],
    };
    close(y.floats().unwrap(), &plain.convolve(&x, w), 1e-12);
}

#[test]
fn a_separable_convolution_is_its_two_parts() {
    let x = normal("x", &[2, 6, 6, 3]);
    let (y, run) = run(&SeparableConv2d::new(5, 3).multiplier(2).stride(2), &x);
    assert_eq!(
        run.names(),
        ["l/depthwise/w", "l/pointwise/b", "l/pointwise/w"]
    );
    let plain = Plain {
        stride: [2, 2],
        low: [0, 0],
        dilation: [1, 1],
        groups: 3,
        out: [2, 2],
    };
    let middle = floats(
        DType::F64,
        &[2, 2, 2, 6],
        &plain.convolve(&x, run.array("l/depthwise/w")),
    );
    let mixed = Plain {
        stride: [1, 1],
        groups: 1,
        ..plain
    };
    close(
        y.floats().unwrap(),
        &mixed.convolve(&middle, run.array("l/pointwise/w")),
        1e-12,
    );
}

/// Fans count what a group sees, so the variance of a depthwise weight does not shrink with the number of features.
#[test]
fn glorot_bounds_follow_groups_and_layout() {
    let bound = |layer: &dyn Layer, shape: &[i64]| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, shape);
        g.output("y", Context::training(&g).layer("l", layer, x));
        let graph = g.finish().unwrap();
        let slot = graph
            .slots()
            .iter()
            .find(|s| s.name == "l/w")
            .unwrap()
            .role
            .clone();
        match slot {
            kiln_ir::Role::Param(kiln_ir::Init::Uniform { high, .. }) => high,
            other => panic!("{other:?}"),
        }
    };
    let glorot = |input: f64, output: f64| (6.0 / (input + output)).sqrt();
    let last = bound(&Conv2d::new(32, 3), &[1, 9, 9, 16]);
    let first = bound(
        &Conv2d::new(32, 3).layout(Layout::ChannelsFirst),
        &[1, 16, 9, 9],
    );
    assert_eq!((last, first), (glorot(144.0, 288.0), glorot(144.0, 288.0)));
    assert_eq!(
        bound(&DepthwiseConv2d::new(3), &[1, 9, 9, 16]),
        glorot(9.0, 9.0)
    );
    assert_eq!(
        bound(&Conv2d::new(8, 3).groups(4), &[1, 9, 9, 16]),
        glorot(36.0, 18.0)
    );
}

#[test]
fn layouts_give_the_same_numbers_in_their_order() {
    let x = normal("x", &[2, 5, 6, 3]);
    let g = Builder::new("m");
    let last = g.input("x", DType::F64, [2, 5, 6, 3]);
    let first = last.transpose(&[0, 3, 1, 2]);
    let cx = Context::training(&g);
    let y = |layout: Layout, x| {
        // Both scopes draw weights of their own, so that constants are what can be compared.
        let one = kiln_ir::Init::Constant(0.5);
        let conv = Conv2d::new(4, [3, 2]).weight(one).bias(one).layout(layout);
        let pool = MaxPool2d::new(2).stride(1).layout(layout);
        let mean = AvgPool2d::new(2).stride(1).layout(layout);
        let grow = Upsample2d::linear([1, 2]).layout(layout);
        let pad = ZeroPad2d::new(1).layout(layout);
        let layers: [(&str, &dyn Layer); 5] = [
            ("conv", &conv),
            ("pool", &pool),
            ("mean", &mean),
            ("up", &grow),
            ("pad", &pad),
        ];
        let _scope = g.scope(if layout == Layout::ChannelsLast {
            "l"
        } else {
            "f"
        });
        layers
            .into_iter()
            .fold(x, |x, (name, layer)| cx.layer(name, layer, x))
    };
    g.output("last", y(Layout::ChannelsLast, last));
    g.output(
        "first",
        y(Layout::ChannelsFirst, first).transpose(&[0, 2, 3, 1]),
    );
    let outputs = Loop::new(g.finish().unwrap(), 0).step(&[("x", x)]);
    assert_eq!(outputs["last"].shape(), outputs["first"].shape());
    close(
        outputs["last"].floats().unwrap(),
        outputs["first"].floats().unwrap(),
        1e-12,
    );
}

/// The transpose by its definition: every element adds its multiple of the window.
#[test]
fn a_transposed_convolution_scatters_windows() {
    let x = normal("x", &[2, 4, 3]);
    for (layer, low, out) in [
        (ConvTranspose1d::new(2, 3), 0, 6),
        (ConvTranspose1d::new(2, 3).stride(2), 0, 9),
        (ConvTranspose1d::new(2, 2).stride(3), 0, 11),
        (
            ConvTranspose1d::new(2, 3).stride(2).padding(Padding::Same),
            0,
            8,
        ),
        (
            ConvTranspose1d::new(2, 5).stride(2).padding(Padding::Same),
            1,
            8,
        ),
        (
            ConvTranspose1d::new(2, 2).stride(3).padding(Padding::Same),
            0,
            12,
        ),
        (
            ConvTranspose1d::new(2, 3)
                .stride(2)
                .padding(Padding::both(1)),
            1,
            7,
        ),
        (ConvTranspose1d::new(2, 3).stride(2).dilation(2), 0, 11),
    ] {
        let (y, run) = run(&layer, &x);
        let w = run.array("l/w");
        let window = w.shape()[0];
        let (stride, dilation) = match (out, window) {
            (6, _) => (1, 1),
            (11, 3) => (2, 2),
            (11 | 12, 2) => (3, 1),
            _ => (2, 1),
        };
        let mut expected = vec![0.0; 2 * out * 2];
        for (n, s, k) in (0..2 * 4 * window).map(|i| (i / (4 * window), i / window % 4, i % window))
        {
            let place = (s * stride + k * dilation).wrapping_sub(low);
            if place >= out {
                continue;
            }
            for (i, o) in (0..6).map(|i| (i / 2, i % 2)) {
                expected[(n * out + place) * 2 + o] += at(&x, &[n, s, i]) * at(w, &[k, i, o]);
            }
        }
        assert_eq!(y.shape(), [2, out, 2]);
        close(y.floats().unwrap(), &expected, 1e-12);
    }
}

/// Transposition undoes the change of size that a convolution makes, symbolic extents included.
#[test]
fn transposed_sizes_of_symbolic_pictures() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), g.dim("h"), g.dim("w"), 3));
    let cx = Context::training(&g);
    let up = ConvTranspose2d::new(8, 4).stride(2).padding(Padding::Same);
    let y = cx.layer("up", &up, x);
    assert_eq!(y.ty().unwrap().to_string(), "f32[b, 2*h, 2*w, 8]");
    let down = Conv2d::new(3, 4).stride(2).padding(Padding::Same);
    let z = cx.layer("down", &down, y);
    assert_eq!(z.ty().unwrap().to_string(), "f32[b, h, w, 3]");
    let near = cx.layer("near", &Upsample2d::nearest([2, 3]), z);
    assert_eq!(near.ty().unwrap().to_string(), "f32[b, 2*h, 3*w, 3]");
    let smooth = cx.layer("smooth", &Upsample2d::linear(2), z);
    assert_eq!(smooth.ty().unwrap().to_string(), "f32[b, 2*h, 2*w, 3]");
    g.finish().unwrap();
}

#[test]
fn pools_along_any_number_of_axes() {
    let line = floats(DType::F64, &[1, 5, 1], &[3.0, -1.0, 4.0, 1.0, 5.0]);
    let (y, _) = run(&MaxPool1d::new(2), &line);
    assert_eq!(y.floats().unwrap(), [3.0, 4.0]);
    let (y, _) = run(
        &MaxPool1d::new(3).stride(2).padding(Padding::both(1)),
        &line,
    );
    assert_eq!(y.floats().unwrap(), [3.0, 4.0, 5.0]);
    let (y, _) = run(&MaxPool1d::new(2).stride(1).dilation(3), &line);
    assert_eq!(y.floats().unwrap(), [3.0, 5.0]);
    let square = floats(DType::F64, &[1, 2, 2, 1], &[1.0, 2.0, 3.0, 6.0]);
    let mean = AvgPool2d::new(2).stride(1).padding(Padding::Same);
    let (y, _) = run(&mean, &square);
    assert_eq!(y.floats().unwrap(), [3.0, 4.0, 4.5, 6.0]);
    let (y, _) = run(&mean.counting_padding(), &square);
    assert_eq!(y.floats().unwrap(), [3.0, 2.0, 2.25, 1.5]);
    let cube = normal("cube", &[1, 2, 2, 2, 1]);
    let (y, _) = run(&MaxPool3d::new(2), &cube);
    let largest = cube
        .floats()
        .unwrap()
        .iter()
        .copied()
        .fold(f64::MIN, f64::max);
    assert_eq!(y.floats().unwrap(), [largest]);
    let (y, _) = run(&GlobalMaxPool::new(), &cube);
    assert_eq!(
        (y.shape(), y.floats().unwrap()),
        (&[1, 1][..], &[largest][..])
    );
    let (y, _) = run(&GlobalAvgPool::new(), &square);
    assert_eq!(y.floats().unwrap(), [3.0]);
    let (y, _) = run(&GlobalAvgPool::new().layout(Layout::ChannelsFirst), &square);
    // Channels first, this is a picture of one column: two features of two rows.
    assert_eq!(y.floats().unwrap(), [1.5, 4.5]);
}

#[test]
fn upsampling_is_its_formula() {
    let values = [2.0, -1.0, 4.0];
    let line = floats(DType::F64, &[1, 3, 1], &values);
    let (y, _) = run(&Upsample1d::nearest(2), &line);
    assert_eq!(y.floats().unwrap(), [2.0, 2.0, -1.0, -1.0, 4.0, 4.0]);
    for factor in 1..6 {
        let (y, _) = run(&Upsample1d::linear(factor), &line);
        let expected: Vec<f64> = (0..3 * factor)
            .map(|j| {
                let place = ((j as f64 + 0.5) / factor as f64 - 0.5).clamp(0.0, 2.0);
                let (low, share) = (place.floor(), place.fract());
                let next = (low as usize + 1).min(2);
                values[low as usize] * (1.0 - share) + values[next] * share
            })
            .collect();
        close(y.floats().unwrap(), &expected, 1e-12);
    }
    let (y, _) = run(
        &Upsample2d::linear([3, 2]),
        &floats(DType::F64, &[1, 1, 1, 2], &[5.0, 7.0]),
    );
    assert_eq!(y.shape(), [1, 3, 2, 2]);
    assert!(y.floats().unwrap().chunks(2).all(|pair| pair == [5.0, 7.0]));
}

#[test]
fn zeros_stand_where_they_were_asked_for() {
    let square = floats(DType::F64, &[1, 1, 2, 1], &[1.0, 2.0]);
    let (y, _) = run(&ZeroPad2d::edges([(1, 0), (0, 2)]), &square);
    assert_eq!(y.shape(), [1, 2, 4, 1]);
    assert_eq!(
        y.floats().unwrap(),
        [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]
    );
}

#[test]
fn a_convnet_in_one_expression() {
    let model = Sequential::new([28, 28, 1])
        .conv2d(32, 3)
        .relu()
        .max_pool2d(2)
        .conv2d(64, 3)
        .batch_norm()
        .relu()
        .avg_pool2d(2)
        .flatten()
        .dropout(0.5)
        .dense(10);
    let summary = model.summary().unwrap();
    let shapes: Vec<String> = summary.rows.iter().map(|r| r.output.to_string()).collect();
    assert_eq!(shapes[2], "f32[b, 13, 13, 32]");
    assert_eq!(shapes[7], "f32[b, 1600]");
    // Keras counts 34,826 for its convnet; batch normalisation adds 128 that are trained.
    assert_eq!(summary.parameters.constant(), Some(34_826 + 128));
    let deep = Sequential::new([8, 8, 8, 1])
        .conv3d(2, 3)
        .max_pool3d(2)
        .global_avg_pool();
    let summary = deep.summary().unwrap();
    assert_eq!(summary.rows[2].output.to_string(), "f32[b, 2]");
    assert_eq!(Conv1d::new(1, 1).kind(), "conv1d");
    assert_eq!(Conv3d::new(1, 1).kind(), "conv3d");
}
