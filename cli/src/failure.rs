//! Why a command ended early, and with it what the shell is told.

use std::fmt;
use std::io;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file is wrong, or what it asks for cannot be done.
    #[error("{0}")]
    Wrong(String),
    /// The options contradict one another, or the file that they speak of.
    #[error("{0}")]
    Usage(String),
    /// Two files differ, as the output says.
    #[error("the files differ")]
    Differ,
    /// Standard output takes no more.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A failure of a file, whose name goes before what is wrong with it.
    pub(crate) fn at(file: impl fmt::Display, what: impl fmt::Display) -> Failure {
        Failure::Wrong(format!("{file}: {what}"))
    }
}
