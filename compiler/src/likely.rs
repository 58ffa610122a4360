//! What symbolic sizes are taken to be where a choice needs a number: the order of a schedule, a layout, an order of sums.
//!
//! Correctness never depends on it, and whatever is chosen by it depends on the graph alone.

use kiln_ir::{Bindings, Dim};

/// What every symbol is taken to be.
const LIKELY: i64 = 32;

/// A size with every symbol at its likely value.
pub(crate) fn likely(dim: &Dim) -> i64 {
    let mut bindings = Bindings::new();
    for symbol in dim.symbols() {
        bindings.insert(symbol, LIKELY);
    }
    dim.eval(&bindings).unwrap_or(i64::MAX)
}

/// The number of elements of some extents.
pub(crate) fn likely_elements<'d>(extents: impl IntoIterator<Item = &'d Dim>) -> i64 {
    let extents = extents.into_iter().map(likely);
    extents.fold(1, i64::saturating_mul)
}
