//! Sequences and optional values. Their lengths must be known when the graph is built; they leave no trace in it.

use super::super::call::{Call, Results, axis, one};
use super::super::error::Reason;
use super::super::value::{Known, Value};
use super::{Operator, op};
use kiln_ir::{Dim, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    op("ConcatFromSequence", 11, concat),
    op("Optional", 15, |c| {
        c.attribute("type");
        one(c.input(0).clone())
    }),
    op("OptionalGetElement", 15, |c| match c.input(0) {
        Value::Absent => Err(Reason::new("its optional is empty")),
        value => one(value.clone()),
    }),
    op("OptionalHasElement", 15, |c| {
        one(Known::of_bool(!c.input(0).is_absent()))
    }),
    op("SequenceAt", 11, |c| {
        let parts = parts(c)?;
        one(parts[place(c, 1, parts.len(), false)?].clone())
    }),
    op("SequenceConstruct", 11, |c| {
        one(Value::Sequence(c.inputs.clone()))
    }),
    op("SequenceEmpty", 11, |c| {
        c.attribute("dtype");
        one(Value::Sequence(Vec::new()))
    }),
    op("SequenceErase", 11, |c| {
        let mut parts = parts(c)?.to_vec();
        parts.remove(place(c, 1, parts.len(), false)?);
        one(Value::Sequence(parts))
    }),
    op("SequenceInsert", 11, |c| {
        let mut parts = parts(c)?.to_vec();
        parts.insert(place(c, 2, parts.len(), true)?, c.input(1).clone());
        one(Value::Sequence(parts))
    }),
    op("SequenceLength", 11, |c| {
        one(Known::of_ints(vec![], vec![parts(c)?.len() as i64]))
    }),
    op("SequenceMap", 17, map),
    op("SplitToSequence", 11, split),
];

/// No tensor is split into more.
const MOST_PARTS: i64 = 1 << 16;

fn parts<'c, 'g>(c: &'c Call<'_, 'g>) -> Result<&'c [Value<'g>], Reason> {
    match c.input(0) {
        Value::Sequence(parts) => Ok(parts),
        Value::Tensor(_) | Value::Known(_) | Value::Weight(_) | Value::Absent | Value::Failed => {
            Err(Reason::new("input 0 is no sequence"))
        }
    }
}

/// A place among `count` parts, or behind them, from an input; without one, the last that is possible.
fn place(c: &Call<'_, '_>, position: usize, count: usize, behind: bool) -> Result<usize, Reason> {
    let most = count as i64 - i64::from(!behind);
    let given = c.ints(position, "position")?;
    let given = given.and_then(|p| p.first().copied()).unwrap_or(most);
    let at = if given < 0 {
        given.saturating_add(count as i64)
    } else {
        given
    };
    if (0..=most).contains(&at) {
        return Ok(at as usize);
    }
    Err(Reason::new(format!("position {given} of {count}")))
}

/// A graph on each element of a sequence, beside tensors that are the same for all and elements of other sequences.
fn map<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let body = c.graph("body")?;
    let count = parts(c)?.len();
    let mut results: Vec<Vec<Value<'g>>> = vec![Vec::with_capacity(count); body.output.len()];
    for i in 0..count {
        let element = |value: &Value<'g>| match value {
            Value::Sequence(parts) => {
                let part = parts.get(i).cloned();
                part.ok_or_else(|| Reason::new("its sequences are not of one length"))
            }
            Value::Tensor(_) | Value::Known(_) | Value::Weight(_) => Ok(value.clone()),
            Value::Absent | Value::Failed => Err(Reason::new("an input is missing")),
        };
        let inputs = c.inputs.iter().map(element).collect::<Result<_, _>>()?;
        let values = c.context.region(c.builder, body, c.scope, inputs);
        let values = values.ok_or_else(super::control::failed)?;
        for (result, value) in results.iter_mut().zip(values) {
            result.push(value);
        }
    }
    Ok(results.into_iter().map(Value::Sequence).collect())
}

fn concat<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let new = c.flag("new_axis")?;
    let given = c.int_or("axis", 0)?;
    let parts: Option<Vec<Tensor<'g>>> = parts(c)?.iter().map(|p| p.tensor(c.builder)).collect();
    let parts = parts.filter(|p| !p.is_empty());
    let mut parts = parts.ok_or_else(|| Reason::new("a sequence of nothing, or of no tensors"))?;
    let rank = parts[0].ty().map_or(0, |ty| ty.rank());
    let along = axis(given, rank + usize::from(new))?;
    if new {
        for part in &mut parts {
            let mut shape = part.ty().map(|ty| ty.shape.to_vec()).unwrap_or_default();
            shape.insert(along.min(shape.len()), Dim::from(1));
            *part = part.reshape(shape);
        }
    }
    one(c.builder.concat(&parts, along))
}

fn split<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let along = axis(c.int_or("axis", 0)?, own.len())?;
    let keep = c.int_or("keepdims", 1)? != 0;
    let size = own[along].constant();
    let size = size.ok_or_else(|| Reason::new(format!("a symbolic number of parts of {own}")))?;
    if size > MOST_PARTS {
        return Err(Reason::new(format!("{own} in up to {size} parts")));
    }
    let given = c.ints(1, "split")?;
    let sizes = match &given {
        None => vec![1; usize::try_from(size).unwrap_or(0)],
        Some(sizes) if c.shape(1)?.is_empty() => {
            let each = sizes.first().copied().unwrap_or(0);
            if each < 1 {
                return Err(Reason::new(format!("parts of {each}")));
            }
            let whole = usize::try_from(size / each).unwrap_or(0);
            let mut all = vec![each; whole];
            all.extend(Some(size % each).filter(|rest| *rest > 0));
            all
        }
        Some(sizes) => sizes.clone(),
    };
    let x = c.tensor(0)?;
    let mut from = 0i64;
    let mut parts = Vec::with_capacity(sizes.len());
    for each in sizes {
        let to = from.saturating_add(each);
        let mut part = x.slice_axis(along, from, to);
        if given.is_none() && !keep {
            let mut shape = own.to_vec();
            shape.remove(along);
            part = part.reshape(shape);
        }
        parts.push(part.into());
        from = to;
    }
    one(Value::Sequence(parts))
}
