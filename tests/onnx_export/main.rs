//! ONNX export: every op on operands of every element type, random graphs, loops and models are written, read again by our import, and give
//! what they gave.
//!
//! `KILN_ONNX_DIR=folder` also writes each model beside what it is fed and what it must give, for `tests/onnxruntime/check.py`, which asks
//! onnxruntime; `tests/onnxruntime/results.md` has what it said.

#[path = "../common/mod.rs"]
mod common;
mod control;
mod models;
mod ops;
mod refused;
mod trip;
