//! One cycle.

use super::{Schedule, in_range};
use kiln_ir::Tensor;
use std::f64::consts::PI;

/// Up from a 25th of the rate to the rate in the first 30 % of the steps, and down to nearly nothing in the others, both along half a
/// cosine: Smith and Topin, "Super-convergence" (2017), as PyTorch's `OneCycleLR` has it. The learning rate is the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneCycle {
    steps: u64,
    rise: f64,
    start: f64,
    end: f64,
}

impl OneCycle {
    /// A cycle of `steps` steps, 3 or more, from 1/25 to 1 to 1/250,000.
    pub fn over(steps: u64) -> Self {
        Self {
            steps,
            rise: 0.3,
            start: 1.0 / 25.0,
            end: 1.0 / 250_000.0,
        }
    }

    /// The share of the steps in which the rate rises, between 0 and 1, with more than one step on either side.
    pub fn rise(mut self, share: f64) -> Self {
        self.rise = share;
        self
    }

    /// The factors of the first and of the last step, from 0 to 1.
    pub fn ends(mut self, first: f64, last: f64) -> Self {
        (self.start, self.end) = (first, last);
        self
    }
}

impl Schedule for OneCycle {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let (builder, steps) = (step.builder(), self.steps as f64);
        // The numbers of the steps with the largest and with the last factor.
        let (top, last) = (self.rise * steps - 1.0, steps - 1.0);
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let rises = top > 0.0 && top < last;
        let sane = in_range(
            builder,
            self.steps > 2,
            "number of steps",
            steps,
            "at 3 or above",
        ) & in_range(
            builder,
            rises,
            "share of rising steps",
            self.rise,
            "where both ways take more than a step",
        ) & in_range(
            builder,
            share(self.start),
            "first factor",
            self.start,
            "from 0 to 1",
        ) & in_range(
            builder,
            share(self.end),
            "last factor",
            self.end,
            "from 0 to 1",
        );
        if !sane {
            return builder.poison();
        }
        let between = |from: f64, to: f64, way: Tensor<'g>| {
            ((way * PI).cos() + 1.0) * ((from - to) / 2.0) + to
        };
        let up = between(self.start, 1.0, step / top);
        let down = between(1.0, self.end, ((step - top) / (last - top)).minimum(1.0));
        up.where_(step.le(top), down)
    }
}
