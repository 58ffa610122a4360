//! `scatter`: updates written to computed indices along one axis, the adjoint of `gather`.

use super::{OutOfRange, picked_shape};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::ops::movement::elements;
use crate::ops::scalar::{less, maximum};
use crate::ops::{Broadcast, Effect, EvalCx, Iota, Rules, Vjp, arrays, exactly};
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// How an update joins the element that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScatterKind {
    /// It takes its place; of several updates at one index the last in row-major order of the updates stays.
    Set,
    /// It is added, in row-major order of the updates. Each addition is rounded to the element type; the interpreter, whose sums are
    /// exact enough in f64, rounds once.
    Add,
    /// The larger stays; NaN wins, and +0 is above -0.
    Max,
}

impl ScatterKind {
    /// Every kind.
    pub const ALL: [ScatterKind; 3] = [ScatterKind::Set, ScatterKind::Add, ScatterKind::Max];

    /// The spelling in the text.
    pub fn name(self) -> &'static str {
        match self {
            ScatterKind::Set => "set",
            ScatterKind::Add => "add",
            ScatterKind::Max => "max",
        }
    }

    fn float(self, x: f64, y: f64) -> f64 {
        match self {
            ScatterKind::Set => y,
            ScatterKind::Add => x + y,
            ScatterKind::Max => maximum(x, y),
        }
    }

    fn int(self, dtype: DType, x: i64, y: i64) -> i64 {
        match self {
            ScatterKind::Set => y,
            ScatterKind::Add => x.wrapping_add(y),
            ScatterKind::Max if less(dtype, x, y) => y,
            ScatterKind::Max => x,
        }
    }
}

/// The first operand, with the third joined into it at the second, an integer tensor of any shape whose axes take the place of `axis`
/// in the updates: `result[a.., indices[i..], c..]` is joined by `updates[a.., i.., c..]`, in row-major order of the updates.
///
/// The gradient of `set` is exact at repeated indices: the update that stays takes the cotangent, the others and the base get 0. At a
/// tie `max` shares the cotangent equally among the base and all updates that reach the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scatter {
    /// How an update joins what is there.
    pub kind: ScatterKind,
    /// The axis that is indexed.
    pub axis: usize,
    /// What happens to an update whose index is out of range.
    pub out_of_range: OutOfRange,
}

impl Scatter {
    pub(in crate::ops) fn parse(
        name: &str,
        attributes: &mut Attributes,
        _: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "scatter").then(|| {
            let word = attributes.word("kind")?;
            let kind = ScatterKind::ALL.into_iter().find(|k| k.name() == word);
            Ok(Self {
                kind: kind.ok_or_else(|| AttributeError {
                    name: "kind".into(),
                    expected: "set, add or max".into(),
                })?,
                axis: attributes.axis("axis")?,
                out_of_range: OutOfRange::parse(attributes)?,
            })
        })
    }

    pub(in crate::ops) fn representatives() -> Vec<Self> {
        ScatterKind::ALL
            .map(|kind| Self {
                kind,
                axis: 0,
                out_of_range: OutOfRange::Skip,
            })
            .to_vec()
    }

    /// The cotangents of base and updates of `set`. The number of the last update at each index is found by scattering the numbers of
    /// the updates with `max`; an index where none arrived keeps -1.
    fn vjp_of_set<'g>(
        &self,
        cx: &Vjp<'g>,
        base: &TensorType,
        indices: Tensor<'g>,
    ) -> Option<(Tensor<'g>, Tensor<'g>)> {
        let builder = indices.builder();
        let index_shape = indices.ty()?.shape;
        let mode = self.out_of_range.adjoint();
        let flat = Shape::from(vec![index_shape.elements()]);
        let count = Iota {
            ty: TensorType::new(DType::I64, flat),
            axis: 0,
        };
        let numbers = builder.push(count, &[]).reshape(&index_shape);
        let extent = Shape::from(vec![base.shape[self.axis].clone()]);
        let last = builder.splat(DType::I64, extent, -1.0).scatter(
            ScatterKind::Max,
            0,
            indices,
            numbers,
            mode,
        );
        let untouched = builder.push(
            Broadcast {
                shape: base.shape.clone(),
                axes: vec![self.axis],
            },
            &[last.lt(0.0)],
        );
        let picked = cx.cotangent.gather(self.axis, indices, mode);
        let stays = builder.push(
            Broadcast {
                shape: picked.ty()?.shape,
                axes: (self.axis..self.axis + index_shape.len()).collect(),
            },
            &[last.gather(0, indices, mode).eq(numbers)],
        );
        Some((
            cx.cotangent.where_(untouched, 0.0),
            picked.where_(stays, 0.0),
        ))
    }

    /// The cotangents of base and updates of `max`: each element that equals the result takes an equal share.
    fn vjp_of_max<'g>(
        &self,
        cx: &Vjp<'g>,
        base: Tensor<'g>,
        indices: Tensor<'g>,
        updates: Tensor<'g>,
    ) -> Option<(Tensor<'g>, Tensor<'g>)> {
        let dtype = base.ty()?.dtype;
        let mode = self.out_of_range.adjoint();
        let base_wins = base.eq(cx.result).convert(dtype);
        let reached = cx.result.gather(self.axis, indices, mode);
        let update_wins = updates.eq(reached).convert(dtype);
        let winners = base_wins.scatter(ScatterKind::Add, self.axis, indices, update_wins, mode);
        let share = cx.cotangent / winners;
        Some((
            share * base_wins,
            share.gather(self.axis, indices, mode) * update_wins,
        ))
    }
}

