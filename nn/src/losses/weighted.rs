//! Losses in which classes count differently.

use super::Loss;
use crate::weights::spread;
use kiln_ir::ops::OutOfRange;
use kiln_ir::{Kind, Refusal, Tensor};

/// A loss of integer labels `[..]` in which an example counts as often as its class says, against classes of different sizes.
///
/// As in Keras the sum is divided by the number of examples; PyTorch's `CrossEntropyLoss(weight)` divides by the sum of the weights. With
/// weights of `examples / (n examples of the class)`, scikit-learn's `balanced`, the two are the same over a data set.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{ClassWeighted, Loss, SparseCrossEntropy};
///
/// let g = Builder::new("rare");
/// let z = g.input("z", DType::F32, (g.dim("b"), 2));
/// let y = g.input("y", DType::U8, (g.dim("b"),));
/// g.output("loss", ClassWeighted::new(SparseCrossEntropy, [0.6, 3.0]).mean(z, y));
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClassWeighted<L> {
    loss: L,
    weights: Vec<f64>,
}

impl<L: Loss> ClassWeighted<L> {
    /// One weight for each class, finite and 0 or more.
    pub fn new(loss: L, weights: impl Into<Vec<f64>>) -> Self {
        Self {
            loss,
            weights: weights.into(),
        }
    }
}

impl<L: Loss> Loss for ClassWeighted<L> {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let each = self.loss.per_example(prediction, labels);
        let builder = each.builder();
        let (Some(each_ty), Some(label_ty)) = (each.ty(), labels.ty()) else {
            return builder.poison();
        };
        let weight = |w: &&f64| !(w.is_finite() && **w >= 0.0);
        let refusal = if let Some(weight) = self.weights.iter().find(weight) {
            Refusal::new(
                Kind::Attribute,
                format!("a class with a weight of {weight}"),
            )
            .help("it lies at 0 or above")
        } else if self.weights.is_empty() {
            Refusal::new(Kind::Attribute, "no weight for any class")
                .help("each class of the labels has one")
        } else if !label_ty.dtype.is_integer() {
            Refusal::new(Kind::Type, format!("class weights for targets {label_ty}"))
                .help("they are chosen by integer labels")
        } else {
            let table = builder.constant([self.weights.len() as i64], &self.weights);
            // A label without a weight fails the step; clamped, it would get that of another class.
            let own = table
                .convert(each_ty.dtype)
                .gather(0, labels, OutOfRange::Fail);
            return each * spread("class weights", own, each);
        };
        builder.refuse(refusal, &[each, labels])
    }
}
