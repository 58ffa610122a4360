//! Custom ops that several tests call.

use kiln_ir::{Call, CallAttributes, CallVjp, CustomOp, DType, Tensor, TensorType, register};

/// Makes all ops of this file known.
pub fn register_all() {
    register(Mirror).expect("its own name");
    register(Scale).expect("its own name");
}

fn f32s(operands: &[&TensorType], count: usize) -> Result<(), String> {
    let all = operands.iter().all(|ty| ty.dtype == DType::F32);
    if operands.len() != count || !all {
        return Err(format!("it takes {count} f32 tensors"));
    }
    Ok(())
}

/// Each row of an f32 tensor followed by itself backwards, whether each element is positive, and how many are.
pub struct Mirror;

impl CustomOp for Mirror {
    fn name(&self) -> &str {
        "tests/mirror"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        f32s(operands, 1)?;
        let x = operands[0];
        let mut wide = x.shape.to_vec();
        let last = wide.last_mut().ok_or("a scalar has no rows")?;
        *last = last.clone() * 2;
        Ok(vec![
            TensorType::new(DType::F32, wide),
            TensorType::new(DType::Bool, &x.shape),
            TensorType::new(DType::I64, ()),
        ])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let width = call.inputs()[0].shape.last().copied().unwrap_or(0);
        let x = call.input::<f32>(0)?;
        let wide = call.output::<f32>(0)?;
        let positive = call.output::<bool>(1)?;
        let count = call.output::<i64>(2)?;
        if width > 0 {
            for (row, wide) in x.chunks(width).zip(wide.chunks_mut(2 * width)) {
                wide[..width].copy_from_slice(row);
                wide[width..].copy_from_slice(row);
                wide[width..].reverse();
            }
        }
        for (positive, x) in positive.iter_mut().zip(x) {
            *positive = *x > 0.0;
            count[0] += i64::from(*positive);
        }
        Ok(())
    }
}

/// The product of two f32 tensors of one type, element by element; its gradient is made of calls of itself.
pub struct Scale;

impl CustomOp for Scale {
    fn name(&self) -> &str {
        "tests/scale"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        f32s(operands, 2)?;
        if operands[0] != operands[1] {
            return Err(format!("{} against {}", operands[0], operands[1]));
        }
        Ok(vec![operands[0].clone()])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let (x, y) = (call.input::<f32>(0)?, call.input::<f32>(1)?);
        let products = x.iter().zip(y).map(|(x, y)| x * y);
        for (to, product) in call.output::<f32>(0)?.iter_mut().zip(products) {
            *to = product;
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let scaled = |by: Tensor<'g>| {
            let [scaled] = cx
                .builder()
                .custom_call("tests/scale", &[], &[cx.cotangent(0), by]);
            scaled
        };
        Some(vec![
            cx.wanted[0].then(|| scaled(cx.operands[1])),
            cx.wanted[1].then(|| scaled(cx.operands[0])),
        ])
    }
}
