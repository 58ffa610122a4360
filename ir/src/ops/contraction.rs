//! Contractions: `dot`, the general product of two tensors, named and laid out as StableHLO's `dot_general`, and `conv`.

use super::accumulate;
use super::movement::{elements, in_order};
use super::{Effect, EvalCx, Rules, Vjp};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod conv;
mod labels;

pub use conv::{Conv, ConvGroups, DataRole, KernelRole};
pub use labels::{ConvAxes, DataAxes, KernelAxes, LabelError};

/// The product that pairs batch axes, sums over contracted axes, and keeps the rest. Axes of the result: batch axes in order, free axes
/// of the left side, free axes of the right side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dot {
    /// The contracted axes of the left and right side, pairwise.
    pub contract: (Vec<usize>, Vec<usize>),
    /// The batch axes of the left and right side, pairwise.
    pub batch: (Vec<usize>, Vec<usize>),
    /// What sums are accumulated in, where it is not the default of [`accumulator`](super::accumulator): f64 for a narrower float.
    pub accumulate: Option<DType>,
}

impl Dot {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "dot").then(|| {
            let contract = attributes.axes_pair("contract")?;
            let has_batch = attributes.iter().any(|(name, _)| name == "batch");
            let batch = if has_batch {
                attributes.axes_pair("batch")?
            } else {
                (Vec::new(), Vec::new())
            };
            Ok(Self {
                contract,
                batch,
                accumulate: accumulate::parse(attributes, ty.dtype)?,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            contract: (vec![1], vec![0]),
            batch: (Vec::new(), Vec::new()),
            accumulate: None,
        }]
    }

    /// What sums of `dtype` are accumulated in.
    pub fn accumulator(&self, dtype: DType) -> DType {
        self.accumulate.unwrap_or(accumulate::accumulator(dtype))
    }

    /// The axes of one side that are neither batch nor contracted.
    fn free(rank: usize, contract: &[usize], batch: &[usize]) -> Vec<usize> {
        (0..rank)
            .filter(|a| !contract.contains(a) && !batch.contains(a))
            .collect()
    }

    fn check_axes(
        side: &str,
        ty: &TensorType,
        contract: &[usize],
        batch: &[usize],
    ) -> Result<(), Refusal> {
        let mut all: Vec<usize> = contract.iter().chain(batch).copied().collect();
        all.sort_unstable();
        if all.windows(2).any(|w| w[0] == w[1]) || all.last().is_some_and(|a| *a >= ty.rank()) {
            return Err(Refusal::new(
                Kind::Attribute,
                format!(
                    "`dot`: the axes {contract:?} and {batch:?} are not different axes of the {side}, {ty}"
                ),
            ));
        }
        Ok(())
    }

    /// The cotangent of one side: the other side's product with the cotangent, its axes put back in order.
    fn side<'g>(
        &self,
        cotangent: Tensor<'g>,
        other: Tensor<'g>,
        ranks: (usize, usize),
        own: (&[usize], &[usize]),
        theirs: (&[usize], &[usize]),
        own_is_left: bool,
    ) -> Tensor<'g> {
        let ((own_contract, own_batch), (their_contract, their_batch)) = (own, theirs);
        let (own_free, their_free) = (
            Dot::free(ranks.0, own_contract, own_batch),
            Dot::free(ranks.1, their_contract, their_batch),
        );
        let batch = own_batch.len();
        let skip = if own_is_left {
            batch + own_free.len()
        } else {
            batch
        };
        let cotangent_free: Vec<usize> = (skip..skip + their_free.len()).collect();
        let batches: Vec<usize> = (0..batch).collect();
        // The product's axes: batch, own free axes, and the other side's contracted axes in its own order.
        let dot = Dot {
            contract: (cotangent_free, their_free),
            batch: (batches, their_batch.to_vec()),
            accumulate: self.accumulate,
        };
        let product = cotangent.builder().push(dot, &[cotangent, other]);
        let mut pairs: Vec<(usize, usize)> = their_contract
            .iter()
            .copied()
            .zip(own_contract.iter().copied())
            .collect();
        pairs.sort_unstable();
        let made: Vec<usize> = own_batch
            .iter()
            .chain(&own_free)
            .copied()
            .chain(pairs.into_iter().map(|(_, own)| own))
            .collect();
        let order: Vec<usize> = (0..ranks.0)
            .filter_map(|axis| made.iter().position(|m| *m == axis))
            .collect();
        in_order(product, &order)
    }
}

