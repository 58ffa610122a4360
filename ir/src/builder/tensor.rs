//! The methods of [`Tensor`]: one for each op, and the few composites that every graph needs. Padding, indexing and other ops that are
//! less than everyday fare stand in `structured.rs`.

use super::Builder;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ids::NodeId;
use crate::ops::{
    Binary, Broadcast, Compare, Convert, DimSize, Dot, Reduce, ReduceKind, Reshape, Select, Slice,
    StopGradient, Transpose, Unary, accumulate_field,
};
use crate::types::{Shape, TensorType};

/// A value of the graph under construction.
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    pub(super) builder: &'g Builder,
    /// `None` stands for a mistake that has been reported.
    pub(super) id: Option<NodeId>,
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident => $op:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(self) -> Self {
            self.builder.push(Unary::$op, &[self])
        }
    )+};
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr),+ $(,)?) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(self, other: impl Operand<'g>) -> Self {
            let (lhs, rhs) = self.aligned(other);
            lhs.builder.push($op, &[lhs, rhs])
        }
    )+};
}

/// What may stand on the right of a binary method: a tensor, or a literal of the left side's element type.
pub trait Operand<'g> {
    /// The operand as a tensor that can be broadcast against `lhs`.
    #[track_caller]
    fn against(self, lhs: Tensor<'g>) -> Tensor<'g>;
    /// The operand where a scalar is wanted: a literal becomes one of the element type of `like`, a tensor stays what it is.
    #[track_caller]
    fn scalar(self, like: Tensor<'g>) -> Tensor<'g>;
}

impl<'g> Operand<'g> for Tensor<'g> {
    fn against(self, _: Tensor<'g>) -> Tensor<'g> {
        self
    }

    fn scalar(self, _: Tensor<'g>) -> Tensor<'g> {
        self
    }
}

impl<'g> Operand<'g> for f64 {
    #[track_caller]
    fn against(self, lhs: Tensor<'g>) -> Tensor<'g> {
        match lhs.ty() {
            Some(ty) => lhs.builder.literal(ty.dtype, ty.shape, self),
            None => lhs,
        }
    }

    #[track_caller]
    fn scalar(self, like: Tensor<'g>) -> Tensor<'g> {
        match like.ty() {
            Some(ty) => like.builder.literal(ty.dtype, ().into(), self),
            None => like,
        }
    }
}

// The methods carry the ops' own names, `neg` and `rem` among them; the operator traits stand on top of them in `operators.rs`.
#[allow(clippy::should_implement_trait)]
impl<'g> Tensor<'g> {
    unary_methods! {
        /// `-x`; integers wrap.
        neg => Neg,
        /// The magnitude.
        abs => Abs,
        /// -1, 0 or 1 with the sign of `x`; NaN stays NaN and zeros keep their sign.
        sign => Sign,
        /// `e^x`.
        exp => Exp,
        /// `e^x - 1`, exact near 0.
        expm1 => Expm1,
        /// The natural logarithm.
        log => Log,
        /// `ln(1 + x)`, exact near 0.
        log1p => Log1p,
        /// The square root.
        sqrt => Sqrt,
        /// `1 / sqrt(x)`.
        rsqrt => Rsqrt,
        /// `1 / x`.
        recip => Recip,
        /// The sine of radians.
        sin => Sin,
        /// The cosine of radians.
        cos => Cos,
        /// The tangent of radians.
        tan => Tan,
        /// The hyperbolic tangent.
        tanh => Tanh,
        /// `1 / (1 + e^-x)`.
        logistic => Logistic,
        /// The error function.
        erf => Erf,
        /// `1 - erf(x)`, exact for large `x`.
        erfc => Erfc,
        /// The largest integer not above `x`.
        floor => Floor,
        /// The smallest integer not below `x`.
        ceil => Ceil,
        /// The nearest integer, halves to even.
        round => Round,
        /// Bitwise complement; logical negation of `bool`.
        not => Not,
        /// Whether `x` is neither infinite nor NaN, as `bool`.
        is_finite => IsFinite,
    }

    binary_methods! {
        /// The sum. Shapes broadcast over leading axes and axes of size 1.
        plus => Binary::Add,
        /// The difference.
        minus => Binary::Sub,
        /// The product, element by element.
        times => Binary::Mul,
        /// The quotient; an integer divided by 0 is all ones.
        over => Binary::Div,
        /// The remainder with the sign of the left side; `x` rem 0 is `x` for integers.
        rem => Binary::Rem,
        /// `x^y`.
        pow => Binary::Pow,
        /// The angle of the point `(y, x)`, with `self` as `y`.
        atan2 => Binary::Atan2,
        /// The larger; NaN wins, and +0 is above -0.
        maximum => Binary::Max,
        /// The smaller; NaN wins, and -0 is below +0.
        minimum => Binary::Min,
        /// Bitwise or logical and.
        and => Binary::And,
        /// Bitwise or logical or.
        or => Binary::Or,
        /// Bitwise or logical exclusive or.
        xor => Binary::Xor,
        /// Shift left; by the width or more gives 0.
        shl => Binary::Shl,
        /// Shift right, arithmetic for signed types; by the width or more gives 0 or the sign.
        shr => Binary::Shr,
        /// `self == other`, as `bool`.
        eq => Compare::Eq,
        /// `self != other`, true with NaN.
        ne => Compare::Ne,
        /// `self < other`, false with NaN.
        lt => Compare::Lt,
        /// `self <= other`, false with NaN.
        le => Compare::Le,
        /// `self > other`, false with NaN.
        gt => Compare::Gt,
        /// `self >= other`, false with NaN.
        ge => Compare::Ge,
    }

    /// The type, unless the tensor stands for a mistake.
    pub fn ty(self) -> Option<TensorType> {
        Some(self.builder.node(self.id?)?.ty)
    }

    /// The node, unless the tensor stands for a mistake.
    pub fn id(self) -> Option<NodeId> {
        self.id
    }

    /// The builder that made it.
    pub fn builder(self) -> &'g Builder {
        self.builder
    }

    /// `x * x`.
    #[track_caller]
    pub fn square(self) -> Self {
        self.times(self)
    }

    /// `self` where the condition `bool` tensor holds, else `other`; the shapes of all three are equal after broadcasting to `self`.
    #[track_caller]
    pub fn where_(self, condition: Tensor<'g>, other: impl Operand<'g>) -> Self {
        let (yes, no) = self.aligned(other);
        let Some(ty) = yes.ty() else { return yes };
        let home = yes.builder.innermost(&[condition, yes]);
        let condition = home.import(condition).broadcast_to(ty.shape);
        home.push(Select, &[condition, yes, no])
    }

    /// The values converted to `dtype`: float to int saturates and NaN gives 0.
    #[track_caller]
    pub fn convert(self, dtype: DType) -> Self {
        match self.ty() {
            Some(ty) if ty.dtype == dtype => self,
            Some(_) | None => self.builder.push(Convert { to: dtype }, &[self]),
        }
    }

    /// The same value, through which no gradient flows.
    #[track_caller]
    pub fn stop_gradient(self) -> Self {
        self.builder.push(StopGradient, &[self])
    }

    /// Repeats the tensor to `shape`: axes are matched from the last, sizes 1 and missing leading axes are repeated.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        match self.ty() {
            Some(ty) if ty.shape == shape => self,
            Some(ty) => {
                let skip = shape.len().saturating_sub(ty.rank());
                let axes = (skip..skip + ty.rank()).collect();
                self.builder.push(Broadcast { shape, axes }, &[self])
            }
            None => self,
        }
    }

    /// The same elements in row-major order under another shape of as many elements.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Self {
        self.builder.push(
            Reshape {
                shape: shape.into(),
            },
            &[self],
        )
    }

    /// Axes reordered: axis `i` of the result is axis `order[i]` of the operand.
    #[track_caller]
    pub fn transpose(self, order: &[usize]) -> Self {
        self.builder.push(
            Transpose {
                order: order.to_vec(),
            },
            &[self],
        )
    }

    /// The elements from `start` to below `limit` along `axis`, and all along the others.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    ///
    /// let g = Builder::new("features");
    /// let x = g.input("x", DType::F32, (g.dim("b"), 10));
    /// assert_eq!(x.slice_axis(1, 2, 5).ty().unwrap().to_string(), "f32[b, 3]");
    /// ```
    #[track_caller]
    pub fn slice_axis(self, axis: usize, start: impl Into<Dim>, limit: impl Into<Dim>) -> Self {
        let Some(ty) = self.ty() else { return self };
        let mut starts = vec![Dim::from(0); ty.rank()];
        let mut limits = ty.shape.to_vec();
        let (Some(first), Some(end)) = (starts.get_mut(axis), limits.get_mut(axis)) else {
            let message = format!("`slice` along axis {axis} of {ty}");
            return self
                .builder
                .refuse(Refusal::new(Kind::Attribute, message), &[self]);
        };
        (*first, *end) = (start.into(), limit.into());
        self.slice(&starts, &limits, &vec![1; ty.rank()])
    }

    /// Elements `start`, `start + stride`, ... below `limit`, along each axis.
    #[track_caller]
    pub fn slice(self, start: &[Dim], limit: &[Dim], stride: &[i64]) -> Self {
        self.builder.push(
            Slice {
                start: start.to_vec(),
                limit: limit.to_vec(),
                stride: stride.to_vec(),
            },
            &[self],
        )
    }

    /// A reduction over `axes`, which disappear.
    #[track_caller]
    pub fn reduce(self, kind: ReduceKind, axes: &[usize]) -> Self {
        self.reduce_with(kind, axes, None)
    }

    /// A sum or product over `axes` that is accumulated in `accumulate`: f64 for a narrower float, or the type's own default.
    #[track_caller]
    pub fn reduce_in(self, kind: ReduceKind, axes: &[usize], accumulate: DType) -> Self {
        let field = self.accumulate_field(accumulate);
        self.reduce_with(kind, axes, field)
    }

    #[track_caller]
    fn reduce_with(self, kind: ReduceKind, axes: &[usize], accumulate: Option<DType>) -> Self {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        let reduce = Reduce {
            kind,
            axes,
            accumulate,
        };
        self.builder.push(reduce, &[self])
    }

    /// The field of an op that accumulates elements of this tensor's type in `wanted`.
    fn accumulate_field(self, wanted: DType) -> Option<DType> {
        accumulate_field(self.ty()?.dtype, wanted)
    }

    /// The sum over all axes, a scalar.
    #[track_caller]
    pub fn sum(self) -> Self {
        let rank = self.ty().map_or(0, |t| t.rank());
        self.reduce(ReduceKind::Sum, &(0..rank).collect::<Vec<_>>())
    }

    /// The mean over all axes, a scalar. The mean of no elements is NaN.
    #[track_caller]
    pub fn mean(self) -> Self {
        let Some(ty) = self.ty() else { return self };
        let count = self
            .builder
            .push(
                DimSize {
                    dim: ty.shape.elements(),
                },
                &[],
            )
            .convert(ty.dtype);
        self.sum().over(count)
    }

    /// The matrix product of the last axis of `self` with the first of `other`: `[.., k] x [k, ..]`.
    #[track_caller]
    pub fn dot(self, other: Tensor<'g>) -> Self {
        let rank = self.ty().map_or(0, |t| t.rank());
        if rank == 0 && self.id.is_some() {
            self.builder.report(
                Refusal::new(Kind::Shape, "`dot` needs operands with an axis to contract"),
                Vec::new(),
            );
            return self.builder.poison();
        }
        self.dot_general(other, &[rank.saturating_sub(1)], &[0], &[], &[])
    }

    /// The general product: batch axes pair up and come first in the result, contracted axes pair up and disappear, then come the
    /// free axes of the left and of the right side.
    #[track_caller]
    pub fn dot_general(
        self,
        other: Tensor<'g>,
        lhs_contract: &[usize],
        rhs_contract: &[usize],
        lhs_batch: &[usize],
        rhs_batch: &[usize],
    ) -> Self {
        let dot = Dot {
            contract: (lhs_contract.to_vec(), rhs_contract.to_vec()),
            batch: (lhs_batch.to_vec(), rhs_batch.to_vec()),
            accumulate: None,
        };
        self.builder.push(dot, &[self, other])
    }

    /// The general product over pairs of axis lists, (left, right), with sums accumulated in `accumulate`: f64 for a narrower float, or
    /// the type's own default.
    #[track_caller]
    pub fn dot_in(
        self,
        other: Tensor<'g>,
        contract: (&[usize], &[usize]),
        batch: (&[usize], &[usize]),
        accumulate: DType,
    ) -> Self {
        let dot = Dot {
            contract: (contract.0.to_vec(), contract.1.to_vec()),
            batch: (batch.0.to_vec(), batch.1.to_vec()),
            accumulate: self.accumulate_field(accumulate),
        };
        self.builder.push(dot, &[self, other])
    }

    /// Both operands broadcast to one shape; a pair that does not broadcast is left for the op's rule to refuse.
    #[track_caller]
    pub(super) fn aligned(self, other: impl Operand<'g>) -> (Self, Self) {
        let other = other.against(self);
        // In a body, what comes from outside is broadcast inside, so that the small tensor is what is captured.
        let home = self.builder.innermost(&[self, other]);
        let (lhs, rhs) = (home.import(self), home.import(other));
        let (Some(l), Some(r)) = (lhs.ty(), rhs.ty()) else {
            return (lhs, rhs);
        };
        match broadcast_shapes(&l.shape, &r.shape) {
            Some(shape) => (lhs.broadcast_to(&shape), rhs.broadcast_to(&shape)),
            None => (lhs, rhs),
        }
    }
}

/// The shape that both broadcast to: from the last axis, equal extents or one of them 1.
pub(super) fn broadcast_shapes(lhs: &Shape, rhs: &Shape) -> Option<Shape> {
    let rank = lhs.len().max(rhs.len());
    let one = Dim::from(1);
    let at = |shape: &Shape, i: usize| {
        let skip = rank - shape.len();
        if i < skip {
            one.clone()
        } else {
            shape[i - skip].clone()
        }
    };
    (0..rank)
        .map(|i| {
            let (l, r) = (at(lhs, i), at(rhs, i));
            if l == r || r == one {
                Some(l)
            } else if l == one {
                Some(r)
            } else {
                None
            }
        })
        .collect()
}
