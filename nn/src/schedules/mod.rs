//! Schedules: the learning rate as a function of the steps done, inside the compiled step.
//!
//! A schedule is a factor. The rate of a step is the state `learning_rate` of the optimizer times the factor, so that `1e-3` is the rate
//! where the factor is 1, and whoever lowers the state between steps, on a plateau say, lowers all that follows. No schedule is a constant
//! rate. The number of steps is a scalar of the element type of the rate: in f32 it is exact up to 2^24.
//!
//! One of your own is a function of a tensor:
//!
//! ```
//! use kiln_ir::Tensor;
//! use kiln_nn::{Adam, Schedule};
//!
//! /// The rule of Vaswani et al., "Attention is all you need" (NeurIPS 2017), equation 3, without its constant.
//! struct InverseRoot {
//!     warmup: f64,
//! }
//!
//! impl Schedule for InverseRoot {
//!     fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
//!         let step = step + 1.0;
//!         step.rsqrt().minimum(step * self.warmup.powf(-1.5))
//!     }
//! }
//! let optimizer = Adam::new(0.05).schedule(InverseRoot { warmup: 4000.0 });
//! ```

mod cosine;
mod decay;
mod one_cycle;

pub use cosine::Cosine;
pub use decay::{Exponential, Piecewise, Polynomial};
pub use one_cycle::OneCycle;

use kiln_ir::{Builder, Tensor};

/// What the learning rate is multiplied with.
pub trait Schedule: Send + Sync {
    /// The factor after `step` steps, 0 for the first one: a floating scalar to one of the same type.
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g>;
}

/// A schedule that begins after a number of steps in which the factor rises in a straight line from 0 to 1: Goyal et al., "Accurate, large
/// minibatch SGD" (2017), section 2.2. The first step of all has a factor of 0, as in Keras.
///
/// ```
/// use kiln_nn::{AdamW, Exponential, Warmup};
///
/// let optimizer = AdamW::new(1e-3).schedule(Warmup::new(100, Exponential::every(1000, 0.5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup<S> {
    steps: u64,
    then: S,
}

impl<S: Schedule> Warmup<S> {
    /// Rises for `steps` steps; `then` counts from there.
    pub fn new(steps: u64, then: S) -> Self {
        Self { steps, then }
    }
}

impl<S: Schedule> Schedule for Warmup<S> {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let steps = self.steps as f64;
        if self.steps == 0 {
            return self.then.factor(step);
        }
        let then = self.then.factor((step - steps).maximum(0.0));
        (step * (1.0 / steps)).where_(step.lt(steps), then)
    }
}

/// Whether a setting is in its range; if not it is reported.
#[track_caller]
fn in_range(builder: &Builder, holds: bool, setting: &str, value: f64, range: &str) -> bool {
    crate::range::in_range(builder, "schedule", holds, setting, value, range)
}

/// Whether a factor is one: finite and not negative.
fn is_factor(factor: f64) -> bool {
    factor.is_finite() && factor >= 0.0
}
