//! kiln-compiler
pub mod math;
