//! Group and instance normalisation, which look at one example alone and so do the same in training and inference.

use super::super::pool::mean_over;
use super::super::spatial::along_features;
use super::{Moments, features, spread};
use crate::layer::{Context, Layer};
use kiln_ir::{Dim, Init, Kind, Layout, Refusal, Tensor, TensorType};

/// Group normalisation: Wu and He, "Group normalization" (ECCV 2018), equations 1 to 7. `x: [b, .., features]` keeps its shape.
///
/// ```text
/// y = gain * (x - mean(x)) / sqrt(variance(x) + epsilon) + b      over all axes but the batch, within each group of features
/// ```
///
/// Params, of the element type of `x`: `gain: [features]`, ones, and `b: [features]`, zeros. Epsilon is 0.001, as Keras has it.
///
/// Refused, at the line that added the layer: element types that are not floating, fewer than two axes, a symbolic number of features,
/// groups that do not divide it, and a negative epsilon.
///
/// ```
/// use kiln_nn::{GroupNorm, Sequential};
///
/// let model = Sequential::new([8, 8, 3]).conv2d(16, 3).layer(GroupNorm::new(4)).relu();
/// assert_eq!(model.summary().unwrap().rows[1].parameters.constant(), Some(32));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    groups: i64,
    epsilon: f64,
    layout: Layout,
}

impl GroupNorm {
    /// The layer with `groups` groups of neighbouring features.
    pub fn new(groups: i64) -> Self {
        Self {
            groups,
            epsilon: 1e-3,
            layout: Layout::ChannelsLast,
        }
    }

    /// What is added to the variance before its root is taken.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Where the features are: on the last axis unless told otherwise, or on axis 1.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl Layer for GroupNorm {
    fn kind(&self) -> &str {
        "group_norm"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let found = features("group_norm", x, self.layout);
        let (Some(ty), Some((feature, features))) = (x.ty(), found) else {
            return cx.builder().poison();
        };
        if self.groups < 1 || features % self.groups != 0 {
            let refusal = Refusal::new(
                Kind::Shape,
                format!(
                    "`group_norm` in {} groups of {features} features, those of {ty}",
                    self.groups
                ),
            )
            .help("the number of groups must divide the features");
            return cx.builder().refuse(refusal, &[x]);
        }
        let mut shape = ty.shape.to_vec();
        shape[feature] = Dim::from(self.groups);
        shape.insert(feature + 1, Dim::from(features / self.groups));
        let grouped = TensorType::new(ty.dtype, &shape[..]);
        let axes: Vec<usize> = (1..grouped.rank())
            .filter(|axis| *axis != feature)
            .collect();
        let x = x.reshape(&shape[..]);
        let y = normalised(cx, "group_norm", (x, &grouped), &axes, self.epsilon);
        scaled(cx, y.reshape(&ty.shape), (feature, features))
    }
}

/// Instance normalisation: Ulyanov, Vedaldi and Lempitsky, "Instance normalization: the missing ingredient for fast stylization" (2016),
/// equation 4. Each feature of each example is brought to mean 0 and variance 1 over the spatial axes; `x: [b, spatial.., features]` keeps
/// its shape. Params, epsilon and refusals are those of [`GroupNorm`], and there must be a spatial axis.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, InstanceNorm};
///
/// let g = Builder::new("style");
/// let x = g.input("x", DType::F32, (g.dim("b"), g.dim("h"), g.dim("w"), 3));
/// let y = Context::training(&g).layer("norm", &InstanceNorm::new(), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, h, w, 3]");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNorm {
    epsilon: f64,
    layout: Layout,
}

impl Default for InstanceNorm {
    fn default() -> Self {
        Self {
            epsilon: 1e-3,
            layout: Layout::ChannelsLast,
        }
    }
}

impl InstanceNorm {
    /// The layer for channels last.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is added to the variance before its root is taken.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Where the features are: on the last axis unless told otherwise, or on axis 1.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl Layer for InstanceNorm {
    fn kind(&self) -> &str {
        "instance_norm"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let found = features("instance_norm", x, self.layout);
        let (Some(ty), Some((feature, features))) = (x.ty(), found) else {
            return cx.builder().poison();
        };
        if ty.rank() < 3 {
            let refusal = Refusal::new(Kind::Shape, format!("`instance_norm` of {ty}"))
                .help("it needs spatial axes between batch and features, as in f32[b, 8, 8, 16]");
            return cx.builder().refuse(refusal, &[x]);
        }
        let axes: Vec<usize> = (1..ty.rank()).filter(|axis| *axis != feature).collect();
        let y = normalised(cx, "instance_norm", (x, &ty), &axes, self.epsilon);
        scaled(cx, y, (feature, features))
    }
}

/// `x` with mean 0 and variance 1 over `axes`.
#[track_caller]
fn normalised<'g>(
    cx: &Context<'g>,
    what: &str,
    (x, ty): (Tensor<'g>, &TensorType),
    axes: &[usize],
    epsilon: f64,
) -> Tensor<'g> {
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        let message = format!("`{what}` with an epsilon of {epsilon}");
        let refusal =
            Refusal::new(Kind::Attribute, message).help("epsilon is a number at 0 or above");
        return cx.builder().refuse(refusal, &[x]);
    }
    // A row is in cache, and a second sweep is cheap: the corrected two-pass algorithm.
    let moments = Moments::around(mean_over(x, axes), x, ty, axes);
    let scale = (moments.variance + epsilon).rsqrt();
    (moments.centred - spread(moments.rest, ty, axes)) * spread(scale, ty, axes)
}

/// `y` with each feature multiplied by its gain and moved by its bias, both declared here.
#[track_caller]
fn scaled<'g>(cx: &Context<'g>, y: Tensor<'g>, (feature, features): (usize, i64)) -> Tensor<'g> {
    let Some(ty) = y.ty() else { return y };
    let gain = cx.param("gain", ty.dtype, [features], &Init::ones());
    let bias = cx.param("b", ty.dtype, [features], &Init::zeros());
    y * along_features(gain, &ty, feature) + along_features(bias, &ty, feature)
}
