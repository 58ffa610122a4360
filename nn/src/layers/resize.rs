//! Layers that change spatial extents without params: zeros at the edges, and upsampling.

use super::spatial::{PerAxis, Spatial, name_of};
use crate::layer::{Context, Layer};
use kiln_ir::ops::Broadcast;
use kiln_ir::{Dim, Kind, Layout, Refusal, Shape, Tensor};

/// Zeros at the edges of `N` spatial axes: an extent `n` becomes `low + n + high`. A negative number is refused, at
/// the line that added the layer.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, ZeroPad2d};
///
/// let g = Builder::new("padded");
/// let x = g.input("x", DType::F32, (g.dim("b"), 28, 28, 1));
/// let y = Context::training(&g).layer("pad", &ZeroPad2d::edges([(2, 2), (0, 4)]), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 32, 32, 1]");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroPad<const N: usize> {
    edges: [(i64, i64); N],
    layout: Layout,
}

/// Zeros at both ends of `[b, length, features]`.
pub type ZeroPad1d = ZeroPad<1>;
/// Zeros around `[b, height, width, features]`.
pub type ZeroPad2d = ZeroPad<2>;
/// Zeros around `[b, depth, height, width, features]`.
pub type ZeroPad3d = ZeroPad<3>;

impl<const N: usize> ZeroPad<N> {
    /// As many zeros at both edges of an axis.
    pub fn new(amount: impl Into<PerAxis<N>>) -> Self {
        Self::edges(amount.into().0.map(|amount| (amount, amount)))
    }

    /// Zeros at the (low, high) edge of each axis.
    pub fn edges(edges: [(i64, i64); N]) -> Self {
        Self {
            edges,
            layout: Layout::ChannelsLast,
        }
    }

    /// The order of axes; channels last unless told otherwise.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl<const N: usize> Layer for ZeroPad<N> {
    fn kind(&self) -> &str {
        name_of(["zero_pad1d", "zero_pad2d", "zero_pad3d"], N)
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(spatial) = Spatial::of(self.kind(), x, Some(N), self.layout) else {
            return cx.builder().poison();
        };
        let rank = spatial.ty.rank();
        let (mut low, mut high) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
        for (axis, edge) in spatial.axes.into_iter().zip(self.edges) {
            (low[axis], high[axis]) = (edge.0.into(), edge.1.into());
        }
        x.pad(0.0, &low, &high, &vec![0; rank])
    }
}

/// How new elements come from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interpolation {
    Nearest,
    Linear,
}

/// Spatial axes made larger by whole factors: `[b, spatial.., features]` gives `[b, factor * spatial.., features]`.
///
/// New element `j` of an axis lies at `(j + 1/2) / factor - 1/2` of the old one, as in Keras and in PyTorch with `align_corners=False`. It
/// is the nearest old element, or the mean of the two around it, weighted by nearness; beyond the edges the last element goes on.
///
/// Refused, at the line that added the layer: another number of axes, a factor below 1, and a mean of elements that are not floating.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Upsample2d};
///
/// let g = Builder::new("larger");
/// let x = g.input("x", DType::F32, (g.dim("b"), 7, 7, 64));
/// let y = Context::training(&g).layer("up", &Upsample2d::linear(2), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 14, 14, 64]");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample<const N: usize> {
    factor: [i64; N],
    interpolation: Interpolation,
    layout: Layout,
}

/// Along the length of `[b, length, features]`.
pub type Upsample1d = Upsample<1>;
/// Along height and width of `[b, height, width, features]`.
pub type Upsample2d = Upsample<2>;
/// Along the three spatial axes of `[b, depth, height, width, features]`.
pub type Upsample3d = Upsample<3>;

impl<const N: usize> Upsample<N> {
    /// Each element `factor` times along each axis.
    pub fn nearest(factor: impl Into<PerAxis<N>>) -> Self {
        Self {
            factor: factor.into().0,
            interpolation: Interpolation::Nearest,
            layout: Layout::ChannelsLast,
        }
    }

    /// Linear interpolation along each axis: bilinear along two, trilinear along three.
    #[doc(alias = "bilinear")]
    pub fn linear(factor: impl Into<PerAxis<N>>) -> Self {
        Self {
            interpolation: Interpolation::Linear,
            ..Self::nearest(factor)
        }
    }

