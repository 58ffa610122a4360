//! What the shape rules say where operands do not fit: one message, with a way out.

use kiln_ir::ops::{WindowKind, Windows};
use kiln_ir::{Builder, ConvOptions, DType, Dim, OutOfRange, Padding, PoolOptions, ScatterKind};

#[test]
fn messages_name_the_op_and_the_types() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 3]);
    let i = g.input("i", DType::I32, [4]);
    let s = g.input("s", DType::F64, ());
    let zero = [0_i64, 0].map(Dim::from);
    let _ = x.pad(s, &zero, &zero, &[0, 0]);
    let _ = x.pad(0.0, &[Dim::from(-1), Dim::from(0)], &zero, &[0, 0]);
    let _ = x.concat(g.input("y", DType::F32, [2, 4]), 0);
    let _ = g.concat(&[], 0);
    let _ = x.reverse(&[2]);
    let _ = x.argmax(2);
    let _ = x.gather(0, x, OutOfRange::Clamp);
    let _ = x.scatter(ScatterKind::Add, 1, i, x, OutOfRange::Clamp);
    let _ = x.fma(s, 1.0);
    let _ = x.bitcast(DType::F64);
    let _ = x.require(i, "no bool");
    let _ = g.rng_bits(i, i, [3]);
    let _ = x.eq(x).shl(x.eq(x));
    let messages: Vec<String> = g
        .finish()
        .unwrap_err()
        .0
        .into_iter()
        .map(|d| d.refusal.message)
        .collect();
    assert_eq!(
        messages,
        [
            "`pad` of f32[2, 3] with f64[]",
            "`pad` of f32[2, 3]: axis 0 gets -1 before, 0 behind and 0 between, and none may be negative",
            "`concat` along axis 0 of [2, 3] and, as operand 1, [2, 4]",
            "`concat` takes at least one operand",
            "`reverse` of f32[2, 3] along the axes [2]",
            "`argmax` along axis 2 of f32[2, 3]",
            "`gather` at indices of type f32[2, 3]",
            "`scatter` of f32[2, 3] into f32[2, 3] along axis 1",
            "`fma` of different element types: f32 and f64",
            "`bitcast` of f32, 4 bytes, to f64, 8 bytes",
            "`require` of a condition of type i32[4]",
            "`rng_bits` with a key of type i32[4], not u32[2]",
            "`shl` takes integers, not bool",
        ]
    );
}

/// The message and the way out of each mistake.
fn refused(make: impl Fn(&Builder)) -> Vec<String> {
    let g = Builder::new("m");
    make(&g);
    let mistakes = g.finish().unwrap_err().0.into_iter();
    let said = mistakes.map(|d| match d.refusal.help {
        Some(help) => format!("{}; {help}", d.refusal.message),
        None => d.refusal.message,
    });
    said.collect()
}

