//! `part`: one result of an op of several.

use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::ops::movement::one_array;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// The result number `index` of the compound op that is the operand. The graph's verifier checks that the operand is one and that the type
/// is that of the result; a rule sees only the operand's own type, which is that of its first result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which result.
    pub index: usize,
    /// Its type.
    pub ty: TensorType,
}

impl Part {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "part").then(|| {
            Ok(Self {
                index: attributes.axis("index")?,
                ty: ty.clone(),
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            index: 0,
            ty: TensorType::new(crate::dtype::DType::F32, [2]),
        }]
    }
}

impl Rules for Part {
    fn name(&self) -> &'static str {
        "part"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        match operands {
            [first] if self.index == 0 && **first != self.ty => Err(Refusal::new(
                Kind::Shape,
                format!("the first result is {first}, not {}", self.ty),
            )),
            [_] => Ok(self.ty.clone()),
            [] | [_, _, ..] => Err(Refusal::new(
                Kind::Signature,
                "`part` takes one operand, an op of several results",
            )),
        }
    }

    /// Nothing: differentiation hands the cotangents of all parts to their op at once.
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    /// The first result is the value of the op by itself; the interpreter keeps the others.
    fn eval(&self, operands: &[&Array], _: &EvalCx<'_>) -> Result<Array, EvalError> {
        let whole = one_array(operands)?;
        if self.index == 0 {
            return Ok(whole.clone());
        }
        let message = "only a graph has the further results of an op";
        Err(EvalError::Invalid(message.into()))
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("index", &[self.index])
    }
}
