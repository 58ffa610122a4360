//! `cumulative`: running sums, products and maxima along one axis.

use super::ReduceKind;
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::movement::{elements, in_order, one, one_array};
use crate::ops::{Broadcast, Effect, EvalCx, Iota, Rules, Vjp, accumulate};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CumulativeKind {
    /// The running sum.
    Sum,
    /// The running product.
    Prod,
    /// The largest so far; NaN wins, and stays.
    Max,
}

impl CumulativeKind {
    /// Every kind.
    pub const ALL: [CumulativeKind; 3] = [
        CumulativeKind::Sum,
        CumulativeKind::Prod,
        CumulativeKind::Max,
    ];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        ReduceKind::from(self).name()
    }
}

impl From<CumulativeKind> for ReduceKind {
    fn from(kind: CumulativeKind) -> Self {
        match kind {
            CumulativeKind::Sum => ReduceKind::Sum,
            CumulativeKind::Prod => ReduceKind::Prod,
            CumulativeKind::Max => ReduceKind::Max,
        }
    }
}

/// Each element combined with all before it along one axis, or with all behind it: JAX's `cumsum`, `cumprod` and `cummax`.
///
/// The gradient of a sum is a running sum from the other end. Those of product and maximum hold a matrix of `n` times `n` elements for an
/// axis of `n`: they are right for any number of zeros, at ties, which share the cotangent equally as in `reduce`, and to any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cumulative {
    /// How elements are combined.
    pub kind: CumulativeKind,
    /// The axis.
    pub axis: usize,
    /// Whether the last element is the first one.
    pub reverse: bool,
    /// What sums and products are accumulated in, where it is not the default of [`accumulator`](crate::ops::accumulator): f64 for a
    /// narrower float. `None` for the maximum, which does not round.
    pub accumulate: Option<DType>,
}

