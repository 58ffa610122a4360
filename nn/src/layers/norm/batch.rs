//! Batch normalisation.

use super::{Moments, spread};
use crate::layer::{Context, Layer, Mode};
use kiln_ir::{Init, Kind, Layout, Refusal, Tensor};

/// Batch normalisation: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift"
/// (ICML 2015), algorithms 1 and 2. `x: [b, .., features]` keeps its shape.
///
/// ```text
/// training:   y = gain * (x - mean(x)) / sqrt(variance(x) + epsilon) + b          over all axes but the features
/// inference:  y = gain * (x - mean) / sqrt(variance + epsilon) + b
/// ```
///
/// Params, of the element type of `x`: `gain: [features]`, ones, and `b: [features]`, zeros. States: `mean: [features]`, zeros, and
/// `variance: [features]`, ones, which each training step moves to those of its batch:
/// `mean := momentum * mean + (1 - momentum) * mean(x)`. The variance is that of the batch, divided by the number of elements, as in Keras
/// (PyTorch divides by one less in the state). Momentum is 0.99 and epsilon 0.001, as Keras has them.
///
/// The moments of a batch are computed around the running mean, in one sweep: digits are lost only where that is many deviations away from
/// the batch's, as for raw inputs of mean 1000 and deviation 1 in the first steps.
///
/// In a [sharing](Context::sharing) context each application normalises its own batch, and the states follow the first one.
///
/// Refused, at the line that added the layer: element types that are not floating, fewer than two axes, a symbolic number of features, a
/// momentum outside 0 to 1 and a negative epsilon.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{BatchNorm, Context};
///
/// let g = Builder::new("norm");
/// let x = g.input("x", DType::F32, (g.dim("b"), 8, 8, 16));
/// let y = Context::training(&g).layer("norm", &BatchNorm::new(), x);
/// g.output("y", y);
/// let graph = g.finish().unwrap();
/// let names: Vec<&str> = graph.slots().iter().map(|s| s.name.as_str()).collect();
/// assert_eq!(names, ["x", "norm/gain", "norm/b", "norm/mean", "norm/variance"]);
/// assert_eq!(graph.updates().len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    momentum: f64,
    epsilon: f64,
    layout: Layout,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            momentum: 0.99,
            epsilon: 1e-3,
            layout: Layout::ChannelsLast,
        }
    }
}

impl BatchNorm {
    /// The layer with the settings of Keras.
    pub fn new() -> Self {
        Self::default()
    }

    /// The share of mean and variance that a step keeps, from 0 to 1. PyTorch's `momentum` is 1 less this.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
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

impl Layer for BatchNorm {
    fn kind(&self) -> &str {
        "batch_norm"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        let keeps = (0.0..=1.0).contains(&self.momentum);
        let adds = self.epsilon >= 0.0 && self.epsilon.is_finite();
        if !(keeps && adds) {
            let refusal = Refusal::new(
                Kind::Attribute,
                format!(
                    "`batch_norm` with momentum {} and epsilon {}",
                    self.momentum, self.epsilon
                ),
            )
            .help("the momentum is from 0 to 1, and epsilon at 0 or above");
            return cx.builder().refuse(refusal, &[x]);
        }
        let Some((feature, features)) = super::features("batch_norm", x, self.layout) else {
            return cx.builder().poison();
        };
        let dtype = ty.dtype;
        let gain = cx.param("gain", dtype, [features], &Init::ones());
        let bias = cx.param("b", dtype, [features], &Init::zeros());
        let mean = cx.state("mean", dtype, [features], Init::zeros());
        let variance = cx.state("variance", dtype, [features], Init::ones());
        let axes: Vec<usize> = (0..ty.rank()).filter(|axis| *axis != feature).collect();
        // Both modes: `y = centred * scale + offset`, so that what is as large as `x` is touched three times.
        let scale = |variance: Tensor<'g>| gain * (variance + self.epsilon).rsqrt();
        let (centred, scale, offset) = match cx.mode() {
            Mode::Training => {
                // The running mean is a good estimate that is known before `x` is, so the moments take no sweep of their own
                // where what computes `x` can sum on the side.
                let moments = Moments::around(mean, x, &ty, &axes);
                if !cx.is_sharing() {
                    let follow = |state: Tensor<'g>, batch: Tensor<'g>| {
                        let next = state * self.momentum + batch * (1.0 - self.momentum);
                        cx.builder().update(state, next.stop_gradient());
                    };
                    follow(mean, moments.mean());
                    follow(variance, moments.variance);
                }
                let scale = scale(moments.variance);
                (moments.centred, scale, bias - moments.rest * scale)
            }
            Mode::Inference => {
                let scale = scale(variance);
                (x - spread(mean, &ty, &axes), scale, bias)
            }
        };
        centred * spread(scale, &ty, &axes) + spread(offset, &ty, &axes)
    }
}
