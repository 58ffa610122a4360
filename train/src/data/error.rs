//! What can be wrong with data, each with the place where it is wrong and what would be right.

use std::path::PathBuf;

/// A data set, or a file that should hold one, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A column whose shape does not multiply out to the number of its elements.
    #[error("column `{column}`: shape {shape:?} wants {wanted} elements, but the data has {found}")]
    Shape {
        /// The column's name.
        column: String,
        /// The shape that was asked for, examples first.
        shape: Vec<usize>,
        /// The product of the shape, or that it does not fit in a `usize`.
        wanted: String,
        /// The number of elements given.
        found: usize,
    },

    /// A column with no axis: there is nothing to count examples by.
    #[error("column `{column}`: shape [] has no axis for the examples; a column of numbers is [n]")]
    NoExampleAxis {
        /// The column's name.
        column: String,
    },

    /// Two columns that do not have the same number of examples.
    #[error(
        "column `{column}` has {found} examples, but column `{first}` has {wanted}; every column \
         needs the same number"
    )]
    Length {
        /// The column that differs.
        column: String,
        /// Its number of examples.
        found: usize,
        /// The first column of the data set.
        first: String,
        /// The number of examples in the first column.
        wanted: usize,
    },

    /// Two columns of one name.
    #[error("two columns are named `{column}`; a name must be unique in a data set")]
    DuplicateColumn {
        /// The name that occurs twice.
        column: String,
    },

    /// No column, or no example in the columns.
    #[error("the data set is empty: {what}")]
    Empty {
        /// What there is none of.
        what: String,
    },

    /// A name that no column has.
    #[error("there is no column `{column}`; there are {}", quoted(.known))]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// The names there are, in order.
        known: Vec<String>,
    },

    /// A column asked for as a type that it does not hold.
    #[error("column `{column}` holds {found}, not {wanted}")]
    Type {
        /// The column's name.
        column: String,
        /// The type, or kind of type, asked for.
        wanted: &'static str,
        /// The type it holds.
        found: &'static str,
    },

    /// Batches of no examples.
    #[error("a batch size of 0 would never reach the end of the data; use at least 1")]
    ZeroBatch,

    /// A cache behind a transform whose result is another one in each epoch.
    #[error(
        "transform {transform} of the pipeline draws random numbers, anew in each epoch, and a cache would keep the first: \
         put `cache` before it"
    )]
    Cached {
        /// The transform, from 1.
        transform: usize,
    },

    /// Windows of no tokens.
    #[error("windows of 0 tokens hold nothing to learn from; use at least 1")]
    ZeroLength,

    /// Epochs of no batches.
    #[error("epochs of 0 random batches would never learn; use at least 1")]
    ZeroBatches,

    /// A batch that memory cannot hold.
    #[error("memory has no room for a batch of {batch} windows of {length} tokens")]
    BatchSize {
        /// The windows of a batch.
        batch: usize,
        /// The tokens of a window.
        length: usize,
    },

    /// Windows longer than the text.
    #[error(
        "column `{column}` has {tokens} tokens, too few for a window of {length} and the token that follows it"
    )]
    NoWindow {
        /// The column of tokens.
        column: String,
        /// How many there are.
        tokens: usize,
        /// The length of a window.
        length: usize,
    },

    /// Short batches are dropped, and the data set is too small for a full one.
    #[error(
        "the data set has {examples} examples, fewer than the batch size {batch}, and short batches \
         are dropped: no batch would be left"
    )]
    NoFullBatch {
        /// Examples in the data set.
        examples: usize,
        /// Batch size asked for.
        batch: usize,
    },

    /// A part to hold out that is no fraction, or that leaves one side empty.
    #[error(
        "cannot hold out {fraction} of {examples} examples: the fraction must lie between 0 and 1 \
         and leave at least one example on each side"
    )]
    Fraction {
        /// The fraction asked for.
        fraction: f64,
        /// Examples in the data set.
        examples: usize,
    },

    /// A column that holds no pictures.
    #[error(
        "column `{column}`: shape {shape:?} is none of pictures, which are [n, h, w] or [n, h, w, channels]"
    )]
    Picture {
        /// The column's name.
        column: String,
        /// Its shape.
        shape: Vec<usize>,
    },

    /// Examples of another size than that which statistics were fitted on.
    #[error("column `{column}` has {found} features; what was fitted has {wanted}")]
    Features {
        /// The column's name.
        column: String,
        /// The elements of an example.
        found: usize,
        /// Those of the examples that were fitted.
        wanted: usize,
    },

    /// A label that is not known.
    #[error("column `{column}`: example {row} has the label {label}, which is none of those known")]
    Label {
        /// The column's name.
        column: String,
        /// The example, from 0.
        row: usize,
        /// Its label.
        label: i64,
    },

    /// An infinite value where statistics are taken: every one would become infinite or `NaN`.
    #[error(
        "column `{column}`: example {row} holds {value}, of which there are no statistics; a missing value is NaN"
    )]
    Infinite {
        /// The column's name.
        column: String,
        /// The example, from 0.
        row: usize,
        /// The value.
        value: f64,
    },

    /// Batches in another order than that of the data, where the order counts.
    #[error(
        "predictions come in the order of the data, and these batches are shuffled; give a data set, or batches in its order"
    )]
    Shuffled,

    /// A picture that cannot be read, or something else where pictures belong.
    #[error("{}: {message}", path.display())]
    Image {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        message: String,
    },

    /// A setting that is out of its range.
    #[error("{what} is {value}; it lies {wanted}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What was given.
        value: f64,
        /// The range.
        wanted: &'static str,
    },

    /// An example that the data set does not have.
    #[error("there is no example {index}; the data set has {examples}, counted from 0")]
    Row {
        /// The example asked for.
        index: usize,
        /// Examples in the data set.
        examples: usize,
    },

    /// A text of numbers with something else in it.
    #[error("{file}:{line}:{column}: found {found}, but {wanted}")]
    Csv {
        /// The file, or what the caller calls the text.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What stands there.
        found: String,
        /// What should stand there.
        wanted: String,
    },

    /// A file that is not IDX, or not the IDX that was expected.
    #[error("{file}: at byte {offset}: found {found}, but {wanted}")]
    Idx {
        /// The file, or what the caller calls the bytes.
        file: String,
        /// The byte, from 0, in the uncompressed data.
        offset: u64,
        /// What stands there.
        found: String,
        /// What should stand there.
        wanted: String,
    },

    /// A file that the system cannot open or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A well-known data set that is not on this machine.
    #[error("{name} is not in {}: no {missing}\nhelp: {help}", folder.display())]
    NotInstalled {
        /// The data set.
        name: &'static str,
        /// The folder that was looked into.
        folder: PathBuf,
        /// The file that is missing.
        missing: String,
        /// How to get it.
        help: String,
    },
}

/// Names as a message lists them.
pub(super) fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
