//! Ops that read and write at computed places: what `gather` and `scatter` share, and `gather`; windows that move and sorted rows beside
//! them.
//!
//! Gather and scatter take a plain subset of StableHLO's ops, that of `jnp.take` and `x.at[indices]` along an axis: whole slices of the operand, picked
//! by an index tensor of any shape. Negative indices do not count from the end; they are out of range. Nothing ever reads or writes
//! outside its operand.

use super::movement::elements;
use super::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

mod dynamic;
mod scatter;
mod sort;

pub use dynamic::{DynamicSlice, DynamicUpdateSlice};
pub use scatter::{Scatter, ScatterKind};
pub use sort::{Argsort, Sort};

/// What happens at an index below 0 or not below the extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutOfRange {
    /// The nearest index in range is used. An axis without elements has none, and then the index is skipped.
    Clamp,
    /// `gather` gives 0 (or false) there, `scatter` drops the update.
    Skip,
    /// The step fails before it writes any state.
    Fail,
}

impl OutOfRange {
    /// Every choice.
    pub const ALL: [OutOfRange; 3] = [OutOfRange::Clamp, OutOfRange::Skip, OutOfRange::Fail];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        match self {
            OutOfRange::Clamp => "clamp",
            OutOfRange::Skip => "skip",
            OutOfRange::Fail => "fail",
        }
    }

    fn parse(attributes: &mut Attributes) -> Result<Self, AttributeError> {
        let word = attributes.word("out_of_range")?;
        OutOfRange::ALL
            .into_iter()
            .find(|o| o.name() == word)
            .ok_or_else(|| AttributeError {
                name: "out_of_range".into(),
                expected: "clamp, skip or fail".into(),
            })
    }

    fn effect(self) -> Effect {
        match self {
            OutOfRange::Clamp | OutOfRange::Skip => Effect::Pure,
            OutOfRange::Fail => Effect::Fallible,
        }
    }

    /// What an adjoint at the same indices does. Where the op itself has failed nothing is left to do, so the adjoint need not fail
    /// again and stays free to be moved or dropped.
    fn adjoint(self) -> Self {
        match self {
            OutOfRange::Clamp => OutOfRange::Clamp,
            OutOfRange::Skip | OutOfRange::Fail => OutOfRange::Skip,
        }
    }

    /// Where each index points, `None` where it is skipped.
    fn positions(
        self,
        op: &'static str,
        indices: &Array,
        extent: usize,
    ) -> Result<Vec<Option<usize>>, EvalError> {
        let unsigned = indices.dtype() == DType::U64;
        let position = |index: &i64| {
            // A u64 is held as its bit pattern: what looks negative is large.
            let index = if unsigned {
                i128::from(index.cast_unsigned())
            } else {
                i128::from(*index)
            };
            match usize::try_from(index).ok().filter(|i| *i < extent) {
                Some(i) => Ok(Some(i)),
                None => match self {
                    OutOfRange::Clamp if index < 0 => Ok((extent > 0).then_some(0)),
                    OutOfRange::Clamp => Ok(extent.checked_sub(1)),
                    OutOfRange::Skip => Ok(None),
                    OutOfRange::Fail => Err(EvalError::Index { op, index, extent }),
                },
            }
        };
        indices.ints()?.iter().map(position).collect()
    }
}

/// `operand` with the axis replaced by the axes of the indices.
fn picked_shape(
    op: &str,
    operand: &TensorType,
    indices: &TensorType,
    axis: usize,
) -> Result<Shape, Refusal> {
    if axis >= operand.rank() {
        return Err(Refusal::new(
            Kind::Attribute,
            format!("`{op}` along axis {axis} of {operand}"),
        ));
    }
    if !indices.dtype.is_integer() {
        return Err(
            Refusal::new(Kind::Type, format!("`{op}` at indices of type {indices}"))
                .help("indices are integers of any width"),
        );
    }
    let (before, behind) = (&operand.shape[..axis], &operand.shape[axis + 1..]);
    Ok(before
        .iter()
        .chain(indices.shape.iter())
        .chain(behind)
        .cloned()
        .collect())
}

/// Slices of the operand along `axis`, picked by an integer tensor of any shape, whose axes take the place of `axis`:
/// `result[a.., i.., c..] = operand[a.., indices[i..], c..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gather {
    /// The axis that is indexed.
    pub axis: usize,
    /// What an index out of range gives.
    pub out_of_range: OutOfRange,
}

impl Gather {
    pub(super) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "gather").then(|| {
            Ok(Self {
                axis: attributes.axis("axis")?,
                out_of_range: OutOfRange::parse(attributes)?,
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            axis: 0,
            out_of_range: OutOfRange::Clamp,
        }]
    }
}

impl Rules for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn effect(&self) -> Effect {
        self.out_of_range.effect()
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, indices] = exactly("gather", operands)?;
        let shape = picked_shape("gather", x, indices, self.axis)?;
        Ok(TensorType::new(x.dtype, shape))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [x, indices] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let dx = x.ty().map(|ty| {
            let zeros = x.builder().splat(ty.dtype, &ty.shape, 0.0);
            zeros.scatter(
                ScatterKind::Add,
                self.axis,
                *indices,
                cx.cotangent,
                self.out_of_range.adjoint(),
            )
        });
        vec![dx, None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, indices] = arrays(operands)?;
        let extent = x.shape()[self.axis];
        let positions = self.out_of_range.positions("gather", indices, extent)?;
        let outer = elements(&x.shape()[..self.axis]);
        let inner = elements(&x.shape()[self.axis + 1..]);
        // Without this, an empty result could still have many empty slices to visit.
        let outer = if cx.count == 0 { 0 } else { outer };
        let values = match x.values() {
            Values::Float(v) => Values::Float(picked(v, &positions, outer, extent, inner)),
            Values::Int(v) => Values::Int(picked(v, &positions, outer, extent, inner)),
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with_axes("axis", &[self.axis])
            .with("out_of_range", Value::Word(self.out_of_range.name().into()))
    }
}

fn picked<T: Copy + Default>(
    source: &[T],
    positions: &[Option<usize>],
    outer: usize,
    extent: usize,
    inner: usize,
) -> Vec<T> {
    let mut out = Vec::new();
    for o in 0..outer {
        for position in positions {
            match position {
                Some(p) => {
                    let from = (o * extent + p) * inner;
                    out.extend_from_slice(&source[from..from + inner]);
                }
                None => out.extend(std::iter::repeat_n(T::default(), inner)),
            }
        }
    }
    out
}
