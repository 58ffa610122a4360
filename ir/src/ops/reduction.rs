//! Reductions over axes.
//!
//! The order in which the JIT sums is defined once, by the compiler's emitter, from the axes and shape alone; here, in the oracle, sums
//! are exact enough in f64 that no order matters, whatever type the op accumulates in.

use super::accumulate;
use super::movement::{in_order, one, one_array};
use super::scalar::{less, maximum};
use super::{Broadcast, Effect, EvalCx, Iota, Rules, Vjp};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::{Class, DType};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod arg;
mod cumulative;

pub use arg::{Arg, ArgKind};
pub use cumulative::{Cumulative, CumulativeKind};

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReduceKind {
    /// The sum; of nothing, 0.
    Sum,
    /// The product; of nothing, 1.
    Prod,
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
    pub const ALL: [ReduceKind; 6] = [
        ReduceKind::Sum,
        ReduceKind::Prod,
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Any,
        ReduceKind::All,
    ];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        match self {
            ReduceKind::Sum => "sum",
            ReduceKind::Prod => "prod",
            ReduceKind::Max => "max",
            ReduceKind::Min => "min",
            ReduceKind::Any => "any",
            ReduceKind::All => "all",
        }
    }

    pub(super) fn float(self, x: f64, y: f64) -> f64 {
        match self {
            ReduceKind::Sum => x + y,
            ReduceKind::Prod => x * y,
            ReduceKind::Max => maximum(x, y),
            ReduceKind::Min => -maximum(-x, -y),
            // The shape rule admits these for `bool` only.
            ReduceKind::Any | ReduceKind::All => x,
        }
    }

    pub(super) fn int(self, dtype: DType, x: i64, y: i64) -> i64 {
        match self {
            ReduceKind::Sum => x.wrapping_add(y),
            ReduceKind::Prod => x.wrapping_mul(y),
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

    pub(super) fn float_identity(self) -> f64 {
        match self {
            ReduceKind::Max => f64::NEG_INFINITY,
            ReduceKind::Min => f64::INFINITY,
            ReduceKind::Prod => 1.0,
            ReduceKind::Sum | ReduceKind::Any | ReduceKind::All => 0.0,
        }
    }

    pub(super) fn int_identity(self, dtype: DType) -> i64 {
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
            ReduceKind::Prod | ReduceKind::All => 1,
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
    /// What sums and products are accumulated in, where it is not the default of [`accumulator`](super::accumulator): f64 for a
    /// narrower float. `None` for the other kinds, which do not round.
    pub accumulate: Option<DType>,
}

impl Reduce {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "reduce").then(|| {
            let word = attributes.word("kind")?;
            let kind = ReduceKind::ALL
                .into_iter()
                .find(|k| k.name() == word)
                .ok_or_else(|| AttributeError {
                    name: "kind".into(),
                    expected: "sum, prod, max, min, any or all".into(),
                })?;
            Ok(Self {
                kind,
                axes: attributes.axes("axes")?,
                accumulate: accumulate::parse(attributes, ty.dtype)?,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        ReduceKind::ALL
            .map(|kind| Self {
                kind,
                axes: vec![0],
                accumulate: None,
            })
            .to_vec()
    }

    /// What sums and products of `dtype` are accumulated in.
    pub fn accumulator(&self, dtype: DType) -> DType {
        self.accumulate.unwrap_or(accumulate::accumulator(dtype))
    }

    /// For each element, the product of the others that are reduced with it: a product over pairs in which an element's own place holds
    /// a 1. That is right however many zeros there are and to any order of differentiation, where a quotient `result / x` is not, at
    /// the cost of `n^2` products for `n` reduced elements.
    fn product_of_others<'g>(&self, x: Tensor<'g>, ty: &TensorType) -> Tensor<'g> {
        let builder = x.builder();
        let kept: Vec<usize> = (0..ty.rank()).filter(|a| !self.axes.contains(a)).collect();
        let order: Vec<usize> = kept.iter().chain(&self.axes).copied().collect();
        let extent =
            |axes: &[usize]| -> Shape { axes.iter().map(|a| ty.shape[*a].clone()).collect() };
        let count = extent(&self.axes).elements();
        let rows = kept.len();
        let with = |tail: &[Dim]| -> Shape { extent(&kept).iter().chain(tail).cloned().collect() };

        let row = in_order(x, &order).reshape(with(std::slice::from_ref(&count)));
        let square = Broadcast {
            shape: with(&[count.clone(), count.clone()]),
            axes: (0..rows).chain([rows + 1]).collect(),
        };
        let pairs = builder.push(square, &[row]);
        let index = |axis| {
            let ty = TensorType::new(DType::I64, vec![count.clone(), count.clone()]);
            builder.push(Iota { ty, axis }, &[])
        };
        let ones = builder.splat(ty.dtype, (), 1.0);
        let others = pairs.where_(index(0).ne(index(1)), ones);
        let product = Reduce {
            kind: ReduceKind::Prod,
            axes: vec![rows + 1],
            accumulate: self.accumulate,
        };
        let products = builder.push(product, &[others]).reshape(extent(&order));
        let mut inverse = vec![0; order.len()];
        for (i, axis) in order.iter().enumerate() {
            inverse[*axis] = i;
        }
        in_order(products, &inverse)
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
        match self.kind {
            ReduceKind::Sum | ReduceKind::Prod => {
                accumulate::check("reduce", x.dtype, self.accumulate)?;
            }
            ReduceKind::Max | ReduceKind::Min | ReduceKind::Any | ReduceKind::All => {
                if self.accumulate.is_some() {
                    return Err(Refusal::new(
                        Kind::Attribute,
                        format!(
                            "`reduce` to the {} accumulates nothing that is rounded",
                            self.kind.name()
                        ),
                    )
                    .help("leave `accumulate` out"));
                }
            }
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
            ReduceKind::Prod => vec![Some(spread(cx.cotangent) * self.product_of_others(x, &ty))],
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
        let count = cx.count;
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
        let attributes = Attributes::none()
            .with("kind", Value::Word(self.kind.name().into()))
            .with_axes("axes", &self.axes);
        accumulate::print(attributes, self.accumulate)
    }
}
