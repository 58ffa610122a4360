//! Element-wise ops, as rows of tables with no optional field: name, accepted types, meaning on floats, meaning on integers, vjp.
//!
//! Operands of one op have one type; broadcasts and conversions are nodes of their own. `unary.rs` and `binary.rs` hold the tables;
//! here is what is not a row: comparison, selection, conversion and the gradient stop.

use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError, Values, wrap};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::{Class, DType};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

mod binary;
mod unary;

pub use binary::{Binary, Compare};
pub(super) use binary::{less, maximum};
pub use unary::Unary;

/// The element types that a scalar op accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    Floats,
    Numbers,
    Bits,
    Any,
}

impl Accepts {
    fn check(self, op: &str, dtype: DType) -> Result<(), Refusal> {
        let fits = match (self, dtype.class()) {
            (Accepts::Any, _)
            | (Accepts::Floats | Accepts::Numbers, Class::Float)
            | (Accepts::Numbers | Accepts::Bits, Class::Signed | Class::Unsigned)
            | (Accepts::Bits, Class::Bool) => true,
            (Accepts::Floats, Class::Signed | Class::Unsigned | Class::Bool)
            | (Accepts::Numbers, Class::Bool)
            | (Accepts::Bits, Class::Float) => false,
        };
        let wanted = match self {
            Accepts::Floats => "floating types",
            Accepts::Numbers => "numbers",
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

/// The number of operands, for rules that are handed a graph read from a file.
fn exactly<'t, const N: usize>(
    op: &str,
    operands: &[&'t TensorType],
) -> Result<[&'t TensorType; N], Refusal> {
    operands.try_into().map_err(|_| {
        Refusal::new(
            Kind::Signature,
            format!("`{op}` takes {N} operands, not {}", operands.len()),
        )
    })
}

/// The evaluated operands, for rules that are handed a graph read from a file.
fn arrays<'a, const N: usize>(operands: &[&'a Array]) -> Result<[&'a Array; N], EvalError> {
    operands
        .try_into()
        .map_err(|_| EvalError::Invalid(format!("{N} operands are needed, not {}", operands.len())))
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

/// Converts the element type. Float to int truncates, saturates, and turns NaN into 0; to `bool` is `x != 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convert {
    /// The element type of the result.
    pub to: DType,
}

impl Convert {
    pub(super) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "convert").then_some(Ok(Convert { to: ty.dtype }))
    }
}

/// Float to int as the design defines it: toward zero, saturating, NaN to 0.
fn saturate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::I64 => x as i64,
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::U64 => (x as u64).cast_signed(),
        DType::Bool => i64::from(x != 0.0),
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => 0,
    }
}

impl Rules for Convert {
    fn name(&self) -> &'static str {
        "convert"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [from] = exactly("convert", operands)?;
        Ok(from.with_dtype(self.to))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let from = cx.operands.first().and_then(|x| x.ty());
        vec![
            from.filter(|ty| ty.dtype.is_float() && self.to.is_float())
                .map(|ty| cx.cotangent.convert(ty.dtype)),
        ]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [from] = arrays(operands)?;
        let count: usize = cx.shape.iter().product();
        let values = match from.values() {
            Values::Float(v) if self.to.is_float() => Values::Float(v.clone()),
            Values::Float(v) => Values::Int(v.iter().map(|x| saturate(self.to, *x)).collect()),
            Values::Int(_) if self.to.is_float() => {
                Values::Float((0..count).filter_map(|i| from.as_f64(i)).collect())
            }
            Values::Int(v) => Values::Int(v.iter().map(|x| wrap(self.to, *x)).collect()),
        };
        Array::new(self.to, cx.shape.to_vec(), values)
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