    /// The order of axes; channels last unless told otherwise.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl<const N: usize> Layer for Upsample<N> {
    fn kind(&self) -> &str {
        name_of(["upsample1d", "upsample2d", "upsample3d"], N)
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(spatial) = Spatial::of(self.kind(), x, Some(N), self.layout) else {
            return cx.builder().poison();
        };
        let refuse = |kind: Kind, message: String, help: &str| {
            let refusal = Refusal::new(kind, message).help(help);
            cx.builder().refuse(refusal, &[x])
        };
        if self.factor.iter().any(|factor| *factor < 1) {
            let message = format!("`{}` by a factor of {:?}", self.kind(), self.factor);
            return refuse(Kind::Attribute, message, "factors are at least 1");
        }
        if self.interpolation == Interpolation::Linear && !spatial.ty.dtype.is_float() {
            let message = format!("`{}` with means of {}", self.kind(), spatial.ty);
            return refuse(Kind::Type, message, "convert it first, or take the nearest");
        }
        let axes = spatial.axes.iter().zip(self.factor);
        axes.fold(x, |x, (axis, factor)| match self.interpolation {
            Interpolation::Nearest => repeated(x, *axis, factor),
            Interpolation::Linear => interpolated(x, *axis, factor),
        })
    }
}

/// Every element of `axis` several times.
#[track_caller]
fn repeated(x: Tensor<'_>, axis: usize, factor: i64) -> Tensor<'_> {
    let Some(phases) = Phases::of(x, axis, factor) else {
        return x;
    };
    phases.merged(phases.spread(x))
}

/// Linear interpolation along `axis`. Of the two neighbours one has weight 0, which one the phase tells.
#[track_caller]
fn interpolated<'g>(x: Tensor<'g>, axis: usize, factor: i64) -> Tensor<'g> {
    let Some(phases) = Phases::of(x, axis, factor) else {
        return x;
    };
    let size = phases.size();
    let last = &size - &Dim::from(1);
    let (none, one) = (Dim::from(0), Dim::from(1));
    let part = |low: &Dim, high: &Dim| x.slice_axis(axis, low, high);
    let before = part(&none, &one).concat(part(&none, &last), axis);
    let behind = part(&one, &size).concat(part(&last, &size), axis);
    // How far each phase lies behind the old element.
    let offset = |phase: i64| (phase as f64 + 0.5) / factor as f64 - 0.5;
    let weighted = |x: Tensor<'g>, weight: fn(f64) -> f64| {
        let weights: Vec<f64> = (0..factor).map(|phase| weight(offset(phase))).collect();
        phases.spread(x) * phases.weights(x, &weights)
    };
    let own = weighted(x, |offset| 1.0 - offset.abs());
    let sum = own + weighted(before, |offset| (-offset).max(0.0));
    phases.merged(sum + weighted(behind, |offset| offset.max(0.0)))
}

/// A tensor with an axis more, of `factor` phases, behind the axis that grows.
struct Phases {
    shape: Shape,
    axis: usize,
    factor: i64,
}

impl Phases {
    /// None where there is nothing to do.
    fn of(x: Tensor<'_>, axis: usize, factor: i64) -> Option<Self> {
        let mut shape = x.ty()?.shape.to_vec();
        shape.insert(axis + 1, Dim::from(factor));
        (factor != 1).then(|| Self {
            shape: shape.into_iter().collect(),
            axis,
            factor,
        })
    }

    /// The extent of the axis before it grows.
    fn size(&self) -> Dim {
        self.shape[self.axis].clone()
    }

    /// `x` at each phase.
    #[track_caller]
    fn spread<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let kept = (0..self.shape.len()).filter(|axis| *axis != self.axis + 1);
        let broadcast = Broadcast {
            shape: self.shape.clone(),
            axes: kept.collect(),
        };
        x.builder().push(broadcast, &[x])
    }

    /// One number a phase, in the element type of `x`.
    #[track_caller]
    fn weights<'g>(&self, x: Tensor<'g>, weights: &[f64]) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let weights = x.builder().constant([self.factor], weights);
        let broadcast = Broadcast {
            shape: self.shape.clone(),
            axes: vec![self.axis + 1],
        };
        x.builder().push(broadcast, &[weights.convert(ty.dtype)])
    }

    /// The phases in order along the axis.
    #[track_caller]
    fn merged<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let mut shape = self.shape.to_vec();
        let phases = shape.remove(self.axis + 1);
        shape[self.axis] = &shape[self.axis] * &phases;
        x.reshape(&shape[..])
    }
}
