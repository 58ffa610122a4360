//! Focal losses: Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection" (ICCV 2017), equations 4 and 5.

use super::binary::binary_cross_entropy;
use super::elementwise::mean_of_elements;
use super::{Loss, same_type};
use crate::last_axis::LastAxis;
use kiln_ir::{Builder, Kind, Refusal, Tensor};

/// [`BinaryCrossEntropy`](super::BinaryCrossEntropy) in which what is decided rightly counts little: the mean of
/// `-(1 - p_t)^gamma ln p_t`, with `p_t = y p + (1 - y) (1 - p)` and `p = logistic(z)`.
///
/// Logits and targets from 0 to 1 are of one type and any shape whose first axis is the batch. The logarithm is the cross-entropy with `y`,
/// which for targets of 0 and 1 is the same. The paper takes a gamma of 2, and an alpha of 0.25 by [`BinaryFocal::balanced`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryFocal {
    gamma: f64,
    alpha: Option<f64>,
}

impl BinaryFocal {
    /// The exponent is `gamma`, 0 or more; 0 is the cross-entropy.
    pub fn new(gamma: f64) -> Self {
        Self { gamma, alpha: None }
    }

    /// Counts positive answers `alpha` times and negative ones `1 - alpha` times; from 0 to 1.
    pub fn balanced(mut self, alpha: f64) -> Self {
        self.alpha = Some(alpha);
        self
    }
}

impl Loss for BinaryFocal {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        if !sane(logits.builder(), self.gamma, self.alpha) {
            return logits.builder().poison();
        }
        mean_of_elements("binary focal", logits, targets, |z, y| {
            let missed = y * z.neg().logistic() + (y.neg() + 1.0) * z.logistic();
            let loss = power(missed, self.gamma, binary_cross_entropy(z, y));
            match self.alpha {
                Some(alpha) => loss * (y * (2.0 * alpha - 1.0) + (1.0 - alpha)),
                None => loss,
            }
        })
    }
}

/// [`CrossEntropy`](super::CrossEntropy) in which what is decided rightly counts little: `-sum_k target_k (1 - p_k)^gamma ln p_k`, with
/// `p = softmax(z)`, for logits and a target distribution `[.., n]` of one type.
///
/// Keras multiplies it with an alpha of 0.25 by default; here that is 1 unless [`CategoricalFocal::scaled`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CategoricalFocal {
    gamma: f64,
    alpha: f64,
}

impl CategoricalFocal {
    /// The exponent is `gamma`, 0 or more; 0 is the cross-entropy.
    pub fn new(gamma: f64) -> Self {
        Self { gamma, alpha: 1.0 }
    }

    /// Multiplies the loss with `alpha`, from 0 to 1.
    pub fn scaled(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }
}

impl Loss for CategoricalFocal {
    #[track_caller]
    fn per_example<'g>(&self, logits: Tensor<'g>, targets: Tensor<'g>) -> Tensor<'g> {
        let what = "categorical focal";
        let Some(rows) = LastAxis::of(what, logits) else {
            return logits.builder().poison();
        };
        let sane = sane(logits.builder(), self.gamma, Some(self.alpha));
        if !(sane && same_type(what, logits, targets)) {
            return logits.builder().poison();
        }
        let centred = rows.centred(logits);
        let log = centred - rows.spread(rows.sum(centred.exp()).log());
        // 1 - p near p = 1 loses digits in the difference and none in `expm1`.
        let missed = log.expm1().neg();
        rows.sum(power(missed, self.gamma, log.neg() * targets)) * self.alpha
    }
}

/// `factor base^gamma`; whole powers of the papers without a logarithm.
#[track_caller]
fn power<'g>(base: Tensor<'g>, gamma: f64, factor: Tensor<'g>) -> Tensor<'g> {
    if gamma == 0.0 {
        factor
    } else if gamma == 1.0 {
        base * factor
    } else if gamma == 2.0 {
        base.square() * factor
    } else {
        base.pow(gamma) * factor
    }
}

/// Whether the settings are in range; those that are not are reported.
#[track_caller]
fn sane(builder: &Builder, gamma: f64, alpha: Option<f64>) -> bool {
    let exponent = gamma.is_finite() && gamma >= 0.0;
    let share = alpha.is_none_or(|alpha| (0.0..=1.0).contains(&alpha));
    if !exponent {
        let message = format!("a focal loss with a gamma of {gamma}");
        let refusal = Refusal::new(Kind::Attribute, message).help("it lies at 0 or above");
        builder.refuse(refusal, &[]);
    }
    if let Some(alpha) = alpha.filter(|_| !share) {
        let message = format!("a focal loss with an alpha of {alpha}");
        let refusal = Refusal::new(Kind::Attribute, message).help("it lies from 0 to 1");
        builder.refuse(refusal, &[]);
    }
    exponent && share
}
