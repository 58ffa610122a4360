//! Windows that slide over axes: the geometry that `conv`, `reduce_window` and their adjoints share, and the ops on plain windows.
//!
//! Along one axis, element `k` of the window at position `s` meets element `p` of the operand where
//!
//! ```text
//! p * base_dilation = s * stride + k * window_dilation - low
//! ```
//!
//! and `p` is an index of the operand; where there is no such `p` it meets padding, or a hole between two elements. This is the meaning of
//! StableHLO's `convolution` and `reduce_window`. Solved for another of the three indices the equation has the same form, which is why an
//! adjoint is a window of the same kind.
//!
//! One thing differs from StableHLO: an axis of `n` elements dilated by `d` always spans `(n - 1) * d + 1`, also for `n = 0`. So extents
//! stay polynomials of symbolic sizes, and a transposed convolution of `h` elements can have `2*h`.

use super::{EvalCx, ReduceKind};
use crate::array::{Array, EvalError};
use crate::attributes::{AttributeError, Attributes, Value};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::{BindError, Bindings, Dim};
use crate::dtype::DType;
use crate::types::Shape;
use serde::{Deserialize, Serialize};

mod arg;
mod axis;
mod gather;
mod reduce;
mod scatter;
mod text;

pub use arg::ArgWindow;
pub use axis::WindowAxis;
pub use gather::GatherWindow;
pub use reduce::{ReduceWindow, WindowKind};
pub use scatter::ScatterWindow;
pub(in crate::ops) use text::{AxisNames, parse_axes, print_axes};

/// No window has more elements.
const MAX_WINDOW: i64 = 1 << 31;

/// A window over all axes of a tensor, as `reduce_window` takes it. An axis that is left alone has size 1 and the default otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// How many elements the window has along each axis, at least 1.
    pub sizes: Vec<i64>,
    /// How it slides along each axis.
    pub axes: Vec<WindowAxis>,
}

impl Windows {
    /// A window of `sizes` at every position, without padding and dilation.
    pub fn of(sizes: &[i64]) -> Self {
        Self {
            sizes: sizes.to_vec(),
            axes: vec![WindowAxis::default(); sizes.len()],
        }
    }

    /// The number of elements of one window, where the sizes are possible.
    pub fn elements(&self) -> Option<i64> {
        self.sizes
            .iter()
            .try_fold(1i64, |n, d| n.checked_mul(*d))
            .filter(|n| (1..=MAX_WINDOW).contains(n))
    }

    /// The element type of indices into one window: the smallest of u8 and u32 that holds them.
    pub fn index_dtype(&self) -> DType {
        match self.elements() {
            Some(n) if n <= 256 => DType::U8,
            Some(_) | None => DType::U32,
        }
    }

    /// The shape of the positions over an operand of `shape`, or why the windows do not fit.
    pub(in crate::ops) fn positions(&self, op: &str, shape: &Shape) -> Result<Shape, Refusal> {
        let rank = shape.len();
        if rank == 0 || [self.sizes.len(), self.axes.len()] != [rank; 2] {
            return Err(Refusal::new(
                Kind::Attribute,
                format!(
                    "`{op}` of shape {shape} over windows of {} axes",
                    self.sizes.len()
                ),
            )
            .help("a window has an entry for each axis of the operand, 1 where it leaves the axis alone"));
        }
        let mut positions = Vec::with_capacity(rank);
        for (i, ((axis, size), base)) in self
            .axes
            .iter()
            .zip(&self.sizes)
            .zip(shape.iter())
            .enumerate()
        {
            positions.push(axis.positions(op, &format!("axis {i}"), base, &Dim::from(*size))?);
        }
        if self.elements().is_none() {
            return Err(Refusal::new(
                Kind::Attribute,
                format!("`{op}` over windows of more than 2^31 elements"),
            ));
        }
        Ok(positions.into())
    }

    /// The windows of the adjoint of a sum: over the cotangent of the result, of shape `positions`, with the operand's shape, `base`.
    pub(in crate::ops) fn adjoint(&self, base: &Shape, positions: &Shape) -> Windows {
        let axes = self.axes.iter().zip(&self.sizes);
        let axes = axes.zip(base.iter().zip(positions.iter()));
        Windows {
            sizes: self.sizes.clone(),
            axes: axes
                .map(|((axis, size), (base, s))| axis.adjoint_of_base(base, &Dim::from(*size), s))
                .collect(),
        }
    }

