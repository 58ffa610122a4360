//! `concat`: tensors one behind the other along an axis.

use super::elements;
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// One or more operands of one element type, which agree in every axis but `axis`; along that axis they follow one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis along which the extents add up.
    pub axis: usize,
}

impl Concat {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "concat").then(|| {
            Ok(Self {
                axis: attributes.axis("axis")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self { axis: 0 }]
    }
}

impl Rules for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let Some((first, rest)) = operands.split_first() else {
            return Err(Refusal::new(
                Kind::Signature,
                "`concat` takes at least one operand",
            ));
        };
        if self.axis >= first.rank() {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`concat` along axis {} of {first}", self.axis),
            ));
        }
        let mut shape = first.shape.to_vec();
        for (i, ty) in rest.iter().enumerate() {
            if ty.dtype != first.dtype {
                return Err(Refusal::new(
                    Kind::Type,
                    format!("`concat` of {} and {}", first.dtype, ty.dtype),
                )
                .help("nothing is converted in silence; convert one side"));
            }
            let others = |t: &TensorType| -> Shape {
                let kept = t.shape.iter().enumerate().filter(|(a, _)| *a != self.axis);
                kept.map(|(_, d)| d.clone()).collect()
            };
            if ty.rank() != first.rank() || others(ty) != others(first) {
                return Err(Refusal::new(
                    Kind::Shape,
                    format!(
                        "`concat` along axis {} of {} and, as operand {}, {}",
                        self.axis,
                        first.shape,
                        i + 1,
                        ty.shape
                    ),
                )
                .help("all extents but that of the axis must be equal"));
            }
            shape[self.axis] = &shape[self.axis] + &ty.shape[self.axis];
        }
        Ok(TensorType::new(first.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let mut offset = Dim::from(0);
        let part = |x: &Tensor<'g>| {
            let end = &offset + x.ty()?.shape.get(self.axis)?;
            let start = std::mem::replace(&mut offset, end.clone());
            Some(cx.cotangent.slice_axis(self.axis, start, end))
        };
        cx.operands.iter().map(part).collect()
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        // Everything behind the axis is one run of elements, for each index of the axes before it.
        let runs = |x: &Array| elements(&x.shape()[self.axis..]);
        let outer = if cx.count == 0 {
            0
        } else {
            elements(&cx.shape[..self.axis])
        };
        let values = if cx.ty.dtype.is_float() {
            let mut out = Vec::with_capacity(cx.count);
            for o in 0..outer {
                for x in operands {
                    let run = runs(x);
                    out.extend_from_slice(&x.floats()?[o * run..(o + 1) * run]);
                }
            }
            Values::Float(out)
        } else {
            let mut out = Vec::with_capacity(cx.count);
            for o in 0..outer {
                for x in operands {
                    let run = runs(x);
                    out.extend_from_slice(&x.ints()?[o * run..(o + 1) * run]);
                }
            }
            Values::Int(out)
        };
        Array::new(cx.ty.dtype, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("axis", &[self.axis])
    }
}
