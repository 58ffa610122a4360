//! Convolution layers along one, two or three spatial axes: plain and grouped, depthwise, separable, transposed.
//!
//! Each is one type for all numbers of axes, with an alias for each: [`Conv2d`] is [`Conv<2>`](Conv). They give the op `conv` a weight of
//! the right shape; what a window that does not fit looks like is the op's to say, at the line that added the layer.

mod depthwise;
mod kernel;
mod transpose;

pub use depthwise::{
    DepthwiseConv, DepthwiseConv1d, DepthwiseConv2d, DepthwiseConv3d, SeparableConv,
    SeparableConv1d, SeparableConv2d, SeparableConv3d,
};
pub use transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};

use super::spatial::{PerAxis, name_of};
use crate::initialisers::Initialiser;
use crate::layer::{Context, Layer};
use kernel::{Kernel, kernel_methods};
use kiln_ir::{Layout, Padding, Tensor};

/// A convolution along `N` spatial axes: `x: [b, spatial.., features]` gives `[b, positions.., filters]`.
///
/// ```text
/// y[n, s.., o] = b[o] + sum over k.., i of x[n, s * stride + k * dilation - low .., i] * w[k.., i, o]
/// ```
///
/// That is deep learning's convolution, which does not reverse the kernel: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning
/// applied to document recognition" (Proceedings of the IEEE, 1998), section II. Where nothing is padded there are
/// `floor((size - dilation * (window - 1) - 1) / stride) + 1` positions; [`Padding::Same`] makes them `ceil(size / stride)`.
///
/// Params, of the element type of `x`: `w: [window.., features / groups, filters]`, Glorot uniform unless told otherwise, and
/// `b: [filters]`, zeros. With the layout [`Layout::ChannelsFirst`] it is `x: [b, features, spatial..]` and
/// `w: [filters, features / groups, window..]`.
///
/// Refused, at the line that added the layer: another number of axes, a symbolic number of features, groups that do not divide features
/// and filters, a stride or dilation below 1, and a window larger than the padded input.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Conv2d, Padding};
///
/// let g = Builder::new("stem");
/// let x = g.input("x", DType::F32, (g.dim("b"), 32, 32, 3));
/// let stem = Conv2d::new(16, 3).stride(2).padding(Padding::Same);
/// let y = Context::training(&g).layer("stem", &stem, x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 16, 16, 16]");
/// assert_eq!(g.find("stem/w").unwrap().ty().unwrap().to_string(), "f32[3, 3, 3, 16]");
/// ```
#[derive(Clone)]
pub struct Conv<const N: usize> {
    filters: i64,
    groups: i64,
    kernel: Kernel<N>,
}

/// A convolution along the length of `[b, length, features]`.
pub type Conv1d = Conv<1>;
/// A convolution along height and width of `[b, height, width, features]`.
pub type Conv2d = Conv<2>;
/// A convolution along the three spatial axes of `[b, depth, height, width, features]`.
pub type Conv3d = Conv<3>;

impl<const N: usize> Conv<N> {
    /// A layer of `filters` output features with a window of `window` elements along each axis, a bias, and no padding.
    pub fn new(filters: i64, window: impl Into<PerAxis<N>>) -> Self {
        Self {
            filters,
            groups: 1,
            kernel: Kernel::new(window.into()),
        }
    }

    /// Divides the features into groups, each of which is convolved on its own: Krizhevsky, Sutskever and Hinton, "ImageNet
    /// classification with deep convolutional neural networks" (NIPS 2012).
    pub fn groups(mut self, groups: i64) -> Self {
        self.groups = groups;
        self
    }

    kernel_methods!();
}

impl<const N: usize> Layer for Conv<N> {
    fn kind(&self) -> &str {
        name_of(["conv1d", "conv2d", "conv3d"], N)
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some((spatial, features)) = self.kernel.operand(self.kind(), x) else {
            return cx.builder().poison();
        };
        let sizes = (features, self.filters);
        let options = self.kernel.options(self.groups);
        (self.kernel).convolve(cx, self.kind(), (x, &spatial), sizes, &options)
    }
}
