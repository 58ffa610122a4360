//! `require`: a guard that fails the step before it writes any state.

use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// The first operand unchanged, where the second, a `bool` tensor of any shape, holds everywhere; else the step fails with the message.
/// A condition without elements holds. The cotangent passes on to the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Require {
    /// What is wrong where the condition does not hold, for people: "the loss is not finite".
    pub message: String,
}

impl Require {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "require").then(|| {
            Ok(Self {
                message: attributes.text("message")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            message: "the \"loss\" is\nnot finite".into(),
        }]
    }
}

impl Rules for Require {
    fn name(&self) -> &'static str {
        "require"
    }

    fn effect(&self) -> Effect {
        Effect::Fallible
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [value, condition] = exactly("require", operands)?;
        if condition.dtype != DType::Bool {
            return Err(Refusal::new(
                Kind::Type,
                format!("`require` of a condition of type {condition}"),
            )
            .help("a condition is bool"));
        }
        Ok(value.clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![Some(cx.cotangent), None]
    }

    fn eval(&self, operands: &[&Array], _: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [value, condition] = arrays(operands)?;
        match condition.ints()?.iter().position(|c| *c == 0) {
            Some(position) => Err(EvalError::Required {
                message: self.message.clone(),
                index: Array::unravel(position, condition.shape()),
            }),
            None => Ok(value.clone()),
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with("message", Value::Text(self.message.clone()))
    }
}
