//! Layers with spatial axes, compiled: a training step of each gives the same bits in every variant and on every number of threads, and what
//! the interpreter gives within rounding.

mod common;

use common::layer::check;
use kiln_ir::{Layout, Padding};
use kiln_nn::{
    AvgPool2d, BatchNorm, Conv1d, Conv2d, Conv3d, ConvTranspose2d, DepthwiseConv2d, GlobalAvgPool,
    GlobalMaxPool, GroupNorm, InstanceNorm, MaxPool2d, SeparableConv2d, Sequential, Upsample2d,
    ZeroPad2d, initialisers::HeNormal,
};

#[test]
fn convolutions() {
    check(&Conv1d::new(5, 3).dilation(2).weight(HeNormal), &[9, 4]);
    check(
        &Conv2d::new(6, [3, 2])
            .stride([2, 1])
            .padding(Padding::Same)
            .groups(2),
        &[7, 6, 4],
    );
    check(&Conv3d::new(3, 2).padding(Padding::both(1)), &[3, 4, 3, 2]);
    check(&Conv2d::new(6, 3).layout(Layout::ChannelsFirst), &[3, 6, 5]);
    check(&DepthwiseConv2d::new(3).multiplier(2), &[6, 5, 3]);
    check(&SeparableConv2d::new(5, 3).stride(2), &[7, 7, 3]);
    check(
        &ConvTranspose2d::new(4, 3).stride(2).padding(Padding::Same),
        &[4, 3, 5],
    );
    check(&ConvTranspose2d::new(4, [2, 3]).stride([3, 1]), &[3, 4, 2]);
}

#[test]
fn pools() {
    check(&MaxPool2d::new(2), &[7, 6, 3]);
    check(
        &MaxPool2d::new(3).stride(2).padding(Padding::Same),
        &[7, 6, 3],
    );
    check(
        &AvgPool2d::new(3).stride(1).padding(Padding::Same),
        &[5, 6, 3],
    );
    check(&GlobalMaxPool::new(), &[5, 6, 3]);
    check(&GlobalAvgPool::new(), &[5, 6, 3]);
}

#[test]
fn sizes() {
    check(&ZeroPad2d::edges([(1, 0), (2, 3)]), &[3, 4, 2]);
    check(&Upsample2d::nearest([2, 3]), &[3, 4, 2]);
    check(&Upsample2d::linear([2, 3]), &[3, 4, 2]);
}

#[test]
fn norms() {
    check(&BatchNorm::new(), &[5, 4, 6]);
    check(&BatchNorm::new().layout(Layout::ChannelsFirst), &[6, 5, 4]);
    check(&BatchNorm::new(), &[6]);
    check(&GroupNorm::new(2), &[5, 4, 6]);
    check(&InstanceNorm::new(), &[5, 4, 6]);
}

/// What stands between layers is fused there, and must not move a bit either.
#[test]
fn blocks_of_layers() {
    let same = |filters| {
        Conv2d::new(filters, 3)
            .padding(Padding::Same)
            .without_bias()
    };
    let block = Sequential::new([8, 8, 3])
        .layer(same(8))
        .batch_norm()
        .relu()
        .max_pool2d(2)
        .layer(same(8))
        .layer(GroupNorm::new(4))
        .relu()
        .layer(Upsample2d::linear(2))
        .layer(same(4))
        .layer(InstanceNorm::new())
        .relu()
        .global_avg_pool()
        .dense(3);
    check(&block, &[8, 8, 3]);
}
