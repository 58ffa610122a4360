//! The table of operators, one file a family. An operator is a function from a [`Call`] to values, under a name and the version of its
//! domain since which it means this.

mod columns;
mod containers;
mod contraction;
mod control;
mod conv;
mod elementwise;
mod indexing;
mod losses;
mod matrix;
mod ml;
mod movement;
mod ngrams;
mod norm;
mod pad;
mod pool;
mod quantize;
mod reduce;
mod regions;
mod resize;
mod sample;
mod sequence;
mod signal;
mod training;

use super::call::{Call, Results};
use super::error::Reason;
use std::fmt::Write;

/// Imports one node.
pub(crate) type Import = for<'a, 'b, 'g> fn(&'a Call<'b, 'g>) -> Results<'g>;

/// ONNX's own domain, which files leave empty.
const ONNX: &str = "ai.onnx";
/// The domain of operators of classical models.
const ML: &str = "ai.onnx.ml";
/// The domain of operators for training.
const TRAINING: &str = "ai.onnx.preview.training";
/// The newest version; of operators of a newer one nothing is known. Before version 7 operators had other attributes and no broadcasting, so
/// those alone are imported that have not changed since.
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
    columns::OPERATORS,
    matrix::OPERATORS,
    ml::OPERATORS,
    ngrams::OPERATORS,
    regions::OPERATORS,
    sample::OPERATORS,
    signal::OPERATORS,
];

/// Reasons that several operators share.
const RANDOM: &str = "it draws random numbers that no seed of ONNX fixes";
const STRINGS: &str = "Kiln has no strings";
const TREES: &str = "Kiln has no trees";
const VECTORS: &str = "Kiln has no support vector machines";

/// Operators that are refused, with the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    (ONNX, "Bernoulli", RANDOM),
    (ONNX, "ImageDecoder", "Kiln reads no image files in a graph"),
    (ONNX, "Multinomial", RANDOM),
    (
        ONNX,
        "NonMaxSuppression",
        "how many boxes it gives depends on the data",
    ),
    (ONNX, "RandomNormal", RANDOM),
    (ONNX, "RandomNormalLike", RANDOM),
    (ONNX, "RandomUniform", RANDOM),
    (ONNX, "RandomUniformLike", RANDOM),
    (ONNX, "RegexFullMatch", STRINGS),
    (ONNX, "StringConcat", STRINGS),
    (ONNX, "StringNormalizer", STRINGS),
    (ONNX, "StringSplit", STRINGS),
    (
        ONNX,
        "Unique",
        "how many elements it gives depends on the data",
    ),
    (ML, "CategoryMapper", STRINGS),
    (ML, "DictVectorizer", "Kiln has no maps"),
    (ML, "LabelEncoder", STRINGS),
    (ML, "SVMClassifier", VECTORS),
    (ML, "SVMRegressor", VECTORS),
    (ML, "TreeEnsemble", TREES),
    (ML, "TreeEnsembleClassifier", TREES),
    (ML, "TreeEnsembleRegressor", TREES),
    (ML, "ZipMap", "Kiln has no maps"),
];

/// A domain as messages and the table spell it.
pub(crate) fn domain(name: &str) -> &str {
    if name.is_empty() { ONNX } else { name }
}

/// The function that imports an operator of a version.
pub(crate) fn find(domain: &str, name: &str, version: i64) -> Result<Import, Reason> {
    if domain == ONNX && !(1..=NEWEST).contains(&version) {
        return Err(Reason::new(format!(
            "version {version} of the operators is not among 1 to {NEWEST}, which the importer knows"
        )));
    }
    let mut named = FAMILIES.iter().flat_map(|f| f.iter());
    match named.find(|o| o.domain == domain && o.name == name) {
        Some(operator) if version < operator.since => Err(Reason::new(format!(
            "it is imported from version {} of its domain on, not of version {version}",
            operator.since
        ))),
        Some(operator) => Ok(operator.import),
        None => match REFUSED.iter().find(|(d, n, _)| (*d, *n) == (domain, name)) {
            Some((_, _, why)) => Err(Reason::new(*why)),
            None => Err(Reason::new("the importer does not know the operator")),
        },
    }
}

/// The table of operators as Markdown: what `docs/onnx.md` holds, and a test compares.
pub fn table() -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let spelled = |domain: &str, name: &str| match domain {
        ONNX => name.to_owned(),
        domain => format!("{domain}.{name}"),
    };
    for operator in FAMILIES.iter().flat_map(|f| f.iter()) {
        let versions = match operator.domain {
            ONNX => format!("{} to {NEWEST}", operator.since),
            _ => format!("from {}", operator.since),
        };
        rows.push((spelled(operator.domain, operator.name), versions));
    }
    for (domain, name, why) in REFUSED {
        rows.push((spelled(domain, name), format!("refused: {why}")));
    }
    rows.sort();
    let mut text = String::from("| operator | versions |\n|---|---|\n");
    for (name, versions) in rows {
        // Writing to a `String` does not fail.
        let _infallible = writeln!(text, "| `{name}` | {versions} |");
    }
    text
}
