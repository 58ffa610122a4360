//! Rates that fall: in steps, exponentially, or by a power.

use super::{Schedule, in_range, is_factor};
use kiln_ir::Tensor;

/// A factor that changes at given steps and is constant between: 1 before the first. A factor counts from its step on, as in PyTorch's
/// `MultiStepLR`; in Keras's `PiecewiseConstantDecay` it counts from the step behind it.
///
/// ```
/// use kiln_nn::{Piecewise, Sgd};
///
/// let optimizer = Sgd::new(0.1).momentum(0.9).schedule(Piecewise::new([(32_000, 0.1), (48_000, 0.01)]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Piecewise {
    pieces: Vec<(u64, f64)>,
}

impl Piecewise {
    /// Steps, in ascending order, with the factor from each on.
    pub fn new(pieces: impl Into<Vec<(u64, f64)>>) -> Self {
        Self {
            pieces: pieces.into(),
        }
    }
}

impl Schedule for Piecewise {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let builder = step.builder();
        let Some(ty) = step.ty() else { return step };
        let mut factor = builder.splat(ty.dtype, (), 1.0);
        let mut last = None;
        for (from, next) in &self.pieces {
            let ascends = last.is_none_or(|last| last < *from);
            let sane = in_range(
                builder,
                ascends,
                "step",
                *from as f64,
                "behind the one before",
            ) & in_range(builder, is_factor(*next), "factor", *next, "at 0 or above");
            if !sane {
                return builder.poison();
            }
            last = Some(*from);
            factor = builder
                .splat(ty.dtype, (), *next)
                .where_(step.ge(*from as f64), factor);
        }
        factor
    }
}

/// `factor^(step / steps)`: the rate falls by `factor` in each `steps` steps, evenly or at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    steps: u64,
    factor: f64,
    staircase: bool,
}

impl Exponential {
    /// Falls evenly, by `factor`, which is above 0, in each `steps` steps, which are 1 or more.
    pub fn every(steps: u64, factor: f64) -> Self {
        Self {
            steps,
            factor,
            staircase: false,
        }
    }

    /// Falls at once at the end of each `steps` steps: step decay, PyTorch's `StepLR`.
    pub fn at_once(mut self) -> Self {
        self.staircase = true;
        self
    }
}

impl Schedule for Exponential {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let (builder, steps) = (step.builder(), self.steps as f64);
        let positive = self.factor.is_finite() && self.factor > 0.0;
        let sane = in_range(
            builder,
            self.steps > 0,
            "number of steps",
            steps,
            "at 1 or above",
        ) & in_range(builder, positive, "factor", self.factor, "above 0");
        if !sane {
            return builder.poison();
        }
        let times = step / steps;
        let times = if self.staircase { times.floor() } else { times };
        (times * self.factor.ln()).exp()
    }
}

/// `(1 - end) (1 - step / steps)^power + end`, and `end` after `steps` steps: a straight line unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polynomial {
    steps: u64,
    power: f64,
    end: f64,
}

impl Polynomial {
    /// A straight line from 1 to 0 in `steps` steps, which are 1 or more.
    pub fn over(steps: u64) -> Self {
        Self {
            steps,
            power: 1.0,
            end: 0.0,
        }
    }

    /// The power, above 0.
    pub fn power(mut self, power: f64) -> Self {
        self.power = power;
        self
    }

    /// The factor at the end, 0 or more.
    pub fn down_to(mut self, end: f64) -> Self {
        self.end = end;
        self
    }
}

impl Schedule for Polynomial {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let (builder, steps) = (step.builder(), self.steps as f64);
        let positive = self.power.is_finite() && self.power > 0.0;
        let sane = in_range(
            builder,
            self.steps > 0,
            "number of steps",
            steps,
            "at 1 or above",
        ) & in_range(builder, positive, "power", self.power, "above 0")
            & in_range(
                builder,
                is_factor(self.end),
                "end",
                self.end,
                "at 0 or above",
            );
        if !sane {
            return builder.poison();
        }
        let left = ((step / steps).neg() + 1.0).maximum(0.0);
        let left = if self.power == 1.0 {
            left
        } else {
            left.pow(self.power)
        };
        left * (1.0 - self.end) + self.end
    }
}
