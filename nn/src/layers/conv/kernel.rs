//! What all convolution layers have: a window, how it slides, and how weight and bias start.

use super::super::spatial::{PerAxis, Spatial, along_features};
use crate::initialisers::{Fans, GlorotUniform, Initialiser};
use crate::layer::Context;
use kiln_ir::{ConvOptions, Init, Kind, Layout, Padding, Refusal, Tensor};
use std::sync::Arc;

/// An initialiser that a layer owns.
pub(super) type Start = Arc<dyn Initialiser + Send + Sync>;

/// The window of a convolution.
#[derive(Clone)]
pub(super) struct Kernel<const N: usize> {
    pub(super) window: [i64; N],
    pub(super) stride: [i64; N],
    pub(super) padding: Padding,
    pub(super) dilation: [i64; N],
    pub(super) layout: Layout,
    pub(super) weight: Start,
    pub(super) bias: Option<Start>,
}

impl<const N: usize> Kernel<N> {
    pub(super) fn new(window: PerAxis<N>) -> Self {
        Self {
            window: window.0,
            stride: [1; N],
            padding: Padding::Valid,
            dilation: [1; N],
            layout: Layout::ChannelsLast,
            weight: Arc::new(GlorotUniform),
            bias: Some(Arc::new(Init::zeros())),
        }
    }

    /// The axes and the number of features of `x`, or none where a layer called `what` reports a mistake.
    #[track_caller]
    pub(super) fn operand(&self, what: &str, x: Tensor<'_>) -> Option<(Spatial, i64)> {
        let spatial = Spatial::of(what, x, Some(N), self.layout)?;
        let features = spatial.features(what, x)?;
        Some((spatial, features))
    }

    /// The options of the op.
    pub(super) fn options(&self, groups: i64) -> ConvOptions {
        ConvOptions {
            stride: self.stride.to_vec(),
            padding: self.padding.clone(),
            rhs_dilation: self.dilation.to_vec(),
            groups,
            layout: self.layout,
            ..ConvOptions::default()
        }
    }

    /// The weight for `input` features in each of `groups` groups and `output` features in all, in the order of the layout.
    #[track_caller]
    fn weight<'g>(
        &self,
        cx: &Context<'g>,
        dtype: kiln_ir::DType,
        input: i64,
        output: i64,
        groups: i64,
    ) -> Tensor<'g> {
        let shape: Vec<i64> = match self.layout {
            Layout::ChannelsLast => self.window.into_iter().chain([input, output]).collect(),
            Layout::ChannelsFirst => [output, input].into_iter().chain(self.window).collect(),
        };
        let elements: f64 = self.window.iter().map(|w| *w as f64).product();
        let fans = Fans {
            input: elements * input as f64,
            output: elements * output as f64 / groups as f64,
        };
        cx.param("w", dtype, &shape[..], &self.weight.resolve(fans))
    }

    /// The convolution of `x` in the groups of `options`, by a weight that is declared here, and the bias. `features` are those of `x`,
    /// `output` those of the result.
    #[track_caller]
    pub(super) fn convolve<'g>(
        &self,
        cx: &Context<'g>,
        what: &str,
        (x, spatial): (Tensor<'g>, &Spatial),
        (features, output): (i64, i64),
        options: &ConvOptions,
    ) -> Tensor<'g> {
        let groups = options.groups;
        if groups < 1 || features % groups != 0 {
            let refusal = Refusal::new(
                Kind::Shape,
                format!(
                    "`{what}` in {groups} groups of {features} input features, those of {}",
                    spatial.ty
                ),
            )
            .help("the number of groups must divide the features of input and output");
            return cx.builder().refuse(refusal, &[x]);
        }
        let weight = self.weight(cx, spatial.ty.dtype, features / groups, output, groups);
        let y = x.conv(weight, options);
        // What is wrong with the weight is wrong with the bias too, and once is enough to say it.
        let (Some(ty), Some(bias)) = (y.ty(), &self.bias) else {
            return y;
        };
        let bias = cx.param("b", ty.dtype, [output], &**bias);
        y + along_features(bias, &ty, spatial.feature)
    }
}

/// The builder methods that every convolution layer has, for a type with a field `kernel: Kernel<N>`.
macro_rules! kernel_methods {
    () => {
        /// From one position of the window to the next, along each axis; 1 unless told otherwise.
        pub fn stride(mut self, stride: impl Into<PerAxis<N>>) -> Self {
            self.kernel.stride = stride.into().0;
            self
        }

        /// Padding at the edges; none unless told otherwise.
        pub fn padding(mut self, padding: Padding) -> Self {
            self.kernel.padding = padding;
            self
        }

        /// From one element of the window to the next, along each axis: an atrous convolution; 1 unless told otherwise.
        pub fn dilation(mut self, dilation: impl Into<PerAxis<N>>) -> Self {
            self.kernel.dilation = dilation.into().0;
            self
        }

        /// The order of axes of input, weight and result; channels last unless told otherwise.
        pub fn layout(mut self, layout: Layout) -> Self {
            self.kernel.layout = layout;
            self
        }

        /// How the weight starts.
        pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
            self.kernel.weight = std::sync::Arc::new(initialiser);
            self
        }

        /// How the bias starts.
        pub fn bias(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
            self.kernel.bias = Some(std::sync::Arc::new(initialiser));
            self
        }

        /// Leaves the bias out, as before a normalisation, which would take it away again.
        pub fn without_bias(mut self) -> Self {
            self.kernel.bias = None;
            self
        }
    };
}
pub(super) use kernel_methods;
