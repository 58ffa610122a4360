//! The layers, one file a subject. Each is a plain value; [`Context::layer`](crate::Context::layer) applies it.

mod activation;
mod conv;
mod dense;
mod dropout;
mod flatten;
mod norm;
mod pool;
mod resize;
mod spatial;

pub use activation::{Activation, log_softmax, relu, softmax};
pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    DepthwiseConv, DepthwiseConv1d, DepthwiseConv2d, DepthwiseConv3d, SeparableConv,
    SeparableConv1d, SeparableConv2d, SeparableConv3d,
};
pub use dense::Dense;
pub use dropout::{Dropout, dropout};
pub use flatten::Flatten;
pub use norm::{BatchNorm, GroupNorm, InstanceNorm};
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, GlobalAvgPool, GlobalMaxPool, MaxPool, MaxPool1d,
    MaxPool2d, MaxPool3d,
};
pub use resize::{
    Upsample, Upsample1d, Upsample2d, Upsample3d, ZeroPad, ZeroPad1d, ZeroPad2d, ZeroPad3d,
};
pub use spatial::PerAxis;
