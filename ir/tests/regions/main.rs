//! Control ops: what they compute, how they are written and read, and what is said of those that make no sense.

#[path = "../common/mod.rs"]
mod common;

mod mistakes;
mod numbers;
mod pruning;
mod values;
mod verifier;
mod written;

use kiln_ir::{Array, DType, Graph, Values, eval};

pub(crate) fn f64s(shape: &[usize], values: &[f64]) -> Array {
    Array::new(DType::F64, shape.to_vec(), Values::Float(values.to_vec())).unwrap()
}

/// The outputs of a graph whose slots are fed by name.
#[track_caller]
pub(crate) fn run(graph: &Graph, feeds: &[(&str, Array)]) -> Vec<Array> {
    let step = eval(graph, |slot| {
        let fed = feeds.iter().find(|(name, _)| *name == slot.name);
        fed.map(|(_, value)| value.clone())
    });
    step.unwrap_or_else(|e| panic!("{e}")).outputs
}

#[track_caller]
pub(crate) fn close(found: &Array, expected: &[f64]) {
    let found = found.floats().unwrap();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-12 * (1.0 + e.abs()), "{f} but {e}");
    }
}
