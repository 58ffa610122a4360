//! Depthwise convolutions, which convolve each feature on its own, and separable ones, which mix the features afterwards.

use super::super::spatial::{PerAxis, name_of};
use super::Conv;
use super::kernel::{Kernel, kernel_methods};
use crate::initialisers::Initialiser;
use crate::layer::{Context, Layer};
use kiln_ir::{Layout, Location, Padding, Tensor};

/// A convolution of each feature on its own: `x: [b, spatial.., features]` gives `[b, positions.., features * multiplier]`, where feature
/// `f * multiplier + m` of the result comes from feature `f` alone. Chollet, "Xception: deep learning with depthwise separable convolutions"
/// (CVPR 2017), section 2.
///
/// Params, of the element type of `x`: `w: [window.., 1, features * multiplier]`, Glorot uniform unless told otherwise, and
/// `b: [features * multiplier]`, zeros. Positions and refusals are those of [`Conv`].
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, DepthwiseConv2d};
///
/// let g = Builder::new("depthwise");
/// let x = g.input("x", DType::F32, (g.dim("b"), 14, 14, 8));
/// let y = Context::training(&g).layer("blur", &DepthwiseConv2d::new(3).multiplier(2), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 12, 12, 16]");
/// ```
#[derive(Clone)]
pub struct DepthwiseConv<const N: usize> {
    multiplier: i64,
    kernel: Kernel<N>,
}

/// Along the length of `[b, length, features]`.
pub type DepthwiseConv1d = DepthwiseConv<1>;
/// Along height and width of `[b, height, width, features]`.
pub type DepthwiseConv2d = DepthwiseConv<2>;
/// Along the three spatial axes of `[b, depth, height, width, features]`.
pub type DepthwiseConv3d = DepthwiseConv<3>;

impl<const N: usize> DepthwiseConv<N> {
    /// A layer with a window of `window` elements along each axis that makes one feature of each, with a bias and without padding.
    pub fn new(window: impl Into<PerAxis<N>>) -> Self {
        Self {
            multiplier: 1,
            kernel: Kernel::new(window.into()),
        }
    }

    /// How many features are made of each.
    pub fn multiplier(mut self, multiplier: i64) -> Self {
        self.multiplier = multiplier;
        self
    }

    kernel_methods!();
}

impl<const N: usize> Layer for DepthwiseConv<N> {
    fn kind(&self) -> &str {
        name_of(
            ["depthwise_conv1d", "depthwise_conv2d", "depthwise_conv3d"],
            N,
        )
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some((spatial, features)) = self.kernel.operand(self.kind(), x) else {
            return cx.builder().poison();
        };
        let sizes = (features, features.saturating_mul(self.multiplier));
        let options = self.kernel.options(features);
        (self.kernel).convolve(cx, self.kind(), (x, &spatial), sizes, &options)
    }
}

/// A depthwise convolution and a mixing of its features at each position: `[b, spatial.., features]` gives `[b, positions.., filters]`.
/// Chollet (CVPR 2017), section 2: it costs `window + filters` multiply-adds a feature where a convolution costs `window * filters`.
///
/// It is a [`DepthwiseConv`] called `depthwise`, without a bias, and a [`Conv`] of window 1 called `pointwise`; stride, padding and dilation
/// are the former's, and both weights start by the same rule. Nothing lies between the two.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Padding, SeparableConv2d};
///
/// let g = Builder::new("separable");
/// let x = g.input("x", DType::F32, (g.dim("b"), 14, 14, 8));
/// let y = Context::training(&g).layer("mix", &SeparableConv2d::new(32, 3).padding(Padding::Same), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 14, 14, 32]");
/// assert_eq!(g.find("mix/pointwise/w").unwrap().ty().unwrap().to_string(), "f32[1, 1, 8, 32]");
/// ```
#[derive(Clone)]
pub struct SeparableConv<const N: usize> {
    filters: i64,
    multiplier: i64,
    kernel: Kernel<N>,
}

/// Along the length of `[b, length, features]`.
pub type SeparableConv1d = SeparableConv<1>;
/// Along height and width of `[b, height, width, features]`.
pub type SeparableConv2d = SeparableConv<2>;
/// Along the three spatial axes of `[b, depth, height, width, features]`.
pub type SeparableConv3d = SeparableConv<3>;

impl<const N: usize> SeparableConv<N> {
    /// A layer of `filters` output features with a window of `window` elements along each axis, a bias, and no padding.
    pub fn new(filters: i64, window: impl Into<PerAxis<N>>) -> Self {
        Self {
            filters,
            multiplier: 1,
            kernel: Kernel::new(window.into()),
        }
    }

    /// How many features the depthwise convolution makes of each.
    pub fn multiplier(mut self, multiplier: i64) -> Self {
        self.multiplier = multiplier;
        self
    }

    kernel_methods!();
}

impl<const N: usize> Layer for SeparableConv<N> {
    fn kind(&self) -> &str {
        name_of(
            ["separable_conv1d", "separable_conv2d", "separable_conv3d"],
            N,
        )
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let line = cx.location().unwrap_or_else(Location::caller);
        let depthwise = DepthwiseConv {
            multiplier: self.multiplier,
            kernel: Kernel {
                bias: None,
                ..self.kernel.clone()
            },
        };
        let pointwise = Conv {
            filters: self.filters,
            groups: 1,
            kernel: Kernel {
                layout: self.kernel.layout,
                weight: self.kernel.weight.clone(),
                bias: self.kernel.bias.clone(),
                ..Kernel::new(PerAxis([1; N]))
            },
        };
        let y = cx.layer_from(line.clone(), "depthwise", &depthwise, x);
        cx.layer_from(line, "pointwise", &pointwise, y)
    }
}
