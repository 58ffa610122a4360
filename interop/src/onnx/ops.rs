//! The table of operators, one file a family. An operator is a function from a [`Call`] to values, under a name and the version of its
//! domain since which it means this.

mod containers;
mod contraction;
mod control;
mod conv;
mod elementwise;
mod indexing;
mod losses;
mod movement;
mod norm;
mod pad;
mod pool;
mod quantize;
mod reduce;
mod resize;
mod sequence;
mod training;

use super::call::{Call, Results};
use super::error::Reason;
use std::fmt::Write;

/// Imports one node.
pub(crate) type Import = for<'a, 'b, 'g> fn(&'a Call<'b, 'g>) -> Results<'g>;

/// ONNX's own domain, which files leave empty.
const ONNX: &str = "ai.onnx";
/// The domain of operators for training.
const TRAINING: &str = "ai.onnx.preview.training";
/// No older version is imported, and of operators that are newer than the newest nothing is known.
const OLDEST: i64 = 7;
const NEWEST: i64 = 25;

/// An operator that is imported.
pub(crate) struct Operator {
    pub(crate) domain: &'static str,
    pub(crate) name: &'static str,
    /// The version from which on it is imported.
    pub(crate) since: i64,
    pub(crate) import: Import,
}

/// An operator of ONNX's own domain, from version 7 on or from its first.
const fn op(name: &'static str, since: i64, import: Import) -> Operator {
    Operator {
        domain: ONNX,
        name,
        since,
        import,
    }
}

/// All families.
const FAMILIES: &[&[Operator]] = &[
    elementwise::OPERATORS,
    reduce::OPERATORS,
    control::OPERATORS,
    contraction::OPERATORS,
    indexing::OPERATORS,
    losses::OPERATORS,
    norm::OPERATORS,
    conv::OPERATORS,
    pool::OPERATORS,
    quantize::OPERATORS,
    training::OPERATORS,
    resize::OPERATORS,
    sequence::OPERATORS,
    containers::OPERATORS,
    movement::OPERATORS,
    pad::OPERATORS,
];

/// Operators that are refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "Bernoulli",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    ("Compress", "how many elements it gives depends on the data"),
    (
        "Multinomial",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    (
        "NonMaxSuppression",
        "how many boxes it gives depends on the data",
    ),
    ("NonZero", "how many elements it gives depends on the data"),
    (
        "RandomNormal",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    (
        "RandomNormalLike",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    (
        "RandomUniform",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    (
        "RandomUniformLike",
        "it draws random numbers that no seed of ONNX fixes",
    ),
    ("RegexFullMatch", "Kiln has no strings"),
    ("StringConcat", "Kiln has no strings"),
    ("StringNormalizer", "Kiln has no strings"),
    ("StringSplit", "Kiln has no strings"),
    (
        "TfIdfVectorizer",
        "how it counts n-grams of varying skips has no form in the IR",
    ),
    ("Unique", "how many elements it gives depends on the data"),
];

/// A domain as messages and the table spell it.
pub(crate) fn domain(name: &str) -> &str {
    if name.is_empty() { ONNX } else { name }
}

/// The function that imports an operator of a version.
pub(crate) fn find(domain: &str, name: &str, version: i64) -> Result<Import, Reason> {
    if domain == ONNX && !(OLDEST..=NEWEST).contains(&version) {
        return Err(Reason::new(format!(
            "version {version} of the operators is not among {OLDEST} to {NEWEST}, which the importer knows"
        )));
    }
    let mut named = FAMILIES.iter().flat_map(|f| f.iter());
    match named.find(|o| o.domain == domain && o.name == name) {
        Some(operator) if version < operator.since => Err(Reason::new(format!(
            "it is imported from version {} of its domain on, not of version {version}",
            operator.since
        ))),
        Some(operator) => Ok(operator.import),
        None => match REFUSED.iter().find(|(n, _)| *n == name && domain == ONNX) {
            Some((_, why)) => Err(Reason::new(*why)),
            None => Err(Reason::new("the importer does not know the operator")),
        },
    }
}

/// The table of operators as Markdown: what `docs/onnx.md` holds, and a test compares.
pub fn table() -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for operator in FAMILIES.iter().flat_map(|f| f.iter()) {
        let name = match operator.domain {
            ONNX => operator.name.to_owned(),
            domain => format!("{domain}.{}", operator.name),
        };
        let versions = match operator.domain {
            ONNX => format!("{} to {NEWEST}", operator.since),
            _ => format!("from {}", operator.since),
        };
        rows.push((name, versions));
    }
    for (name, why) in REFUSED {
        rows.push(((*name).to_owned(), format!("refused: {why}")));
    }
    rows.sort();
    let mut text = String::from("| operator | versions |\n|---|---|\n");
    for (name, versions) in rows {
        // Writing to a `String` does not fail.
        let _infallible = writeln!(text, "| `{name}` | {versions} |");
    }
    text
}
