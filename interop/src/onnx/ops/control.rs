//! Branches and loops, as the IR's own control ops.
//!
//! A loop that runs a number of times known as an extent, and whose body never ends it, is a scan; any other is a `while`, which stacks no
//! outputs. Carries must keep their shapes.

use super::super::call::{Call, Results, axis};
use super::super::error::Reason;
use super::super::value::{Known, Value};
use super::{Operator, op};
use kiln_ir::{DType, Dim, Iteration, ScanOptions, Tensor, Yield};

pub(super) const OPERATORS: &[Operator] = &[
    op("If", 7, branch),
    op("Loop", 7, repeat),
    op("Scan", 9, scan),
];

fn failed() -> Reason {
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
        Err(failed())
    }
}

fn truth<'b>() -> Value<'b> {
    let yes = kiln_ir::Array::new(DType::Bool, vec![], kiln_ir::Values::Int(vec![1]));
    // One element fits a scalar.
    yes.map_or(Value::Failed, |yes| {
        Known::Data(super::super::elements::Elements::from_array(&yes)).into()
    })
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
    let carries = (2..c.inputs.len()).map(|i| c.tensor(i));
    let carries: Vec<Tensor<'g>> = carries.collect::<Result<_, _>>()?;
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
    let options = ScanOptions {
        trip: Some(trip.maximum(&Dim::from(0))),
        ..ScanOptions::default()
    };
    let (mut whole, mut endless) = (true, true);
    let scanned = c.builder.scan(&options, &carries, &[], |it| {
        let own = it.carries().iter().copied().map(Value::Tensor);
        let inputs = [Value::Tensor(it.number()), truth()].into_iter().chain(own);
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
    if !whole {
        return Err(failed());
    }
    let all = scanned.carries.into_iter().chain(scanned.stacked);
    Ok(all.map(Value::Tensor).collect())
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
    let mut whole = true;
    let results = c
        .builder
        .scan(&ScanOptions::default(), &all[..count], &entries, |it| {
            let inputs = it.carries().iter().chain(it.entries()).copied();
            let inputs = inputs.map(Value::Tensor).collect();
            let values = c.context.region(it.builder(), body, c.scope, inputs);
            let results = tensors(&it, values).filter(|r| r.len() >= count);
            whole = results.is_some();
            let results = results.unwrap_or_else(|| it.carries().to_vec());
            let (own, stacked) = results.split_at(count);
            Yield::new(own, stacked)
        });
    if !whole {
        return Err(failed());
    }
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
