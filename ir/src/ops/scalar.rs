//! Element-wise ops, as rows of tables with no optional field: name, accepted types, meaning on floats, meaning on integers, vjp.
//!
//! Operands of one op have one type; broadcasts and conversions are nodes of their own. `unary.rs` and `binary.rs` hold the tables;
//! here and in the other files is what is not a row: comparison, selection, conversion, guards and the gradient stop.

use super::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::{Class, DType};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

mod binary;
mod convert;
mod cost;
mod fma;
mod require;
mod unary;

pub use binary::{Binary, Compare};
pub(super) use binary::{less, maximum};
pub(crate) use convert::saturate;
pub use convert::{Bitcast, Convert};
pub use cost::Cost;
pub use fma::Fma;
pub use require::Require;
pub use unary::Unary;

/// The element types that a scalar op accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    Floats,
    Numbers,
    Integers,
    Bits,
    Any,
}

impl Accepts {
    fn check(self, op: &str, dtype: DType) -> Result<(), Refusal> {
        let fits = match (self, dtype.class()) {
            (Accepts::Any, _)
            | (Accepts::Floats | Accepts::Numbers, Class::Float)
            | (
                Accepts::Numbers | Accepts::Integers | Accepts::Bits,
                Class::Signed | Class::Unsigned,
            )
            | (Accepts::Bits, Class::Bool) => true,
            (Accepts::Floats, Class::Signed | Class::Unsigned | Class::Bool)
            | (Accepts::Numbers | Accepts::Integers, Class::Bool)
            | (Accepts::Integers | Accepts::Bits, Class::Float) => false,
        };
        let wanted = match self {
            Accepts::Floats => "floating types",
            Accepts::Numbers => "numbers",
            Accepts::Integers => "integers",
            Accepts::Bits => "integers and bool",
            Accepts::Any => "any type",
        };
        if fits {
            return Ok(());
        }
        Err(
            Refusal::new(Kind::Type, format!("`{op}` takes {wanted}, not {dtype}"))
                .help("convert the operand first"),
        )
    }
}

/// Both operands have one type.
fn same_types(op: &str, lhs: &TensorType, rhs: &TensorType) -> Result<(), Refusal> {
    if lhs.dtype != rhs.dtype {
        return Err(Refusal::new(
            Kind::Type,
            format!(
                "`{op}` of different element types: {} and {}",
                lhs.dtype, rhs.dtype
            ),
        )
        .help(format!(
            "nothing is converted in silence; use `convert({})` on one side",
            lhs.dtype
        )));
    }
    if lhs.shape != rhs.shape {
        return Err(Refusal::new(
            Kind::Shape,
            format!(
                "`{op}` of shapes that do not broadcast: {} and {}",
                lhs.shape, rhs.shape
            ),
        )
        .help("axes are matched from the last; each pair must be equal or have a 1"));
    }
    Ok(())
}

/// Picks the second operand where the first, a `bool`, holds, and the third elsewhere. All shapes are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select;

impl Select {
    pub(super) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "select").then_some(Ok(Select))
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Select]
    }
}

impl Rules for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [condition, yes, no] = exactly("select", operands)?;
        if condition.dtype != DType::Bool {
            return Err(Refusal::new(
                Kind::Type,
                format!("`select` chooses by a bool tensor, not {}", condition.dtype),
            ));
        }
        same_types("select", yes, no)?;
        same_types("select", &condition.with_dtype(yes.dtype), yes)?;
        Ok(yes.clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [condition, ..] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let yes = cx.cotangent.where_(*condition, 0.0);
        let no = cx.cotangent.where_(condition.not(), 0.0);
        vec![None, Some(yes), Some(no)]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [condition, yes, no] = arrays(operands)?;
        let condition = condition.ints()?;
        let values = match (yes.values(), no.values()) {
            (Values::Float(y), Values::Float(n)) => Values::Float(
                condition
                    .iter()
                    .zip(y.iter().zip(n))
                    .map(|(c, (y, n))| if *c != 0 { *y } else { *n })
                    .collect(),
            ),
            (Values::Int(y), Values::Int(n)) => Values::Int(
                condition
                    .iter()
                    .zip(y.iter().zip(n))
                    .map(|(c, (y, n))| if *c != 0 { *y } else { *n })
                    .collect(),
            ),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("select of two families".into()));
            }
        };
        Array::new(yes.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

/// The same value; no gradient flows through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopGradient;

impl StopGradient {
    pub(super) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "stop_gradient").then_some(Ok(StopGradient))
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![StopGradient]
    }
}

impl Rules for StopGradient {
    fn name(&self) -> &'static str {
        "stop_gradient"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x] = exactly("stop_gradient", operands)?;
        Ok(x.clone())
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    fn eval(&self, operands: &[&Array], _: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x] = arrays(operands)?;
        Ok(x.clone())
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}
