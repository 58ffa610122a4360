//! The spelling of windows in the text, XLA's: `stride = 2x2, pad = 1_1x0_1`.
//!
//! What is the default on all axes is left out. Padding that is not a number is spelled as two lists of extents, `low` and `high`, as that
//! of `pad`.

use super::WindowAxis;
use crate::attributes::{AttributeError, Attributes, Value};
use crate::dim::Dim;
use std::fmt::Display;

/// What an op calls the dilations.
pub(in crate::ops) struct AxisNames {
    /// That of the operand.
    pub(in crate::ops) base: &'static str,
    /// That of the window.
    pub(in crate::ops) window: &'static str,
}

/// The names that the ops on plain windows use.
pub(super) const WINDOW: AxisNames = AxisNames {
    base: "base_dilation",
    window: "window_dilation",
};

/// More axes than any tensor has; a longer list is refused.
const MAX_AXES: usize = 32;

/// Takes out how a window slides along `rank` axes.
pub(in crate::ops) fn parse_axes(
    attributes: &mut Attributes,
    rank: usize,
    names: &AxisNames,
) -> Result<Vec<WindowAxis>, AttributeError> {
    let mut axes = vec![WindowAxis::default(); rank];
    let mut each = |name: &str, set: fn(&mut WindowAxis, i64)| {
        if has(attributes, name) {
            let values = numbers(attributes, name, Some(rank))?;
            axes.iter_mut().zip(values).for_each(|(a, v)| set(a, v));
        }
        Ok(())
    };
    each("stride", |axis, v| axis.stride = v)?;
    each(names.base, |axis, v| axis.base_dilation = v)?;
    each(names.window, |axis, v| axis.window_dilation = v)?;
    if has(attributes, "pad") {
        let expected = || AttributeError {
            name: "pad".into(),
            expected: format!(
                "low_high for each of {rank} axes, such as {}",
                example(rank, "1_1")
            ),
        };
        let word = attributes.word("pad")?;
        let pair = |p: &str| -> Option<(i64, i64)> {
            let (low, high) = p.split_once('_')?;
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        let pairs: Option<Vec<(i64, i64)>> = word.split('x').take(MAX_AXES + 1).map(pair).collect();
        let pairs = pairs.filter(|p| p.len() == rank).ok_or_else(expected)?;
        for (axis, (low, high)) in axes.iter_mut().zip(pairs) {
            (axis.low, axis.high) = (Dim::from(low), Dim::from(high));
        }
    } else if has(attributes, "low") || has(attributes, "high") {
        for (name, set) in [
            ("low", (|a, d| a.low = d) as fn(&mut WindowAxis, Dim)),
            ("high", |a, d| a.high = d),
        ] {
            let list = attributes.dims(name)?;
            if list.len() != rank {
                return Err(AttributeError {
                    name: name.into(),
                    expected: format!("a list of {rank} dims"),
                });
            }
            axes.iter_mut().zip(list).for_each(|(a, d)| set(a, d));
        }
    }
    Ok(axes)
}

/// The attributes with those of a window's axes that are not the default.
pub(in crate::ops) fn print_axes(
    attributes: Attributes,
    axes: &[WindowAxis],
    names: &AxisNames,
) -> Attributes {
    let each = |attributes: Attributes, name: &str, get: fn(&WindowAxis) -> i64| {
        if axes.iter().all(|a| get(a) == 1) {
            attributes
        } else {
            attributes.with(name, Value::Word(joined(axes.iter().map(get))))
        }
    };
    let attributes = each(attributes, "stride", |a| a.stride);
    let attributes = padding(attributes, axes);
    let attributes = each(attributes, names.base, |a| a.base_dilation);
    each(attributes, names.window, |a| a.window_dilation)
}

fn padding(attributes: Attributes, axes: &[WindowAxis]) -> Attributes {
    let constants: Option<Vec<(i64, i64)>> = axes
        .iter()
        .map(|a| Some((a.low.constant()?, a.high.constant()?)))
        .collect();
    match constants {
        Some(pairs) if pairs.iter().all(|p| *p == (0, 0)) => attributes,
        Some(pairs) => {
            let pairs = pairs.iter().map(|(low, high)| format!("{low}_{high}"));
            attributes.with("pad", Value::Word(joined(pairs)))
        }
        None => {
            let list = |get: fn(&WindowAxis) -> &Dim| {
                Value::Dims(axes.iter().map(|a| get(a).clone()).collect())
            };
            let low = list(|a| &a.low);
            attributes.with("low", low).with("high", list(|a| &a.high))
        }
    }
}

/// `3x3`.
pub(super) fn joined(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|i| i.to_string()).collect();
    items.join("x")
}

/// Takes out numbers such as `3x3`: `rank` of them, or any number of at least one.
pub(super) fn numbers(
    attributes: &mut Attributes,
    name: &str,
    rank: Option<usize>,
) -> Result<Vec<i64>, AttributeError> {
    let word = attributes.word(name)?;
    let parsed: Option<Vec<i64>> = word
        .split('x')
        .take(MAX_AXES + 1)
        .map(|n| n.parse().ok())
        .collect();
    parsed
        .filter(|n| n.len() <= MAX_AXES && rank.is_none_or(|rank| n.len() == rank))
        .ok_or_else(|| AttributeError {
            name: name.into(),
            expected: match rank {
                Some(rank) => format!("{rank} numbers, such as {}", example(rank, "2")),
                None => "numbers, one for each axis, such as 1x2x2x1".into(),
            },
        })
}

fn example(rank: usize, entry: &str) -> String {
    joined(std::iter::repeat_n(entry, rank))
}

fn has(attributes: &Attributes, name: &str) -> bool {
    attributes.iter().any(|(n, _)| n == name)
}
