//! Sources: inputs, params and state. What a source is stands in the graph's signature; here is only its type.

use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// A value that comes from outside the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The type of the value.
    pub ty: TensorType,
}

impl Source {
    /// Sources stand in the signature of the text, so no node line parses to one.
    pub(super) fn parse(
        _: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        None
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            ty: TensorType::new(crate::dtype::DType::F32, [2]),
        }]
    }
}

impl Rules for Source {
    fn name(&self) -> &'static str {
        "source"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        if !operands.is_empty() {
            return Err(Refusal::new(Kind::Signature, "a source takes no operands"));
        }
        Ok(self.ty.clone())
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        Vec::new()
    }

    fn eval(&self, _: &[&Array], _: &EvalCx<'_>) -> Result<Array, EvalError> {
        Err(EvalError::Invalid(
            "a source has no value of its own; it must be fed".into(),
        ))
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
