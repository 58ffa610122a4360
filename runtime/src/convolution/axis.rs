//! One spatial axis of a convolution as numbers: which elements of the input each output sees.
//!
//! A dilated input makes outputs differ in which positions of the window meet an element at all, and outputs whose number leaves the
//! same remainder are alike. So an axis is cut into [`Phases`], each an ordinary strided convolution with a part of the window, and no
//! multiplication with what lies between elements ever happens. This file knows nothing of features, memory or threads.

/// One spatial axis. Position `w` of the window of output `o` lies at `o * stride + w * rhs_dilation - padding` of the dilated input,
/// whose elements lie at multiples of `lhs_dilation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// The extent of the input.
    pub input: usize,
    /// The extent of the window.
    pub window: usize,
    /// The extent of the result.
    pub output: usize,
    /// From a window to the next; above 0.
    pub stride: usize,
    /// How far the first window begins before the input.
    pub padding: isize,
    /// From an element of the input to the next; above 0.
    pub lhs_dilation: usize,
    /// From an element of the window to the next; above 0.
    pub rhs_dilation: usize,
}

/// A position of the window that meets elements in some phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// The position in the window.
    pub(super) window: usize,
    /// The element that the first output of the phase sees there, counted from [`Phases::first`].
    pub(super) at: usize,
}

/// The outputs of an axis by phase: output `phase + every * j` sees element `first + tap.at + step * j` at each tap of its phase.
#[derive(Clone, Debug)]
pub(super) struct Phases {
    /// From an output to the next of its phase.
    pub(super) every: usize,
    /// From the elements that an output sees to those that the next of its phase sees.
    pub(super) step: usize,
    /// The least element that any phase's first output sees.
    pub(super) first: isize,
    /// The greatest [`Tap::at`].
    pub(super) span: usize,
    /// By phase, in ascending order of the position in the window; there are no more phases than outputs.
    pub(super) taps: Vec<Vec<Tap>>,
}

impl Axis {
    /// An axis of one element, which changes nothing.
    pub const ONE: Axis = Axis {
        input: 1,
        window: 1,
        output: 1,
        stride: 1,
        padding: 0,
        lhs_dilation: 1,
        rhs_dilation: 1,
    };

    /// Whether the axis might as well not be there.
    pub(super) fn is_trivial(&self) -> bool {
        self.input > 0 && self.window == 1 && self.output == 1 && self.padding == 0
    }

    /// Whether every position that the axis speaks of can be computed without overflow.
    pub(super) fn fits(&self) -> bool {
        const LIMIT: u128 = 1 << 60;
        let product = |a: usize, b: usize| a as u128 * b as u128;
        [
            product(self.input, self.lhs_dilation),
            product(self.output, self.stride),
            product(self.window, self.rhs_dilation),
            self.padding.unsigned_abs() as u128,
        ]
        .into_iter()
        .all(|size| size < LIMIT)
    }

    /// The element of the input at a position of the window of an output: `None` where the position lies between elements, and
    /// otherwise a number that need not lie inside the input.
    pub(super) fn element(&self, output: usize, window: usize) -> Option<isize> {
        let position = (output * self.stride + window * self.rhs_dilation) as isize - self.padding;
        let dilation = self.lhs_dilation as isize;
        (position.rem_euclid(dilation) == 0).then(|| position.div_euclid(dilation))
    }

    /// The axis with window and outputs in each other's place: the positions that they name are the same ones.
    pub(super) fn exchanged(&self) -> Axis {
        Axis {
            window: self.output,
            output: self.window,
            stride: self.rhs_dilation,
            rhs_dilation: self.stride,
            ..*self
        }
    }

    /// The outputs by phase, for an axis that fits.
    pub(super) fn phases(&self) -> Phases {
        let common = greatest_common_divisor(self.stride, self.lhs_dilation);
        let every = self.lhs_dilation / common;
        let seen: Vec<Vec<(usize, isize)>> = (0..every.min(self.output))
            .map(|phase| {
                let taps = (0..self.window).map(|w| self.element(phase, w).map(|at| (w, at)));
                taps.flatten().collect()
            })
            .collect();
        let elements = || seen.iter().flatten().map(|(_, at)| *at);
        let first = elements().min().unwrap_or(0);
        let span = elements().max().map_or(0, |last| last.abs_diff(first));
        let tap = |(window, at): &(usize, isize)| Tap {
            window: *window,
            at: at.abs_diff(first),
        };
        Phases {
            every,
            step: self.stride / common,
            first,
            span,
            taps: seen.iter().map(|t| t.iter().map(tap).collect()).collect(),
        }
    }
}

impl Phases {
    /// How many outputs of a phase lie among `count` outputs that begin with one of phase 0.
    pub(super) fn among(&self, phase: usize, count: usize) -> usize {
        count.saturating_sub(phase).div_ceil(self.every)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a.max(1)
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_see_what_the_definition_says() {
        for stride in 1..4 {
            for lhs_dilation in 1..5 {
                for rhs_dilation in 1..4 {
                    for padding in -3..5 {
                        let axis = Axis {
                            input: 9,
                            window: 4,
                            output: 11,
                            stride,
                            padding,
                            lhs_dilation,
                            rhs_dilation,
                        };
                        let phases = axis.phases();
                        for output in 0..axis.output {
                            let (phase, j) = (output % phases.every, output / phases.every);
                            let seen = phases.taps[phase].iter().map(|tap| {
                                let at = phases.first + (tap.at + phases.step * j) as isize;
                                (tap.window, at)
                            });
                            let wanted = (0..axis.window)
                                .filter_map(|w| axis.element(output, w).map(|at| (w, at)));
                            assert!(seen.eq(wanted), "{axis:?} {output}");
                        }
                    }
                }
            }
        }
    }
}
