//! `pad`: elements of one value around a tensor and between its elements, as StableHLO's `pad` without negative edges.
//!
//! Negative edges are refused: to crop is `slice`, and one meaning an op keeps every rule short.

use super::dims;
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Places the operand's element `i` of each axis at `low + i * (interior + 1)`; all other elements are the second operand, a scalar
/// of the same element type. An axis of size `d` becomes `low + d + interior * max(d - 1, 0) + high`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// How many elements come before each axis, not negative.
    pub low: Vec<Dim>,
    /// How many elements come behind each axis, not negative.
    pub high: Vec<Dim>,
    /// How many elements come between two neighbours of each axis, not negative.
    pub interior: Vec<i64>,
}

impl Pad {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "pad").then(|| {
            Ok(Self {
                low: attributes.dims("low")?,
                high: attributes.dims("high")?,
                interior: attributes.integers("interior")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            low: vec![Dim::from(1)],
            high: vec![Dim::from(2)],
            interior: vec![1],
        }]
    }

    /// The span of `size` elements with `interior` more between any two.
    pub(super) fn dilated(size: &Dim, interior: i64) -> Dim {
        if interior == 0 {
            return size.clone();
        }
        let gaps = (size - &Dim::from(1)).maximum(&Dim::from(0));
        size + &(&gaps * &Dim::from(interior))
    }

    /// The cotangent of the padded operand: a strided slice.
    fn unpad<'g>(&self, cotangent: Tensor<'g>, ty: &TensorType) -> Tensor<'g> {
        // `slice` finds the extent `d` back where its span is `d * stride`. That span ends behind the last element by the interior, so
        // where the extent is no number the high edge may have to grow. Numbers are exact as they are.
        let grown: Vec<Dim> = ty
            .shape
            .iter()
            .zip(&self.interior)
            .map(|(d, i)| Dim::from(if d.constant().is_some() { 0 } else { *i }))
            .collect();
        let span = |(d, i): (&Dim, &i64)| match d.constant() {
            Some(_) => Pad::dilated(d, *i),
            None => d * &Dim::from(i.saturating_add(1)),
        };
        let spans = ty.shape.iter().zip(&self.interior).map(span);
        let limit: Vec<Dim> = self.low.iter().zip(spans).map(|(l, s)| l + &s).collect();
        let stride: Vec<i64> = self.interior.iter().map(|i| i.saturating_add(1)).collect();
        let cotangent = if grown.iter().all(|d| d.constant() == Some(0)) {
            cotangent
        } else {
            let none = vec![Dim::from(0); ty.rank()];
            cotangent.pad(0.0, &none, &grown, &vec![0; ty.rank()])
        };
        cotangent.slice(&self.low, &limit, &stride)
    }
}

impl Rules for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, value] = exactly("pad", operands)?;
        if value.dtype != x.dtype || value.rank() != 0 {
            return Err(
                Refusal::new(Kind::Type, format!("`pad` of {x} with {value}"))
                    .help(format!("the padding value must be {}[]", x.dtype)),
            );
        }
        let refuse = |why: String| {
            Err(Refusal::new(
                Kind::Attribute,
                format!("`pad` of {x}: {why}"),
            ))
        };
        if [self.low.len(), self.high.len(), self.interior.len()] != [x.rank(); 3] {
            return refuse("low, high and interior need one entry an axis".into());
        }
        let mut shape = Vec::new();
        for (axis, extent) in x.shape.iter().enumerate() {
            let (low, high, interior) = (&self.low[axis], &self.high[axis], self.interior[axis]);
            let negative = |d: &Dim| d.constant().is_some_and(|c| c < 0);
            if negative(low) || negative(high) || interior < 0 {
                return refuse(format!(
                    "axis {axis} gets {low} before, {high} behind and {interior} between, and none may be negative"
                ));
            }
            shape.push(&(low + &Pad::dilated(extent, interior)) + high);
        }
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some(ty) = cx.operands.first().and_then(|x| x.ty()) else {
            return vec![None, None];
        };
        let builder = cx.cotangent.builder();
        // The padding is selected, not what is left of a difference of sums: infinite cotangents stay where they are.
        let padding = builder.splat(DType::Bool, &ty.shape, 0.0).pad(
            1.0,
            &self.low,
            &self.high,
            &self.interior,
        );
        let value = cx.cotangent.where_(padding, 0.0).sum();
        vec![Some(self.unpad(cx.cotangent, &ty)), Some(value)]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, value] = arrays(operands)?;
        let mut low = Vec::new();
        for (low_dim, high_dim) in self.low.iter().zip(&self.high) {
            low.push(low_dim.eval_size(cx.bindings)?);
            high_dim.eval_size(cx.bindings)?;
        }
        let strides = Array::strides(cx.shape);
        let target = |i: usize| -> usize {
            let at = Array::unravel(i, x.shape());
            let place = |a: usize| low[a] + at[a] * (self.interior[a].unsigned_abs() as usize + 1);
            (0..at.len()).map(|a| place(a) * strides[a]).sum()
        };
        let values = match (x.values(), value.values()) {
            (Values::Float(v), Values::Float(fill)) => {
                Values::Float(placed(v, fill, cx.count, target)?)
            }
            (Values::Int(v), Values::Int(fill)) => Values::Int(placed(v, fill, cx.count, target)?),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("`pad` of two families".into()));
            }
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with("low", dims(&self.low))
            .with("high", dims(&self.high))
            .with_integers("interior", &self.interior)
    }
}

fn placed<T: Copy>(
    source: &[T],
    fill: &[T],
    count: usize,
    target: impl Fn(usize) -> usize,
) -> Result<Vec<T>, EvalError> {
    let fill = fill
        .first()
        .ok_or_else(|| EvalError::Invalid("`pad` without a value".into()))?;
    let mut out = vec![*fill; count];
    for (i, value) in source.iter().enumerate() {
        let slot = out
            .get_mut(target(i))
            .ok_or_else(|| EvalError::Invalid("`pad` left its result".into()))?;
        *slot = *value;
    }
    Ok(out)
}