impl Rules for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn effect(&self) -> Effect {
        self.out_of_range.effect()
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let [base, indices, updates] = exactly("scatter", operands)?;
        let shape = picked_shape("scatter", base, indices, self.axis)?;
        let wanted = TensorType::new(base.dtype, shape);
        if *updates != wanted {
            let kind = if updates.dtype == base.dtype {
                Kind::Shape
            } else {
                Kind::Type
            };
            return Err(Refusal::new(
                kind,
                format!(
                    "`scatter` of {updates} into {base} along axis {}",
                    self.axis
                ),
            )
            .help(format!("at indices {indices} the updates must be {wanted}")));
        }
        match self.kind {
            ScatterKind::Add | ScatterKind::Max if base.dtype == DType::Bool => Err(Refusal::new(
                Kind::Type,
                format!("`scatter` that joins bool by {}", self.kind.name()),
            )
            .help("convert to u8 first")),
            ScatterKind::Set | ScatterKind::Add | ScatterKind::Max => Ok(base.clone()),
        }
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let [base, indices, updates] = cx.operands.as_slice() else {
            return Vec::new();
        };
        let Some(ty) = base.ty() else {
            return vec![None, None, None];
        };
        let both = match self.kind {
            ScatterKind::Add => {
                let mode = self.out_of_range.adjoint();
                Some((cx.cotangent, cx.cotangent.gather(self.axis, *indices, mode)))
            }
            ScatterKind::Set => self.vjp_of_set(cx, &ty, *indices),
            ScatterKind::Max => self.vjp_of_max(cx, *base, *indices, *updates),
        };
        match both {
            Some((base, updates)) => vec![Some(base), None, Some(updates)],
            None => vec![None, None, None],
        }
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [base, indices, updates] = arrays(operands)?;
        let extent = base.shape()[self.axis];
        let positions = self.out_of_range.positions("scatter", indices, extent)?;
        let inner = elements(&base.shape()[self.axis + 1..]);
        // Row-major update `u` is element `u % inner` of slice `u / inner`, and the slices of one outer index follow one another.
        let target = |u: usize| {
            let (slice, within) = (u / inner, u % inner);
            let (outer, k) = (slice / positions.len(), slice % positions.len());
            positions[k].map(|p| (outer * extent + p) * inner + within)
        };
        let values = match (base.values(), updates.values()) {
            (Values::Float(b), Values::Float(u)) => {
                Values::Float(joined(b, u, target, |x, y| self.kind.float(x, y)))
            }
            (Values::Int(b), Values::Int(u)) => {
                let dtype = base.dtype();
                Values::Int(joined(b, u, target, |x, y| self.kind.int(dtype, x, y)))
            }
            (Values::Float(_) | Values::Int(_), _) => {
                return Err(EvalError::Invalid("`scatter` of two families".into()));
            }
        };
        Array::new(base.dtype(), cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
            .with("kind", Value::Word(self.kind.name().into()))
            .with_axes("axis", &[self.axis])
            .with("out_of_range", Value::Word(self.out_of_range.name().into()))
    }
}

fn joined<T: Copy>(
    base: &[T],
    updates: &[T],
    target: impl Fn(usize) -> Option<usize>,
    join: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut out = base.to_vec();
    for (u, update) in updates.iter().enumerate() {
        if let Some(at) = target(u) {
            out[at] = join(out[at], *update);
        }
    }
    out
}
