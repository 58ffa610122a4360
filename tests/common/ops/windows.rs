//! Convolutions and windows, with the shapes that they fit.

use kiln_ir::ops::{ArgKind, ArgWindow, Conv, ConvGroups, Op, WindowAxis, Windows};
use kiln_ir::{DType, Dim, TensorType};

/// Of the stride, the low and high edge, the dilation of the operand and that of the window.
fn axis([stride, low, high, base_dilation, window_dilation]: [i64; 5]) -> WindowAxis {
    WindowAxis {
        stride,
        low: Dim::from(low),
        high: Dim::from(high),
        base_dilation,
        window_dilation,
    }
}

/// Convolutions with the shapes of operand and kernel.
pub fn convolutions() -> Vec<(Conv, &'static [&'static str], &'static [&'static str])> {
    let conv = |dims: &str, window: &[[i64; 5]]| Conv {
        axes: dims.parse().expect("axes"),
        window: window.iter().map(|w| axis(*w)).collect(),
        reverse: false,
        groups: ConvGroups::default(),
        accumulate: None,
    };
    let grouped = |groups, conv| Conv { groups, ..conv };
    let reversed = |conv| Conv {
        reverse: true,
        ..conv
    };
    let unit = [1, 0, 0, 1, 1];
    vec![
        (
            conv("b0f_0io->b0f", &[unit]),
            &["b", "7", "3"],
            &["3", "3", "5"],
        ),
        (
            conv("b01f_01io->b01f", &[[1, 1, 1, 1, 1]; 2]),
            &["b", "6", "5", "3"],
            &["3", "3", "3", "17"],
        ),
        (
            conv("bf01_oi01->bf01", &[[2, 1, 0, 1, 1], [1, 0, 2, 1, 2]]),
            &["b", "2", "6", "5"],
            &["4", "2", "3", "2"],
        ),
        // The adjoints of a strided convolution.
        (
            reversed(conv("b01f_01oi->b01f", &[[1, 2, 1, 2, 1]; 2])),
            &["b", "3", "3", "4"],
            &["3", "3", "2", "4"],
        ),
        (
            conv("f01b_i01o->01bf", &[[1, 0, 1, 1, 2]; 2]),
            &["b", "6", "6", "2"],
            &["b", "3", "3", "4"],
        ),
        (
            conv("b01f_01io->b01f", &[unit; 2]),
            &["b", "4", "4", "8"],
            &["1", "1", "8", "8"],
        ),
        (
            grouped(
                ConvGroups::features(6),
                conv("b01f_01io->b01f", &[[1, 1, 1, 1, 1]; 2]),
            ),
            &["b", "5", "4", "6"],
            &["3", "3", "1", "6"],
        ),
        (
            grouped(
                ConvGroups::features(2),
                conv("b0f_0io->b0f", &[[2, -1, 3, 1, 1]]),
            ),
            &["b", "9", "4"],
            &["2", "2", "6"],
        ),
        (
            grouped(
                ConvGroups::batches(2),
                conv("f0b_i0o->0bf", &[[1, 1, 1, 1, 1]]),
            ),
            &["b", "5", "4"],
            &["b", "5", "6"],
        ),
        (
            conv("b012f_012io->b012f", &[[1, 1, 0, 1, 1]; 3]),
            &["b", "3", "2", "4", "2"],
            &["2", "2", "2", "2", "3"],
        ),
        // The spatial extent is a symbol.
        (
            conv("b0f_0io->b0f", &[[2, 2, 2, 1, 1]]),
            &["2", "b", "3"],
            &["3", "3", "4"],
        ),
    ]
}

/// Windows over `[b, 5]` that fit for every `b`.
pub fn windows() -> Vec<Windows> {
    let windows = |sizes: [i64; 2], axes: [[i64; 5]; 2]| Windows {
        sizes: sizes.to_vec(),
        axes: axes.map(axis).to_vec(),
    };
    let unit = [1, 0, 0, 1, 1];
    vec![
        windows([1, 2], [unit, [2, 0, 0, 1, 1]]),
        windows([1, 3], [unit, [2, 1, 1, 1, 1]]),
        windows([2, 3], [[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]]),
        windows([3, 2], [[2, 1, 1, 1, 1], [1, 0, 1, 1, 2]]),
        // Holes, and windows that meet nothing.
        windows([2, 2], [[1, 1, 1, 2, 1], [3, 2, 2, 2, 1]]),
        windows([1, 2], [unit, [1, -1, -1, 1, 1]]),
    ]
}

/// The type of indices into windows over `x`.
pub fn indices(windows: &Windows, x: &TensorType) -> Option<TensorType> {
    let windows = windows.clone();
    let kind = ArgKind::Max;
    let numeric = x.with_dtype(DType::F32);
    let arg = Op::from(ArgWindow { kind, windows });
    arg.rules().infer(&[&numeric]).ok()
}
