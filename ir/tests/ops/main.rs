//! What ops compute, op by op, through the interpreter: plain values, the odd cases of the design, and graphs that make no sense.

mod conv;
mod indexing;
mod malformed;
mod movement;
mod odd_cases;
mod random;
mod reduction;
mod refusals;
mod scalar;
mod sorting;
mod window;

use kiln_ir::{Array, Builder, DType, Dim, EvalError, Shape, Tensor, Values, eval};

/// A floating array.
pub(crate) fn floats(dtype: DType, shape: &[usize], values: &[f64]) -> Array {
    Array::new(dtype, shape.to_vec(), Values::Float(values.to_vec())).unwrap()
}

/// An f32 array.
pub(crate) fn f32s(shape: &[usize], values: &[f64]) -> Array {
    floats(DType::F32, shape, values)
}

/// An array of an integer type or bool.
pub(crate) fn ints(dtype: DType, shape: &[usize], values: &[i64]) -> Array {
    Array::new(dtype, shape.to_vec(), Values::Int(values.to_vec())).unwrap()
}

/// What `build` makes of the inputs, which are declared with `shapes`.
pub(crate) fn evaluate(
    inputs: &[Array],
    shapes: &[Shape],
    build: impl for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Tensor<'g>,
) -> Result<Array, EvalError> {
    let g = Builder::new("op");
    let tensors: Vec<Tensor<'_>> = inputs
        .iter()
        .zip(shapes)
        .enumerate()
        .map(|(i, (a, s))| g.input(&format!("x{i}"), a.dtype(), s))
        .collect();
    g.output("y", build(&g, &tensors));
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let step = eval(&graph, |slot| {
        inputs.get(slot.name[1..].parse::<usize>().ok()?).cloned()
    })?;
    Ok(step.outputs[0].clone())
}

/// The inputs' own shapes.
pub(crate) fn own_shapes(inputs: &[Array]) -> Vec<Shape> {
    inputs
        .iter()
        .map(|a| a.shape().iter().map(|d| Dim::from(*d)).collect())
        .collect()
}

/// The result on inputs of constant shapes; the same must come of extents that are symbols, one for each size.
pub(crate) fn result(
    inputs: &[Array],
    build: impl for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Tensor<'g>,
) -> Array {
    let plain = evaluate(inputs, &own_shapes(inputs), &build).unwrap_or_else(|e| panic!("{e}"));
    let symbol = |d: &usize| Dim::symbol(&format!("n{d}"));
    let symbolic: Vec<Shape> = inputs
        .iter()
        .map(|a| a.shape().iter().map(symbol).collect())
        .collect();
    let again = evaluate(inputs, &symbolic, &build).unwrap_or_else(|e| panic!("{e}"));
    // NaN is not equal to itself, but prints alike.
    assert_eq!(format!("{plain:?}"), format!("{again:?}"));
    plain
}
