//! `fma`: the one op by which a multiplication and an addition are contracted.

use super::{Accepts, same_types};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::Refusal;
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// `x * y + z` of three floating operands of one type, rounded once: in f64 for f64, otherwise in f32, which bf16 and f16 then round
/// to their own type as after any op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fma;

impl Fma {
    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "fma").then_some(Ok(Fma))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Fma]
    }
}

impl Rules for Fma {
    fn name(&self) -> &'static str {
        "fma"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, y, z] = exactly("fma", operands)?;
        same_types("fma", x, y)?;
        same_types("fma", x, z)?;
        Accepts::Floats.check("fma", x.dtype)?;
        Ok(x.clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [x, y, _] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let g = cx.cotangent;
        vec![Some(g * *y), Some(g * *x), Some(g)]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, y, z] = arrays(operands)?;
        // An f64 fma rounded to f32 would round twice; f32 values are exact as f32, so the f32 fma rounds once.
        let fma = |x: f64, y: f64, z: f64| {
            if cx.ty.dtype == DType::F64 {
                x.mul_add(y, z)
            } else {
                f64::from((x as f32).mul_add(y as f32, z as f32))
            }
        };
        let terms = x.floats()?.iter().zip(y.floats()?).zip(z.floats()?);
        let values = terms.map(|((x, y), z)| fma(*x, *y, *z)).collect();
        Array::new(cx.ty.dtype, cx.shape.to_vec(), Values::Float(values))
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
