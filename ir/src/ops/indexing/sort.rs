//! `sort` and `argsort`: the elements of each row along an axis in order, and where they come from.
//!
//! Both are stable: equal elements keep their order, ascending and descending, so a descending row is not a reversed ascending one. -0 and
//! +0 are equal; `false` is below `true`. NaN comes last either way, so that the largest elements of a row are never NaN as long as there
//! are numbers. The order is a total one, hence there is one result whatever the algorithm.

use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::{Tensor, along_axis};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::movement::{elements, one, one_array};
use crate::ops::{Effect, EvalCx, OutOfRange, Rules, ScatterKind, Vjp};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// The elements of each row along an axis in order; NaN last.
///
/// The cotangent goes back to where the elements came from; at ties, where the gradient does not exist, that is by the stable order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// The axis along which rows are sorted.
    pub axis: usize,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// The positions along an axis, i64, of the first `count` elements of each row in order; NaN last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argsort {
    /// The axis along which rows are sorted.
    pub axis: usize,
    /// Whether the position of the largest comes first.
    pub descending: bool,
    /// How many positions are wanted, at most the extent of the axis. Few of a long row take much less time than all.
    pub count: Dim,
}

fn refuse_axis(op: &str, x: &TensorType, axis: usize) -> Result<(), Refusal> {
    if axis < x.rank() {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Attribute,
        format!("`{op}` along axis {axis} of {x}"),
    ))
}

impl Sort {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "sort").then(|| {
            Ok(Self {
                axis: attributes.axis("axis")?,
                descending: attributes.flag("descending")?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            axis: 0,
            descending: false,
        }]
    }
}

impl Rules for Sort {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("sort", operands)?;
        refuse_axis("sort", x, self.axis)?;
        Ok(x.clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let Some((x, ty)) = cx.operands.first().and_then(|x| Some((*x, x.ty()?))) else {
            return vec![None];
        };
        let from = x.argsort(self.axis, self.descending);
        let Some(places) = along_axis(x, self.axis, from) else {
            return vec![None];
        };
        let flat = vec![ty.shape.elements()];
        let zeros = x.builder().splat(ty.dtype, flat.clone(), 0.0);
        let (places, cotangent) = (places.reshape(flat.clone()), cx.cotangent.reshape(flat));
        let back = zeros.scatter(ScatterKind::Add, 0, places, cotangent, OutOfRange::Skip);
        vec![Some(back.reshape(&ty.shape))]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let order = ordered(x, self.axis, self.descending);
        let (extent, inner) = (x.shape()[self.axis], elements(&x.shape()[self.axis + 1..]));
        Array::gather(x, cx.shape.to_vec(), |i| {
            let row = i / (inner * extent) * inner + i % inner;
            let place = order[row][i / inner % extent];
            i - i / inner % extent * inner + place * inner
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with_axes("axis", &[self.axis])
            .with_flag("descending", self.descending)
    }
}

impl Argsort {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "argsort").then(|| {
            let axis = attributes.axis("axis")?;
            let descending = attributes.flag("descending")?;
            let count = ty.shape.get(axis).ok_or_else(|| AttributeError {
                name: "axis".into(),
                expected: format!("an axis of {ty}"),
            })?;
            Ok(Self {
                axis,
                descending,
                count: count.clone(),
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            axis: 0,
            descending: false,
            count: Dim::from(1),
        }]
    }
}

impl Rules for Argsort {
    fn name(&self) -> &'static str {
        "argsort"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let x = one("argsort", operands)?;
        refuse_axis("argsort", x, self.axis)?;
        let mut shape = x.shape.to_vec();
        if let (Some(count), Some(extent)) = (self.count.constant(), shape[self.axis].constant())
            && !(0..=extent).contains(&count)
        {
            return Err(Refusal::new(
                Kind::Attribute,
                format!(
                    "`argsort` of {x}: axis {} has no {count} elements",
                    self.axis
                ),
            ));
        }
        shape[self.axis] = self.count.clone();
        Ok(TensorType::new(DType::I64, shape))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let x = one_array(operands)?;
        let (count, extent) = (cx.shape[self.axis], x.shape()[self.axis]);
        if count > extent {
            return Err(EvalError::Invalid(format!(
                "{count} positions of an axis of {extent}"
            )));
        }
        let order = ordered(x, self.axis, self.descending);
        let inner = elements(&x.shape()[self.axis + 1..]);
        let position = |i: usize| {
            let row = i / (inner * count) * inner + i % inner;
            order[row][i / inner % count] as i64
        };
        let values = (0..cx.count).map(position).collect();
        Array::new(DType::I64, cx.shape.to_vec(), Values::Int(values))
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with_axes("axis", &[self.axis])
            .with_flag("descending", self.descending)
    }
}

/// The positions of the elements of each row in order; rows in row-major order of the other axes.
fn ordered(x: &Array, axis: usize, descending: bool) -> Vec<Vec<usize>> {
    let (extent, inner) = (x.shape()[axis], elements(&x.shape()[axis + 1..]));
    let rows = elements(x.shape()).checked_div(extent).unwrap_or(0);
    let row = |row: usize| {
        let first = row / inner * inner * extent + row % inner;
        let mut order: Vec<usize> = (0..extent).collect();
        order.sort_by(|a, b| compare(x, first + a * inner, first + b * inner, descending));
        order
    };
    (0..rows).map(row).collect()
}

fn compare(x: &Array, a: usize, b: usize, descending: bool) -> Ordering {
    let order = match x.values() {
        Values::Float(v) => match v[a].partial_cmp(&v[b]) {
            Some(order) => order,
            // NaN is behind all numbers, whichever way these run.
            None => return v[a].is_nan().cmp(&v[b].is_nan()),
        },
        // A u64 is held as its bit pattern.
        Values::Int(v) if x.dtype() == DType::U64 => {
            v[a].cast_unsigned().cmp(&v[b].cast_unsigned())
        }
        Values::Int(v) => v[a].cmp(&v[b]),
    };
    if descending { order.reverse() } else { order }
}
