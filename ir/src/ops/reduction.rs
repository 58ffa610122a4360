//! Reductions over axes.
//!
//! The order in which the JIT sums is defined once, by the compiler's emitter, from the axes and shape alone; here, in the oracle, sums
//! are exact enough in f64 that no order matters.

use super::movement::{one, one_array};
use super::scalar::{less, maximum};
use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::{Class, DType};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReduceKind {
    /// The sum; of nothing, 0.
    Sum,
    /// The largest; NaN wins; of nothing, the least value of the type.
    Max,
    /// The smallest; NaN wins; of nothing, the largest value of the type.
    Min,
    /// Whether any `bool` element holds; of nothing, false.
    Any,
    /// Whether all `bool` elements hold; of nothing, true.
    All,
}

impl ReduceKind {
    /// Every kind.
    pub const ALL: [ReduceKind; 5] = [
        ReduceKind::Sum,
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Any,
        ReduceKind::All,
    ];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        match self {
            ReduceKind::Sum => "sum",
            ReduceKind::Max => "max",
            ReduceKind::Min => "min",
            ReduceKind::Any => "any",
            ReduceKind::All => "all",
        }
    }

    fn float(self, x: f64, y: f64) -> f64 {
        match self {
            ReduceKind::Sum => x + y,
            ReduceKind::Max => maximum(x, y),
            ReduceKind::Min => -maximum(-x, -y),
            // The shape rule admits these for `bool` only.
            ReduceKind::Any | ReduceKind::All => x,
        }
    }

    fn int(self, dtype: DType, x: i64, y: i64) -> i64 {
        match self {
            ReduceKind::Sum => x.wrapping_add(y),
            ReduceKind::Max => {
                if less(dtype, x, y) {
                    y
                } else {
                    x
                }
            }
            ReduceKind::Min => {
                if less(dtype, x, y) {
                    x
                } else {
                    y
                }
            }
            ReduceKind::Any => x | y,
            ReduceKind::All => x & y,
        }
    }

    fn float_identity(self) -> f64 {
        match self {
            ReduceKind::Max => f64::NEG_INFINITY,
            ReduceKind::Min => f64::INFINITY,
            ReduceKind::Sum | ReduceKind::Any | ReduceKind::All => 0.0,
        }
    }

    fn int_identity(self, dtype: DType) -> i64 {
        let bits = 8 * dtype.size() as u32;
        let (least, largest) = match dtype.class() {
            Class::Unsigned => (0, (u64::MAX >> (64 - bits)).cast_signed()),
            Class::Signed => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
            Class::Bool | Class::Float => (0, 1),
        };
        match self {
            ReduceKind::Sum | ReduceKind::Any => 0,
            ReduceKind::Max => least,
            ReduceKind::Min => largest,
            ReduceKind::All => 1,
        }
    }
}

/// Combines all elements along some axes, which disappear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduce {
    /// How elements are combined.
    pub kind: ReduceKind,
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

impl Reduce {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "reduce").then(|| {
            let word = attributes.word("kind")?;
            let kind = ReduceKind::ALL
                .into_iter()
                .find(|k| k.name() == word)
                .ok_or_else(|| AttributeError {
                    name: "kind".into(),
                    expected: "sum, max, min, any or all".into(),
                })?;
            Ok(Self {
                kind,
                axes: attributes.axes("axes")?,
            })
        })
    }

    /// The operand's shape with the reduced axes kept at size 1.
    fn kept(&self, shape: &Shape) -> Shape {
        let keep = |(i, d): (usize, &Dim)| {
            if self.axes.contains(&i) {
                Dim::from(1)
            } else {
                d.clone()
            }
        };
        shape.iter().enumerate().map(keep).collect()
    }
}

impl Rules for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("reduce", operands)?;
        if !self.axes.windows(2).all(|w| w[0] < w[1]) || self.axes.iter().any(|a| *a >= x.rank()) {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`reduce` of {x} over the axes {:?}", self.axes),
            )
            .help(format!(
                "the axes must be different ones of 0 to {}",
                x.rank().saturating_sub(1)
            )));
        }
        let boolean = matches!(self.kind, ReduceKind::Any | ReduceKind::All);
        if boolean != (x.dtype == DType::Bool) {
            return Err(Refusal::new(
                Kind::Type,
                format!("`reduce` to the {} of {}", self.kind.name(), x.dtype),
            ));
        }
        let rest = x
            .shape
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.axes.contains(i));
        Ok(TensorType::new(
            x.dtype,
            rest.map(|(_, d)| d.clone()).collect::<Shape>(),
        ))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some((x, ty)) = cx.operands.first().and_then(|x| Some((*x, x.ty()?))) else {
            return vec![None];
        };
        let kept = self.kept(&ty.shape);
        let spread = |t: Tensor<'g>| t.reshape(&kept).broadcast_to(&ty.shape);
        match self.kind {
            ReduceKind::Sum => vec![Some(spread(cx.cotangent))],
            // Elements that tie share the cotangent equally, as two operands of `max` do.
            ReduceKind::Max | ReduceKind::Min => {
                let wins = x.eq(spread(cx.result)).convert(ty.dtype);
                let share = cx.cotangent / wins.reduce(ReduceKind::Sum, &self.axes);
                vec![Some(spread(share) * wins)]
            }
            ReduceKind::Any | ReduceKind::All => vec![None],
        }
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let count: usize = cx.shape.iter().product();
        let strides = Array::strides(cx.shape);
        let target = |i: usize| {
            let at = Array::unravel(i, x.shape());
            let rest = at
                .iter()
                .enumerate()
                .filter(|(a, _)| !self.axes.contains(a));
            rest.zip(&strides).map(|((_, i), s)| i * s).sum::<usize>()
        };
        let values = match x.values() {
            Values::Float(v) => {
                let mut out = vec![self.kind.float_identity(); count];
                for (i, value) in v.iter().enumerate() {
                    let at = target(i);
                    out[at] = self.kind.float(out[at], *value);
                }
                Values::Float(out)
            }
            Values::Int(v) => {
                let mut out = vec![self.kind.int_identity(x.dtype()); count];
                for (i, value) in v.iter().enumerate() {
                    let at = target(i);
                    out[at] = self.kind.int(x.dtype(), out[at], *value);
                }
                Values::Int(out)
            }
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with("kind", Value::Word(self.kind.name().into()))
            .with_axes("axes", &self.axes)
    }
}
