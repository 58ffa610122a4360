//! Values known without operands: constants (splat or dense), iota, and extents as values.
//!
//! A constant is either one number for every element, which may have a symbolic shape, or dense data, which may not. Both are exact:
//! a literal is kept in its family and dense data as the bytes of the element type, so nothing is rounded on the way through a file.

use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod dense;
mod literal;

pub use dense::{Dense, Element};
pub use literal::Literal;

/// What the elements of a constant are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConstantValue {
    /// One number for all elements.
    Splat(Literal),
    /// Every element, row-major.
    Dense(Dense),
}

/// A tensor that is known when the graph is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// The type of the tensor.
    pub ty: TensorType,
    /// Its elements.
    pub value: ConstantValue,
}

impl Constant {
    /// `value` for every element, in the tensor's own element type: rounded for floats, truncated and wrapped for integers. A NaN
    /// becomes the one quiet NaN without payload.
    pub fn splat(ty: TensorType, value: f64) -> Self {
        let literal = Literal::of(ty.dtype, value);
        Self {
            ty,
            value: ConstantValue::Splat(literal),
        }
    }

    /// Every element, row-major, as little-endian bytes of the element type. The shape rule checks the number of bytes.
    pub fn dense(ty: TensorType, data: Dense) -> Self {
        Self {
            ty,
            value: ConstantValue::Dense(data),
        }
    }

    /// The number, where all elements are one.
    pub fn as_splat(&self) -> Option<Literal> {
        match self.value {
            ConstantValue::Splat(literal) => Some(literal),
            ConstantValue::Dense(_) => None,
        }
    }

    /// The elements, where they are stored one by one.
    pub fn as_dense(&self) -> Option<&Dense> {
        match &self.value {
            ConstantValue::Splat(_) => None,
            ConstantValue::Dense(data) => Some(data),
        }
    }

    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "const").then(|| {
            if attributes.iter().any(|(name, _)| name == "data") {
                return Ok(Self::dense(ty.clone(), attributes.data("data")?));
            }
            let word = attributes.word("value")?;
            let literal = Literal::parse(ty.dtype, &word).ok_or_else(|| AttributeError {
                name: "value".into(),
                expected: Literal::expected(ty.dtype),
            })?;
            Ok(Self {
                ty: ty.clone(),
                value: ConstantValue::Splat(literal),
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self::splat(TensorType::new(DType::F32, [2]), 0.5)]
    }
}

/// These ops compute from nothing; an operand would be ignored, so it is refused.
fn no_operands(op: &str, operands: &[&TensorType]) -> Result<(), Refusal> {
    if operands.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Signature,
        format!("`{op}` takes no operands, not {}", operands.len()),
    ))
}

impl Rules for Constant {
    fn name(&self) -> &'static str {
        "const"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        no_operands("const", operands)?;
        match &self.value {
            ConstantValue::Splat(literal) => literal.check(self.ty.dtype)?,
            ConstantValue::Dense(data) => data.check(&self.ty)?,
        }
        Ok(self.ty.clone())
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        Vec::new()
    }

    fn eval(&self, _: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let count = cx.count;
        let values = match &self.value {
            ConstantValue::Splat(Literal::Float(bits)) => {
                Values::Float(vec![f64::from_bits(*bits); count])
            }
            ConstantValue::Splat(Literal::Int(i)) => Values::Int(vec![*i; count]),
            ConstantValue::Dense(data) => data.values(self.ty.dtype),
        };
        Array::new(self.ty.dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        match &self.value {
            ConstantValue::Splat(literal) => {
                Attributes::none().with("value", Value::Word(literal.text(self.ty.dtype)))
            }
            ConstantValue::Dense(data) => {
                Attributes::none().with("data", Value::Data(data.clone()))
            }
        }
    }
}

/// The index along one axis: 0, 1, 2, ...
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iota {
    /// The type of the result.
    pub ty: TensorType,
    /// The axis along which the values count.
    pub axis: usize,
}

impl Iota {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "iota").then(|| {
            let axis = attributes.axes("axis")?;
            match axis.as_slice() {
                [axis] => Ok(Self {
                    ty: ty.clone(),
                    axis: *axis,
                }),
                [] | [_, _, ..] => Err(AttributeError {
                    name: "axis".into(),
                    expected: "one axis".into(),
                }),
            }
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            ty: TensorType::new(DType::I64, [2]),
            axis: 0,
        }]
    }
}

impl Rules for Iota {
    fn name(&self) -> &'static str {
        "iota"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        no_operands("iota", operands)?;
        if self.ty.dtype == DType::Bool {
            return Err(Refusal::new(
                Kind::Type,
                "`iota` counts; it has no `bool` form",
            ));
        }
        if self.axis >= self.ty.rank() {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`iota` along axis {} of {}", self.axis, self.ty),
            ));
        }
        Ok(self.ty.clone())
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        Vec::new()
    }

    fn eval(&self, _: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let count = cx.count;
        let index = |i| Array::unravel(i, cx.shape)[self.axis];
        let values = if self.ty.dtype.is_float() {
            Values::Float((0..count).map(|i| index(i) as f64).collect())
        } else {
            Values::Int((0..count).map(|i| index(i) as i64).collect())
        };
        Array::new(self.ty.dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("axis", &[self.axis])
    }
}

/// An extent as a scalar i64 value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimSize {
    /// The extent.
    pub dim: Dim,
}

impl DimSize {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "dim_size").then(|| match attributes.dims("dim")?.as_slice() {
            [dim] => Ok(Self { dim: dim.clone() }),
            [] | [_, _, ..] => Err(AttributeError {
                name: "dim".into(),
                expected: "one dim".into(),
            }),
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            dim: Dim::symbol("b"),
        }]
    }
}

impl Rules for DimSize {
    fn name(&self) -> &'static str {
        "dim_size"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        no_operands("dim_size", operands)?;
        Ok(TensorType::new(DType::I64, Shape::scalar()))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        Vec::new()
    }

    fn eval(&self, _: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        Array::new(
            DType::I64,
            Vec::new(),
            Values::Int(vec![self.dim.eval(cx.bindings)?]),
        )
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with("dim", Value::Dims(vec![self.dim.clone()]))
    }
}
