//! `scatter_window`: a value for each position of a window, added to one of the elements that the window meets. The adjoint of
//! `gather_window`, and with `argmax_window` that of a max pool.

use super::gather::indexed;
use super::{GatherWindow, Windows, chosen};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// Zeros of `shape`, to which each element of the first operand is added where element `index` of its window lies, with `index` of the
/// second operand. The windows slide over `shape`; both operands have the shape of their positions, and the indices the windows'
/// [`index_dtype`](Windows::index_dtype). Where an index meets padding or a hole, or is no element of the window, nothing is added.
///
/// What meets in one element is added in row-major order of the positions. Each addition is rounded to the element type; the
/// interpreter, whose sums are exact enough in f64, rounds once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterWindow {
    /// The shape of the result.
    pub shape: Shape,
    /// The windows, over all axes of the result.
    pub windows: Windows,
}

impl ScatterWindow {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "scatter_window").then(|| {
            Ok(Self {
                shape: ty.shape.clone(),
                windows: Windows::parse(attributes)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            shape: Shape::from([3]),
            windows: Windows::of(&[2]),
        }]
    }
}

impl Rules for ScatterWindow {
    fn name(&self) -> &'static str {
        "scatter_window"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, index] = exactly("scatter_window", operands)?;
        if x.dtype == DType::Bool {
            return Err(Refusal::new(Kind::Type, "`scatter_window` that adds bool")
                .help("convert to u8 first"));
        }
        let positions = indexed("scatter_window", &self.windows, &self.shape, index)?;
        if x.shape != positions {
            return Err(Refusal::new(
                Kind::Shape,
                format!("`scatter_window` of {x} into {}", self.shape),
            )
            .help(format!("these windows have the positions {positions}")));
        }
        Ok(TensorType::new(x.dtype, &self.shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [x, index] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let gather = GatherWindow {
            windows: self.windows.clone(),
        };
        vec![
            Some(x.builder().push(gather, &[cx.cotangent, *index])),
            None,
        ]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, index] = arrays(operands)?;
        let chosen = chosen(&self.windows, cx.shape, index, cx)?;
        let values = match x.values() {
            Values::Float(v) => {
                let mut out = vec![0.0; cx.count];
                for (value, p) in v.iter().zip(chosen) {
                    if let Some(p) = p {
                        out[p] += value;
                    }
                }
                Values::Float(out)
            }
            Values::Int(v) => {
                let mut out = vec![0i64; cx.count];
                for (value, p) in v.iter().zip(chosen) {
                    if let Some(p) = p {
                        out[p] = out[p].wrapping_add(*value);
                    }
                }
                Values::Int(out)
            }
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        self.windows.print(Attributes::none())
    }
}
