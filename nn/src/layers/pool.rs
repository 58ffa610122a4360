//! Pools: the largest element or the mean of windows over spatial axes, and of whole spatial axes.

use super::spatial::{PerAxis, Spatial, name_of};
use crate::layer::{Context, Layer};
use kiln_ir::ops::DimSize;
use kiln_ir::{Dim, Layout, Padding, PoolOptions, ReduceKind, Tensor};

/// How a window slides over `N` spatial axes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window<const N: usize> {
    size: [i64; N],
    stride: [i64; N],
    padding: Padding,
    dilation: [i64; N],
    layout: Layout,
}

impl<const N: usize> Window<N> {
    fn new(size: PerAxis<N>) -> Self {
        Self {
            size: size.0,
            stride: size.0,
            padding: Padding::Valid,
            dilation: [1; N],
            layout: Layout::ChannelsLast,
        }
    }

    fn options(&self) -> PoolOptions {
        PoolOptions {
            window: self.size.to_vec(),
            stride: self.stride.to_vec(),
            padding: self.padding.clone(),
            dilation: self.dilation.to_vec(),
            layout: self.layout,
            count_include_pad: false,
        }
    }
}

macro_rules! window_methods {
    () => {
        /// A window of `size` elements along each axis, which moves by its own size.
        pub fn new(size: impl Into<PerAxis<N>>) -> Self {
            Self::of(Window::new(size.into()))
        }

        /// From one position of the window to the next, along each axis; the window's size unless told otherwise.
        pub fn stride(mut self, stride: impl Into<PerAxis<N>>) -> Self {
            self.window.stride = stride.into().0;
            self
        }

        /// Padding at the edges, which no maximum and no mean sees; none unless told otherwise.
        pub fn padding(mut self, padding: Padding) -> Self {
            self.window.padding = padding;
            self
        }

        /// From one element of the window to the next, along each axis; 1 unless told otherwise.
        pub fn dilation(mut self, dilation: impl Into<PerAxis<N>>) -> Self {
            self.window.dilation = dilation.into().0;
            self
        }

        /// The order of axes; channels last unless told otherwise.
        pub fn layout(mut self, layout: Layout) -> Self {
            self.window.layout = layout;
            self
        }
    };
}

/// The largest element of each position of a window: `[b, spatial.., features]` gives `[b, positions.., features]`.
///
/// NaN wins; at a tie the first element in row-major order takes the gradient. A window that meets nothing but padding gives the least
/// number of the type. Elements that no position reaches, at the high edge, are left out: `floor((size - window) / stride) + 1` positions.
///
/// Refused, at the line that added the layer: another number of axes, a window, stride or dilation below 1, a window larger than the padded
/// input.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, MaxPool2d};
///
/// let g = Builder::new("pool");
/// let x = g.input("x", DType::F32, (g.dim("b"), 13, 13, 32));
/// let y = Context::training(&g).layer("pool", &MaxPool2d::new(2), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 6, 6, 32]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPool<const N: usize> {
    window: Window<N>,
}

/// Windows along the length of `[b, length, features]`.
pub type MaxPool1d = MaxPool<1>;
/// Windows over height and width of `[b, height, width, features]`.
pub type MaxPool2d = MaxPool<2>;
/// Windows over the three spatial axes of `[b, depth, height, width, features]`.
pub type MaxPool3d = MaxPool<3>;

impl<const N: usize> MaxPool<N> {
    window_methods!();

    fn of(window: Window<N>) -> Self {
        Self { window }
    }
}

impl<const N: usize> Layer for MaxPool<N> {
    fn kind(&self) -> &str {
        name_of(["max_pool1d", "max_pool2d", "max_pool3d"], N)
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        match Spatial::of(self.kind(), x, Some(N), self.window.layout) {
            Some(_) => x.max_pool(&self.window.options()),
            None => cx.builder().poison(),
        }
    }
}

