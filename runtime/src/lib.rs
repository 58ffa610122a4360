//! kiln-runtime: executes a compiled program; memory, threads and matrix products.
//!
//! It depends on `kiln-ir` and never on the compiler, so an application that ships a compiled trainer carries no
//! code generator. It prints nothing, reads no environment variable and keeps no globals.

pub mod memory;
pub mod pool;
pub mod product;
