//! Windows: pools and their parts, on plain numbers and in the odd cases.

use crate::{evaluate, f32s, floats, ints, own_shapes, result};
use kiln_ir::ops::{WindowAxis, WindowKind, Windows};
use kiln_ir::{Array, Builder, DType, Dim, Padding, PoolOptions, Shape, Tensor};

/// A window of `size` along the only axis: stride, low, high, dilation of the operand, dilation of the window.
fn row(size: i64, [stride, low, high, base, window]: [i64; 5]) -> Windows {
    Windows {
        sizes: vec![size],
        axes: vec![WindowAxis {
            stride,
            low: Dim::from(low),
            high: Dim::from(high),
            base_dilation: base,
            window_dilation: window,
        }],
    }
}

fn reduced(x: &Array, kind: WindowKind, windows: &Windows) -> Array {
    result(std::slice::from_ref(x), |_, t| {
        t[0].reduce_window(kind, windows.clone())
    })
}

fn positions(x: &Array, windows: &Windows) -> Array {
    result(std::slice::from_ref(x), |_, t| {
        t[0].argmax_window(windows.clone())
    })
}

#[test]
fn sums_and_extremes_of_windows() {
    let x = f32s(&[6], &[3.0, 1.0, 4.0, 1.0, 5.0, 9.0]);
    let sum = |size, axis| {
        let found = reduced(&x, WindowKind::Sum, &row(size, axis));
        found.floats().unwrap().to_vec()
    };
    assert_eq!(sum(2, [1, 0, 0, 1, 1]), [4.0, 5.0, 5.0, 6.0, 14.0]);
    assert_eq!(sum(3, [2, 1, 0, 1, 1]), [4.0, 6.0, 15.0]);
    assert_eq!(sum(3, [1, 0, 0, 1, 2]), [12.0, 11.0]);
    // Holes: 3 _ 1 _ 4 _ 1 _ 5 _ 9
    assert_eq!(
        sum(2, [1, 0, 0, 2, 1]),
        [3.0, 1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 5.0, 5.0, 9.0]
    );
    // Elements are taken away at both edges.
    assert_eq!(sum(2, [1, -1, -2, 1, 1]), [5.0, 5.0]);
    let max = reduced(&x, WindowKind::Max, &row(2, [2, 1, 1, 1, 1]));
    assert_eq!(max, f32s(&[4], &[3.0, 4.0, 5.0, 9.0]));
    let min = reduced(&x, WindowKind::Min, &row(2, [2, 1, 1, 1, 1]));
    assert_eq!(min, f32s(&[4], &[3.0, 1.0, 1.0, 9.0]));
    let whole = ints(DType::I8, &[3], &[100, 100, -100]);
    let wrapped = reduced(&whole, WindowKind::Sum, &row(2, [1, 0, 0, 1, 1]));
    assert_eq!(wrapped, ints(DType::I8, &[2], &[-56, 0]));
}

#[test]
fn windows_of_nothing_and_of_nan() {
    let x = floats(DType::F64, &[3], &[1.0, f64::NAN, 2.0]);
    let apart = row(1, [1, 1, 1, 1, 1]);
    for (kind, nothing) in [
        (WindowKind::Sum, 0.0),
        (WindowKind::Max, f64::NEG_INFINITY),
        (WindowKind::Min, f64::INFINITY),
    ] {
        let found = reduced(&x, kind, &apart);
        let found = found.floats().unwrap();
        assert_eq!((found[0], found[4]), (nothing, nothing));
        assert!(found[2].is_nan());
    }
    let unsigned = ints(DType::U64, &[1], &[-1]);
    let least = reduced(&unsigned, WindowKind::Max, &apart);
    assert_eq!(least, ints(DType::U64, &[3], &[0, -1, 0]));
    assert_eq!(
        reduced(&unsigned, WindowKind::Min, &apart),
        ints(DType::U64, &[3], &[-1, -1, -1])
    );
}

#[test]
fn the_first_extreme_and_the_first_nan_of_a_window_are_found() {
    let nan = f64::NAN;
    let x = f32s(&[8], &[1.0, 3.0, 3.0, nan, 9.0, nan, -0.0, 0.0]);
    // Numbers count the padding before the first element too.
    assert_eq!(
        positions(&x, &row(3, [1, 1, 0, 1, 1])),
        ints(DType::U8, &[7], &[2, 1, 2, 1, 0, 1, 0])
    );
    assert_eq!(
        positions(&x, &row(2, [6, 0, 0, 1, 1])),
        ints(DType::U8, &[2], &[1, 0])
    );
    // Nothing is met: 0.
    assert_eq!(
        positions(&f32s(&[1], &[1.0]), &row(1, [1, 1, 1, 1, 1])),
        ints(DType::U8, &[3], &[0, 0, 0])
    );
    let wide = positions(&f32s(&[300], &[0.0; 300]), &row(257, [257, 0, 0, 1, 1]));
    assert_eq!(wide, ints(DType::U32, &[1], &[0]));
}

