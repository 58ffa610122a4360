//! Transposed convolutions: what the way back of a convolution does, as a layer that makes pictures larger.

use super::super::spatial::{PerAxis, name_of};
use super::kernel::{Kernel, kernel_methods};
use crate::initialisers::Initialiser;
use crate::layer::{Context, Layer};
use kiln_ir::{ConvOptions, Dim, Kind, Layout, Padding, Refusal, Tensor};

/// The transpose of a convolution along `N` spatial axes: `x: [b, spatial.., features]` gives `[b, positions.., filters]`, where each
/// element of `x` adds its multiple of the window to the result, `stride` positions further for each. Zeiler, Krishnan, Taylor and Fergus,
/// "Deconvolutional networks" (CVPR 2010); Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016), chapter 4.
///
/// ```text
/// y[n, s * stride + k * dilation - low .., o] += x[n, s.., i] * w[k.., i, o],  and b[o] everywhere
/// ```
///
/// There are `(size - 1) * stride + dilation * (window - 1) + 1` positions along an axis, less the padding; with [`Padding::Same`] exactly
/// `size * stride`. [`Padding::Explicit`] is that of the convolution that this is the transpose of, so it takes away; PyTorch's
/// `output_padding` is that much less at the high edge.
///
/// Params, of the element type of `x`: `w: [window.., features, filters]`, Glorot uniform unless told otherwise, and `b: [filters]`, zeros.
/// Refusals are those of [`Conv`](super::Conv).
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, ConvTranspose2d, Padding};
///
/// let g = Builder::new("decoder");
/// let x = g.input("x", DType::F32, (g.dim("b"), 7, 7, 64));
/// let up = ConvTranspose2d::new(32, 3).stride(2).padding(Padding::Same);
/// let y = Context::training(&g).layer("up", &up, x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 14, 14, 32]");
/// ```
#[derive(Clone)]
pub struct ConvTranspose<const N: usize> {
    filters: i64,
    kernel: Kernel<N>,
}

/// Along the length of `[b, length, features]`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// Along height and width of `[b, height, width, features]`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// Along the three spatial axes of `[b, depth, height, width, features]`.
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const N: usize> ConvTranspose<N> {
    /// A layer of `filters` output features with a window of `window` elements along each axis, a bias, and no padding.
    pub fn new(filters: i64, window: impl Into<PerAxis<N>>) -> Self {
        Self {
            filters,
            kernel: Kernel::new(window.into()),
        }
    }

    kernel_methods!();

    /// The convolution over the dilated input, with the kernel read from its end, that is the same.
    fn options(&self) -> ConvOptions {
        let Kernel {
            window,
            stride,
            dilation,
            padding,
            ..
        } = &self.kernel;
        let reach = |axis: usize| {
            window[axis]
                .saturating_sub(1)
                .saturating_mul(dilation[axis])
        };
        let pair = |axis: usize| match padding {
            Padding::Valid => (Dim::from(reach(axis)), Dim::from(reach(axis))),
            Padding::Same => {
                // The convolution pads `covered` to come from `size * stride` positions to `size`, an odd one at the high edge.
                let covered = reach(axis).saturating_sub(stride[axis] - 1).max(0);
                let low = reach(axis) - covered / 2;
                let all = reach(axis).saturating_add(stride[axis] - 1);
                (Dim::from(low), Dim::from(all - low))
            }
            Padding::Explicit(pairs) => {
                let none = (Dim::from(0), Dim::from(0));
                let (low, high) = pairs.get(axis).or(pairs.first()).unwrap_or(&none);
                let reach = Dim::from(reach(axis));
                (&reach - low, &reach - high)
            }
        };
        ConvOptions {
            stride: Vec::new(),
            lhs_dilation: stride.to_vec(),
            padding: Padding::Explicit((0..N).map(pair).collect()),
            reverse: true,
            ..self.kernel.options(1)
        }
    }
}

impl<const N: usize> Layer for ConvTranspose<N> {
    fn kind(&self) -> &str {
        name_of(
            ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
            N,
        )
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some((spatial, features)) = self.kernel.operand(self.kind(), x) else {
            return cx.builder().poison();
        };
        // To the op they are a dilation and its padding, in whose words nobody would find the mistake.
        let pairs = match &self.kernel.padding {
            Padding::Valid | Padding::Same => N,
            Padding::Explicit(pairs) => pairs.len(),
        };
        let stride = self.kernel.stride;
        let mistake = if stride.iter().any(|s| *s < 1) {
            Some(format!("a stride of {stride:?}"))
        } else if pairs > 1 && pairs != N {
            Some(format!("{pairs} entries of padding"))
        } else {
            None
        };
        if let Some(mistake) = mistake {
            let what = format!("`{}` with {mistake}", self.kind());
            let refusal = Refusal::new(Kind::Attribute, what)
                .help("strides are at least 1, and padding is one pair for each spatial axis, or one for all");
            return cx.builder().refuse(refusal, &[x]);
        }
        let sizes = (features, self.filters);
        (self.kernel).convolve(cx, self.kind(), (x, &spatial), sizes, &self.options())
    }
}
