//! Convolutions and pools: options as users think of them, made into the ops' own attributes.
//!
//! A list of numbers in the options, one for each spatial axis, may be empty, which is the default on all axes, or hold one entry for all
//! axes. What else the ops can do, other axes and windows over batch or features, is there through [`Builder::push`](super::Builder::push).

use super::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::{
    ArgKind, ArgWindow, Conv, ConvAxes, ConvGroups, GatherWindow, ReduceWindow, ScatterWindow,
    WindowAxis, WindowKind, Windows, accumulate_field,
};
use crate::types::{Shape, TensorType};
use std::str::FromStr;

/// Padding at the edges of spatial axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// None: every window lies within the operand.
    #[default]
    Valid,
    /// `ceil(extent / stride)` positions, as TensorFlow and Keras have it: an odd element goes to the high edge. Symbolic extents too.
    Same,
    /// (low, high) for each spatial axis, or one pair for all. Negative padding takes elements away.
    Explicit(Vec<(Dim, Dim)>),
}

impl Padding {
    /// `amount` at both edges of every spatial axis, as PyTorch's `padding`.
    pub fn both(amount: i64) -> Self {
        Padding::Explicit(vec![(Dim::from(amount), Dim::from(amount))])
    }
}

/// The order of axes. The kernel's goes with it, as the frameworks have it that use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, spatial.., features]` with kernels `[spatial.., input, output]`: NWC, NHWC, NDHWC with HWIO, as TensorFlow and Keras.
    #[default]
    ChannelsLast,
    /// `[batch, features, spatial..]` with kernels `[output, input, spatial..]`: NCW, NCHW, NCDHW with OIHW, as PyTorch.
    ChannelsFirst,
}

/// A text that is no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of the layouts NWC, NHWC, NDHWC, NCW, NCHW and NCDHW")]
pub struct UnknownLayout;

impl FromStr for Layout {
    type Err = UnknownLayout;

    /// Both layouts are of any rank, so the spatial axes of the spelling say no more than that it is one.
    fn from_str(text: &str) -> Result<Self, UnknownLayout> {
        match text {
            "NWC" | "NHWC" | "NDHWC" => Ok(Layout::ChannelsLast),
            "NCW" | "NCHW" | "NCDHW" => Ok(Layout::ChannelsFirst),
            _ => Err(UnknownLayout),
        }
    }
}

impl Layout {
    /// The axes of a convolution along `spatial` axes.
    pub fn axes(self, spatial: usize) -> ConvAxes {
        match self {
            Layout::ChannelsLast => ConvAxes::channels_last(spatial),
            Layout::ChannelsFirst => ConvAxes::channels_first(spatial),
        }
    }
}

/// What a convolution does besides the default: every position of the kernel within the operand, channels last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// From one position of the kernel to the next; 1 by default.
    pub stride: Vec<i64>,
    /// Padding at the edges.
    pub padding: Padding,
    /// From one element of the operand to the next, 1 by default; more of it makes a transposed convolution.
    pub lhs_dilation: Vec<i64>,
    /// From one element of the kernel to the next, 1 by default; more of it makes an atrous convolution.
    pub rhs_dilation: Vec<i64>,
    /// The number of groups that features are divided into. As many as input features make a depthwise convolution.
    pub groups: i64,
    /// The order of axes.
    pub layout: Layout,
    /// Whether the kernel is read from its end along all spatial axes, as a transposed convolution does.
    pub reverse: bool,
    /// What sums are accumulated in: f64 for a narrower float, or the type's own default.
    pub accumulate: Option<DType>,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: Vec::new(),
            padding: Padding::Valid,
            lhs_dilation: Vec::new(),
            rhs_dilation: Vec::new(),
            groups: 1,
            layout: Layout::ChannelsLast,
            reverse: false,
            accumulate: None,
        }
    }
}

/// A pool: a window over spatial axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// The extents of the window. Not empty.
    pub window: Vec<i64>,
    /// From one position of the window to the next; the window's extents by default.
    pub stride: Vec<i64>,
    /// Padding at the edges, which no maximum and no sum counts.
    pub padding: Padding,
    /// From one element of the window to the next; 1 by default.
    pub dilation: Vec<i64>,
    /// The order of axes.
    pub layout: Layout,
    /// Whether a mean counts the padding that its window meets as zeros, as PyTorch does by default. Keras does not.
    pub count_include_pad: bool,
}

impl PoolOptions {
    /// Windows of `window`, next to one another, channels last.
    pub fn of(window: &[i64]) -> Self {
        Self {
            window: window.to_vec(),
            ..Self::default()
        }
    }
}