#[test]
fn convolutions_that_do_not_fit_say_what_would() {
    let found = refused(|g| {
        let x = g.input("x", DType::F32, (g.dim("b"), 5, g.dim("w"), 6));
        let k = |shape: [i64; 4]| g.splat(DType::F32, shape, 1.0);
        let with = |change: fn(&mut ConvOptions)| {
            let mut options = ConvOptions::default();
            change(&mut options);
            options
        };
        let _ = x.conv(k([7, 1, 6, 2]), &ConvOptions::default());
        let _ = x.conv(
            k([3, 1, 6, 2]),
            &with(|o| {
                o.rhs_dilation = vec![4];
                o.padding = Padding::both(1);
            }),
        );
        let _ = x.conv(k([3, 1, 6, 2]), &with(|o| o.padding = Padding::both(-2)));
        let _ = x.conv(k([3, 3, 6, 2]), &with(|o| o.stride = vec![0]));
        let _ = x.conv(k([3, 3, 6, 2]), &with(|o| o.stride = vec![1, 2, 3]));
        let _ = x.conv(k([3, 3, 6, 2]), &with(|o| o.lhs_dilation = vec![-1, 1]));
        let _ = x.conv(k([3, 3, 6, 4]), &with(|o| o.groups = 4));
        let _ = x.conv(k([3, 3, 3, 5]), &with(|o| o.groups = 2));
        let _ = x.conv(k([3, 3, 6, 4]), &with(|o| o.groups = 2));
        let _ = x.conv(k([3, 3, 6, 4]), &with(|o| o.groups = 0));
        let _ = x.conv(k([3, 3, 5, 4]), &ConvOptions::default());
        let _ = x.conv(k([0, 3, 6, 4]), &ConvOptions::default());
        let _ = x.conv(
            g.splat(DType::F64, [3, 3, 6, 4], 1.0),
            &ConvOptions::default(),
        );
        let _ = x.conv(g.splat(DType::F32, [3, 6, 4], 1.0), &ConvOptions::default());
        let _ = x.sum().conv(k([3, 3, 6, 4]), &ConvOptions::default());
    });
    let expected = [
        "`conv` along spatial axis 0: a window of 7 is larger than the operand of 5; pad by 2 more, or take a window of at most 5",
        "`conv` along spatial axis 0: a window of 3, dilated to 9, is larger than the operand of 5 that is padded and dilated to 7; \
         pad by 2 more, or take a window of at most 2",
        "`conv` along spatial axis 0: a window of 3 is larger than the operand of 5 that is padded and dilated to 1; \
         pad by 2 more, or take a window of at most 1",
        "`conv` along spatial axis 0: the stride is 0, not from 1 to 2^31; 1 visits every position",
        "`conv`: 3 entries of stride for 2 spatial axes; give one for each axis, or one for all",
        "`conv` along spatial axis 0: the dilation of the operand is -1, not from 1 to 2^31; 1 leaves no holes",
        "`conv` in 4 groups: 6 input features of f32[b, 5, w, 6] are no multiple of 4; the number of groups must divide 6",
        "`conv` in 2 groups: 5 output features of f32[3, 3, 3, 5] are no multiple of 2; the number of groups must divide 5",
        "`conv` of 3 input features in each of 2 groups with a kernel of 6; a kernel of shape [3, 3, 3, 4] fits",
        "`conv` in 0 groups; 1 is a convolution without groups",
        "`conv` of 6 input features with a kernel of 5; a kernel of shape [3, 3, 6, 4] fits",
        "`conv` along spatial axis 0: the window has 0 elements; a window has at least 1 element",
        "`conv` of f32 and f64; both sides need the same numeric type; convert one",
        "`conv` of f32[b, 5, w, 6] with a kernel f32[3, 6, 4]; a kernel has as many axes as the operand, in the order spatial axes, \
         input features, output features",
        "`conv` of f32[]; the operand has a batch axis, a feature axis and 1 to 3 spatial axes, such as [b, height, width, features]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn windows_that_do_not_fit_say_what_would() {
    let found = refused(|g| {
        let x = g.input("x", DType::F32, [2, 5, 1]);
        let windows = || Windows::of(&[1, 2, 1]);
        let _ = x.max_pool(&PoolOptions::of(&[6]));
        let _ = x.max_pool(&PoolOptions::of(&[]));
        let _ = x.max_pool(&PoolOptions::of(&[2, 2]));
        let _ = x.mean_pool(&PoolOptions::of(&[0]));
        let _ = x.reduce_window(WindowKind::Max, Windows::of(&[2, 2]));
        let _ = x.reduce_window(WindowKind::Max, Windows::of(&[1, 1 << 32, 1]));
        let _ = x.gt(0.0).reduce_window(WindowKind::Sum, windows());
        let _ = x.gather_window(x, windows());
        let index = x.argmax_window(windows());
        let _ = x.scatter_window(index, [2, 5, 1], windows());
        let _ = x.gather_window(index, Windows::of(&[1, 3, 1]));
    });
    let expected = [
        "`reduce_window` along axis 1: a window of 6 is larger than the operand of 5; pad by 1 more, or take a window of at most 5",
        "`reduce_window` without a window; give the window's extents, such as [2, 2]",
        "`reduce_window`: 2 entries of window for 1 spatial axes; give one for each axis, or one for all",
        "`reduce_window` along axis 1: the stride is 0, not from 1 to 2^31; 1 visits every position",
        "`reduce_window` of shape [2, 5, 1] over windows of 2 axes; a window has an entry for each axis of the operand, 1 where it \
         leaves the axis alone",
        "`reduce_window` along axis 1: a window of 4294967296 is larger than the operand of 5; pad by 4294967291 more, or take a \
         window of at most 5",
        "`reduce_window` of bool; convert the operand to u8 first",
        "`gather_window` at indices of type f32[2, 5, 1]; these windows over [2, 5, 1] have indices of type u8[2, 4, 1], as \
         `argmax_window` gives them",
        "`scatter_window` of f32[2, 5, 1] into [2, 5, 1]; these windows have the positions [2, 4, 1]",
        "`gather_window` at indices of type u8[2, 4, 1]; these windows over [2, 5, 1] have indices of type u8[2, 3, 1], as \
         `argmax_window` gives them",
    ];
    assert_eq!(found, expected);
}
