//! The layers, one file a subject. Each is a plain value; [`Context::layer`](crate::Context::layer) applies it.

mod activation;
mod attention;
mod conv;
mod dense;
mod dropout;
mod embedding;
mod flatten;
mod noise;
mod norm;
mod pool;
mod recurrent;
mod resize;
mod spatial;
mod transformer;

pub use activation::{Activation, gelu, gelu_tanh, log_softmax, relu, silu, softmax};
pub use attention::{
    AttentionOptions, AttentionSchedule, Memory, MultiHeadAttention, attention, rotary,
};
pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    DepthwiseConv, DepthwiseConv1d, DepthwiseConv2d, DepthwiseConv3d, SeparableConv,
    SeparableConv1d, SeparableConv2d, SeparableConv3d,
};
pub use dense::Dense;
pub use dropout::{Dropout, dropout};
pub use embedding::{Embedding, LearnedPositions};
pub use flatten::Flatten;
pub use noise::{GaussianNoise, SpatialDropout, StochasticDepth};
pub use norm::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, GlobalAvgPool, GlobalMaxPool, MaxPool, MaxPool1d,
    MaxPool2d, MaxPool3d,
};
pub use recurrent::{
    Bidirectional, Cell, Elman, GatedUnit, Given, Gru, LongShortTerm, Lstm, Merge, Recurrent,
    RecurrentBias, Sequence, SimpleRnn, Step,
};
pub use resize::{
    Upsample, Upsample1d, Upsample2d, Upsample3d, ZeroPad, ZeroPad1d, ZeroPad2d, ZeroPad3d,
};
pub use spatial::PerAxis;
pub use transformer::{BlockInputs, FeedForward, SwiGlu, TransformerBlock};
