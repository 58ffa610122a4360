//! Gradients that are cut before an optimizer gets them: by the norm of all together, by that of each, or by value.

use super::Optimizer;
use super::settings::Range;
use kiln_ir::{Builder, DType, Tensor};

/// An optimizer that is handed gradients whose common norm is at most `limit`: Pascanu, Mikolov and Bengio, "On the difficulty of training
/// recurrent neural networks" (ICML 2013), algorithm 1.
///
/// ```text
/// norm = sqrt(sum g^2 over all gradients)      g := g * min(1, limit / norm)
/// ```
///
/// The direction stays. The norm is that of the gradients of one call, f64 where a param is, else f32. Where it is not finite, so are the
/// gradients not that the optimizer gets: to clip does not hide a mistake. No update can ride on the product that made its gradient, since
/// each waits for all: a step keeps all gradients.
///
/// ```
/// use kiln_ir::{Builder, Init};
/// use kiln_nn::{AdamW, ClipByGlobalNorm, Optimizer};
///
/// let g = Builder::new("clipped");
/// let w = g.param("w", [8], Init::ones());
/// ClipByGlobalNorm::new(1.0, AdamW::new(1e-3)).minimize((w * w).sum());
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByGlobalNorm<O> {
    limit: f64,
    optimizer: O,
}

impl<O: Optimizer> ClipByGlobalNorm<O> {
    /// `optimizer` behind a limit, which is above 0.
    pub fn new(limit: f64, optimizer: O) -> Self {
        Self { limit, optimizer }
    }
}

impl<O: Optimizer> Optimizer for ClipByGlobalNorm<O> {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        if !Range::Positive.allows(builder, "limit of the norm", self.limit) {
            return;
        }
        let types = pairs.iter().filter_map(|(_, gradient)| gradient.ty());
        let double = types.into_iter().any(|ty| ty.dtype == DType::F64);
        let dtype = if double { DType::F64 } else { DType::F32 };
        let squares = pairs.iter().filter(|(_, gradient)| gradient.id().is_some());
        let squares = squares.map(|(_, gradient)| gradient.square().sum().convert(dtype));
        let Some(sum) = squares.reduce(|sum, square| sum + square) else {
            self.optimizer.step(builder, pairs);
            return;
        };
        // Gradients of zeros give a limit over 0, which is infinite, and 1 is smaller. NaN is passed on.
        let scale = (sum.sqrt().recip() * self.limit).minimum(1.0);
        let clipped = |(param, gradient): &(Tensor<'g>, Tensor<'g>)| {
            let scaled = match gradient.ty() {
                Some(ty) => *gradient * scale.convert(ty.dtype),
                None => *gradient,
            };
            (*param, scaled)
        };
        let pairs: Vec<_> = pairs.iter().map(clipped).collect();
        self.optimizer.step(builder, &pairs);
    }
}

/// An optimizer that is handed gradients each of which, by itself, has a norm of at most `limit`: Keras's `clipnorm`. Unlike
/// [`ClipByGlobalNorm`] it turns the direction of them all together.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByNorm<O> {
    limit: f64,
    optimizer: O,
}

impl<O: Optimizer> ClipByNorm<O> {
    /// `optimizer` behind a limit, which is above 0.
    pub fn new(limit: f64, optimizer: O) -> Self {
        Self { limit, optimizer }
    }
}

impl<O: Optimizer> Optimizer for ClipByNorm<O> {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let limit = self.limit;
        if !Range::Positive.allows(builder, "limit of the norm", limit) {
            return;
        }
        let clipped = |gradient: Tensor<'g>| {
            gradient * (gradient.square().sum().sqrt().recip() * limit).minimum(1.0)
        };
        let pairs: Vec<_> = pairs.iter().map(|(p, g)| (*p, clipped(*g))).collect();
        self.optimizer.step(builder, &pairs);
    }
}

/// An optimizer that is handed gradients whose elements lie from `-limit` to `limit`: Keras's `clipvalue`. NaN stays NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByValue<O> {
    limit: f64,
    optimizer: O,
}

impl<O: Optimizer> ClipByValue<O> {
    /// `optimizer` behind a limit, which is above 0.
    pub fn new(limit: f64, optimizer: O) -> Self {
        Self { limit, optimizer }
    }
}

impl<O: Optimizer> Optimizer for ClipByValue<O> {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let limit = self.limit;
        if !Range::Positive.allows(builder, "limit of the gradient", limit) {
            return;
        }
        let clipped = |(param, gradient): &(Tensor<'g>, Tensor<'g>)| {
            (*param, gradient.maximum(-limit).minimum(limit))
        };
        let pairs: Vec<_> = pairs.iter().map(clipped).collect();
        self.optimizer.step(builder, &pairs);
    }
}
