//! Mistakes with convolutions, pools, paddings, upsamplings and normalisations: one message each, at the line that added the layer.

use kiln_ir::{Builder, DType, Dim, Padding, Shape};
use kiln_nn::{
    AvgPool1d, BatchNorm, Context, Conv1d, Conv2d, ConvTranspose2d, DepthwiseConv2d, GlobalAvgPool,
    GroupNorm, InstanceNorm, Layer, Layout, MaxPool2d, SeparableConv2d, Sequential, Upsample2d,
    ZeroPad2d,
};

/// The only mistake of `layer`, applied to f32 pictures of 8 x 8 with 16 features and a symbolic batch.
#[track_caller]
fn only(layer: impl Layer + Send + Sync + 'static) -> String {
    on(DType::F32, [8, 8, 16].into(), layer)
}

#[track_caller]
fn on(dtype: DType, features: Shape, layer: impl Layer + Send + Sync + 'static) -> String {
    // Further layers say nothing about what went wrong before them.
    let model = Sequential::new(features).layer(layer).relu();
    let here = std::panic::Location::caller();
    let g = Builder::new("m");
    let input = model.input_type(dtype);
    let x = g.input("x", input.dtype, &input.shape);
    g.output("y", model.apply(&Context::training(&g), x));
    let found = g.finish().expect_err("the layer does not fit").0;
    assert_eq!(found.len(), 1, "{found:?}");
    let at = &found[0].location;
    assert_eq!(
        (&*at.file, at.line),
        (here.file(), here.line()),
        "{}",
        found[0]
    );
    let text = found[0].to_string();
    assert!(text.contains("help: "), "no way out: {text}");
    text
}

#[test]
fn windows_that_do_not_fit() {
    let text = only(Conv2d::new(4, [9, 3]));
    assert!(
        text.contains("a window of 9 is larger than the operand of 8"),
        "{text}"
    );
    assert!(text.contains("in \"conv2d_1\""), "{text}");
    let text = only(Conv2d::new(4, 3).dilation(5));
    assert!(
        text.contains("a window of 3, dilated to 11, is larger"),
        "{text}"
    );
    let text = only(MaxPool2d::new(9));
    assert!(
        text.contains("a window of 9 is larger than the operand of 8"),
        "{text}"
    );
    let text = only(Conv2d::new(4, 0));
    assert!(text.contains("the window has 0 elements"), "{text}");
    let text = only(DepthwiseConv2d::new([3, 9]));
    assert!(
        text.contains("a window of 9 is larger than the operand of 8"),
        "{text}"
    );
    let text = only(SeparableConv2d::new(4, 9));
    assert!(
        text.contains("in \"separable_conv2d_1/depthwise\""),
        "{text}"
    );
}

#[test]
fn strides_paddings_and_factors() {
    let text = only(Conv2d::new(4, 3).stride(0));
    assert!(text.contains("the stride is 0"), "{text}");
    let text = only(Conv2d::new(4, 3).stride([1, -2]).padding(Padding::Same));
    assert!(text.contains("the stride is -2"), "{text}");
    let text = only(MaxPool2d::new(2).stride(0));
    assert!(text.contains("the stride is 0"), "{text}");
    let text = only(ConvTranspose2d::new(4, 3).stride([0, 1]));
    assert!(
        text.contains("`conv_transpose2d` with a stride of [0, 1]"),
        "{text}"
    );
    let three = Padding::Explicit(vec![(Dim::from(1), Dim::from(1)); 3]);
    let text = only(Conv2d::new(4, 3).padding(three.clone()));
    assert!(
        text.contains("3 entries of padding for 2 spatial axes"),
        "{text}"
    );
    let text = only(ConvTranspose2d::new(4, 3).padding(three));
    assert!(text.contains("with 3 entries of padding"), "{text}");
    let text = only(Upsample2d::nearest([2, 0]));
    assert!(
        text.contains("`upsample2d` by a factor of [2, 0]"),
        "{text}"
    );
    let model = Sequential::new([8, 8, 16]).layer(ZeroPad2d::new(-1));
    assert!(
        model
            .summary()
            .unwrap_err()
            .to_string()
            .contains("none may be negative")
    );
    let text = on(DType::I32, [8, 8, 1].into(), Upsample2d::linear(2));
    assert!(
        text.contains("`upsample2d` with means of i32[b, 8, 8, 1]"),
        "{text}"
    );
}

#[test]
fn groups_that_do_not_divide() {
    let text = only(Conv2d::new(6, 3).groups(3));
    assert!(
        text.contains("`conv2d` in 3 groups of 16 input features"),
        "{text}"
    );
    let text = only(Conv2d::new(6, 3).groups(4));
    assert!(text.contains("6 output features"), "{text}");
    let text = only(Conv2d::new(6, 3).groups(0));
    assert!(text.contains("`conv2d` in 0 groups"), "{text}");
    let text = only(GroupNorm::new(3));
    assert!(
        text.contains("`group_norm` in 3 groups of 16 features"),
        "{text}"
    );
}

#[test]
fn other_numbers_of_axes() {
    let text = only(Conv1d::new(4, 3));
    assert!(text.contains("`conv1d` of f32[b, 8, 8, 16]"), "{text}");
    assert!(
        text.contains("help: it takes tensors of shape [b, length, features]"),
        "{text}"
    );
    let text = on(DType::F32, [784].into(), Conv2d::new(4, 3));
    assert!(
        text.contains("shape [b, height, width, features]"),
        "{text}"
    );
    let first = MaxPool2d::new(2).layout(Layout::ChannelsFirst);
    let text = on(DType::F32, [784].into(), first);
    assert!(
        text.contains("shape [b, features, height, width]"),
        "{text}"
    );
    let text = only(AvgPool1d::new(2));
    assert!(text.contains("`avg_pool1d` of f32[b, 8, 8, 16]"), "{text}");
    let text = on(DType::F32, [784].into(), GlobalAvgPool::new());
    assert!(text.contains("`global_avg_pool` of f32[b, 784]"), "{text}");
    let text = on(DType::F32, [784].into(), InstanceNorm::new());
    assert!(
        text.contains("it needs spatial axes between batch and features"),
        "{text}"
    );
    let text = on(DType::F32, ().into(), BatchNorm::new());
    assert!(text.contains("`batch_norm` of f32[b]"), "{text}");
}

#[test]
fn features_must_be_counted_and_norms_floating() {
    let symbolic: Shape = (8, 8, Dim::symbol("c")).into();
    let text = on(DType::F32, symbolic.clone(), Conv2d::new(4, 3));
    assert!(
        text.contains("`conv2d` needs a fixed number of features on axis 3"),
        "{text}"
    );
    let text = on(DType::F32, symbolic, BatchNorm::new());
    assert!(
        text.contains("`batch_norm` needs a fixed number of features on axis 3"),
        "{text}"
    );
    let text = on(DType::I32, [8].into(), BatchNorm::new());
    assert!(text.contains("it takes floating tensors"), "{text}");
}

#[test]
fn settings_of_norms() {
    let text = only(BatchNorm::new().momentum(1.5));
    assert!(
        text.contains("`batch_norm` with momentum 1.5 and epsilon 0.001"),
        "{text}"
    );
    let text = only(BatchNorm::new().epsilon(f64::NAN));
    assert!(text.contains("epsilon NaN"), "{text}");
    let text = only(GroupNorm::new(4).epsilon(-1.0));
    assert!(
        text.contains("`group_norm` with an epsilon of -1"),
        "{text}"
    );
}