/// The mean of each position of a window: `[b, spatial.., features]` gives `[b, positions.., features]`.
///
/// Padding does not count, as in Keras, unless [`counting_padding`](AvgPool::counting_padding) says so. Positions and refusals are those
/// of [`MaxPool`].
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{AvgPool1d, Context, Padding};
///
/// let g = Builder::new("smooth");
/// let x = g.input("x", DType::F32, (g.dim("b"), 100, 4));
/// let smooth = AvgPool1d::new(5).stride(1).padding(Padding::Same);
/// let y = Context::training(&g).layer("smooth", &smooth, x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 100, 4]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvgPool<const N: usize> {
    window: Window<N>,
    counting_padding: bool,
}

/// Windows along the length of `[b, length, features]`.
pub type AvgPool1d = AvgPool<1>;
/// Windows over height and width of `[b, height, width, features]`.
pub type AvgPool2d = AvgPool<2>;
/// Windows over the three spatial axes of `[b, depth, height, width, features]`.
pub type AvgPool3d = AvgPool<3>;

impl<const N: usize> AvgPool<N> {
    window_methods!();

    fn of(window: Window<N>) -> Self {
        Self {
            window,
            counting_padding: false,
        }
    }

    /// Counts padding as zeros, as PyTorch does: every mean has the same divisor.
    pub fn counting_padding(mut self) -> Self {
        self.counting_padding = true;
        self
    }
}

impl<const N: usize> Layer for AvgPool<N> {
    fn kind(&self) -> &str {
        name_of(["avg_pool1d", "avg_pool2d", "avg_pool3d"], N)
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        if Spatial::of(self.kind(), x, Some(N), self.window.layout).is_none() {
            return cx.builder().poison();
        }
        x.mean_pool(&PoolOptions {
            count_include_pad: self.counting_padding,
            ..self.window.options()
        })
    }
}

/// The largest element of each feature over all spatial axes, 1 to 3 of them: `[b, spatial.., features]` gives `[b, features]`.
///
/// ```
/// use kiln_nn::Sequential;
///
/// let model = Sequential::new([100, 4]).conv1d(16, 5).relu().global_max_pool().dense(1);
/// assert_eq!(model.summary().unwrap().rows[2].output.to_string(), "f32[b, 16]");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalMaxPool {
    layout: Layout,
}

impl GlobalMaxPool {
    /// The layer for channels last.
    pub fn new() -> Self {
        Self::default()
    }

    /// The order of axes.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl Layer for GlobalMaxPool {
    fn kind(&self) -> &str {
        "global_max_pool"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        match Spatial::of(self.kind(), x, None, self.layout) {
            Some(spatial) => x.reduce(ReduceKind::Max, &spatial.axes),
            None => cx.builder().poison(),
        }
    }
}

/// The mean of each feature over all spatial axes, 1 to 3 of them: `[b, spatial.., features]` gives `[b, features]`. Lin, Chen and Yan,
/// "Network in network" (ICLR 2014), section 3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalAvgPool {
    layout: Layout,
}

impl GlobalAvgPool {
    /// The layer for channels last.
    pub fn new() -> Self {
        Self::default()
    }

    /// The order of axes.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl Layer for GlobalAvgPool {
    fn kind(&self) -> &str {
        "global_avg_pool"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        match Spatial::of(self.kind(), x, None, self.layout) {
            Some(spatial) => mean_over(x, &spatial.axes),
            None => cx.builder().poison(),
        }
    }
}

/// The mean of a floating tensor over `axes`, which disappear. Of no elements it is NaN.
#[track_caller]
pub(super) fn mean_over<'g>(x: Tensor<'g>, axes: &[usize]) -> Tensor<'g> {
    let Some(ty) = x.ty() else { return x };
    let one = Dim::from(1);
    let dim = axes
        .iter()
        .fold(one, |product, axis| &product * &ty.shape[*axis]);
    let sum = x.reduce(ReduceKind::Sum, axes);
    match dim.constant() {
        Some(count) => sum.over(count as f64),
        None => sum.over(x.builder().push(DimSize { dim }, &[]).convert(ty.dtype)),
    }
}
