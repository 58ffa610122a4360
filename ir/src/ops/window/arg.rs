//! `argmax_window` and `argmin_window`: where in each position of a window the extreme is. With [`ScatterWindow`](super::ScatterWindow)
//! this is StableHLO's `select_and_scatter`, in two ops, so that a pool can keep a byte for each window instead of its whole operand.

use super::{Windows, over_positions};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::movement::{one, one_array};
use crate::ops::{Arg, ArgKind, Effect, EvalCx, Rules, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// The number of the extreme among the elements of each window, counted in row-major order of the window, padding and holes included. The
/// result has the windows' [`index_dtype`](Windows::index_dtype): u8 for windows of up to 256 elements, else u32. The first of equal
/// elements wins, and -0 and +0 are equal; the first NaN wins over all numbers; of a window that meets nothing the number is 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgWindow {
    /// Which extreme.
    pub kind: ArgKind,
    /// The windows, over all axes.
    pub windows: Windows,
}

impl ArgWindow {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        let kind = match name {
            "argmax_window" => ArgKind::Max,
            "argmin_window" => ArgKind::Min,
            _ => return None,
        };
        Some(Windows::parse(attributes).map(|windows| Self { kind, windows }))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        [ArgKind::Max, ArgKind::Min]
            .map(|kind| Self {
                kind,
                windows: Windows::of(&[2]),
            })
            .to_vec()
    }
}

impl Rules for ArgWindow {
    fn name(&self) -> &'static str {
        match self.kind {
            ArgKind::Max => "argmax_window",
            ArgKind::Min => "argmin_window",
        }
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one(self.name(), operands)?;
        if x.dtype == DType::Bool {
            return Err(
                Refusal::new(Kind::Type, format!("`{}` of bool", self.name()))
                    .help("convert the operand to u8 first"),
            );
        }
        let shape = self.windows.positions(self.name(), &x.shape)?;
        Ok(TensorType::new(self.windows.index_dtype(), shape))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let arg = Arg {
            kind: self.kind,
            axis: 0,
        };
        let beats = |p: usize, best: usize| match x.values() {
            Values::Float(v) => arg.float_beats(v[p], v[best]),
            Values::Int(v) => arg.int_beats(x.dtype(), v[p], v[best]),
        };
        let winner = |met: &mut dyn Iterator<Item = (usize, usize)>| {
            let first = met.next();
            let best = first.map(|first| {
                met.fold(
                    first,
                    |best, next| {
                        if beats(next.1, best.1) { next } else { best }
                    },
                )
            });
            best.map_or(0, |(k, _)| k as i64)
        };
        let winners = over_positions(&self.windows, x.shape(), cx, winner)?;
        Array::new(cx.ty.dtype, cx.shape.to_vec(), Values::Int(winners))
    }

    fn attributes(&self) -> Attributes {
        self.windows.print(Attributes::none())
    }
}
