//! Convolutions and windows, over tables of strides, paddings, dilations, groups, layouts and ranks.

use crate::check::Case;
use kiln_ir::ops::{Conv, ConvGroups, DataRole, KernelRole, WindowAxis, WindowKind, Windows};
use kiln_ir::{ConvOptions, DType, Dim, Layout, Padding, PoolOptions};

const RANGE: (f64, f64) = (-1.0, 1.0);

/// stride, low, high, dilation of the operand, dilation of the window
type Row = [i64; 5];

/// One axis of 5 elements and a window of 3, whose every row leaves positions.
const ROWS: [Row; 14] = [
    [1, 0, 0, 1, 1],
    [1, 1, 1, 1, 1],
    [2, 0, 0, 1, 1],
    // Elements are left over behind the last position.
    [2, 1, 0, 1, 1],
    [3, 2, 1, 1, 1],
    [5, 2, 2, 1, 1],
    [1, 0, 1, 2, 1],
    [2, 1, 2, 3, 1],
    [1, 0, 0, 1, 2],
    [2, 3, 2, 1, 3],
    [3, 1, 2, 2, 2],
    // Elements are taken away at either edge, and at both.
    [1, -1, 2, 1, 1],
    [2, 1, -2, 2, 1],
    [1, -1, -1, 1, 1],
];

fn axis([stride, low, high, base_dilation, window_dilation]: Row) -> WindowAxis {
    WindowAxis {
        stride,
        low: Dim::from(low),
        high: Dim::from(high),
        base_dilation,
        window_dilation,
    }
}

fn conv(dims: &str, window: Vec<WindowAxis>) -> Conv {
    Conv {
        axes: dims.parse().unwrap(),
        window,
        reverse: false,
        groups: ConvGroups::default(),
        accumulate: None,
    }
}

fn case(shapes: &[&[i64]; 2], conv: Conv) -> Case {
    Case::new("conv", shapes, RANGE, move |p| {
        p[0].builder().push(conv.clone(), p).sin()
    })
}

pub(crate) fn convolutions() -> Vec<Case> {
    let mut all = Vec::new();
    for row in ROWS {
        for reverse in [false, true] {
            let plain = conv("b0f_0io->b0f", vec![axis(row)]);
            all.push(case(&[&[1, 5, 2], &[3, 2, 1]], Conv { reverse, ..plain }));
        }
    }
    // Two different rows along two axes, in layouts that share no order.
    for (i, row) in ROWS.into_iter().enumerate() {
        let other = ROWS[(i + 5) % ROWS.len()];
        let (dims, lhs, rhs): (_, [i64; 4], [i64; 4]) = [
            ("b01f_01io->b01f", [1, 5, 5, 1], [3, 3, 1, 1]),
            ("bf01_oi01->bf01", [1, 1, 5, 5], [1, 1, 3, 3]),
            ("f1b0_0o1i->10bf", [1, 5, 1, 5], [3, 1, 3, 1]),
        ][i % 3];
        let window = vec![axis(row), axis(other)];
        all.push(case(&[&lhs, &rhs], conv(dims, window)));
    }
    let unit = WindowAxis::default();
    let spatial = vec![axis(ROWS[2]), unit.clone(), axis(ROWS[8])];
    all.push(case(
        &[&[1, 5, 2, 5, 1], &[3, 1, 3, 1, 2]],
        conv("b012f_012io->b012f", spatial.clone()),
    ));
    all.push(case(
        &[&[1, 1, 5, 2, 5], &[1, 1, 3, 2, 3]],
        conv("bf012_oi012->bf012", spatial),
    ));
    all.push(case(
        &[&[2, 3, 2], &[1, 2, 3]],
        conv("b0f_0io->b0f", vec![unit]),
    ));
    all.extend(groups());
    all.extend(symbolic());
    all.extend(options());
    all
}

/// Two groups in all places that they can have, and depthwise convolutions.
fn groups() -> Vec<Case> {
    let mut all = Vec::new();
    let data = [DataRole::Batch, DataRole::Feature];
    for (lhs, out) in data.into_iter().flat_map(|l| data.map(|o| (l, o))) {
        for rhs in [KernelRole::Input, KernelRole::Output] {
            for reverse in [false, true] {
                let groups = ConvGroups {
                    count: 2,
                    lhs,
                    rhs,
                    out,
                };
                let (batch, input, output) = (1, 2, 1);
                let (mut l, mut r) = ([batch, 4, input], [2, input, output]);
                l[if lhs == DataRole::Batch { 0 } else { 2 }] *= 2;
                r[if rhs == KernelRole::Input { 1 } else { 2 }] *= 2;
                let plain = conv("b0f_0io->b0f", vec![axis([2, 1, 0, 1, 1])]);
                all.push(case(
                    &[&l, &r],
                    Conv {
                        reverse,
                        groups,
                        ..plain
                    },
                ));
            }
        }
    }
    for row in [ROWS[2], ROWS[6], ROWS[9]] {
        let plain = conv("b0f_0io->b0f", vec![axis(row)]);
        let groups = ConvGroups::features(3);
        all.push(case(&[&[1, 5, 3], &[3, 1, 6]], Conv { groups, ..plain }));
    }
    all
}