impl Cumulative {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "cumulative").then(|| {
            let word = attributes.word("kind")?;
            let kind = CumulativeKind::ALL.into_iter().find(|k| k.name() == word);
            Ok(Self {
                kind: kind.ok_or_else(|| AttributeError {
                    name: "kind".into(),
                    expected: "sum, prod or max".into(),
                })?,
                axis: attributes.axis("axis")?,
                reverse: attributes.flag("reverse")?,
                accumulate: accumulate::parse(attributes, ty.dtype)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        CumulativeKind::ALL
            .map(|kind| Self {
                kind,
                axis: 0,
                reverse: false,
                accumulate: None,
            })
            .to_vec()
    }

    /// What sums and products of `dtype` are accumulated in.
    pub fn accumulator(&self, dtype: DType) -> DType {
        self.accumulate.unwrap_or(accumulate::accumulator(dtype))
    }

    /// The cotangent of the operand of a product or maximum.
    fn by_pairs<'g>(&self, cx: &Vjp<'g>, x: Tensor<'g>, ty: &TensorType) -> Tensor<'g> {
        let pairs = Pairs::of(self, x, ty);
        let cotangent = pairs.row(cx.cotangent);
        // `[j, i]`: whether element j has a part in result i.
        let (j, i) = (pairs.index(0), pairs.index(1));
        let part = if self.reverse { j.ge(i) } else { j.le(i) };
        let part = part.broadcast_to(&pairs.square);
        let flow = match self.kind {
            CumulativeKind::Prod => {
                // The running products without element j.
                let ones = x.builder().splat(ty.dtype, (), 1.0);
                let others = pairs.along(pairs.row(x), 1).where_(j.ne(i), ones);
                let products = Cumulative {
                    axis: pairs.rows + 1,
                    ..*self
                };
                let products = x.builder().push(products, &[others]);
                pairs.along(cotangent, 1).times(products).where_(part, 0.0)
            }
            CumulativeKind::Sum | CumulativeKind::Max => {
                let (x, largest) = (pairs.row(x), pairs.row(cx.result));
                let equal = pairs.along(x, 0).eq(pairs.along(largest, 1));
                let wins = equal.and(part).convert(ty.dtype);
                let winners = wins.reduce(ReduceKind::Sum, &[pairs.rows]);
                pairs.along(cotangent.over(winners), 1).times(wins)
            }
        };
        pairs.back(flow.reduce(ReduceKind::Sum, &[pairs.rows + 1]))
    }
}

/// Pairs of elements of one axis: the tensor with the axis last, and with the axis twice.
struct Pairs<'g> {
    x: Tensor<'g>,
    /// How many axes stand before the pair.
    rows: usize,
    /// The axes as they are brought into order.
    order: Vec<usize>,
    /// The extent of the axis.
    count: Dim,
    square: Shape,
}

impl<'g> Pairs<'g> {
    fn of(op: &Cumulative, x: Tensor<'g>, ty: &TensorType) -> Self {
        let kept = (0..ty.rank()).filter(|a| *a != op.axis);
        let order: Vec<usize> = kept.chain([op.axis]).collect();
        let count = ty.shape[op.axis].clone();
        let extents = order.iter().map(|a| ty.shape[*a].clone());
        Self {
            x,
            rows: ty.rank() - 1,
            square: extents.chain([count.clone()]).collect(),
            order,
            count,
        }
    }

    /// A tensor of the operand's shape with the axis last.
    fn row(&self, x: Tensor<'g>) -> Tensor<'g> {
        in_order(x, &self.order)
    }

    /// A row as the first or the second of each pair.
    fn along(&self, row: Tensor<'g>, place: usize) -> Tensor<'g> {
        let square = Broadcast {
            shape: self.square.clone(),
            axes: (0..self.rows).chain([self.rows + place]).collect(),
        };
        self.x.builder().push(square, &[row])
    }

    /// The number of the first or the second of each pair.
    fn index(&self, axis: usize) -> Tensor<'g> {
        let ty = TensorType::new(DType::I64, vec![self.count.clone(), self.count.clone()]);
        self.x.builder().push(Iota { ty, axis }, &[])
    }

    /// A row with the axis where it belongs.
    fn back(&self, row: Tensor<'g>) -> Tensor<'g> {
        let mut inverse = vec![0; self.order.len()];
        for (i, axis) in self.order.iter().enumerate() {
            inverse[*axis] = i;
        }
        in_order(row, &inverse)
    }
}

impl Rules for Cumulative {
    fn name(&self) -> &'static str {
        "cumulative"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("cumulative", operands)?;
        if x.dtype == DType::Bool {
            return Err(Refusal::new(Kind::Type, "`cumulative` of bool")
                .help("convert the operand to u8 first"));
        }
        if self.axis >= x.rank() {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`cumulative` along axis {} of {x}", self.axis),
            ));
        }
        match self.kind {
            CumulativeKind::Sum | CumulativeKind::Prod => {
                accumulate::check("cumulative", x.dtype, self.accumulate)?;
            }
            CumulativeKind::Max => {
                if self.accumulate.is_some() {
                    return Err(Refusal::new(
                        Kind::Attribute,
                        "`cumulative` to the max accumulates nothing that is rounded",
                    )
                    .help("leave `accumulate` out"));
                }
            }
        }
        Ok((*x).clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some((x, ty)) = cx.operands.first().and_then(|x| Some((*x, x.ty()?))) else {
            return vec![None];
        };
        vec![Some(match self.kind {
            CumulativeKind::Sum => {
                let backwards = Cumulative {
                    reverse: !self.reverse,
                    ..*self
                };
                x.builder().push(backwards, &[cx.cotangent])
            }
            CumulativeKind::Prod | CumulativeKind::Max => self.by_pairs(cx, x, &ty),
        })]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let (extent, inner) = (cx.shape[self.axis], elements(&cx.shape[self.axis + 1..]));
        let kind = ReduceKind::from(self.kind);
        let values = match x.values() {
            Values::Float(v) => Values::Float(running(v, extent, inner, self.reverse, |a, b| {
                kind.float(a, b)
            })),
            Values::Int(v) => Values::Int(running(v, extent, inner, self.reverse, |a, b| {
                kind.int(x.dtype(), a, b)
            })),
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        let attributes = Attributes::none()
            .with("kind", Value::Word(self.kind.name().into()))
            .with_axes("axis", &[self.axis])
            .with_flag("reverse", self.reverse);
        accumulate::print(attributes, self.accumulate)
    }
}

/// Every element joined with what came before it along an axis of `extent` elements that lie `inner` apart. Integers are wrapped by the
/// array that is made of them, which changes no later low bits; a maximum needs no wrapping.
fn running<T: Copy>(
    values: &[T],
    extent: usize,
    inner: usize,
    reverse: bool,
    join: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut out = values.to_vec();
    for i in 0..out.len() {
        let i = if reverse { out.len() - 1 - i } else { i };
        let k = i / inner % extent;
        let before = if reverse {
            (k + 1 < extent).then(|| i + inner)
        } else {
            (k > 0).then(|| i - inner)
        };
        if let Some(before) = before {
            out[i] = join(out[before], out[i]);
        }
    }
    out
}
