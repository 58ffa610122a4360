//! `gather_window`: one element of each position of a window, the adjoint of `scatter_window`.

use super::{ScatterWindow, Windows, chosen, is_empty};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::ops::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// The element of the first operand that element `index` of each window meets, with `index` of the second operand: a tensor of the
/// windows' positions and [`index_dtype`](Windows::index_dtype), as `argmax_window` makes it. Where it meets padding or a hole, or is no
/// element of the window, the result is 0 (or false).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherWindow {
    /// The windows, over all axes of the first operand.
    pub windows: Windows,
}

impl GatherWindow {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "gather_window").then(|| {
            Ok(Self {
                windows: Windows::parse(attributes)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            windows: Windows::of(&[2]),
        }]
    }
}

/// The positions of windows over `shape`, where `index` holds indices into such windows.
pub(super) fn indexed(
    op: &str,
    windows: &Windows,
    shape: &Shape,
    index: &TensorType,
) -> Result<Shape, Refusal> {
    let positions = windows.positions(op, shape)?;
    let wanted = TensorType::new(windows.index_dtype(), &positions);
    if *index == wanted {
        return Ok(positions);
    }
    let kind = if index.dtype == wanted.dtype {
        Kind::Shape
    } else {
        Kind::Type
    };
    Err(
        Refusal::new(kind, format!("`{op}` at indices of type {index}")).help(format!(
            "these windows over {shape} have indices of type {wanted}, as `argmax_window` gives them"
        )),
    )
}

impl Rules for GatherWindow {
    fn name(&self) -> &'static str {
        "gather_window"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, index] = exactly("gather_window", operands)?;
        let positions = indexed("gather_window", &self.windows, &x.shape, index)?;
        Ok(TensorType::new(x.dtype, positions))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [x, index] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let dx = x.ty().map(|ty| {
            if is_empty(&ty.shape) {
                return x.builder().splat(ty.dtype, &ty.shape, 0.0);
            }
            let scatter = ScatterWindow {
                shape: ty.shape,
                windows: self.windows.clone(),
            };
            x.builder().push(scatter, &[cx.cotangent, *index])
        });
        vec![dx, None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, index] = arrays(operands)?;
        let chosen = chosen(&self.windows, x.shape(), index, cx)?;
        let values = match x.values() {
            Values::Float(v) => {
                Values::Float(chosen.iter().map(|p| p.map_or(0.0, |p| v[p])).collect())
            }
            Values::Int(v) => Values::Int(chosen.iter().map(|p| p.map_or(0, |p| v[p])).collect()),
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        self.windows.print(Attributes::none())
    }
}
