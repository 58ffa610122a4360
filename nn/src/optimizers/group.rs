//! Groups of params that an optimizer treats otherwise.

use kiln_ir::ops::ReduceKind;
use kiln_ir::{Shape, Tensor};
use std::fmt;
use std::sync::Arc;

/// Params chosen by name, and what is different for them.
///
/// ```
/// use kiln_ir::{Builder, DType, Init};
/// use kiln_nn::{AdamW, Group, Optimizer};
///
/// let g = Builder::new("finetuned");
/// let x = g.input("x", DType::F32, (g.dim("b"), 4));
/// let (body, head) = (g.param("body/w", (4, 4), Init::ones()), g.param("head/w", (4, 1), Init::ones()));
/// AdamW::new(1e-3)
///     .group(Group::of(|name| name.starts_with("body/")).rate(0.1).weight_decay(0.0))
///     .minimize(x.dot(body).dot(head).square().mean());
/// assert!(g.finish().is_ok());
/// ```
#[derive(Clone)]
pub struct Group {
    member: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    pub(super) rate: f64,
    pub(super) decay: Option<f64>,
    pub(super) max_norm: Option<f64>,
}

impl Group {
    /// The params whose full name, such as `dense_1/w`, `member` says yes to.
    pub fn of(member: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            member: Arc::new(member),
            rate: 1.0,
            decay: None,
            max_norm: None,
        }
    }

    /// Multiplies the learning rate of these params, 0 or more. Their decay goes with it.
    pub fn rate(mut self, factor: f64) -> Self {
        self.rate = factor;
        self
    }

    /// The decay of these params, whatever their rank; 0 or more.
    pub fn weight_decay(mut self, strength: f64) -> Self {
        self.decay = Some(strength);
        self
    }

    /// Holds the weights of each unit, which are all that share an index of the last axis, to a Euclidean norm of `limit` at most: after a
    /// step, longer ones are scaled. Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout" (JMLR 2014), section 5.1.
    pub fn max_norm(mut self, limit: f64) -> Self {
        self.max_norm = Some(limit);
        self
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        (self.member)(name)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("rate", &self.rate)
            .field("decay", &self.decay)
            .field("max_norm", &self.max_norm)
            .finish_non_exhaustive()
    }
}

/// `weights` whose units have a norm of `limit` at most.
#[track_caller]
pub(super) fn constrained(weights: Tensor<'_>, limit: f64) -> Tensor<'_> {
    let Some(ty) = weights.ty() else {
        return weights;
    };
    let axes: Vec<usize> = (0..ty.rank().saturating_sub(1)).collect();
    let norm = weights.square().reduce(ReduceKind::Sum, &axes).sqrt();
    // Of zeros the quotient is infinite, and 1 is smaller.
    let scale = (norm.recip() * limit).minimum(1.0);
    weights * scale.broadcast_to(Shape::from(&ty.shape))
}
