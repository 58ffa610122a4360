//! Ops that only move elements: broadcast, reshape, transpose, slice, pad, concat, reverse.

use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod concat;
mod pad;
mod reverse;
mod slice;

pub use concat::Concat;
pub use pad::Pad;
pub use reverse::Reverse;
pub use slice::Slice;

pub(super) fn one<'t>(op: &str, operands: &[&'t TensorType]) -> Result<&'t TensorType, Refusal> {
    match operands {
        [x] => Ok(x),
        [] | [_, _, ..] => Err(Refusal::new(
            Kind::Signature,
            format!("`{op}` takes 1 operand, not {}", operands.len()),
        )),
    }
}

pub(super) fn one_array<'a>(operands: &[&'a Array]) -> Result<&'a Array, EvalError> {
    match operands {
        [x] => Ok(x),
        [] | [_, _, ..] => Err(EvalError::Invalid(format!(
            "1 operand is needed, not {}",
            operands.len()
        ))),
    }
}

fn attribute(message: String) -> Refusal {
    Refusal::new(Kind::Attribute, message)
}

/// Repeats elements: axis `i` of the operand becomes axis `axes[i]` of the result, an axis of size 1 is repeated, and so is along
/// every axis of the result that no axis of the operand becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broadcast {
    /// The shape of the result.
    pub shape: Shape,
    /// Where the operand's axes go, ascending.
    pub axes: Vec<usize>,
}

impl Broadcast {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "broadcast").then(|| {
            Ok(Self {
                shape: ty.shape.clone(),
                axes: attributes.axes("axes")?,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            shape: Shape::from([2, 3]),
            axes: vec![1],
        }]
    }
}

impl Rules for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("broadcast", operands)?;
        let ascending = self.axes.windows(2).all(|w| w[0] < w[1]);
        if self.axes.len() != x.rank()
            || !ascending
            || self.axes.iter().any(|a| *a >= self.shape.len())
        {
            return Err(attribute(format!(
                "`broadcast` of {x} to {} cannot place its axes at {:?}",
                self.shape, self.axes
            )));
        }
        let unequal = x
            .shape
            .iter()
            .zip(&self.axes)
            .find(|(d, a)| **d != self.shape[**a] && d.constant() != Some(1));
        match unequal {
            Some((d, a)) => Err(Refusal::new(
                Kind::Shape,
                format!(
                    "`broadcast` of {} to {}: an axis of size {d} does not repeat to {}",
                    x.shape, self.shape, self.shape[*a]
                ),
            )),
            None => Ok(TensorType::new(x.dtype, &self.shape)),
        }
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some(ty) = cx.operands.first().and_then(|x| x.ty()) else {
            return vec![None];
        };
        let repeated: Vec<usize> = (0..self.shape.len())
            .filter(|axis| match self.axes.iter().position(|a| a == axis) {
                Some(from) => ty.shape[from] != self.shape[*axis],
                None => true,
            })
            .collect();
        let summed = if repeated.is_empty() {
            cx.cotangent
        } else {
            cx.cotangent.reduce(super::ReduceKind::Sum, &repeated)
        };
        vec![Some(if summed.ty().is_some_and(|t| t.shape == ty.shape) {
            summed
        } else {
            summed.reshape(&ty.shape)
        })]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let strides = Array::strides(x.shape());
        Array::gather(x, cx.shape.to_vec(), |i| {
            let at = Array::unravel(i, cx.shape);
            let terms = self.axes.iter().zip(x.shape()).zip(&strides);
            terms
                .map(|((axis, extent), stride)| if *extent == 1 { 0 } else { at[*axis] * stride })
                .sum()
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("axes", &self.axes)
    }
}

/// The same elements in row-major order under another shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// The shape of the result, with as many elements as the operand's.
    pub shape: Shape,
}

impl Reshape {
    pub(super) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "reshape").then(|| {
            Ok(Self {
                shape: ty.shape.clone(),
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            shape: Shape::from([2, 3]),
        }]
    }
}

impl Rules for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("reshape", operands)?;
        let (from, to) = (x.shape.elements(), self.shape.elements());
        if from != to {
            return Err(Refusal::new(
                Kind::Shape,
                format!(
                    "`reshape` of {} ({from} elements) to {} ({to} elements)",
                    x.shape, self.shape
                ),
            ));
        }
        Ok(TensorType::new(x.dtype, &self.shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let from = cx.operands.first().and_then(|x| x.ty());
        vec![from.map(|ty| cx.cotangent.reshape(&ty.shape))]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        one_array(operands)?.reshaped(cx.shape.to_vec())
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

/// Reorders axes: axis `i` of the result is axis `order[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transpose {
    /// A permutation of the operand's axes.
    pub order: Vec<usize>,
}

impl Transpose {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "transpose").then(|| {
            Ok(Self {
                order: attributes.axes("order")?,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self { order: vec![1, 0] }]
    }
}

impl Rules for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("transpose", operands)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<_>>() {
            return Err(attribute(format!(
                "`transpose` of {x} by {:?}, which is no permutation of its axes",
                self.order
            )));
        }
        let shape: Shape = self.order.iter().map(|a| x.shape[*a].clone()).collect();
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let mut inverse = vec![0; self.order.len()];
        for (i, axis) in self.order.iter().enumerate() {
            inverse[*axis] = i;
        }
        vec![Some(cx.cotangent.transpose(&inverse))]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let strides = Array::strides(x.shape());
        Array::gather(x, cx.shape.to_vec(), |i| {
            let at = Array::unravel(i, cx.shape);
            self.order
                .iter()
                .zip(at)
                .map(|(axis, i)| strides[*axis] * i)
                .sum()
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("order", &self.order)
    }
}

/// The number of elements of some axes; a number too large to be true where they are too many.
pub(super) fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, d| n.saturating_mul(*d))
}

/// `x` with its axes in `order`, and `x` itself where that is the order that they have.
#[track_caller]
pub(super) fn in_order<'g>(x: Tensor<'g>, order: &[usize]) -> Tensor<'g> {
    if order.iter().enumerate().all(|(i, a)| i == *a) {
        x
    } else {
        x.transpose(order)
    }
}

/// A list of dims as an attribute.
pub(super) fn dims(list: &[Dim]) -> Value {
    Value::Dims(list.to_vec())
}