#[test]
fn indices_gather_and_scatter_within_windows() {
    let x = f32s(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let index = ints(DType::U8, &[3], &[0, 1, 7]);
    let windows = row(2, [2, 1, 1, 1, 1]);
    // The first index meets padding and the last is no element of the window.
    let shapes = own_shapes(&[x.clone(), index.clone()]);
    let gathered = evaluate(&[x, index.clone()], &shapes, |_, t| {
        t[0].gather_window(t[1], windows.clone())
    });
    assert_eq!(gathered, Ok(f32s(&[3], &[0.0, 3.0, 0.0])));
    let values = f32s(&[3], &[10.0, 20.0, 30.0]);
    let shapes = own_shapes(&[values.clone(), index.clone()]);
    let scattered = evaluate(&[values, index], &shapes, |_, t| {
        t[0].scatter_window(t[1], [4], windows.clone())
    });
    assert_eq!(scattered, Ok(f32s(&[4], &[0.0, 0.0, 20.0, 0.0])));
    // Overlapping windows add up.
    let ones = f32s(&[3], &[1.0, 2.0, 4.0]);
    let same = ints(DType::U8, &[3], &[1, 0, 1]);
    let shapes = own_shapes(&[ones.clone(), same.clone()]);
    let scattered = evaluate(&[ones, same], &shapes, |_, t| {
        t[0].scatter_window(t[1], [4], row(2, [1, 0, 0, 1, 1]))
    });
    assert_eq!(scattered, Ok(f32s(&[4], &[0.0, 3.0, 0.0, 4.0])));
}

#[test]
fn the_first_maximum_takes_the_whole_cotangent() {
    let g = Builder::new("ties");
    let x = g.param_of("x", DType::F64, [1, 2, 2, 1], kiln_ir::Init::zeros());
    let pooled = x.max_pool(&PoolOptions::of(&[2]));
    g.output("dx", kiln_ir::grad(pooled.sum(), &[x])[0]);
    let graph = g.finish().unwrap();
    for (values, expected) in [
        ([1.0, 7.0, 7.0, 7.0], [0.0, 1.0, 0.0, 0.0]),
        ([1.0, 7.0, f64::NAN, f64::NAN], [0.0, 0.0, 1.0, 0.0]),
        ([-0.0, 0.0, 0.0, -0.0], [1.0, 0.0, 0.0, 0.0]),
    ] {
        let step = kiln_ir::eval(&graph, |_| Some(floats(DType::F64, &[1, 2, 2, 1], &values)));
        assert_eq!(step.unwrap().outputs[0].floats().unwrap(), expected);
    }
}

/// Pools of one row, 1 to 5, with the extent symbolic as well.
fn pooled(
    options: &PoolOptions,
    pool: for<'g> fn(Tensor<'g>, &PoolOptions) -> Tensor<'g>,
) -> Vec<f64> {
    let x = f32s(&[1, 5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let run = |shape: Shape| {
        let made = evaluate(std::slice::from_ref(&x), &[shape], |_, t| {
            pool(t[0], options)
        });
        made.unwrap().floats().unwrap().to_vec()
    };
    let plain = run(Shape::from([1, 5, 1]));
    assert_eq!(run((Dim::symbol("b"), Dim::symbol("w"), 1).into()), plain);
    plain
}

#[test]
fn means_count_padding_only_when_asked() {
    let mut options = PoolOptions {
        padding: Padding::Same,
        stride: vec![2],
        ..PoolOptions::of(&[3])
    };
    let mean = |options: &PoolOptions| pooled(options, |x, o| x.mean_pool(o));
    assert_eq!(mean(&options), [1.5, 3.0, 4.5]);
    options.count_include_pad = true;
    assert_eq!(mean(&options), [1.0, 3.0, 3.0]);
    options.padding = Padding::Valid;
    assert_eq!(mean(&options), [2.0, 4.0]);
    options.count_include_pad = false;
    assert_eq!(mean(&options), [2.0, 4.0]);
    options.stride = Vec::new();
    assert_eq!(pooled(&options, |x, o| x.max_pool(o)), [3.0]);
}

#[test]
fn same_padding_is_that_of_tensorflow() {
    // ceil(5 / stride) positions, the odd element of padding at the high edge.
    let max = |window: i64, stride: i64, dilation: i64| {
        let options = PoolOptions {
            padding: Padding::Same,
            stride: vec![stride],
            dilation: vec![dilation],
            ..PoolOptions::of(&[window])
        };
        pooled(&options, |x, o| x.pool(WindowKind::Sum, o))
    };
    assert_eq!(max(2, 1, 1), [3.0, 5.0, 7.0, 9.0, 5.0]);
    assert_eq!(max(4, 2, 1), [6.0, 14.0, 9.0]);
    assert_eq!(max(1, 3, 1), [1.0, 4.0]);
    assert_eq!(max(2, 4, 1), [3.0, 5.0]);
    assert_eq!(max(3, 2, 2), [4.0, 9.0, 8.0]);
}

#[test]
fn same_padding_of_symbolic_extents_gives_one_extent_for_each_stride() {
    let g = Builder::new("same");
    let h = g.dim("h");
    for (extent, expected) in [
        (h.clone(), "floordiv(h + 1, 2)"),
        (h.clone() * 2, "h"),
        (h.clone() * 2 + 1, "floordiv(2*h + 2, 2)"),
    ] {
        let x = g.input(&extent.to_string(), DType::F32, (1, extent, 1));
        for window in [1, 2, 3, 7] {
            let options = PoolOptions {
                padding: Padding::Same,
                stride: vec![2],
                ..PoolOptions::of(&[window])
            };
            let ty = x.max_pool(&options).ty().unwrap();
            let expected: Dim = expected.parse().unwrap();
            assert_eq!(ty.shape[1], expected, "{window}");
        }
    }
    assert!(g.finish().is_ok());
}
