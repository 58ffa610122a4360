//! From feeds to numbers for the symbols, and everything that can be wrong with a feed.
//!
//! This is the slow path: a step whose feeds have the sizes of an earlier step never comes here. Messages name the input with its
//! declared type beside what was fed.

use crate::feed::Feed;
use kiln_ir::program::{Port, Program};
use kiln_ir::{BindError, Bindings, DType, Dim, Equation, TensorType, solve};
use std::fmt;

/// An input beside what was fed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The input or resident.
    pub name: String,
    /// Its declared type.
    pub declared: TensorType,
    /// The element type that was fed.
    pub dtype: DType,
    /// The shape that was fed.
    pub shape: Vec<usize>,
}

impl Mismatch {
    pub(crate) fn new(name: &str, declared: &TensorType, feed: &Feed<'_>) -> Mismatch {
        Mismatch {
            name: name.to_owned(),
            declared: declared.clone(),
            dtype: feed.dtype(),
            shape: feed.shape().to_vec(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is {}, but was given {}{:?}",
            self.name, self.declared, self.dtype, self.shape
        )
    }
}

/// What is wrong with a feed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedMismatch {
    /// More or fewer feeds than inputs.
    #[error("{found} feeds for {expected} inputs; the inputs are {inputs}")]
    Count {
        /// The number of inputs.
        expected: usize,
        /// The number of feeds.
        found: usize,
        /// The inputs, with their types.
        inputs: String,
    },
    /// A name that no input has.
    #[error("there is no input `{name}`; the inputs are {inputs}")]
    Unknown {
        /// The name.
        name: String,
        /// The inputs, with their types.
        inputs: String,
    },
    /// An input that is not fed.
    #[error("the input `{name}`, {declared}, is not fed")]
    Missing {
        /// The input.
        name: String,
        /// Its type.
        declared: TensorType,
    },
    /// An input that is fed more than once.
    #[error("the input `{name}` is fed twice")]
    Twice {
        /// The input.
        name: String,
    },
    /// Another element type.
    #[error("{0}; nothing is converted here, so convert the data to {dtype} first", dtype = .0.declared.dtype)]
    DType(Mismatch),
    /// Another number of axes.
    #[error("{0}; it takes {expected} axes and not {found}", expected = .0.declared.rank(), found = .0.shape.len())]
    Rank(Mismatch),
    /// Another extent than the fixed one.
    #[error("{mismatch}; axis {axis} must be {expected}")]
    Extent {
        /// The types.
        mismatch: Mismatch,
        /// The axis.
        axis: usize,
        /// The declared extent.
        expected: i64,
    },
    /// The number of elements is not that of the shape.
    #[error("{mismatch} with {bytes} bytes of data, which is not as many as the shape has")]
    Length {
        /// The types.
        mismatch: Mismatch,
        /// The bytes of data.
        bytes: usize,
    },
}

/// Checks one feed against a declared type, but for its symbols.
pub(crate) fn check(
    name: &str,
    declared: &TensorType,
    feed: &Feed<'_>,
) -> Result<(), FeedMismatch> {
    let mismatch = || Mismatch::new(name, declared, feed);
    if feed.dtype() != declared.dtype {
        return Err(FeedMismatch::DType(mismatch()));
    }
    if feed.shape().len() != declared.rank() {
        return Err(FeedMismatch::Rank(mismatch()));
    }
    for (axis, (extent, dim)) in feed.shape().iter().zip(declared.shape.iter()).enumerate() {
        if let Some(expected) = dim.constant()
            && i64::try_from(*extent) != Ok(expected)
        {
            return Err(FeedMismatch::Extent {
                mismatch: mismatch(),
                axis,
                expected,
            });
        }
    }
    if !feed.is_whole() {
        return Err(FeedMismatch::Length {
            mismatch: mismatch(),
            bytes: feed.bytes().len(),
        });
    }
    Ok(())
}

/// Checks that named feeds are those of the inputs, each once. It allocates only to report.
pub(crate) fn check_names<'n>(
    inputs: &[Port],
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<(), FeedMismatch> {
    let mut rest = names.clone();
    while let Some(name) = rest.next() {
        if !inputs.iter().any(|port| port.name == name) {
            return Err(FeedMismatch::Unknown {
                name: name.to_owned(),
                inputs: list_inputs(inputs),
            });
        }
        if rest.clone().any(|other| other == name) {
            return Err(FeedMismatch::Twice {
                name: name.to_owned(),
            });
        }
    }
    let missing = |port: &&Port| !names.clone().any(|name| name == port.name);
    match inputs.iter().find(missing) {
        Some(port) => Err(FeedMismatch::Missing {
            name: port.name.clone(),
            declared: port.ty.clone(),
        }),
        None => Ok(()),
    }
}

/// The inputs with their types, for messages.
pub(crate) fn list_inputs(inputs: &[Port]) -> String {
    if inputs.is_empty() {
        return "none".into();
    }
    let all: Vec<String> = inputs
        .iter()
        .map(|port| format!("`{}`: {}", port.name, port.ty))
        .collect();
    all.join(", ")
}

/// Solves the symbols from the symbols that a session fixed and the shapes that were fed.
///
/// # Errors
/// Sizes that contradict each other, with the places that they come from.
pub(crate) fn solve_inputs<'f>(
    program: &Program,
    fixed: &Bindings,
    feed: &dyn Fn(usize) -> Feed<'f>,
) -> Result<Bindings, BindError> {
    let mut equations: Vec<Equation> = fixed
        .iter()
        .map(|(symbol, size)| Equation {
            dim: Dim::symbol(symbol.name()),
            size,
            place: "the session's options".into(),
        })
        .collect();
    for (index, port) in program.inputs.iter().enumerate() {
        let fed = feed(index);
        let axes = port.ty.shape.iter().zip(fed.shape()).enumerate();
        equations.extend(axes.map(|(axis, (dim, extent))| Equation {
            dim: dim.clone(),
            // An extent beyond i64 has no memory behind it; it saturates into a conflict or a size that is refused.
            size: i64::try_from(*extent).unwrap_or(i64::MAX),
            place: format!("axis {axis} of input `{}`", port.name),
        }));
    }
    solve(&equations)
}
