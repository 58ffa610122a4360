//! Entries of arrays along axis 0, for the interpreter.

use crate::array::{Array, EvalError, Values};
use crate::dim::Bindings;
use crate::types::TensorType;

/// Entry `at` along axis 0.
pub(super) fn entry(whole: &Array, at: usize) -> Result<Array, EvalError> {
    let shape = whole.shape().get(1..).unwrap_or_default().to_vec();
    let count: usize = shape.iter().product();
    let range = at * count..(at + 1) * count;
    let outside = || EvalError::Invalid(format!("there is no entry {at}"));
    let values = match whole.values() {
        Values::Float(all) => Values::Float(all.get(range).ok_or_else(outside)?.to_vec()),
        Values::Int(all) => Values::Int(all.get(range).ok_or_else(outside)?.to_vec()),
    };
    Array::new(whole.dtype(), shape, values)
}

/// Arrays of type `ty`, one behind the other along a new axis 0.
pub(super) fn stack(
    ty: &TensorType,
    entries: &[Array],
    bindings: &Bindings,
) -> Result<Array, EvalError> {
    let mut shape = vec![entries.len()];
    for dim in ty.shape.iter() {
        shape.push(dim.eval_size(bindings)?);
    }
    Array::room(ty.dtype, &shape)?;
    let values = if ty.dtype.is_float() {
        let all: Result<Vec<_>, EvalError> = entries.iter().map(Array::floats).collect();
        Values::Float(all?.concat())
    } else {
        let all: Result<Vec<_>, EvalError> = entries.iter().map(Array::ints).collect();
        Values::Int(all?.concat())
    };
    Array::new(ty.dtype, shape, values)
}
