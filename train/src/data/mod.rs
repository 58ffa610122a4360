//! Data in memory: named columns, splits, seeded mini-batches and the readers of a few file forms.
//!
//! A [`Dataset`] is an ordered list of named [`Column`]s. Each is a dense typed array whose first
//! axis counts the examples, so a data set can hold images, tokens, targets and weights side by
//! side without any of them being special. A [`Loader`] walks it in [`Batch`]es.
//!
//! Columns come from memory, [`Table`]s, [`idx`] files, [pictures in folders](image_folder), arrays of other programs, or are
//! [made up](synthetic). [`Standardise`] and its kin are fitted on the part that is learned from. A [`Pipeline`] changes batches on their way,
//! by an [`Augment`] say, on a thread of its own if wanted.
//!
//! Texts become tokens and windows of them in [`text`]. What walks either is [`Batches`].
//!
//! Everything here is held in memory, and nothing is fetched: a reader takes a folder or a text.

mod arrays;
mod augment;
mod batches;
mod column;
mod csv;
mod dataset;
mod error;
mod fashion;
pub mod idx;
mod images;
mod loader;
mod order;
mod pipeline;
mod prepare;
mod split;
pub mod synthetic;
mod table;
pub mod text;
mod transform;

pub use augment::{Augment, CutMix, MixUp};
pub use batches::{Batch, Batches};
pub use column::{Column, ColumnData, Element};
pub use csv::digits;
pub use dataset::Dataset;
pub use error::DataError;
pub use fashion::{FASHION_MNIST_DIR, fashion_mnist};
pub use images::{Channels, image_folder, image_folder_as};
pub use loader::Loader;
pub use pipeline::Pipeline;
pub use prepare::{Impute, MinMax, Missing, OneHot, Standardise};
pub use table::Table;
pub use transform::{Examples, Transform};
