//! Values known without operands: splat constants, iota, and extents as values.

use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One number, exact in its family. Floats are kept as bits, so that NaN compares equal to itself and serialises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Literal {
    /// The bits of an f64.
    Float(u64),
    /// An integer or a truth value; u64 as its bit pattern.
    Int(i64),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Literal::Int(i) => write!(f, "{i}"),
        }
    }
}

/// A tensor whose elements are all one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// The type of the tensor.
    pub ty: TensorType,
    /// The number.
    pub literal: Literal,
}

impl Constant {
    /// `value` in the tensor's own element type: rounded for floats, truncated and wrapped for integers.
    pub fn splat(ty: TensorType, value: f64) -> Self {
        let literal = if ty.dtype.is_float() {
            Literal::Float(crate::array::round(ty.dtype, value).to_bits())
        } else {
            Literal::Int(crate::array::wrap(ty.dtype, value as i64))
        };
        Self { ty, literal }
    }

    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "const").then(|| {
            let word = attributes.word("value")?;
            let wrong = || AttributeError {
                name: "value".into(),
                expected: format!("a number of type {}", ty.dtype),
            };
            let literal = if ty.dtype.is_float() {
                let value: f64 = word.parse().map_err(|_| wrong())?;
                Literal::Float(crate::array::round(ty.dtype, value).to_bits())
            } else {
                let value: i64 = word.parse().map_err(|_| wrong())?;
                if crate::array::wrap(ty.dtype, value) != value {
                    return Err(wrong());
                }
                Literal::Int(value)
            };
            Ok(Self {
                ty: ty.clone(),
                literal,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self::splat(TensorType::new(DType::F32, [2]), 0.5)]
    }
}

impl Rules for Constant {
    fn name(&self) -> &'static str {
        "const"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, _: &[&TensorType]) -> Result<TensorType, Refusal> {
        let float = matches!(self.literal, Literal::Float(_));
        if float == self.ty.dtype.is_float() {
            Ok(self.ty.clone())
        } else {
            Err(Refusal::new(
                Kind::Type,
                format!(
                    "`const` of {} with a literal of another family",
                    self.ty.dtype
                ),
            ))
        }
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        Vec::new()
    }

    fn eval(&self, _: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let count = cx.count;
        let values = match self.literal {
            Literal::Float(bits) => Values::Float(vec![f64::from_bits(bits); count]),
            Literal::Int(i) => Values::Int(vec![i; count]),
        };
        Array::new(self.ty.dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with("value", Value::Word(self.literal.to_string()))
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

    fn infer(&self, _: &[&TensorType]) -> Result<TensorType, Refusal> {
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

    fn infer(&self, _: &[&TensorType]) -> Result<TensorType, Refusal> {
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
