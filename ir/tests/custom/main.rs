//! Custom calls in the IR: written and read without the op, interpreted and differentiated with it, and what is said where something is
//! missing or wrong.

mod mistakes;
mod program;
#[path = "../common/refused.rs"]
mod refused;
mod written;

use kiln_ir::{
    Array, Builder, Call, CallAttributes, CallVjp, CustomOp, DType, Graph, Tensor, TensorType,
    Values, register,
};

/// Rows of an f64 matrix, doubled in number: each `row * by`, then the number of rows as i64. Its gradient is made of ordinary ops.
pub(crate) struct Repeat;

impl CustomOp for Repeat {
    fn name(&self) -> &str {
        "custom/repeat"
    }

    fn infer(
        &self,
        attributes: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        attributes.parse::<f64>("by")?;
        let [x] = operands else {
            return Err(format!("it takes one tensor, not {}", operands.len()));
        };
        if x.dtype != DType::F64 || x.rank() != 2 {
            return Err(format!("it takes an f64 matrix, not {x}"));
        }
        let rows = x.shape[0].clone() * 2;
        let wide = TensorType::new(x.dtype, [rows, x.shape[1].clone()]);
        Ok(vec![wide, TensorType::new(DType::I64, ())])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let by: f64 = call.attributes().parse("by")?;
        let x = call.input::<f64>(0)?;
        let y = call.output::<f64>(0)?;
        for half in y.chunks_mut(x.len().max(1)) {
            for (y, x) in half.iter_mut().zip(x) {
                *y = x * by;
            }
        }
        call.output::<i64>(1)?[0] = call.outputs()[0].shape[0] as i64;
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let by: f64 = cx.attributes.parse("by").ok()?;
        let rows = cx.operands[0].ty()?.shape[0].clone();
        let both = cx.cotangent(0);
        let (first, second) = (
            both.slice_axis(0, 0, rows.clone()),
            both.slice_axis(0, rows.clone(), rows * 2),
        );
        Some(vec![Some((first + second) * by)])
    }
}

/// Calls `Repeat` on `x: f64[b, 3]`.
pub(crate) fn repeated() -> Graph {
    register(Repeat).expect("its own name");
    let g = Builder::new("repeated");
    let x = g.input("x", DType::F64, (g.dim("b"), 3));
    let [y, rows] = g.custom_call("custom/repeat", &[("by", "0.5")], &[x]);
    g.output("y", y + 1.0);
    g.output("rows", rows);
    g.finish().expect("a graph")
}

pub(crate) fn f64s(shape: &[usize], values: &[f64]) -> Array {
    Array::new(DType::F64, shape.to_vec(), Values::Float(values.to_vec())).expect("an array")
}
