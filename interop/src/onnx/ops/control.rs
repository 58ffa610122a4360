//! Branches and loops, as the IR's own control ops.
//!
//! A loop that runs a number of times known as an extent, and whose body never ends it, is a scan; any other is a `while`, which stacks no
//! outputs. Carries must keep their shapes there. A loop that carries sequences, or in whose body the number of the iteration decides a
//! shape, is unrolled, for which the number of iterations must be known.

use super::super::call::{Call, Results, axis};
use super::super::error::Reason;
use super::super::proto::{GraphProto, ValueInfoProto};
use super::super::value::{Known, Value};
use super::{Operator, op};
use kiln_ir::{DType, Dim, Iteration, ScanOptions, Scanned, Shape, Tensor, Yield};

/// No loop is unrolled further.
const MOST_UNROLLED: i64 = 4096;

pub(super) const OPERATORS: &[Operator] = &[
    op("If", 7, branch),
    op("Loop", 7, repeat),
    op("Scan", 8, |c| match c.version {
        8 => batched_scan(c),
        _ => scan(c),
    }),
];

pub(super) fn failed() -> Reason {
    Reason::new("a node of its body cannot be imported, or gives no tensor")
}

/// The results of a region as tensors.
fn tensors<'b>(it: &Iteration<'b, '_>, values: Option<Vec<Value<'b>>>) -> Option<Vec<Tensor<'b>>> {
    let values = values?;
    values.iter().map(|v| v.tensor(it.builder())).collect()
}

/// One of two graphs. Where the condition is known it is put in the place of the node.
fn branch<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let (then, otherwise) = (c.graph("then_branch")?, c.graph("else_branch")?);
    if let Some(condition) = c.floats_if_known(0) {
        let holds = condition.first().is_some_and(|x| *x != 0.0);
        let graph = if holds { then } else { otherwise };
        let results = c.context.branch(c.builder, graph, c.scope);
        return results.ok_or_else(failed);
    }
    let plain = |o: &ValueInfoProto| o.r#type.as_ref().is_none_or(|t| t.tensor_type.is_some());
    if !then.output.iter().chain(&otherwise.output).all(plain) {
        return Err(Reason::Unknown(
            0,
            "its branches give sequences or optionals, but its condition is computed when the model runs".into(),
        ));
    }
    let condition = c.tensor(0)?.reshape(());
    let mut whole = [true, true];
    let [first, second] = &mut whole;
    let results = c.builder.cond(
        condition,
        |it| {
            let values = c.context.region(it.builder(), then, c.scope, Vec::new());
            let results = tensors(&it, values);
            *first = results.is_some();
            results.unwrap_or_default()
        },
        |it| {
            let values = c
                .context
                .region(it.builder(), otherwise, c.scope, Vec::new());
            let results = tensors(&it, values);
            *second = results.is_some();
            results.unwrap_or_default()
        },
    );
    if whole == [true, true] {
        Ok(results.into_iter().map(Value::Tensor).collect())
    } else {
        let condition = c.node.input.first().map_or("", String::as_str);
        let what =
            "a node of a branch cannot be imported, or gives no tensor; which branch is taken";
        Err(Reason::Unknown(
            0,
            format!("{what} says `{condition}`, which is computed when the model runs"),
        ))
    }
}

fn is_true(value: &Value<'_>) -> bool {
    match value.data() {
        Some(data) => data.dtype() == DType::Bool && data.bytes().first() == Some(&1),
        None => false,
    }
}

/// Inputs: the most iterations, whether to begin, and what is carried. The body takes a number, a condition and the carries; it gives the
/// condition to go on, the carries, and what is stacked.
fn repeat<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let body = c.graph("body")?;
    let own = c.inputs.get(2..).unwrap_or_default();
    let carries: Option<Vec<Tensor<'g>>> = own.iter().map(|v| v.tensor(c.builder)).collect();
    let Some(carries) = carries else {
        return unrolled(c, own.to_vec());
    };
    let stacked = body.output.len().checked_sub(1 + carries.len());
    let stacked = stacked.ok_or_else(|| Reason::new("its body gives too few values"))?;
    let always = c.input(1).is_absent() || is_true(c.input(1));
    let trip = c.dims(0, "number of iterations").ok().flatten();
    let trip = trip.and_then(|t| t.first().cloned());
    if stacked == 0 && !(always && trip.is_some()) {
        return repeat_while(c, carries);
    }
    if !always {
        return Err(c.unknown(1, "condition"));
    }
    let Some(trip) = trip else {
        return Err(c.unknown(0, "number of iterations"));
    };
    let before = c.context.problems();
    let options = ScanOptions {
        trip: Some(trip.maximum(&Dim::from(0))),
        ..ScanOptions::default()
    };
    let (mut whole, mut endless) = (true, true);
    let scanned = c.builder.scan(&options, &carries, &[], |it| {
        let own = it.carries().iter().copied().map(Value::Tensor);
        let inputs = [Value::Tensor(it.number()), Known::of_bool(true).into()]
            .into_iter()
            .chain(own);
        let values = c
            .context
            .region(it.builder(), body, c.scope, inputs.collect());
        endless = values
            .as_ref()
            .is_none_or(|v| v.first().is_some_and(is_true));
        let results = tensors(&it, values);
        whole = results.is_some();
        let results = results.unwrap_or_default();
        let (own, stacked) = match results.get(1..) {
            Some(rest) if rest.len() >= carries.len() => rest.split_at(carries.len()),
            Some(_) | None => (it.carries(), [].as_slice()),
        };
        Yield::new(own, stacked)
    });
    if !endless && whole {
        return Err(Reason::new(
            "its body may end it, while its outputs are stacked or its number is known",
        ));
    }
    if !whole && c.context.decides_shape(before) {
        return unrolled(c, own.to_vec());
    }
    if !whole {
        return Err(failed());
    }
    let all = scanned.carries.into_iter().chain(scanned.stacked);
    Ok(all.map(Value::Tensor).collect())
}

