//! Emitted code against plain Rust: every op and type, every way of access, every fold, at the lengths where loops change their course.

mod access;
mod code;
mod elements;
mod elementwise;
mod folding;
mod folds;
mod language;
mod nests;
mod random;
mod reference;
mod strips;
mod support;
mod wide;
