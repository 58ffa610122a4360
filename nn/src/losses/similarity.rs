//! Losses of directions and distances.

use super::{Loss, same_type};
use crate::last_axis::LastAxis;
use kiln_ir::{Kind, Refusal, Tensor};

/// The negative cosine of the angle between prediction and target along the last axis, both `[.., n]` of one type: -1 for one direction, 1
/// for opposite ones. As in Keras a squared length below 1e-12 counts as 1e-12, so a vector of zeros is at right angles to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CosineSimilarity;

impl Loss for CosineSimilarity {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        let what = "cosine similarity";
        let Some(rows) = LastAxis::of(what, prediction) else {
            return prediction.builder().poison();
        };
        if !same_type(what, prediction, target) {
            return prediction.builder().poison();
        }
        let scale = |x: Tensor<'g>| rows.sum(x.square()).maximum(1e-12).rsqrt();
        (rows.sum(prediction * target) * scale(prediction) * scale(target)).neg()
    }
}

/// `max(d(anchor, positive) - d(anchor, negative) + margin, 0)` for each row, with `d(x, y) = |x - y + 1e-6|`, Euclidean along the last
/// axis, as PyTorch has it: Weinberger and Saul, "Distance metric learning for large margin nearest neighbor classification" (JMLR 2009);
/// Schroff, Kalenichenko and Philbin, "FaceNet" (CVPR 2015), take squared distances instead.
///
/// Three tensors `[.., n]` of one type give `[..]`. There is no target, so it is a function and not a [`Loss`].
///
/// ```
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("faces");
/// let face = |name| g.input(name, DType::F32, (g.dim("b"), 64));
/// let each = kiln_nn::triplet(face("anchor"), face("same"), face("other"), 0.2);
/// g.output("loss", each.mean());
/// assert!(g.finish().is_ok());
/// ```
#[track_caller]
pub fn triplet<'g>(
    anchor: Tensor<'g>,
    positive: Tensor<'g>,
    negative: Tensor<'g>,
    margin: f64,
) -> Tensor<'g> {
    let Some(rows) = LastAxis::of("triplet", anchor) else {
        return anchor.builder().poison();
    };
    if !(same_type("triplet", anchor, positive) & same_type("triplet", anchor, negative)) {
        return anchor.builder().poison();
    }
    if !(margin.is_finite() && margin >= 0.0) {
        let refusal = Refusal::new(
            Kind::Attribute,
            format!("`triplet` with a margin of {margin}"),
        )
        .help("it lies at 0 or above");
        return anchor.builder().refuse(refusal, &[]);
    }
    let distance = |other: Tensor<'g>| rows.sum((anchor - other + 1e-6).square()).sqrt();
    (distance(positive) - distance(negative) + margin).maximum(0.0)
}