/// With an axis of size 1 before all others.
fn with_axis(x: Tensor<'_>) -> Tensor<'_> {
    let shape = x.ty().map(|ty| ty.shape).unwrap_or_default();
    let all = [Dim::from(1)].into_iter().chain(shape.iter().cloned());
    x.reshape(all.collect::<Shape>())
}

/// A loop whose body is imported once for each iteration, which may all be different.
fn unrolled<'g>(c: &Call<'_, 'g>, mut carries: Vec<Value<'g>>) -> Results<'g> {
    let body = c.graph("body")?;
    let trip = c.ints(0, "number of iterations")?;
    let trip = trip.and_then(|t| t.first().copied()).unwrap_or(i64::MAX);
    let truth = |value: &Value<'g>| Some(value.data()?.bytes().first() == Some(&1));
    let mut goes_on = match c.input(1) {
        Value::Absent => true,
        condition => truth(condition).ok_or_else(|| c.unknown(1, "condition"))?,
    };
    let stacked = body.output.len().checked_sub(1 + carries.len());
    let stacked = stacked.ok_or_else(|| Reason::new("its body gives too few values"))?;
    let mut stacks: Vec<Vec<Tensor<'g>>> = vec![Vec::new(); stacked];
    let mut number = 0;
    while goes_on && number < trip {
        if number >= MOST_UNROLLED {
            return Err(Reason::new(format!(
                "unrolled, it runs more than {MOST_UNROLLED} times"
            )));
        }
        let count = Known::of_ints(vec![], vec![number]);
        let mut inputs = vec![count.into(), Known::of_bool(true).into()];
        inputs.append(&mut carries);
        let results = c.context.region(c.builder, body, c.scope, inputs);
        let mut results = results.ok_or_else(failed)?.into_iter();
        goes_on = results.next().as_ref().and_then(truth).ok_or_else(|| {
            Reason::new(
                "its body decides when the model runs whether to go on, but it must be unrolled",
            )
        })?;
        let kept = body.output.len() - 1 - stacked;
        carries = results.by_ref().take(kept).collect();
        for (stack, value) in stacks.iter_mut().zip(results) {
            let tensor = value.tensor(c.builder).ok_or_else(failed)?;
            stack.push(with_axis(tensor));
        }
        number += 1;
    }
    if number == 0 && stacked > 0 {
        return Err(Reason::new(
            "it stacks the results of no iteration, whose shape is unknown",
        ));
    }
    let stacks = stacks.iter().map(|s| c.builder.concat(s, 0).into());
    Ok(carries.into_iter().chain(stacks).collect())
}

/// A loop that stacks nothing: carries a number and a condition beside its own.
fn repeat_while<'g>(c: &Call<'_, 'g>, own: Vec<Tensor<'g>>) -> Results<'g> {
    let body = c.graph("body")?;
    let count = c.builder.splat(DType::I64, (), 0.0);
    let begins = match c.optional(1)? {
        Some(condition) => condition.reshape(()),
        None => c.builder.splat(DType::Bool, (), 1.0),
    };
    let most = c.optional(0)?.map(|m| m.convert(DType::I64).reshape(()));
    let carries = [vec![count, begins], own].concat();
    let mut whole = true;
    let results = c.builder.while_loop(
        &carries,
        |it| match most {
            Some(most) => it.carry(1).and(it.carry(0).lt(most)),
            None => it.carry(1),
        },
        |it| {
            let given = it.carries().iter().copied().map(Value::Tensor);
            let values = c
                .context
                .region(it.builder(), body, c.scope, given.collect());
            let results = tensors(&it, values);
            whole = results.is_some();
            let mut next = vec![it.carry(0).plus(1.0)];
            match results {
                Some(mut results) => {
                    if let Some(condition) = results.first_mut() {
                        *condition = condition.reshape(());
                    }
                    next.extend(results);
                }
                None => next.extend(it.carries().iter().skip(1)),
            }
            next
        },
    );
    if whole {
        Ok(results.into_iter().skip(2).map(Value::Tensor).collect())
    } else {
        Err(failed())
    }
}