impl Rules for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [lhs, rhs] = operands else {
            return Err(Refusal::new(
                Kind::Signature,
                format!("`dot` takes 2 operands, not {}", operands.len()),
            ));
        };
        if lhs.dtype != rhs.dtype || lhs.dtype == DType::Bool {
            return Err(Refusal::new(
                Kind::Type,
                format!("`dot` of {} and {}", lhs.dtype, rhs.dtype),
            )
            .help("both sides need the same numeric type; convert one"));
        }
        accumulate::check("dot", lhs.dtype, self.accumulate)?;
        Dot::check_axes("left side", lhs, &self.contract.0, &self.batch.0)?;
        Dot::check_axes("right side", rhs, &self.contract.1, &self.batch.1)?;
        for (what, (left, right)) in [("contracts", &self.contract), ("pairs batch", &self.batch)] {
            if left.len() != right.len() {
                return Err(Refusal::new(
                    Kind::Attribute,
                    format!("`dot` {what} {} axes with {}", left.len(), right.len()),
                ));
            }
            for (l, r) in left.iter().zip(right) {
                if lhs.shape[*l] != rhs.shape[*r] {
                    let mut fitting = rhs.shape.to_vec();
                    fitting[*r] = lhs.shape[*l].clone();
                    return Err(Refusal::new(
                        Kind::Shape,
                        format!(
                            "`dot` {what} axes of different size: {} and {}",
                            lhs.shape[*l], rhs.shape[*r]
                        ),
                    )
                    .help(format!(
                        "a right side of shape {} fits",
                        Shape::from(fitting)
                    )));
                }
            }
        }
        let batch = self.batch.0.iter().map(|a| lhs.shape[*a].clone());
        let left = Dot::free(lhs.rank(), &self.contract.0, &self.batch.0)
            .into_iter()
            .map(|a| lhs.shape[a].clone());
        let right = Dot::free(rhs.rank(), &self.contract.1, &self.batch.1)
            .into_iter()
            .map(|a| rhs.shape[a].clone());
        Ok(TensorType::new(
            lhs.dtype,
            batch.chain(left).chain(right).collect::<Shape>(),
        ))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [lhs, rhs] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let (Some(l), Some(r)) = (lhs.ty(), rhs.ty()) else {
            return vec![None, None];
        };
        let (left, right) = (
            (&*self.contract.0, &*self.batch.0),
            (&*self.contract.1, &*self.batch.1),
        );
        vec![
            Some(self.side(cx.cotangent, *rhs, (l.rank(), r.rank()), left, right, true)),
            Some(self.side(cx.cotangent, *lhs, (r.rank(), l.rank()), right, left, false)),
        ]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [lhs, rhs] = operands else {
            return Err(EvalError::Invalid(format!(
                "`dot` takes 2 operands, not {}",
                operands.len()
            )));
        };
        let (ls, rs) = (Array::strides(lhs.shape()), Array::strides(rhs.shape()));
        let left = Dot::free(lhs.shape().len(), &self.contract.0, &self.batch.0);
        let right = Dot::free(rhs.shape().len(), &self.contract.1, &self.batch.1);
        let depth: Vec<usize> = self.contract.0.iter().map(|a| lhs.shape()[*a]).collect();
        let steps = elements(&depth);
        let batch = self.batch.0.len();
        // Offsets of both sides for one element of the result and one contracted index.
        let offsets = |at: &[usize], k: &[usize]| {
            let (mut l, mut r) = (0, 0);
            for (i, (bl, br)) in self.batch.0.iter().zip(&self.batch.1).enumerate() {
                l += at[i] * ls[*bl];
                r += at[i] * rs[*br];
            }
            l += left
                .iter()
                .enumerate()
                .map(|(i, a)| at[batch + i] * ls[*a])
                .sum::<usize>();
            r += right
                .iter()
                .enumerate()
                .map(|(i, a)| at[batch + left.len() + i] * rs[*a])
                .sum::<usize>();
            l += k
                .iter()
                .zip(&self.contract.0)
                .map(|(k, a)| k * ls[*a])
                .sum::<usize>();
            r += k
                .iter()
                .zip(&self.contract.1)
                .map(|(k, a)| k * rs[*a])
                .sum::<usize>();
            (l, r)
        };
        let count = cx.count;
        let pairs = |i: usize| {
            let at = Array::unravel(i, cx.shape);
            (0..steps)
                .map(move |k| (at.clone(), k))
                .map(|(at, k)| offsets(&at, &Array::unravel(k, &depth)))
        };
        let values = match (lhs.values(), rhs.values()) {
            (Values::Float(l), Values::Float(r)) => Values::Float(
                (0..count)
                    .map(|i| pairs(i).fold(0.0, |sum, (a, b)| sum + l[a] * r[b]))
                    .collect(),
            ),
            (Values::Int(l), Values::Int(r)) => Values::Int(
                (0..count)
                    .map(|i| {
                        pairs(i).fold(0i64, |sum, (a, b)| {
                            sum.wrapping_add(l[a].wrapping_mul(r[b]))
                        })
                    })
                    .collect(),
            ),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("`dot` of two families".into()));
            }
        };
        Array::new(lhs.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        let contract = Attributes::none().with(
            "contract",
            Value::Axes(self.contract.0.clone(), self.contract.1.clone()),
        );
        let axes = if self.batch.0.is_empty() {
            contract
        } else {
            contract.with(
                "batch",
                Value::Axes(self.batch.0.clone(), self.batch.1.clone()),
            )
        };
        accumulate::print(axes, self.accumulate)
    }
}
