//! Penalties on weights, added to a loss.

use super::Loss;
use kiln_ir::{Builder, Kind, Refusal, Tensor};
use std::fmt;
use std::sync::Arc;

/// Whether the param of that name counts.
type Chooser = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A loss plus what the size of the weights costs: `l1 sum |w| + l2 sum w^2` over all params with two axes or more, which leaves biases and
/// gains alone, or over those that [`Regularised::only`] chooses.
///
/// It is Keras's `kernel_regularizer=L1L2(l1, l2)` for all layers at once. The penalty is a part of the loss wherever that is taken, in
/// evaluation too. It is of the params declared by then, so the model is applied before the loss. Each example has it, so that
/// their mean has it once; around a loss with class weights it is exact, inside one it is weighted like the rest. For a decay that adaptive
/// rates do not scale see [`AdamW`](crate::AdamW).
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Layer, Loss, Regularised, Sequential, SparseCrossEntropy};
///
/// let model = Sequential::new([64]).dense(32).relu().dense(10);
/// let g = Builder::new("digits");
/// let x = g.input("x", DType::F32, (g.dim("b"), 64));
/// let y = g.input("y", DType::U8, (g.dim("b"),));
/// let logits = model.apply(&Context::training(&g), x);
/// let loss = Regularised::new(SparseCrossEntropy).l2(1e-4).only(|name| name == "dense_1/w");
/// g.output("loss", loss.mean(logits, y));
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone)]
pub struct Regularised<L> {
    loss: L,
    l1: f64,
    l2: f64,
    only: Option<Chooser>,
}

impl<L: Loss> Regularised<L> {
    /// The loss without a penalty yet.
    pub fn new(loss: L) -> Self {
        Self {
            loss,
            l1: 0.0,
            l2: 0.0,
            only: None,
        }
    }

    /// What the sum of magnitudes is multiplied with, 0 or more: Tibshirani, "Regression shrinkage and selection via the lasso" (Journal of
    /// the Royal Statistical Society B 58, 1996).
    pub fn l1(mut self, strength: f64) -> Self {
        self.l1 = strength;
        self
    }

    /// What the sum of squares is multiplied with, 0 or more: Hoerl and Kennard, "Ridge regression" (Technometrics 12, 1970).
    pub fn l2(mut self, strength: f64) -> Self {
        self.l2 = strength;
        self
    }

    /// Counts the params whose full name, such as `dense_1/w`, `chosen` says yes to, whatever their axes.
    pub fn only(mut self, chosen: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Arc::new(chosen));
        self
    }

    /// `loss` with the penalty on all of its elements.
    #[track_caller]
    fn with_penalty<'g>(&self, loss: Tensor<'g>) -> Tensor<'g> {
        let builder = loss.builder();
        let Some(ty) = loss.ty() else { return loss };
        for strength in [self.l1, self.l2] {
            if !(strength.is_finite() && strength >= 0.0) {
                let message = format!("a penalty on weights of {strength}");
                let refusal = Refusal::new(Kind::Attribute, message).help("it lies at 0 or above");
                return builder.refuse(refusal, &[]);
            }
        }
        let penalties = self.chosen(builder).into_iter().flat_map(|param| {
            let first = (self.l1 > 0.0).then(|| param.abs().sum() * self.l1);
            let second = (self.l2 > 0.0).then(|| param.square().sum() * self.l2);
            first.into_iter().chain(second)
        });
        let penalties = penalties.map(|penalty| penalty.convert(ty.dtype));
        match penalties.reduce(|all, penalty| all + penalty) {
            Some(penalty) => loss + penalty,
            None => loss,
        }
    }

    /// The params that count.
    fn chosen<'g>(&self, builder: &'g Builder) -> Vec<Tensor<'g>> {
        let counts = |param: &Tensor<'g>| match &self.only {
            Some(only) => {
                let name = param.id().and_then(|id| builder.slot_name(id));
                name.is_some_and(|name| only(&name))
            }
            None => param.ty().is_some_and(|ty| ty.rank() >= 2),
        };
        builder.params().into_iter().filter(counts).collect()
    }
}

impl<L: Loss> Loss for Regularised<L> {
    #[track_caller]
    fn per_example<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.with_penalty(self.loss.per_example(prediction, target))
    }

    #[track_caller]
    fn mean<'g>(&self, prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
        self.with_penalty(self.loss.mean(prediction, target))
    }

    #[track_caller]
    fn weighted_mean<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Tensor<'g>,
    ) -> Tensor<'g> {
        self.with_penalty(self.loss.weighted_mean(prediction, target, weights))
    }
}

impl<L: fmt::Debug> fmt::Debug for Regularised<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regularised")
            .field("loss", &self.loss)
            .field("l1", &self.l1)
            .field("l2", &self.l2)
            .field("only", &self.only.is_some())
            .finish()
    }
}
