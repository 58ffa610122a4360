//! Steps that run other steps: loops, loops of unknown length, branches; and the views of buffers that they run over and leave.
//!
//! The tree of steps is written down flat, in order: a [`Loop`] is followed by the steps of its body, so that a position in
//! [`Program::steps`](super::Program::steps) names a step, live ranges are ranges of positions, and nothing that walks all steps needs to
//! descend. What one iteration reads and writes besides its temporaries are *slices*: buffers of their own, each a [`Slice`], whose memory
//! is one entry of another buffer, another entry in each iteration. So a body is compiled as any other
//! steps are: it does not know that it is in a loop.

use super::{Buffer, Home, Step};
use crate::dim::Dim;
use crate::ids::BufferId;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Runs the next `steps` steps `trip` times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// What is repeated, for people.
    pub name: String,
    /// The number of iterations; none at 0.
    pub trip: Dim,
    /// How many of the following steps are the body, those of steps within it included. At least one.
    pub steps: usize,
    /// Iterations do not depend on one another: each runs whole on one thread, and threads share the iterations out. Every temporary of
    /// the body is then scratch, which keeps its content to the end of the iteration and which any step of the body may touch. What else
    /// the body writes are slices of this loop, one entry for each iteration; there are no guards in it.
    pub parallel: bool,
}

/// Runs `test` steps and, while they set `condition`, `steps` further ones and the test again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct While {
    /// What is repeated, for people.
    pub name: String,
    /// A buffer of one `bool`, which the steps of the test write. It is alive throughout.
    pub condition: BufferId,
    /// How many of the following steps are the test. At least one.
    pub test: usize,
    /// How many steps after those are the body. At least one.
    pub steps: usize,
}

/// Runs the next `then` steps where `condition` holds, else the `otherwise` steps behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// What is chosen, for people.
    pub name: String,
    /// A buffer of one `bool`.
    pub condition: BufferId,
    /// How many of the following steps run where it holds.
    pub then: usize,
    /// How many steps after those run where it does not.
    pub otherwise: usize,
}

/// Copies elements from one buffer to another one of the same element type, or another part of the same one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copy {
    /// What is copied, for people.
    pub name: String,
    /// Where the elements come from.
    pub from: Part,
    /// Where they go.
    pub to: Part,
    /// How many elements.
    pub elements: Dim,
}

/// The entry of a buffer that a copy begins at: element `entry * elements` of the buffer, with the number of elements of the copy. Whether
/// the part lies inside the buffer is decided when sizes are bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The buffer.
    pub buffer: BufferId,
    /// The number of the entry.
    pub entry: Dim,
}

/// The memory of a buffer that is one entry of another one. In iteration `i` of the loop it is entry `(first + step * i) mod entries`, so
/// that no entry lies outside.
///
/// A stacked operand of a loop over `t` has `t` entries, `first = 0` and `step = 1`; in reverse, `first = t - 1` and `step = -1`. A carry of
/// which only the newest value is needed has two entries: the body reads the one from `first = 0` and writes the one from `first = 1`. A
/// carry whose every value is kept has `t + 1`: all but the last one are what iterations found, and all but the first one what they left, or,
/// in reverse, the other way round: each a [`Stretch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The buffer whose entry it is: `entries` times as many elements, of the same element type. It may be a slice of an outer loop, but not
    /// scratch.
    pub of: BufferId,
    /// The position of the [`Loop`] that moves it. Only steps of that loop's body touch it.
    pub at: usize,
    /// The number of entries of `of`.
    pub entries: Dim,
    /// The entry of the first iteration.
    pub first: Dim,
    /// From an iteration to the next: 1 or -1.
    pub step: i64,
}

/// The memory of a buffer that is another one without its first elements, or its last ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// The whole, of the same element type: `skip + rest` elements more. It is at home in the arena, or local to a thread.
    pub of: BufferId,
    /// How many elements of the whole come before the stretch.
    pub skip: Dim,
    /// How many come behind it.
    pub rest: Dim,
}

impl Home {
    /// The slice that it is, if it is one.
    pub fn slice(&self) -> Option<&Slice> {
        match self {
            Home::Slice(slice) => Some(slice),
            Home::Input
            | Home::Resident
            | Home::Output
            | Home::Constant(_)
            | Home::Arena(_)
            | Home::Scratch
            | Home::Local(_)
            | Home::Stretch(_) => None,
        }
    }

    /// The stretch that it is, if it is one.
    pub fn stretch(&self) -> Option<&Stretch> {
        match self {
            Home::Stretch(stretch) => Some(stretch),
            Home::Input
            | Home::Resident
            | Home::Output
            | Home::Constant(_)
            | Home::Arena(_)
            | Home::Scratch
            | Home::Local(_)
            | Home::Slice(_) => None,
        }
    }
}

/// The two bodies of a step, as positions in [`Program::steps`](super::Program::steps).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bodies {
    /// The body of a loop, the test of a `while`, what a branch runs where its condition holds.
    pub first: Range<usize>,
    /// The body of a `while`, what a branch runs where its condition does not hold; empty for a loop.
    pub second: Range<usize>,
}

impl Step {
    /// Which steps behind it the step at `position` runs; none for steps that are no control steps. Nothing is promised of a program that
    /// was not verified.
    pub fn bodies(&self, position: usize) -> Bodies {
        let (first, second) = match self {
            Step::Loop(l) => (l.steps, 0),
            Step::While(w) => (w.test, w.steps),
            Step::Branch(b) => (b.then, b.otherwise),
            Step::Kernel(_)
            | Step::Product(_)
            | Step::Convolution(_)
            | Step::Guard(_)
            | Step::Copy(_)
            | Step::Custom(_) => (0, 0),
        };
        let start = position.saturating_add(1);
        let middle = start.saturating_add(first);
        Bodies {
            first: start..middle,
            second: middle..middle.saturating_add(second),
        }
    }
}

impl Bodies {
    /// All steps that the step runs.
    pub fn all(&self) -> Range<usize> {
        self.first.start..self.second.end
    }
}

/// The slices that lead from a buffer to the memory that it lies in, innermost first; none for a buffer that is no slice. The walk ends at
/// slices that are not of an outer loop's, which no verified program has, and at a stretch, which is of no slice.
pub fn slices_of(buffers: &[Buffer], id: BufferId) -> impl Iterator<Item = &Slice> {
    let slice = |id: BufferId| buffers.get(id.index())?.home.slice();
    std::iter::successors(slice(id), move |inner| {
        slice(inner.of).filter(|outer| outer.at < inner.at)
    })
}

/// A buffer itself, or what it is a slice of a slice of.
fn sliced(buffers: &[Buffer], id: BufferId) -> BufferId {
    slices_of(buffers, id).last().map_or(id, |slice| slice.of)
}

/// The stretch that a buffer is, or that it is a slice of a slice of.
pub fn stretch_of(buffers: &[Buffer], id: BufferId) -> Option<&Stretch> {
    buffers.get(sliced(buffers, id).index())?.home.stretch()
}

/// The buffer that has the memory of `id`: itself, or what it is a slice of a slice of, or what that is a stretch of.
pub fn root_of(buffers: &[Buffer], id: BufferId) -> BufferId {
    let of = stretch_of(buffers, id).map(|stretch| stretch.of);
    of.unwrap_or_else(|| sliced(buffers, id))
}