/// Carries, then scanned tensors, whose axes and directions are attributes.
fn scan<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let body = c.graph("body")?;
    let all = c.tensors()?;
    let scanned = usize::try_from(c.int_or("num_scan_inputs", 0)?).ok();
    let count = scanned.and_then(|n| all.len().checked_sub(n));
    let count = count.ok_or_else(|| Reason::new("attribute `num_scan_inputs` is out of range"))?;
    let list = |name: &'static str| c.int_list(name).map(Option::unwrap_or_default);
    let (axes, ways) = (list("scan_input_axes")?, list("scan_input_directions")?);
    let (axes_out, ways_out) = (list("scan_output_axes")?, list("scan_output_directions")?);
    let at = |given: &[i64], i: usize| given.get(i).copied().unwrap_or(0);
    let mut entries = Vec::new();
    for (i, x) in all.iter().skip(count).enumerate() {
        let rank = x.ty().map_or(0, |ty| ty.rank());
        let along = axis(at(&axes, i), rank)?;
        let mut order: Vec<usize> = (0..rank).filter(|a| *a != along).collect();
        order.insert(0, along);
        let first = x.transpose(&order);
        entries.push(if at(&ways, i) == 1 {
            first.reverse(&[0])
        } else {
            first
        });
    }
    let results = scan_first(c, body, &all[..count], &entries)?;
    let mut values: Vec<Value<'g>> = results.carries.into_iter().map(Value::Tensor).collect();
    for (i, x) in results.stacked.into_iter().enumerate() {
        let x = if at(&ways_out, i) == 1 {
            x.reverse(&[0])
        } else {
            x
        };
        let rank = x.ty().map_or(0, |ty| ty.rank());
        let along = axis(at(&axes_out, i), rank)?;
        let mut order: Vec<usize> = (1..rank).collect();
        order.insert(along, 0);
        values.push(x.transpose(&order).into());
    }
    Ok(values)
}

/// A scan along axis 0 of the entries.
fn scan_first<'g>(
    c: &Call<'_, 'g>,
    body: &GraphProto,
    carries: &[Tensor<'g>],
    entries: &[Tensor<'g>],
) -> Result<Scanned<'g>, Reason> {
    let mut whole = true;
    let results = c
        .builder
        .scan(&ScanOptions::default(), carries, entries, |it| {
            let inputs = it.carries().iter().chain(it.entries()).copied();
            let inputs = inputs.map(Value::Tensor).collect();
            let values = c.context.region(it.builder(), body, c.scope, inputs);
            let results = tensors(&it, values).filter(|r| r.len() >= carries.len());
            whole = results.is_some();
            let results = results.unwrap_or_else(|| it.carries().to_vec());
            let (own, stacked) = results.split_at(carries.len());
            Yield::new(own, stacked)
        });
    whole.then_some(results).ok_or_else(failed)
}

/// Scan as version 8 had it: the lengths of sequences, carries, and scanned tensors, all with a batch axis before all others, of which the
/// body knows nothing. One scan for each entry of the batch.
fn batched_scan<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let body = c.graph("body")?;
    if !c.input(0).is_absent() {
        return Err(Reason::new(
            "lengths of sequences, which version 9 has no more",
        ));
    }
    let all = (1..c.inputs.len()).map(|i| c.tensor(i));
    let all: Vec<Tensor<'g>> = all.collect::<Result<_, _>>()?;
    let scanned = usize::try_from(c.int_or("num_scan_inputs", 0)?).ok();
    let count = scanned.and_then(|n| all.len().checked_sub(n));
    let count = count.ok_or_else(|| Reason::new("attribute `num_scan_inputs` is out of range"))?;
    let ways = c.int_list("directions")?.unwrap_or_default();
    let shapes: Vec<Shape> = all.iter().filter_map(|x| Some(x.ty()?.shape)).collect();
    let batch = shapes
        .first()
        .and_then(|s| s.first())
        .and_then(Dim::constant);
    let batch = batch.filter(|b| (1..=MOST_UNROLLED).contains(b));
    let batch = batch.ok_or_else(|| Reason::new("a symbolic batch, or none"))?;
    if shapes.len() < all.len() || shapes.iter().any(|s| s.first() != shapes[0].first()) {
        return Err(Reason::new("its inputs have different batches"));
    }
    let mut joined: Vec<Vec<Tensor<'g>>> = Vec::new();
    for b in 0..batch {
        let entry = |(x, shape): (&Tensor<'g>, &Shape)| {
            x.slice_axis(0, b, b + 1).reshape(Shape::from(&shape[1..]))
        };
        let mut entries: Vec<Tensor<'g>> = all.iter().zip(&shapes).map(entry).collect();
        for (x, way) in entries[count..].iter_mut().zip(&ways) {
            if *way == 1 {
                *x = x.reverse(&[0]);
            }
        }
        let results = scan_first(c, body, &entries[..count], &entries[count..])?;
        let results = results.carries.into_iter().chain(results.stacked);
        joined.push(results.map(with_axis).collect());
    }
    let count = joined.first().map_or(0, Vec::len);
    let column = |i: usize| -> Value<'g> {
        let parts: Vec<Tensor<'g>> = joined.iter().map(|row| row[i]).collect();
        c.builder.concat(&parts, 0).into()
    };
    Ok((0..count).map(column).collect())
}