/// Extents that are no numbers: each gradient must find the shape of its operand back.
fn symbolic() -> Vec<Case> {
    let mut all = Vec::new();
    for row in ROWS {
        for reverse in [false, true] {
            let plain = conv("b0f_0io->b0f", vec![axis(row)]);
            let case = case(&[&[2, 5, 1], &[3, 1, 1]], Conv { reverse, ..plain });
            all.push(case.declared(&[&["b", "h", "c"], &["k", "c", "o"]]));
        }
    }
    for stride in [1, 2, 3] {
        for size in [1, 2, 3] {
            for (extent, declared) in [(5, "h"), (6, "2*h"), (5, "2*h - 1")] {
                let options = ConvOptions {
                    stride: vec![stride],
                    padding: Padding::Same,
                    ..ConvOptions::default()
                };
                let build = Case::new("conv", &[&[1, extent, 1], &[size, 1, 1]], RANGE, move |p| {
                    p[0].conv(p[1], &options).sin()
                });
                let size = size.to_string();
                all.push(build.declared(&[&["b", declared, "1"], &[&size, "1", "1"]]));
            }
        }
    }
    let grouped = Conv {
        groups: ConvGroups::features(2),
        ..conv("b0f_0io->b0f", vec![axis(ROWS[4])])
    };
    let grouped = case(&[&[1, 5, 4], &[3, 2, 2]], grouped);
    all.push(grouped.declared(&[&["b", "h", "2*c"], &["3", "c", "2*o"]]));
    all
}

fn options() -> Vec<Case> {
    let mut all = Vec::new();
    for layout in [Layout::ChannelsLast, Layout::ChannelsFirst] {
        for padding in [Padding::Valid, Padding::Same, Padding::both(2)] {
            let shapes: [&[i64]; 2] = match layout {
                Layout::ChannelsLast => [&[1, 4, 3, 2], &[2, 3, 1, 2]],
                Layout::ChannelsFirst => [&[1, 2, 4, 3], &[2, 1, 2, 3]],
            };
            let options = ConvOptions {
                stride: vec![2, 1],
                padding,
                groups: 2,
                layout,
                accumulate: Some(DType::F64),
                ..ConvOptions::default()
            };
            all.push(Case::new("conv", &shapes, RANGE, move |p| {
                p[0].conv(p[1], &options).sin()
            }));
        }
    }
    // A transposed convolution.
    let options = ConvOptions {
        lhs_dilation: vec![2],
        padding: Padding::both(1),
        reverse: true,
        ..ConvOptions::default()
    };
    all.push(
        Case::new("conv", &[&[1, 3, 2], &[3, 2, 1]], RANGE, move |p| {
            p[0].conv(p[1], &options).sin()
        })
        .declared(&[&["b", "h", "2"], &["3", "2", "1"]]),
    );
    all
}

/// Windows of one row along the first axis, of two elements along the second.
fn windows(row: Row) -> Windows {
    Windows {
        sizes: vec![3, 2],
        axes: vec![axis(row), WindowAxis::default()],
    }
}

/// Whether a window of 3 over 5 elements has a position at which it meets none of them.
fn meets_nothing([stride, low, high, base, window]: Row) -> bool {
    let room = low + 4 * base + high - 2 * window;
    let meets = |s: i64, k: i64| {
        let place = s * stride + k * window - low;
        place % base == 0 && (0..5).contains(&(place / base)) && place >= 0
    };
    (0..=room / stride).any(|s| (0..3).all(|k| !meets(s, k)))
}

const KINDS: [(&str, WindowKind); 3] = [
    ("reduce_window sum", WindowKind::Sum),
    ("reduce_window max", WindowKind::Max),
    ("reduce_window min", WindowKind::Min),
];

pub(crate) fn pools() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, kind) in KINDS {
        for row in ROWS {
            // A maximum of nothing is infinite.
            if kind != WindowKind::Sum && meets_nothing(row) {
                continue;
            }
            let case = move || {
                Case::new(name, &[&[5, 3]], RANGE, move |p| {
                    p[0].reduce_window(kind, windows(row)).exp()
                })
            };
            all.push(case());
            all.push(case().declared(&[&["h", "w"]]));
        }
        for layout in [Layout::ChannelsLast, Layout::ChannelsFirst] {
            let options = PoolOptions {
                padding: Padding::Same,
                layout,
                ..PoolOptions::of(&[2, 3])
            };
            all.push(
                Case::new(name, &[&[1, 3, 4, 2]], RANGE, move |p| {
                    p[0].pool(kind, &options).exp()
                })
                .declared(&[&["b", "3", "w", "c"]]),
            );
        }
    }
    for (count_include_pad, padding) in [
        (false, Padding::Same),
        (true, Padding::Same),
        (false, Padding::Valid),
        (false, Padding::both(1)),
    ] {
        let options = PoolOptions {
            padding,
            stride: vec![2],
            count_include_pad,
            ..PoolOptions::of(&[3])
        };
        all.push(
            Case::new("reduce_window sum", &[&[2, 5, 1]], RANGE, move |p| {
                p[0].mean_pool(&options).exp()
            })
            .declared(&[&["b", "h", "1"]]),
        );
    }
    for row in ROWS {
        all.push(Case::new("gather_window", &[&[5, 3]], RANGE, move |p| {
            let index = p[0].argmin_window(windows(row));
            p[0].square().gather_window(index, windows(row)).exp()
        }));
        all.push(Case::new("scatter_window", &[&[5, 3]], RANGE, move |p| {
            let index = p[0].argmax_window(windows(row));
            let values = p[0].reduce_window(WindowKind::Sum, windows(row));
            values.scatter_window(index, [5, 3], windows(row)).exp()
        }));
    }
    all
}
