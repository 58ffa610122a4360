//! Noise that keeps a model from learning its examples by heart: whole features or whole branches dropped, and normal noise.
//!
//! All are the identity in inference.

use super::dropout::keep;
use crate::layer::{Context, Layer, Mode};
use crate::random::random_bits;
use kiln_ir::{Dim, Kind, Refusal, Shape, Tensor, TensorType};
use std::f64::consts::TAU;

/// Drops whole features of an example: [`Dropout`](super::Dropout) with one draw for each example and each index of the last axis, along
/// all axes between. Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional networks" (CVPR 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpatialDropout {
    rate: f64,
}

impl SpatialDropout {
    /// Drops the share `rate` of features, from 0 to less than 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Layer for SpatialDropout {
    fn kind(&self) -> &str {
        "spatial_dropout"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let last = x.ty().map_or(0, |ty| ty.rank().saturating_sub(1));
        drop_alike(cx, x, self.rate, |axis| axis == 0 || axis == last)
    }
}

/// Drops all of an example, and divides the others by `1 - rate`: applied to the branch of a residual block before it is added, it trains
/// networks of random depth. Huang, Sun, Liu, Sedra and Weinberger, "Deep networks with stochastic depth" (ECCV 2016), in the inverted
/// form of dropout.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Dense, StochasticDepth};
///
/// let g = Builder::new("block");
/// let cx = Context::training(&g);
/// let x = g.input("x", DType::F32, (g.dim("b"), 8));
/// let branch = cx.layer("dense", &Dense::new(8), x);
/// g.output("y", x + cx.layer("depth", &StochasticDepth::new(0.2), branch));
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StochasticDepth {
    rate: f64,
}

impl StochasticDepth {
    /// Drops the share `rate` of examples, from 0 to less than 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Layer for StochasticDepth {
    fn kind(&self) -> &str {
        "stochastic_depth"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        drop_alike(cx, x, self.rate, |axis| axis == 0)
    }
}

/// `x` with a share dropped, by draws of their own along the axes that `own` says yes to and common ones along the others.
#[track_caller]
fn drop_alike<'g>(
    cx: &Context<'g>,
    x: Tensor<'g>,
    rate: f64,
    own: impl Fn(usize) -> bool,
) -> Tensor<'g> {
    let _at = cx.at_application();
    let Some(ty) = x.ty() else { return x };
    if cx.mode() == Mode::Inference || rate == 0.0 {
        return x;
    }
    let one = Dim::from(1);
    let axes = ty.shape.iter().enumerate();
    let drawn = axes.map(|(axis, dim)| if own(axis) { dim } else { &one }.clone());
    let mask = keep(cx.builder(), rate, ty.dtype, &drawn.collect::<Shape>());
    x * mask.broadcast_to(&ty.shape)
}

/// Adds normal noise with mean 0 to each element, new in each step: Bishop, "Training with noise is equivalent to Tikhonov regularization"
/// (Neural Computation 7, 1995).
///
/// Two random words make a draw by the transform of Box and Muller, `sqrt(-2 ln u) cos(2 pi v)`, in f32 as [`random_bits`] are 32 bits: no
/// draw is beyond 5.8 deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianNoise {
    deviation: f64,
}

impl GaussianNoise {
    /// Noise of the standard deviation `deviation`, 0 or more.
    pub fn new(deviation: f64) -> Self {
        Self { deviation }
    }
}

impl Layer for GaussianNoise {
    fn kind(&self) -> &str {
        "gaussian_noise"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(TensorType { dtype, shape }) = x.ty() else {
            return x;
        };
        let deviation = self.deviation;
        let sane = deviation.is_finite() && deviation >= 0.0;
        if !(sane && dtype.is_float()) {
            let message = format!("`gaussian_noise` of deviation {deviation} on {dtype}");
            let refusal = Refusal::new(Kind::Attribute, message)
                .help("it takes floating tensors and a deviation of 0 or more");
            return cx.builder().refuse(refusal, &[x]);
        }
        if cx.mode() == Mode::Inference || deviation == 0.0 {
            return x;
        }
        let unit = || random_bits(cx.builder(), &shape).unit_f32();
        // From 0 without 1 to 1 without 0, of which there is a logarithm.
        let radius = ((1.0 - unit()).log() * -2.0).sqrt();
        let normal = radius * (unit() * TAU).cos();
        x + normal.convert(dtype) * deviation
    }
}
