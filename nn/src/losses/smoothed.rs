//! Label smoothing.

use super::binary::binary_cross_entropy;
use super::elementwise::mean_of_elements;
use super::{BinaryCrossEntropy, CrossEntropy, Loss, SparseCrossEntropy};
use crate::last_axis::LastAxis;
use crate::weights::size;
use kiln_ir::{Builder, Kind, Refusal, Tensor};

/// A cross-entropy whose targets give a share to all classes alike: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception
/// architecture" (CVPR 2016), section 7.
///
/// ```text
/// target := (1 - share) target + share / n
/// ```
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Loss, SparseCrossEntropy};
///
/// let g = Builder::new("smoothed");
/// let z = g.input("z", DType::F32, (g.dim("b"), 10));
/// let y = g.input("y", DType::U8, (g.dim("b"),));
/// g.output("loss", SparseCrossEntropy.smoothed(0.1).mean(z, y));
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothed<L> {
    loss: L,
    share: f64,
}

impl<L> Smoothed<L> {
    /// The share for all classes together, from 0 to 1; another is a mistake that the application reports.
    pub(super) fn new(loss: L, share: f64) -> Self {
        Self { loss, share }
    }

    /// Whether the share is one.
    #[track_caller]
    fn sane(&self, builder: &Builder) -> bool {
        let sane = (0.0..=1.0).contains(&self.share);
        if !sane {
            let message = format!("labels smoothed by {}", self.share);
            let refusal = Refusal::new(Kind::Attribute, message)
                .help("the share of a target that all classes get lies from 0 to 1");
            builder.refuse(refusal, &[]);
        }
        sane
    }
}

impl Loss for Smoothed<BinaryCrossEntropy> {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        if !self.sane(logits.builder()) {
            return logits.builder().poison();
        }
        let what = "binary cross-entropy";
        mean_of_elements(what, logits, targets, |z, y| {
            binary_cross_entropy(z, y * (1.0 - self.share) + self.share / 2.0)
        })
    }
}

impl Loss for Smoothed<CrossEntropy> {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let plain = self.loss.per_example(logits, targets);
        self.shared(plain, logits)
    }
}

impl Loss for Smoothed<SparseCrossEntropy> {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let plain = self.loss.per_example(logits, labels);
        self.shared(plain, logits)
    }
}

impl<L> Smoothed<L> {
    /// The loss is linear in its target, so it is `1 - share` of the `plain` one and `share` of that of all classes alike.
    #[track_caller]
    fn shared<'g>(&self, plain: Tensor<'g>, logits: Tensor<'g>) -> Tensor<'g> {
        let Some(rows) = LastAxis::of("cross-entropy", logits) else {
            return logits.builder().poison();
        };
        if !self.sane(logits.builder()) {
            return logits.builder().poison();
        }
        let centred = rows.centred(logits);
        let normaliser = rows.sum(centred.exp()).log();
        let classes = size(logits, rows.ty().shape[rows.axis()].clone());
        let alike = normaliser - rows.sum(centred) / classes;
        plain * (1.0 - self.share) + alike * self.share
    }
}
