//! The `kiln` command as a user runs it: the real binary, on good files and on hostile ones.

mod custom;
mod diff;
mod export;
mod folder;
mod graphs;
mod hostile;
mod onnx;
mod page;
mod run;
