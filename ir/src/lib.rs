//! kiln-ir
pub mod philox;
