//! Data sets, mini-batches and what a training loop shows of itself.
//!
//! This is the layer an application trains through. It holds data in memory, feeds it in seeded
//! mini-batches, builds the graphs of a model, and draws progress and curves. It never looks inside a graph: what a model computes
//! is the business of `kiln-nn` and the layers below.

pub mod data;
pub mod graphs;
pub mod plot;
pub mod progress;