impl<'g> Tensor<'g> {
    /// The convolution with `kernel`, along all axes but batch and features: 1 to 3 of them. Deep learning's convolution, which does not
    /// reverse the kernel.
    ///
    /// ```
    /// use kiln_ir::{Builder, ConvOptions, DType, Init, Padding, PoolOptions};
    ///
    /// let g = Builder::new("stem");
    /// let x = g.input("x", DType::F32, (g.dim("b"), 28, 28, 1));
    /// let w = g.param("w", [3, 3, 1, 32], Init::uniform(0.1));
    /// let options = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    /// let y = x.conv(w, &options).maximum(0.0).max_pool(&PoolOptions::of(&[2]));
    /// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 14, 14, 32]");
    /// ```
    #[track_caller]
    pub fn conv(self, kernel: Tensor<'g>, options: &ConvOptions) -> Self {
        let (Some(lhs), Some(rhs)) = (self.ty(), kernel.ty()) else {
            return self.builder.poison();
        };
        match conv_op(&lhs, &rhs, options) {
            Ok(conv) => self.builder.push(conv, &[self, kernel]),
            Err(refusal) => self.refused(refusal),
        }
    }

    /// The largest or smallest element, or the sum, of each position of a window over the spatial axes.
    #[track_caller]
    pub fn pool(self, kind: WindowKind, options: &PoolOptions) -> Self {
        let Some(ty) = self.ty() else { return self };
        match pool_windows(&ty, options) {
            Ok(windows) => self.reduce_window(kind, windows),
            Err(refusal) => self.refused(refusal),
        }
    }

    /// The largest element of each position of a window over the spatial axes; NaN wins. At a tie the first takes the gradient.
    #[track_caller]
    pub fn max_pool(self, options: &PoolOptions) -> Self {
        self.pool(WindowKind::Max, options)
    }

    /// The mean of each position of a window over the spatial axes. Padding counts where the options say so; the mean of a window that
    /// meets nothing else is NaN then.
    #[track_caller]
    pub fn mean_pool(self, options: &PoolOptions) -> Self {
        let sum = self.pool(WindowKind::Sum, options);
        let (Some(ty), Some(summed)) = (self.ty(), sum.ty()) else {
            return sum;
        };
        let windows = match pool_windows(&ty, options) {
            Ok(windows) => windows,
            Err(refusal) => return self.refused(refusal),
        };
        let elements = windows.elements().unwrap_or(1);
        if options.count_include_pad || windows.unpadded() {
            return sum.over(elements as f64);
        }
        // How many elements a window meets depends on its place alone, so one example of one feature tells.
        let spatial = &options.layout.axes(ty.rank() - 2).lhs.spatial;
        let flat = |shape: &Shape| -> Shape {
            let extent = |(axis, d): (usize, &Dim)| {
                if spatial.contains(&axis) {
                    d.clone()
                } else {
                    Dim::from(1)
                }
            };
            shape.iter().enumerate().map(extent).collect()
        };
        let ones = self.builder.splat(ty.dtype, flat(&ty.shape), 1.0);
        let met = ones.reduce_window(WindowKind::Sum, windows);
        sum.over(met.broadcast_to(summed.shape))
    }

    /// A reduction of each position of windows over all axes.
    #[track_caller]
    pub fn reduce_window(self, kind: WindowKind, windows: Windows) -> Self {
        let reduce = ReduceWindow {
            kind,
            windows,
            accumulate: None,
        };
        self.builder.push(reduce, &[self])
    }

    /// The number of the largest element within each position of windows over all axes, as [`ArgWindow`] defines it.
    #[track_caller]
    pub fn argmax_window(self, windows: Windows) -> Self {
        let kind = ArgKind::Max;
        self.builder.push(ArgWindow { kind, windows }, &[self])
    }

    /// The number of the smallest element within each position of windows over all axes, as [`ArgWindow`] defines it.
    #[track_caller]
    pub fn argmin_window(self, windows: Windows) -> Self {
        let kind = ArgKind::Min;
        self.builder.push(ArgWindow { kind, windows }, &[self])
    }

    /// The element that `index` names within each position of windows over all axes.
    #[track_caller]
    pub fn gather_window(self, index: Tensor<'g>, windows: Windows) -> Self {
        self.builder.push(GatherWindow { windows }, &[self, index])
    }

    /// Zeros of `shape` with each element added at the place that `index` names within its position of windows over all axes: what undoes
    /// a max pool.
    #[track_caller]
    pub fn scatter_window(
        self,
        index: Tensor<'g>,
        shape: impl Into<Shape>,
        windows: Windows,
    ) -> Self {
        let shape = shape.into();
        self.builder
            .push(ScatterWindow { shape, windows }, &[self, index])
    }

    #[track_caller]
    fn refused(self, refusal: Refusal) -> Self {
        self.builder.report(refusal, Vec::new());
        self.builder.poison()
    }
}

/// The number of spatial axes of `ty`, where a convolution or pool can have so many.
fn spatial_axes(op: &str, ty: &TensorType) -> Result<usize, Refusal> {
    match ty.rank() {
        rank @ 3..=5 => Ok(rank - 2),
        _ => Err(
            Refusal::new(Kind::Shape, format!("`{op}` of {ty}")).help(
                "the operand has a batch axis, a feature axis and 1 to 3 spatial axes, such as [b, height, width, features]",
            ),
        ),
    }
}

