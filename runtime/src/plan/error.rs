//! Why a verified program cannot run under a binding: what depends on the numbers, and could not be decided before there were any.

use super::ConvolutionProblem;
use kiln_ir::{BindError, Dim};

/// Why a program cannot run under a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A size has no value.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Sizes that the graph cannot have.
    #[error("{message} (`{value}` is {found})")]
    Required {
        /// What is wrong, with the user's line.
        message: String,
        /// What must not be negative.
        value: Dim,
        /// What it is.
        found: i64,
    },
    /// A matrix of a product leaves its buffer.
    #[error(
        "the product {product:?} at step {step} reaches outside of the buffer of its {role}: elements {first} to {last} of {elements}; \
         the program is not valid"
    )]
    OutOfBounds {
        /// What is multiplied.
        product: String,
        /// The step.
        step: usize,
        /// "lhs", "rhs" or "dst".
        role: &'static str,
        /// The least element.
        first: i128,
        /// The greatest element.
        last: i128,
        /// The number of elements of the buffer.
        elements: usize,
    },
    /// A number of a product does not fit.
    #[error("the sizes of the product {product:?} at step {step} are too large")]
    TooLarge {
        /// What is multiplied.
        product: String,
        /// The step.
        step: usize,
    },
    /// A convolution cannot run.
    #[error("the convolution {name:?} at step {step} {problem}")]
    Convolution {
        /// What is convolved.
        name: String,
        /// The step.
        step: usize,
        /// What is wrong with it.
        problem: ConvolutionProblem,
    },
    /// Feeds that pass all checks have other sizes than the buffers of their inputs.
    #[error(
        "the buffers of the inputs are not as large as their types say; the program is not valid"
    )]
    Unfit,
    /// The elements of a result are not row-major without gaps, so they might overlap.
    #[error(
        "the result of the product {product:?} at step {step} is not row-major without gaps; the program is not valid"
    )]
    Gaps {
        /// What is multiplied.
        product: String,
        /// The step.
        step: usize,
    },
    /// A part of a copy leaves its buffer.
    #[error(
        "the copy {copy:?} at step {step} reaches outside of the buffer that it {verb}: elements {first} to {last} of {elements}; the \
         program is not valid"
    )]
    CopyOutOfBounds {
        /// What is copied.
        copy: String,
        /// The step.
        step: usize,
        /// "reads" or "writes".
        verb: &'static str,
        /// The first element.
        first: i128,
        /// The last element.
        last: i128,
        /// The number of elements of the buffer.
        elements: usize,
    },
    /// A loop runs over entries that a buffer does not have.
    #[error(
        "the loop at step {step} runs {trip} times over {slice:?}, {entries} entries of {bytes} bytes in a buffer of {whole} bytes; the \
         program is not valid"
    )]
    Entries {
        /// The loop.
        step: usize,
        /// The number of iterations.
        trip: usize,
        /// The slice.
        slice: String,
        /// How many entries there are to be.
        entries: usize,
        /// The bytes of one.
        bytes: usize,
        /// The bytes of what the slice is of.
        whole: usize,
    },
    /// A step writes an entry of a buffer that it may touch under another name.
    #[error(
        "step {step} touches {one:?} and {other:?}, which share memory in some iteration, and writes one of them; the program is not valid"
    )]
    Overlap {
        /// The step.
        step: usize,
        /// One of the two.
        one: String,
        /// The other.
        other: String,
    },
}
