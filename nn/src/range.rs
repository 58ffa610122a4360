//! Settings that lie in a range, and what is said of one that does not.

use kiln_ir::{Builder, Kind, Refusal};
use std::fmt;

/// Whether a setting of `owner` is in its range, which somebody else has found out; if not it is reported, with the range.
#[track_caller]
pub(crate) fn in_range(
    builder: &Builder,
    owner: &str,
    holds: bool,
    setting: &str,
    value: f64,
    range: impl fmt::Display,
) -> bool {
    if !holds {
        let message = format!("the {setting} of the {owner} is {value}");
        let refusal = Refusal::new(Kind::Attribute, message).help(format!("it lies {range}"));
        builder.refuse(refusal, &[]);
    }
    holds
}