/// One entry for each of `rank` axes.
fn each<T: Clone>(
    op: &str,
    what: &str,
    given: &[T],
    rank: usize,
    default: T,
) -> Result<Vec<T>, Refusal> {
    match given {
        [] => Ok(vec![default; rank]),
        [all] => Ok(vec![all.clone(); rank]),
        _ if given.len() == rank => Ok(given.to_vec()),
        _ => Err(Refusal::new(
            Kind::Attribute,
            format!(
                "`{op}`: {} entries of {what} for {rank} spatial axes",
                given.len()
            ),
        )
        .help("give one for each axis, or one for all")),
    }
}

/// Sets the padding of windows that are otherwise known, over spatial axes of extents `base`.
fn pad(
    op: &str,
    padding: &Padding,
    axes: &mut [WindowAxis],
    base: &[Dim],
    sizes: &[Dim],
) -> Result<(), Refusal> {
    let pairs = match padding {
        Padding::Valid => return Ok(()),
        Padding::Same => {
            let extents = base.iter().zip(sizes);
            let same = axes
                .iter()
                .zip(extents)
                .map(|(a, (b, s))| a.same_padding(b, s));
            same.collect()
        }
        Padding::Explicit(pairs) => {
            let none = (Dim::from(0), Dim::from(0));
            each(op, "padding", pairs, axes.len(), none)?
        }
    };
    for (axis, (low, high)) in axes.iter_mut().zip(pairs) {
        (axis.low, axis.high) = (low, high);
    }
    Ok(())
}

fn conv_op(lhs: &TensorType, rhs: &TensorType, options: &ConvOptions) -> Result<Conv, Refusal> {
    let spatial = spatial_axes("conv", lhs)?;
    let axes = options.layout.axes(spatial);
    if rhs.rank() != lhs.rank() {
        return Err(
            Refusal::new(Kind::Shape, format!("`conv` of {lhs} with a kernel {rhs}")).help(
                format!(
                    "a kernel has as many axes as the operand, in the order {}",
                    match options.layout {
                        Layout::ChannelsLast => "spatial axes, input features, output features",
                        Layout::ChannelsFirst => "output features, input features, spatial axes",
                    }
                ),
            ),
        );
    }
    let stride = each("conv", "stride", &options.stride, spatial, 1)?;
    let lhs_dilation = each("conv", "lhs_dilation", &options.lhs_dilation, spatial, 1)?;
    let rhs_dilation = each("conv", "rhs_dilation", &options.rhs_dilation, spatial, 1)?;
    let mut window: Vec<WindowAxis> = (0..spatial)
        .map(|a| WindowAxis {
            stride: stride[a],
            base_dilation: lhs_dilation[a],
            window_dilation: rhs_dilation[a],
            ..WindowAxis::default()
        })
        .collect();
    let extents = |ty: &TensorType, axes: &[usize]| -> Vec<Dim> {
        axes.iter().map(|a| ty.shape[*a].clone()).collect()
    };
    let base = extents(lhs, &axes.lhs.spatial);
    let kernel = extents(rhs, &axes.rhs.spatial);
    pad("conv", &options.padding, &mut window, &base, &kernel)?;
    Ok(Conv {
        axes,
        window,
        reverse: options.reverse,
        groups: ConvGroups::features(options.groups),
        accumulate: options
            .accumulate
            .and_then(|wanted| accumulate_field(lhs.dtype, wanted)),
    })
}

/// The windows of a pool over all axes of `ty`.
fn pool_windows(ty: &TensorType, options: &PoolOptions) -> Result<Windows, Refusal> {
    let spatial = spatial_axes("reduce_window", ty)?;
    if options.window.is_empty() {
        return Err(
            Refusal::new(Kind::Attribute, "`reduce_window` without a window")
                .help("give the window's extents, such as [2, 2]"),
        );
    }
    let sizes = each("reduce_window", "window", &options.window, spatial, 1)?;
    let stride = if options.stride.is_empty() {
        sizes.clone()
    } else {
        each("reduce_window", "stride", &options.stride, spatial, 1)?
    };
    let dilation = each("reduce_window", "dilation", &options.dilation, spatial, 1)?;
    let mut axes: Vec<WindowAxis> = (0..spatial)
        .map(|a| WindowAxis {
            stride: stride[a],
            window_dilation: dilation[a],
            ..WindowAxis::default()
        })
        .collect();
    let places = options.layout.axes(spatial).lhs.spatial;
    let base: Vec<Dim> = places.iter().map(|a| ty.shape[*a].clone()).collect();
    let extents: Vec<Dim> = sizes.iter().map(|s| Dim::from(*s)).collect();
    pad(
        "reduce_window",
        &options.padding,
        &mut axes,
        &base,
        &extents,
    )?;
    let mut windows = Windows::of(&vec![1; ty.rank()]);
    for ((place, size), axis) in places.into_iter().zip(sizes).zip(axes) {
        windows.sizes[place] = size;
        windows.axes[place] = axis;
    }
    Ok(windows)
}
