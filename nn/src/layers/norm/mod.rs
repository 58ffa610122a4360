//! Normalisations: the features of a batch, or of each example, brought to mean 0 and variance 1.

mod batch;
mod group;
mod row;

pub use batch::BatchNorm;
pub use group::{GroupNorm, InstanceNorm};
pub use row::{LayerNorm, RmsNorm};

use super::pool::mean_over;
use kiln_ir::ops::Broadcast;
use kiln_ir::{Kind, Layout, Refusal, Tensor, TensorType};

/// What is known of a tensor along some of its axes, each of the shape of the axes that are kept.
struct Moments<'g> {
    /// An estimate of the mean, a constant to differentiation.
    shift: Tensor<'g>,
    /// The tensor less the shift, as large as the tensor.
    centred: Tensor<'g>,
    /// The mean of `centred`: what the shift misses.
    rest: Tensor<'g>,
    /// The mean of the squares of the distances from the mean.
    variance: Tensor<'g>,
}

impl<'g> Moments<'g> {
    /// The moments of `x`, a floating tensor of type `ty`, over `axes`, from an estimate of the mean.
    ///
    /// The variance is that of the distances from the estimate, less the square of their mean: equations 1.6 and 1.7 of Chan, Golub and
    /// LeVeque, "Algorithms for computing the sample variance" (The American Statistician, 1983). It loses `(shift - mean)^2 / variance` of
    /// the digits, so none where the estimate is good, and one sweep gives both means. They are the moments of `x` whatever the estimate
    /// is. Hence it may be a constant to differentiation, of any order, and the way back has no sum of its own for it.
    #[track_caller]
    fn around(shift: Tensor<'g>, x: Tensor<'g>, ty: &TensorType, axes: &[usize]) -> Self {
        let shift = shift.stop_gradient();
        let centred = x - spread(shift, ty, axes);
        let rest = mean_over(centred, axes);
        let variance = mean_over(centred.square(), axes) - rest.square();
        Self {
            shift,
            centred,
            rest,
            // Rounding must not make a root of a negative number.
            variance: variance.maximum(0.0),
        }
    }

    /// The mean.
    #[track_caller]
    fn mean(&self) -> Tensor<'g> {
        self.shift + self.rest
    }
}

/// One value for each index of the axes of `ty` but `axes`, repeated along those.
#[track_caller]
fn spread<'g>(x: Tensor<'g>, ty: &TensorType, axes: &[usize]) -> Tensor<'g> {
    let kept = (0..ty.rank()).filter(|axis| !axes.contains(axis));
    let broadcast = Broadcast {
        shape: ty.shape.clone(),
        axes: kept.collect(),
    };
    x.builder().push(broadcast, &[x])
}

/// The axis of features and their number, of a floating `x` with a batch; a mistake is reported in the name of `what`.
#[track_caller]
fn features(what: &str, x: Tensor<'_>, layout: Layout) -> Option<(usize, i64)> {
    let ty = x.ty()?;
    let feature = match layout {
        Layout::ChannelsLast => ty.rank().saturating_sub(1),
        Layout::ChannelsFirst => 1,
    };
    let refusal = if !ty.dtype.is_float() {
        Refusal::new(Kind::Type, format!("`{what}` of {ty}"))
            .help("it takes floating tensors; convert it first")
    } else if ty.rank() < 2 {
        Refusal::new(Kind::Shape, format!("`{what}` of {ty}"))
            .help("it takes a batch and features, as in f32[b, 16] and f32[b, 8, 8, 16]")
    } else if let Some(features) = ty.shape[feature].constant() {
        return Some((feature, features));
    } else {
        Refusal::new(
            Kind::Shape,
            format!("`{what}` needs a fixed number of features on axis {feature} of {ty}"),
        )
        .help("only the other axes may be symbolic")
    };
    x.builder().refuse(refusal, &[x]);
    None
}
