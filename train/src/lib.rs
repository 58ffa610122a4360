//! Data sets, mini-batches, the pass over them, and what a training loop shows of itself.
//!
//! This is the layer an application trains through. It holds data in memory, feeds it in seeded mini-batches, builds the graphs of a
//! model, runs epochs on sessions, draws tokens from what a model expects, and draws progress and curves. It never looks inside a graph:
//! what a model computes is the business of `kiln-nn` and the layers below.

pub mod data;
mod epoch;
pub mod graphs;
mod means;
pub mod plot;
pub mod progress;
pub mod sample;
pub mod weights;
mod writer;

pub use epoch::{EpochError, HandOverError, epoch, hand_over};
pub use means::Means;
pub use writer::{Writer, WriterError};
