//! The layers, one file a subject. Each is a plain value; [`Context::layer`](crate::Context::layer) applies it.

mod activation;
mod conv;
mod dense;
mod dropout;
mod flatten;
mod norm;
mod pool;
mod spatial;

pub use activation::{Activation, log_softmax, relu, softmax};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use dense::Dense;
pub use dropout::{Dropout, dropout};
pub use flatten::Flatten;
pub use norm::BatchNorm;
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, GlobalAvgPool, GlobalMaxPool, MaxPool, MaxPool1d,
    MaxPool2d, MaxPool3d,
};
pub use spatial::PerAxis;
