//! `dynamic_slice` and `dynamic_update_slice`: windows of a fixed size at a computed place, each the adjoint of the other.
//!
//! A start is a scalar of any integer type, one for each axis. As in StableHLO, a start that would let the window stick out is moved to the
//! nearest one that does not, so the window is always whole: `start = clamp(0, start, extent - size)`. Nothing fails at run time.

use super::OutOfRange;
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::ops::{Effect, EvalCx, Rules, Vjp};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// The window of `sizes` elements of the first operand that begins at the others, one scalar for each axis:
/// `result[i..] = x[start_0 + i_0, ..]`, each start clamped to `0..=extent - size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicSlice {
    /// The shape of the window.
    pub sizes: Shape,
}

/// The first operand with the second, a window of at most its size, written over it at the others, one scalar for each axis. The starts
/// are clamped as those of [`DynamicSlice`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicUpdateSlice;

/// Whether a window of this shape fits the operand, and the starts are one integer scalar for each axis.
fn check(op: &str, x: &TensorType, sizes: &[Dim], starts: &[&TensorType]) -> Result<(), Refusal> {
    if sizes.len() != x.rank() {
        return Err(Refusal::new(
            Kind::Shape,
            format!("`{op}` of {x} with a window of rank {}", sizes.len()),
        )
        .help("the window has the rank of the operand"));
    }
    if starts.len() != x.rank() {
        return Err(Refusal::new(
            Kind::Signature,
            format!("`{op}` of {x} with {} starts", starts.len()),
        )
        .help(format!("one scalar for each axis: {}", x.rank())));
    }
    for (axis, (size, extent)) in sizes.iter().zip(x.shape.iter()).enumerate() {
        if let (Some(s), Some(e)) = (size.constant(), extent.constant())
            && !(0..=e).contains(&s)
        {
            return Err(Refusal::new(
                Kind::Shape,
                format!("`{op}` of {x}: no window of {s} fits axis {axis} of size {e}"),
            ));
        }
    }
    match starts
        .iter()
        .find(|s| s.rank() != 0 || !s.dtype.is_integer())
    {
        Some(start) => Err(Refusal::new(
            Kind::Type,
            format!("`{op}` of {x} at a start of type {start}"),
        )
        .help("starts are scalars of any integer type, such as i64[]")),
        None => Ok(()),
    }
}

/// Where a window begins, clamped.
fn begin(
    op: &'static str,
    extents: &[usize],
    sizes: &[usize],
    starts: &[&Array],
) -> Result<Vec<usize>, EvalError> {
    let each = extents.iter().zip(sizes).zip(starts);
    each.enumerate()
        .map(|(axis, ((extent, size), start))| {
            let room = extent.checked_sub(*size).ok_or_else(|| {
                EvalError::Invalid(format!(
                    "the window of {size} of axis {axis} is larger than its size {extent}"
                ))
            })?;
            let at = OutOfRange::Clamp.positions(op, start, room + 1)?;
            at.first()
                .copied()
                .flatten()
                .ok_or_else(|| EvalError::Invalid(format!("the start of axis {axis} is no scalar")))
        })
        .collect()
}

/// The row-major offset in a tensor with these strides of element `i` of a window of shape `sizes`.
fn placed(i: usize, sizes: &[usize], begin: &[usize], strides: &[usize]) -> usize {
    let at = Array::unravel(i, sizes);
    let terms = at.iter().zip(begin).zip(strides);
    terms.map(|((i, b), s)| (i + b) * s).sum()
}

impl DynamicSlice {
    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "dynamic_slice").then(|| {
            Ok(Self {
                sizes: ty.shape.clone(),
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self {
            sizes: Shape::from([2]),
        }]
    }
}

impl Rules for DynamicSlice {
    fn name(&self) -> &'static str {
        "dynamic_slice"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, starts @ ..] = operands else {
            return Err(Refusal::new(
                Kind::Signature,
                "`dynamic_slice` takes an operand and one start an axis, not 0 operands",
            ));
        };
        check("dynamic_slice", x, &self.sizes, starts)?;
        Ok(TensorType::new(x.dtype, &self.sizes))
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let mut all = vec![None; cx.operands.len()];
        if let [x, starts @ ..] = cx.operands.as_slice()
            && let Some(ty) = x.ty()
        {
            let zeros = x.builder().splat(ty.dtype, &ty.shape, 0.0);
            all[0] = Some(zeros.dynamic_update_slice(cx.cotangent, starts));
        }
        all
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, starts @ ..] = operands else {
            return Err(EvalError::Invalid("an operand is needed".into()));
        };
        let begin = begin("dynamic_slice", x.shape(), cx.shape, starts)?;
        let strides = Array::strides(x.shape());
        Array::gather(x, cx.shape.to_vec(), |i| {
            placed(i, cx.shape, &begin, &strides)
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

impl DynamicUpdateSlice {
    pub(in crate::ops) fn parse(
        name: &str,
        _: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "dynamic_update_slice").then_some(Ok(Self))
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        vec![Self]
    }
}

impl Rules for DynamicUpdateSlice {
    fn name(&self) -> &'static str {
        "dynamic_update_slice"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [x, update, starts @ ..] = operands else {
            return Err(Refusal::new(
                Kind::Signature,
                format!(
                    "`dynamic_update_slice` takes an operand, an update and one start an axis, not {} operands",
                    operands.len()
                ),
            ));
        };
        if update.dtype != x.dtype {
            return Err(Refusal::new(
                Kind::Type,
                format!("`dynamic_update_slice` of {x} with an update {update}"),
            )
            .help("both have one element type"));
        }
        check("dynamic_update_slice", x, &update.shape, starts)?;
        Ok((*x).clone())
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let mut all = vec![None; cx.operands.len()];
        if let [_, update, starts @ ..] = cx.operands.as_slice()
            && let Some(ty) = update.ty()
        {
            let zeros = update.builder().splat(ty.dtype, &ty.shape, 0.0);
            all[0] = Some(cx.cotangent.dynamic_update_slice(zeros, starts));
            all[1] = Some(cx.cotangent.dynamic_slice(starts, &ty.shape));
        }
        all
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [x, update, starts @ ..] = operands else {
            return Err(EvalError::Invalid(
                "an operand and an update are needed".into(),
            ));
        };
        let sizes = update.shape();
        let begin = begin("dynamic_update_slice", cx.shape, sizes, starts)?;
        let strides = Array::strides(cx.shape);
        let target = |i: usize| placed(i, sizes, &begin, &strides);
        let values = match (x.values(), update.values()) {
            (Values::Float(x), Values::Float(u)) => Values::Float(written(x, u, target)),
            (Values::Int(x), Values::Int(u)) => Values::Int(written(x, u, target)),
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("an update of another family".into()));
            }
        };
        Array::new(x.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

fn written<T: Copy>(x: &[T], update: &[T], target: impl Fn(usize) -> usize) -> Vec<T> {
    let mut out = x.to_vec();
    for (i, value) in update.iter().enumerate() {
        out[target(i)] = *value;
    }
    out
}
