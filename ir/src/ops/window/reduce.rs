//! `reduce_window`: a reduction of each position of a window, as StableHLO's op of this name.

use super::{ScatterWindow, Windows, is_empty, over_positions};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::movement::{one, one_array};
use crate::ops::{ArgKind, ArgWindow, Effect, EvalCx, ReduceKind, Rules, Vjp, accumulate};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// How the elements of a window are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowKind {
    /// The sum.
    Sum,
    /// The largest; NaN wins.
    Max,
    /// The smallest; NaN wins.
    Min,
}

impl WindowKind {
    /// Every kind.
    pub const ALL: [WindowKind; 3] = [WindowKind::Sum, WindowKind::Max, WindowKind::Min];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        ReduceKind::from(self).name()
    }
}

/// Combines the elements that each position of a window meets. Padding and holes are left out: a window that meets nothing else gives 0,
/// the least or the largest value of the type, as [`ReduceKind`] of nothing does.
///
/// At a tie the first of the extremes, in row-major order of the window, takes the whole cotangent, as in PyTorch and XLA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReduceWindow {
    /// How elements are combined.
    pub kind: WindowKind,
    /// The windows, over all axes.
    pub windows: Windows,
    /// What sums are accumulated in, where it is not the default of [`accumulator`](crate::ops::accumulator): f64 for a narrower float.
    /// `None` for the other kinds, which do not round.
    pub accumulate: Option<DType>,
}

impl ReduceWindow {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "reduce_window").then(|| {
            let word = attributes.word("kind")?;
            let kind = WindowKind::ALL.into_iter().find(|k| k.name() == word);
            Ok(Self {
                kind: kind.ok_or_else(|| AttributeError {
                    name: "kind".into(),
                    expected: "sum, max or min".into(),
                })?,
                windows: Windows::parse(attributes)?,
                accumulate: accumulate::parse(attributes, ty.dtype)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        let windows = Windows::of(&[2]);
        WindowKind::ALL
            .map(|kind| Self {
                kind,
                windows: windows.clone(),
                accumulate: None,
            })
            .to_vec()
    }

    /// What sums of `dtype` are accumulated in.
    pub fn accumulator(&self, dtype: DType) -> DType {
        self.accumulate.unwrap_or(accumulate::accumulator(dtype))
    }
}

impl Rules for ReduceWindow {
    fn name(&self) -> &'static str {
        "reduce_window"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("reduce_window", operands)?;
        if x.dtype == DType::Bool {
            return Err(Refusal::new(Kind::Type, "`reduce_window` of bool")
                .help("convert the operand to u8 first"));
        }
        match self.kind {
            WindowKind::Sum => accumulate::check("reduce_window", x.dtype, self.accumulate)?,
            WindowKind::Max | WindowKind::Min => {
                if self.accumulate.is_some() {
                    return Err(Refusal::new(
                        Kind::Attribute,
                        format!(
                            "`reduce_window` to the {} accumulates nothing that is rounded",
                            self.kind.name()
                        ),
                    )
                    .help("leave `accumulate` out"));
                }
            }
        }
        let shape = self.windows.positions("reduce_window", &x.shape)?;
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some((x, ty)) = cx.operands.first().and_then(|x| Some((*x, x.ty()?))) else {
            return vec![None];
        };
        let Some(positions) = cx.cotangent.ty().map(|t| t.shape) else {
            return vec![None];
        };
        let builder = x.builder();
        if is_empty(&ty.shape) || is_empty(&positions) {
            return vec![Some(builder.splat(ty.dtype, &ty.shape, 0.0))];
        }
        let index = |kind| {
            let windows = self.windows.clone();
            builder.push(ArgWindow { kind, windows }, &[x])
        };
        let scattered = |index| {
            let scatter = ScatterWindow {
                shape: ty.shape.clone(),
                windows: self.windows.clone(),
            };
            builder.push(scatter, &[cx.cotangent, index])
        };
        vec![Some(match self.kind {
            WindowKind::Sum => {
                let adjoint = ReduceWindow {
                    kind: WindowKind::Sum,
                    windows: self.windows.adjoint(&ty.shape, &positions),
                    accumulate: self.accumulate,
                };
                builder.push(adjoint, &[cx.cotangent])
            }
            WindowKind::Max => scattered(index(ArgKind::Max)),
            WindowKind::Min => scattered(index(ArgKind::Min)),
        })]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let kind = ReduceKind::from(self.kind);
        let (windows, base) = (&self.windows, x.shape());
        let values = match x.values() {
            Values::Float(v) => Values::Float(over_positions(windows, base, cx, |met| {
                met.fold(kind.float_identity(), |y, (_, p)| kind.float(y, v[p]))
            })?),
            Values::Int(v) => Values::Int(over_positions(windows, base, cx, |met| {
                let identity = kind.int_identity(x.dtype());
                met.fold(identity, |y, (_, p)| kind.int(x.dtype(), y, v[p]))
            })?),
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        let kind = Attributes::none().with("kind", Value::Word(self.kind.name().into()));
        accumulate::print(self.windows.print(kind), self.accumulate)
    }
}
