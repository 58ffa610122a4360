//! Optimizers: how params follow their gradients.
//!
//! An optimizer appends nodes and updates to the graph of the loss, so a compiled step is forward, backward and update in one. What it
//! remembers is state of the graph, named below the optimizer: `adam/m/fc1/w` is Adam's first moment of the param `fc1/w`. The learning
//! rate is such a state too, `adam/learning_rate`, and may be set between steps without compiling again.

mod adafactor;
mod adagrad;
mod adam;
mod clip;
mod group;
mod lamb;
mod lion;
mod moments;
mod relatives;
mod rmsprop;
mod settings;
mod sgd;

pub use adafactor::Adafactor;
pub use adagrad::{Adadelta, Adagrad};
pub use adam::{Adam, AdamW};
pub use clip::{ClipByGlobalNorm, ClipByNorm, ClipByValue};
pub use group::Group;
pub use lamb::Lamb;
pub use lion::Lion;
pub use relatives::{AdaMax, NAdam, RAdam};
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

use kiln_ir::{Builder, DType, Init, Kind, Location, Refusal, ScopeGuard, Tensor, grad};

/// A rule that moves params against their gradients.
pub trait Optimizer {
    /// Appends the new value of each param from its gradient, of the param's type, as updates. Poisoned gradients are left out. An
    /// optimizer is applied once to a graph; two need two names.
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]);

    /// Appends the gradients of the scalar `loss` and the updates of all params that the builder has by now. A param that no path ties
    /// to the loss is a mistake.
    #[track_caller]
    fn minimize<'g>(&self, loss: Tensor<'g>) {
        self.minimize_from(Location::caller(), loss, &loss.builder().params());
    }

    /// The same for these params only; the others stay as they are.
    #[track_caller]
    fn minimize_over<'g>(&self, loss: Tensor<'g>, params: &[Tensor<'g>]) {
        self.minimize_from(Location::caller(), loss, params);
    }

    /// [`Optimizer::minimize_over`] with the line to charge: for callers that hold a `dyn Optimizer`, behind which the calling line is
    /// lost.
    fn minimize_from<'g>(&self, location: Location, loss: Tensor<'g>, params: &[Tensor<'g>]) {
        let builder = loss.builder();
        let _at = builder.charged_to(location);
        if params.is_empty() && loss.id().is_some() {
            let refusal = Refusal::new(Kind::Gradient, "there is nothing to train")
                .help("declare params before the optimizer is called");
            builder.refuse(refusal, &[loss]);
            return;
        }
        let gradients = grad(loss, params);
        let pairs: Vec<_> = params.iter().copied().zip(gradients).collect();
        self.step(builder, &pairs);
    }
}

/// The state with the average of the param `param` that `optimizer`, by the name of its scope, keeps where it is told to, as by
/// [`AdamW::averaged`].
///
/// ```
/// use kiln_nn::optimizers::average_of;
///
/// assert_eq!(average_of("adamw", "dense_1/w"), "adamw/average/dense_1/w");
/// ```
pub fn average_of(optimizer: &str, param: &str) -> String {
    format!("{optimizer}/average/{param}")
}

/// Whichever it is, chosen when the program runs.
impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        (**self).step(builder, pairs);
    }

    fn minimize_from<'g>(&self, location: Location, loss: Tensor<'g>, params: &[Tensor<'g>]) {
        (**self).minimize_from(location, loss, params);
    }
}

/// One param of a step: its gradient, and where the optimizer keeps its memory of it.
struct Trained<'g> {
    param: Tensor<'g>,
    gradient: Tensor<'g>,
    dtype: DType,
    name: String,
}

/// The pairs that can be trained. A tensor that is no param is left to `Builder::update` to refuse.
fn trained<'g>(pairs: &[(Tensor<'g>, Tensor<'g>)]) -> Vec<Trained<'g>> {
    let pair = |(param, gradient): &(Tensor<'g>, Tensor<'g>)| {
        let (id, ty) = (param.id()?, param.ty()?);
        gradient.id()?;
        let name = param.builder().slot_name(id);
        Some(Trained {
            param: *param,
            gradient: *gradient,
            dtype: ty.dtype,
            name: name.unwrap_or_else(|| id.to_string()),
        })
    };
    pairs.iter().filter_map(pair).collect()
}

impl<'g> Trained<'g> {
    /// A state like the param that starts at zero, called `what/NAME` in the open scope.
    #[track_caller]
    fn memory(&self, what: &str) -> Option<Tensor<'g>> {
        let ty = self.param.ty()?;
        let name = format!("{what}/{}", self.name);
        let builder = self.param.builder();
        Some(builder.state(&name, ty.dtype, &ty.shape, Init::zeros()))
    }
}

/// The scope of an optimizer, whatever scopes are open.
fn own_scope<'g>(builder: &'g Builder, name: &str) -> (ScopeGuard<'g>, ScopeGuard<'g>) {
    // A tuple drops its first element first: the inner scope has to be closed before the outer one.
    let root = builder.root_scope();
    let own = builder.scope(name);
    (own, root)
}

/// The state `learning_rate`: f64 where a param is, else f32.
#[track_caller]
fn learning_rate<'g>(builder: &'g Builder, params: &[Trained<'g>], start: f64) -> Tensor<'g> {
    let double = params.iter().any(|t| t.dtype == DType::F64);
    let dtype = if double { DType::F64 } else { DType::F32 };
    builder.state("learning_rate", dtype, (), Init::Constant(start))
}
