//! `slice`: a strided window. Its vjp places the cotangent by a product with a selection, until `pad` is here.

use super::{dims, one, one_array};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Iota, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// Elements `start`, `start + stride`, ... below `limit` along each axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The first index along each axis.
    pub start: Vec<Dim>,
    /// The bound above the indices along each axis.
    pub limit: Vec<Dim>,
    /// The step along each axis, at least 1.
    pub stride: Vec<i64>,
}

impl Slice {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "slice").then(|| {
            let (start, limit) = (attributes.dims("start")?, attributes.dims("limit")?);
            let stride: Option<Vec<i64>> = attributes
                .dims("stride")?
                .iter()
                .map(Dim::constant)
                .collect();
            let stride = stride.ok_or_else(|| AttributeError {
                name: "stride".into(),
                expected: "a list of integers".into(),
            })?;
            Ok(Self {
                start,
                limit,
                stride,
            })
        })
    }
}

impl Rules for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("slice", operands)?;
        let refuse = |why: String| {
            Err(Refusal::new(
                Kind::Attribute,
                format!("`slice` of {x}: {why}"),
            ))
        };
        if [self.start.len(), self.limit.len(), self.stride.len()] != [x.rank(); 3] {
            return refuse("start, limit and stride need one entry an axis".into());
        }
        let mut shape = Vec::new();
        for (axis, extent) in x.shape.iter().enumerate() {
            let (start, limit, stride) = (&self.start[axis], &self.limit[axis], self.stride[axis]);
            if stride < 1 {
                return refuse(format!(
                    "the stride of axis {axis} is {stride}, not at least 1"
                ));
            }
            let known = (start.constant(), limit.constant(), extent.constant());
            if let (Some(s), Some(l), _) = known
                && (s < 0 || l < s)
            {
                return refuse(format!("the window {s}..{l} of axis {axis} is not one"));
            }
            if let (_, Some(l), Some(e)) = known
                && l > e
            {
                return refuse(format!(
                    "the window of axis {axis} ends at {l}, behind its size {e}"
                ));
            }
            let span = &(limit - start) + &Dim::from(stride.saturating_sub(1));
            shape.push(span.floor_div(&Dim::from(stride)));
        }
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some(ty) = cx.operands.first().and_then(|x| x.ty()) else {
            return vec![None];
        };
        let mut cotangent = cx.cotangent;
        for axis in 0..ty.rank() {
            let whole = self.start[axis].constant() == Some(0)
                && self.limit[axis] == ty.shape[axis]
                && self.stride[axis] == 1;
            if !whole {
                cotangent = self.place(cotangent, axis, &ty.shape[axis]);
            }
        }
        vec![Some(cotangent)]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let strides = Array::strides(x.shape());
        let start: Result<Vec<usize>, _> = self
            .start
            .iter()
            .map(|d| d.eval_size(cx.bindings))
            .collect();
        let start = start?;
        for (axis, limit) in self.limit.iter().enumerate() {
            if limit.eval_size(cx.bindings)? > x.shape()[axis] {
                return Err(EvalError::Invalid(format!(
                    "the window of axis {axis} ends behind its size {}",
                    x.shape()[axis]
                )));
            }
        }
        Array::gather(x, cx.shape.to_vec(), |i| {
            let at = Array::unravel(i, cx.shape);
            at.iter()
                .enumerate()
                .map(|(a, i)| (start[a] + i * self.stride[a].unsigned_abs() as usize) * strides[a])
                .sum()
        })
    }

    fn attributes(&self) -> Attributes {
        let stride: Vec<Dim> = self.stride.iter().map(|s| Dim::from(*s)).collect();
        Attributes::none()
            .with("start", dims(&self.start))
            .with("limit", dims(&self.limit))
            .with("stride", dims(&stride))
    }
}

impl Slice {
    /// The adjoint along one axis: `out[.., p, ..] = sum_i [p = start + stride i] g[.., i, ..]`, a product with a 0/1 matrix.
    fn place<'g>(&self, cotangent: Tensor<'g>, axis: usize, extent: &Dim) -> Tensor<'g> {
        let Some(ty) = cotangent.ty() else {
            return cotangent;
        };
        let builder = cotangent.builder();
        let rank = ty.rank();
        let square = Shape::from(vec![ty.shape[axis].clone(), extent.clone()]);
        let index = |along| {
            builder.push(
                Iota {
                    ty: TensorType::new(DType::I64, &square),
                    axis: along,
                },
                &[],
            )
        };
        let stride = builder.splat(DType::I64, &square, self.stride[axis] as f64);
        let start = builder
            .push(
                crate::ops::DimSize {
                    dim: self.start[axis].clone(),
                },
                &[],
            )
            .broadcast_to(&square);
        let selection = (index(0) * stride + start).eq(index(1)).convert(ty.dtype);
        let product = cotangent.dot_general(selection, &[axis], &[0], &[], &[]);
        // The placed axis comes last out of the product and moves back to its place.
        let mut order: Vec<usize> = (0..rank - 1).collect();
        order.insert(axis, rank - 1);
        if order.iter().enumerate().all(|(i, a)| i == *a) {
            product
        } else {
            product.transpose(&order)
        }
    }
}
