//! Sequences and optional values. Their lengths must be known when the graph is built; they leave no trace in it.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::super::value::{Known, Value};
use super::{Operator, op};

pub(super) const OPERATORS: &[Operator] = &[
    op("SequenceAt", 11, at),
    op("SequenceConstruct", 11, |c| {
        one(Value::Sequence(c.inputs.clone()))
    }),
    op("SequenceLength", 11, |c| {
        one(Known::of_ints(vec![], vec![parts(c, 0)?.len() as i64]))
    }),
];

fn parts<'c, 'g>(c: &'c Call<'_, 'g>, position: usize) -> Result<&'c [Value<'g>], Reason> {
    match c.input(position) {
        Value::Sequence(parts) => Ok(parts),
        Value::Tensor(_) | Value::Known(_) | Value::Param(..) | Value::Absent | Value::Failed => {
            Err(Reason::new(format!("input {position} is no sequence")))
        }
    }
}

fn at<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let parts = parts(c, 0)?;
    let given = c.ints(1, "position")?.unwrap_or_default();
    let count = parts.len() as i64;
    let found = given.first().and_then(|i| {
        let i = if *i < 0 { i.checked_add(count)? } else { *i };
        parts.get(usize::try_from(i).ok()?).cloned()
    });
    one(found.ok_or_else(|| Reason::new(format!("position {given:?} of {count}")))?)
}
