//! The numbers of other libraries: `nn/tests/reference/reference.json`, written by the script beside it.

use kiln_ir::DType;
use serde_json::Value;

/// The element types that are compared, each with how far a tensor may be off, in norm.
pub(crate) const PRECISIONS: [(DType, f64); 2] = [(DType::F64, 1e-6), (DType::F32, 1e-5)];

/// All of it.
pub(crate) fn read() -> Value {
    serde_json::from_str(include_str!("../reference/reference.json")).unwrap()
}

/// The numbers at a path of keys.
pub(crate) fn numbers(all: &Value, path: &[&str]) -> Vec<f64> {
    let mut value = all;
    for key in path {
        value = &value[*key];
    }
    let one = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{path:?}: {v}"));
    match value {
        Value::Array(all) => all.iter().map(one).collect(),
        other => vec![one(other)],
    }
}

/// Compares two tensors in norm.
#[track_caller]
pub(crate) fn near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    let size = norm(&mut expected.iter().copied());
    assert!(
        off <= tolerance * size,
        "{what}: off by {:.2e}\n   {found:?}\nnot {expected:?}",
        off / size
    );
}
