//! The layers, one file a subject. Each is a plain value; [`Context::layer`](crate::Context::layer) applies it.

mod activation;
mod dense;
mod dropout;
mod flatten;

pub use activation::{Activation, log_softmax, relu, softmax};
pub use dense::Dense;
pub use dropout::{Dropout, dropout};
pub use flatten::Flatten;
