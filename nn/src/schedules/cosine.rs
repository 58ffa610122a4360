//! Half a cosine, once or again and again.

use super::{Schedule, Warmup, in_range, is_factor};
use kiln_ir::Tensor;
use kiln_ir::ops::ReduceKind;
use std::f64::consts::PI;

/// Beyond this step, which f32 still counts, the last period stays.
const LAST: f64 = 16_777_216.0;

/// `(1 - end) (1 + cos(pi step / steps)) / 2 + end`, and `end` after `steps` steps: Loshchilov and Hutter, "SGDR: Stochastic gradient descent
/// with warm restarts" (ICLR 2017), equation 5.
///
/// ```
/// use kiln_nn::{AdamW, Cosine};
///
/// let once = AdamW::new(1e-3).schedule(Cosine::over(10_000).down_to(0.1).warmup(500));
/// let again = AdamW::new(1e-3).schedule(Cosine::over(1000).restarts(2.0, 0.8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    steps: u64,
    end: f64,
    restarts: Option<(f64, f64)>,
}

impl Cosine {
    /// From 1 to 0 in `steps` steps, which are 1 or more.
    pub fn over(steps: u64) -> Self {
        Self {
            steps,
            end: 0.0,
            restarts: None,
        }
    }

    /// The factor at the end, 0 or more.
    pub fn down_to(mut self, end: f64) -> Self {
        self.end = end;
        self
    }

    /// Begins again at the end of each period, which is `length` times as long as the one before, and begins at `height` times its factor.
    /// A length of 1, or from 1.01, and a height of 0 or more.
    pub fn restarts(mut self, length: f64, height: f64) -> Self {
        self.restarts = Some((length, height));
        self
    }

    /// Rises from 0 to 1 in `steps` steps first.
    pub fn warmup(self, steps: u64) -> Warmup<Self> {
        Warmup::new(steps, self)
    }
}

impl Schedule for Cosine {
    #[track_caller]
    fn factor<'g>(&self, step: Tensor<'g>) -> Tensor<'g> {
        let (builder, steps) = (step.builder(), self.steps as f64);
        let mut sane = in_range(
            builder,
            self.steps > 0,
            "number of steps",
            steps,
            "at 1 or above",
        ) & in_range(
            builder,
            is_factor(self.end),
            "end",
            self.end,
            "at 0 or above",
        );
        if let Some((length, height)) = self.restarts {
            let grows = length == 1.0 || (length.is_finite() && length >= 1.01);
            sane &= in_range(
                builder,
                grows,
                "growth of periods",
                length,
                "at 1, or from 1.01 on",
            ) & in_range(
                builder,
                is_factor(height),
                "height of restarts",
                height,
                "at 0 or above",
            );
        }
        if !sane {
            return builder.poison();
        }
        let fall = |share: Tensor<'g>| ((share * PI).cos() + 1.0) * 0.5;
        let factor = match self.restarts {
            None => fall((step / steps).minimum(1.0)),
            Some((1.0, height)) => {
                let periods = (step / steps).floor();
                fall(step / steps - periods) * power(height, periods)
            }
            Some((length, height)) => {
                let (periods, start, size) = self.period(step, length);
                fall(((step - start) / size).minimum(1.0)) * power(height, periods)
            }
        };
        factor * (1.0 - self.end) + self.end
    }
}

impl Cosine {
    /// The number, the first step and the length of the period of `step`. Logarithms would be off by one at a restart, so the periods are
    /// listed, a few dozens that grow.
    #[track_caller]
    fn period<'g>(&self, step: Tensor<'g>, growth: f64) -> (Tensor<'g>, Tensor<'g>, Tensor<'g>) {
        let (mut starts, mut sizes) = (vec![0.0], vec![self.steps as f64]);
        let (mut start, mut size) = (self.steps as f64, self.steps as f64 * growth);
        while start < LAST {
            starts.push(start);
            sizes.push(size);
            start += size;
            size *= growth;
        }
        let builder = step.builder();
        let Some(ty) = step.ty() else {
            return (step, step, step);
        };
        let count = starts.len() as i64;
        let list = |all: &[f64]| builder.constant([count], all).convert(ty.dtype);
        let (starts, sizes) = (list(&starts), list(&sizes));
        let begun = step.ge(starts);
        let last = |all: Tensor<'g>| all.where_(begun, 0.0).reduce(ReduceKind::Max, &[0]);
        let number = begun.convert(ty.dtype).sum() - 1.0;
        (number, last(starts), last(sizes))
    }
}

/// `base^exponent`, of an exponent that is whole and not negative.
#[track_caller]
fn power(base: f64, exponent: Tensor<'_>) -> Tensor<'_> {
    match exponent.ty() {
        Some(ty) => exponent.builder().splat(ty.dtype, (), base).pow(exponent),
        None => exponent,
    }
}
