//! Data in memory: named columns, splits, seeded mini-batches and the readers of a few file forms.
//!
//! A [`Dataset`] is an ordered list of named [`Column`]s. Each is a dense typed array whose first
//! axis counts the examples, so a data set can hold images, tokens, targets and weights side by
//! side without any of them being special. A [`Loader`] walks it in [`Batch`]es.
//!
//! Texts become tokens and windows of them in [`text`]. What walks either is [`Batches`].
//!
//! Everything here is held in memory, and nothing is fetched: a reader takes a folder or a text.

mod batches;
mod column;
mod csv;
mod dataset;
mod error;
mod fashion;
pub mod idx;
mod loader;
mod order;
mod split;
pub mod text;

pub use batches::{Batch, Batches};
pub use column::{Column, ColumnData, Element};
pub use csv::digits;
pub use dataset::Dataset;
pub use error::DataError;
pub use fashion::{FASHION_MNIST_DIR, fashion_mnist};
pub use loader::Loader;
