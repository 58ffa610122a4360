//! `slice`: a strided window. Its adjoint is a `pad`.

use super::{Pad, dims, one, one_array};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
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
            Ok(Self {
                start: attributes.dims("start")?,
                limit: attributes.dims("limit")?,
                stride: attributes.integers("stride")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            start: vec![Dim::from(0)],
            limit: vec![Dim::from(3)],
            stride: vec![2],
        }]
    }

    /// How many steps of `stride` begin within `span`. An exact quotient is found first, so that `2*b` elements by 2 are `b` of them.
    fn steps(span: &Dim, stride: i64) -> Dim {
        let divisor = Dim::from(stride);
        match span.exact_div(&divisor) {
            Some(quotient) => quotient,
            None => (span + &Dim::from(stride.saturating_sub(1))).floor_div(&divisor),
        }
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
            shape.push(Slice::steps(&(limit - start), stride));
        }
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let from = cx.operands.first().and_then(|x| x.ty());
        let (Some(from), Some(window)) = (from, cx.cotangent.ty()) else {
            return vec![None];
        };
        let interior: Vec<i64> = self.stride.iter().map(|s| s.saturating_sub(1)).collect();
        // What the stride leaves over behind the last element goes to the high edge, with what the window itself left out.
        let high: Vec<Dim> = (0..from.rank())
            .map(|a| {
                let span = Pad::dilated(&window.shape[a], interior[a]);
                &(&from.shape[a] - &self.start[a]) - &span
            })
            .collect();
        let edges = self.start.iter().chain(&high);
        let whole =
            edges.map(Dim::constant).all(|d| d == Some(0)) && interior.iter().all(|i| *i == 0);
        vec![Some(if whole {
            cx.cotangent
        } else {
            cx.cotangent.pad(0.0, &self.start, &high, &interior)
        })]
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
        Attributes::none()
            .with("start", dims(&self.start))
            .with("limit", dims(&self.limit))
            .with_integers("stride", &self.stride)
    }
}
