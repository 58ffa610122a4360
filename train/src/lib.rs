//! Data in, a trained model out: data sets and mini-batches, the [`Trainer`] and its callbacks, checkpoints, progress and pictures.
//!
//! This is the layer an application trains through. It holds data in memory, feeds it in seeded mini-batches, builds and compiles the graphs
//! of a model, runs epochs on sessions, draws tokens from what a model expects, and draws progress and curves. What a model computes is the
//! business of `kiln-nn` and the layers below.

pub mod callbacks;
mod checkpoint;
mod compile;
pub mod data;
mod epoch;
pub mod flops;
pub mod graphs;
mod interrupt;
mod means;
pub mod plot;
pub mod progress;
pub mod sample;
mod trainer;
pub mod weights;
mod writer;

pub use checkpoint::CheckpointError;
pub use compile::{Error, compile, ir_text};
pub use epoch::{EpochError, HandOverError, epoch, hand_over};
pub use means::Means;
pub use trainer::{
    Culprit, Epoch, Fit, History, Logs, Model, NotFinite, Position, Snapshot, Source, TrainError,
    Trainer, TrainerBuilder, TrainerSummary,
};
pub use writer::{Writer, WriterError};
