//! `reverse`: axes read from their ends.

use super::{one, one_array};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Reverses the order of the elements along some axes. It is its own inverse and its own adjoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverse {
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

impl Reverse {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "reverse").then(|| {
            Ok(Self {
                axes: attributes.axes("axes")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self { axes: vec![0] }]
    }
}

impl Rules for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("reverse", operands)?;
        if !self.axes.windows(2).all(|w| w[0] < w[1]) || self.axes.iter().any(|a| *a >= x.rank()) {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`reverse` of {x} along the axes {:?}", self.axes),
            )
            .help("the axes must be different ones of the operand, ascending"));
        }
        Ok((*x).clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![Some(cx.cotangent.reverse(&self.axes))]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let strides = Array::strides(x.shape());
        Array::gather(x, cx.shape.to_vec(), |i| {
            let mut at = Array::unravel(i, cx.shape);
            for axis in &self.axes {
                at[*axis] = cx.shape[*axis] - 1 - at[*axis];
            }
            at.iter().zip(&strides).map(|(i, s)| i * s).sum()
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("axes", &self.axes)
    }
}
