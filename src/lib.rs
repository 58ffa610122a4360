//! Kiln compiles a whole training step, forward, backward and update, into one executable, and runs it on the CPU.
//!
//! A model in layers is trained in ten lines:
//!
//! ```
//! use kiln::{Column, Dataset, Fit, MeanSquaredError, Sequential, Sgd, Trainer};
//!
//! let xs: Vec<f32> = (0..100).map(|i| i as f32 / 50.0 - 1.0).collect();
//! let ys: Vec<f32> = xs.iter().map(|x| 2.0 * x + 1.0).collect();
//! let data = Dataset::new([Column::new("x", [100, 1], xs)?, Column::new("y", [100, 1], ys)?])?;
//! let model = Sequential::new([1]).dense(1).named("line");
//! let mut trainer = Trainer::new(model).loss(MeanSquaredError).optimizer(Sgd::new(0.1)).compile()?;
//! let history = trainer.fit(&data, Fit::epochs(100))?;
//! assert!(history.last("loss") < Some(1e-6));
//! assert!((trainer.state("line/b")?.scalar()? - 1.0).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Below the [`Trainer`] lies what it is made of. A graph is built with symbolic sizes, differentiated, optimised, fused, planned and
//! compiled to machine code, once. A session then runs steps: it is fed slices where they lie, and it allocates nothing.
//!
//! ```
//! use kiln::{Builder, DType, Init, Optimizer, Options, Sgd};
//! use kiln::train::data::{Column, Dataset, Loader};
//!
//! let g = Builder::new("linear"); // a Tensor is Copy and borrows the builder
//! let b = g.dim("b");
//! let x = g.input("x", DType::F32, (b.clone(), 1));
//! let y = g.input("y", DType::F32, (b, 1));
//! let w = g.param("w", (1, 1), Init::zeros());
//! let loss = (x.dot(w) - y).square().mean();
//! Sgd::new(0.1).minimize(loss); // gradient and update nodes, in the graph
//! g.output("loss", loss);
//! let graph = g.finish()?; // plain immutable data, or all diagnostics
//!
//! let points: Vec<f32> = (0..100).map(|i| i as f32 / 50.0 - 1.0).collect();
//! let data = Dataset::new([
//!     Column::new("x", [100, 1], points.clone())?,
//!     Column::new("y", [100, 1], points.iter().map(|x| 2.0 * x).collect::<Vec<_>>())?,
//! ])?;
//! let mut session = kiln::compile(&graph, &Options::default())?.session(42)?;
//! let mut loader = Loader::new(&data, 32)?.shuffled(42);
//! let mut loss = f64::INFINITY;
//! for epoch in 0..100 {
//!     loader.start_epoch(epoch);
//!     while let Some(batch) = loader.next_batch() {
//!         loss = session.step(batch.columns())?.scalar("loss")?;
//!     }
//! }
//! assert!(loss < 1e-6);
//! assert!((session.state("w")?.scalar()? - 2.0).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layers are modules: [`ir`] (graphs), [`nn`] (layers, losses, optimizers), [`train`] (data, the [`Trainer`], checkpoints), [`interop`] (files of other
//! programs), [`compiler`] and [`runtime`].
//! What most programs need is at the top. Loops of one's own get a model's graphs from [`train::graphs::Task`].
//!
//! # Looking inside
//!
//! [`ir_text`] gives the text of a graph at any [`Stage`], and [`assert_ir_snapshot!`] makes it a test. A program that compiles with
//! [`Options::from_env`] listens to `KILN_DUMP`, `KILN_DUMP_DIR`, `KILN_STOP_AFTER`, `KILN_VERIFY` and `KILN_TIME`.

mod memory;
mod snapshot;

pub use kiln_compiler as compiler;
pub use kiln_interop as interop;
pub use kiln_ir as ir;
pub use kiln_nn as nn;
pub use kiln_runtime as runtime;
pub use kiln_train as train;

pub use kiln_compiler::{CompileError, FullWidth, Options, Stage};
pub use kiln_ir::{
    Bindings, Builder, DType, Diagnostics, Dim, Graph, Init, Shape, Symbol, Tensor, TensorType,
    error_text, grad,
};
pub use kiln_nn::{
    Accuracy, Adam, Context, CrossEntropy, Layer, Loss, MeanMetric, MeanSquaredError, Metric,
    Optimizer, Sequential, Sgd, SparseCrossEntropy,
};
pub use kiln_runtime::{
    Executable, Feed, MemoryReport, Outputs, Session, SessionOptions, StepError, ToFeed,
};
pub use kiln_train::{
    Error, Fit, History, Means, Model, Trainer, compile,
    data::{Column, Dataset, Loader},
    epoch, ir_text,
};
pub use memory::{PlanReport, memory_report};
