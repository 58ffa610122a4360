//! The passes: each rule before and after, each pass on random graphs with gradients, and the driver's guards.

mod driver;
mod fold;
mod random;
mod rules;
mod support;
