//! `argmax` and `argmin`: where the extreme of an axis is.

use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::movement::{one, one_array};
use crate::ops::scalar::less;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// Which extreme is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArgKind {
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
}

/// The index of the extreme along one axis, which disappears. The result is i64, whatever the operand. The first of equal elements
/// wins, and -0 and +0 are equal; the first NaN wins over all numbers; of an axis without elements the index is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arg {
    /// Which extreme.
    pub kind: ArgKind,
    /// The axis.
    pub axis: usize,
}

impl Arg {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        let kind = match name {
            "argmax" => ArgKind::Max,
            "argmin" => ArgKind::Min,
            _ => return None,
        };
        Some(attributes.axis("axis").map(|axis| Self { kind, axis }))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        [ArgKind::Max, ArgKind::Min]
            .map(|kind| Self { kind, axis: 0 })
            .to_vec()
    }

    /// Whether `x`, which comes later, beats `best`.
    pub(in crate::ops) fn float_beats(self, x: f64, best: f64) -> bool {
        if best.is_nan() {
            return false;
        }
        x.is_nan()
            || match self.kind {
                ArgKind::Max => x > best,
                ArgKind::Min => x < best,
            }
    }

    pub(in crate::ops) fn int_beats(self, dtype: DType, x: i64, best: i64) -> bool {
        match self.kind {
            ArgKind::Max => less(dtype, best, x),
            ArgKind::Min => less(dtype, x, best),
        }
    }
}

impl Rules for Arg {
    fn name(&self) -> &'static str {
        match self.kind {
            ArgKind::Max => "argmax",
            ArgKind::Min => "argmin",
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
        if self.axis >= x.rank() {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`{}` along axis {} of {x}", self.name(), self.axis),
            ));
        }
        let rest = x
            .shape
            .iter()
            .enumerate()
            .filter(|(a, _)| *a != self.axis)
            .map(|(_, d)| d.clone());
        Ok(TensorType::new(DType::I64, rest.collect::<Shape>()))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let extent = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..]
            .iter()
            .fold(1, |n, d| n.saturating_mul(*d));
        let winner = |i: usize| {
            let at = |k: usize| (i / inner * extent + k) * inner + i % inner;
            let beats = |k: usize, best: usize| match x.values() {
                Values::Float(v) => self.float_beats(v[at(k)], v[at(best)]),
                Values::Int(v) => self.int_beats(x.dtype(), v[at(k)], v[at(best)]),
            };
            (1..extent).fold(0, |best, k| if beats(k, best) { k } else { best }) as i64
        };
        let values = Values::Int((0..cx.count).map(winner).collect());
        Array::new(DType::I64, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none().with_axes("axis", &[self.axis])
    }
}