    /// Whether every window lies within the operand, whatever its extents.
    pub fn unpadded(&self) -> bool {
        let zero = |d: &Dim| d.constant() == Some(0);
        self.axes
            .iter()
            .all(|a| zero(&a.low) && zero(&a.high) && a.base_dilation == 1)
    }

    fn parse(attributes: &mut Attributes) -> Result<Self, AttributeError> {
        let sizes = text::numbers(attributes, "window", None)?;
        let axes = parse_axes(attributes, sizes.len(), &text::WINDOW)?;
        Ok(Self { sizes, axes })
    }

    fn print(&self, attributes: Attributes) -> Attributes {
        let sizes = Value::Word(text::joined(self.sizes.iter()));
        print_axes(attributes.with("window", sizes), &self.axes, &text::WINDOW)
    }

    /// The windows with numbers for symbols, over an operand of `base`.
    fn bound<'w>(&'w self, base: &'w [usize], bindings: &Bindings) -> Result<Bound<'w>, BindError> {
        let low = self.axes.iter().map(|a| a.low.eval(bindings));
        Ok(Bound {
            windows: self,
            sizes: self
                .sizes
                .iter()
                .map(|s| usize::try_from(*s).unwrap_or(0))
                .collect(),
            low: low.collect::<Result<_, _>>()?,
            base,
            strides: Array::strides(base),
        })
    }
}

/// Windows over an array.
struct Bound<'w> {
    windows: &'w Windows,
    sizes: Vec<usize>,
    low: Vec<i64>,
    base: &'w [usize],
    strides: Vec<usize>,
}

impl Bound<'_> {
    /// The number of elements of a window.
    fn count(&self) -> usize {
        self.sizes.iter().fold(1, |n, d| n.saturating_mul(*d))
    }

    /// The row-major position in the operand of element `k`, counted row-major, of the window at `position`. `None` where it meets padding
    /// or a hole, or where the window has no such element.
    fn meets(&self, position: &[usize], k: usize) -> Option<usize> {
        if k >= self.count() {
            return None;
        }
        let within = Array::unravel(k, &self.sizes);
        let axes = self.windows.axes.iter().enumerate();
        axes.map(|(a, axis)| {
            let p = axis.meets(self.low[a], position[a], within[a], self.base[a])?;
            Some(p * self.strides[a])
        })
        .sum()
    }
}

/// For each position of windows over `x`, in row-major order, `read(row-major positions of the elements met, numbered within the window)`.
fn over_positions<T>(
    windows: &Windows,
    base: &[usize],
    cx: &EvalCx<'_>,
    mut read: impl FnMut(&mut dyn Iterator<Item = (usize, usize)>) -> T,
) -> Result<Vec<T>, EvalError> {
    let bound = windows.bound(base, cx.bindings)?;
    let made = (0..cx.count).map(|i| {
        let at = Array::unravel(i, cx.shape);
        let mut met = (0..bound.count()).filter_map(|k| Some((k, bound.meets(&at, k)?)));
        read(&mut met)
    });
    Ok(made.collect())
}

/// The row-major position that an index into each window means, for each position of the windows; `None` where it means nothing.
fn chosen(
    windows: &Windows,
    base: &[usize],
    index: &Array,
    cx: &EvalCx<'_>,
) -> Result<Vec<Option<usize>>, EvalError> {
    let bound = windows.bound(base, cx.bindings)?;
    let indices = index.ints()?.iter().enumerate();
    let chosen = indices.map(|(i, k)| {
        let at = Array::unravel(i, index.shape());
        bound.meets(&at, usize::try_from(*k).ok()?)
    });
    Ok(chosen.collect())
}

/// Whether a tensor of `shape` has no elements, whatever the sizes of its symbols.
pub(in crate::ops) fn is_empty(shape: &Shape) -> bool {
    shape.iter().any(|d| d.constant() == Some(0))
}

impl From<WindowKind> for ReduceKind {
    fn from(kind: WindowKind) -> Self {
        match kind {
            WindowKind::Sum => ReduceKind::Sum,
            WindowKind::Max => ReduceKind::Max,
            WindowKind::Min => ReduceKind::Min,
        }
    }
}
