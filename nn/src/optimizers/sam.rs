//! Steps by the gradient where the loss is worse.

use super::Optimizer;
use super::clip::global_norm;
use super::settings::Range;
use kiln_ir::{Builder, Kind, Location, Refusal, Tensor, grad, substitute};

/// An optimizer that is handed the gradient of the loss at the worst weights nearby: Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware
/// Minimization for Efficiently Improving Generalization" (ICLR 2021), algorithm 1 with p = 2.
///
/// ```text
/// e = rho g / |g|     g the gradient at w, |g| the norm over all params
/// g := the gradient at w + e, by which the optimizer moves w
/// ```
///
/// A compiled step goes forward and backward twice on its batch, and takes about twice as long. The loss that it shows is that at `w`. Both
/// passes have the same random numbers, so that dropout leaves out the same; running averages, as of batch normalisation, follow the first pass
/// alone. Params that are not trained stay where they are. Other wrappers, such as [`ClipByGlobalNorm`](super::ClipByGlobalNorm), go within
/// this one, since a step of `Sam` needs the loss and not its gradients alone.
///
/// ```
/// use kiln_ir::{Builder, Init};
/// use kiln_nn::{Optimizer, Sam, Sgd};
///
/// let g = Builder::new("flat");
/// let w = g.param("w", [8], Init::ones());
/// Sam::new(0.05, Sgd::new(0.1).momentum(0.9)).minimize((w * w).sum());
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sam<O> {
    rho: f64,
    optimizer: O,
}

impl<O: Optimizer> Sam<O> {
    /// `optimizer` at weights that are `rho` away, which is above 0; the paper has 0.05.
    pub fn new(rho: f64, optimizer: O) -> Self {
        Self { rho, optimizer }
    }
}

impl<O: Optimizer> Optimizer for Sam<O> {
    /// Refused: gradients alone do not tell what they are elsewhere.
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, _pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let message = "`Sam` is handed gradients, and needs the loss";
        let help = "put it around the other wrappers, and call `minimize`";
        builder.refuse(Refusal::new(Kind::Gradient, message).help(help), &[]);
    }

    fn minimize_from<'g>(&self, location: Location, loss: Tensor<'g>, params: &[Tensor<'g>]) {
        let builder = loss.builder();
        let _at = builder.charged_to(location.clone());
        if !Range::Positive.allows(builder, "distance of `Sam`", self.rho) {
            return;
        }
        let first = match params {
            // The optimizer says what is wrong.
            [] => return self.optimizer.minimize_from(location, loss, params),
            params => grad(loss, params),
        };
        let Some(norm) = global_norm(&first) else {
            return;
        };
        // A gradient of zeros has no direction, and the weights stay.
        let scale = (norm.recip() * self.rho).where_(norm.gt(0.0), 0.0);
        let moved = params.iter().zip(&first).map(|(param, gradient)| {
            let away = gradient.ty().map(|ty| *gradient * scale.convert(ty.dtype));
            (*param, away.map_or(*gradient, |away| *param + away))
        });
        let moved: Vec<_> = moved.collect();
        let places: Vec<Tensor<'g>> = moved.iter().map(|(_, place)| *place).collect();
        let second = grad(substitute(loss, &moved), &places);
        let pairs: Vec<_> = params.iter().copied().zip(second).collect();
        self.optimizer.step(builder, &pairs);
    }
}
