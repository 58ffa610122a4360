//! Control ops: `Scan`, `Loop` and `If`.
//!
//! A region of the IR sees only its inputs, a graph within a node sees all names around it. So what a region captures is not handed in: the
//! names of the captured values are used within.

use super::attribute;
use super::body::{Body, Out, Value};
use super::graph;
use kiln_ir::ops::{Cond, Scan, While};
use kiln_ir::{DType, TensorType};

/// How a loop goes over entries.
pub(super) struct Sweep {
    /// The axis of what is scanned and stacked.
    pub(super) axis: usize,
    /// Whether it begins at the last entry.
    pub(super) reverse: bool,
}

/// The values for the next iteration, and those that are stacked.
type Yielded = (Vec<Value>, Vec<Value>);

/// A loop over the entries of `scanned` with values that are carried: ONNX's `Scan`. The results are the last carries and the stacked values.
pub(super) fn sweep(
    body: &mut Body<'_>,
    how: &Sweep,
    carries: &[Value],
    scanned: &[Value],
    make: impl FnOnce(&mut Body<'_>, &[Value], &[Value]) -> Out<Yielded>,
) -> Out<Vec<Value>> {
    let trip = scanned.first().map(|x| x.shape()[how.axis].clone());
    let trip = trip.ok_or("a loop over nothing")?;
    let mut inner = body.inner();
    let mut declare = |x: &Value, axis: Option<usize>| {
        let mut dims = x.shape().to_vec();
        if let Some(axis) = axis {
            dims.remove(axis);
        }
        let name = inner.model.fresh("entry");
        Value::new(&name, x.dtype(), dims)
    };
    let own: Vec<Value> = carries.iter().map(|x| declare(x, None)).collect();
    let entries: Vec<Value> = scanned.iter().map(|x| declare(x, Some(how.axis))).collect();
    let (next, stacked) = make(&mut inner, &own, &entries)?;
    let mut types: Vec<TensorType> = carries.iter().map(|x| x.ty.clone()).collect();
    for value in &stacked {
        let mut dims = value.shape().to_vec();
        dims.insert(how.axis, trip.clone());
        types.push(TensorType::new(value.dtype(), dims));
    }
    let count = stacked.len();
    let outputs: Vec<Value> = next
        .iter()
        .chain(&stacked)
        .map(|v| given(&mut inner, v))
        .collect();
    let inputs: Vec<Value> = own.into_iter().chain(entries).collect();
    let graph = inner.into_graph("iteration", &inputs, &outputs);
    let each = |value: usize, count: usize| vec![value as i64; count];
    let attributes = vec![
        attribute::graph("body", graph),
        attribute::int("num_scan_inputs", scanned.len() as i64),
        attribute::ints("scan_input_axes", each(how.axis, scanned.len())),
        attribute::ints(
            "scan_input_directions",
            each(usize::from(how.reverse), scanned.len()),
        ),
        attribute::ints("scan_output_axes", each(how.axis, count)),
        attribute::ints(
            "scan_output_directions",
            each(usize::from(how.reverse), count),
        ),
    ];
    let operands: Vec<&Value> = carries.iter().chain(scanned).collect();
    Ok(body.node("Scan", &operands, attributes, types))
}

/// A value as an output of an inner graph, which must be made by a node of it, for this output alone.
fn given(inner: &mut Body<'_>, value: &Value) -> Value {
    inner.one("Identity", &[value], Vec::new(), value.ty.clone())
}

pub(super) fn scan(body: &mut Body<'_>, op: &Scan, operands: &[Value]) -> Out<Vec<Value>> {
    let (carries, rest) = operands.split_at(op.carries);
    let (scanned, captured) = rest.split_at(op.scanned);
    let mut scanned = scanned.to_vec();
    // ONNX counts iterations by entries, so a loop over nothing gets something to go over.
    let counter = scanned.is_empty();
    if counter {
        let zero = body.integer(DType::I64, 0);
        scanned.push(body.expand(&zero, &[op.trip.clone()].into())?);
    }
    let how = Sweep {
        axis: 0,
        reverse: op.reverse,
    };
    sweep(body, &how, carries, &scanned, |inner, own, entries| {
        let entries = if counter { &[] } else { entries };
        let inputs: Vec<Value> = own.iter().chain(entries).chain(captured).cloned().collect();
        let mut yielded = graph::nodes(inner, &op.body, inputs)?;
        let stacked = yielded.split_off(op.carries.min(yielded.len()));
        Ok((yielded, stacked))
    })
}

/// The test comes before each iteration, where ONNX's loop has it behind: so it stands before the loop, and again at the end of its body.
pub(super) fn repeat(body: &mut Body<'_>, op: &While, operands: &[Value]) -> Out<Vec<Value>> {
    let (carries, captured) = operands.split_at(op.carries);
    let (by_test, by_body) = captured.split_at(op.captured_by_test());
    let with = |own: &[Value], captured: &[Value]| -> Vec<Value> {
        own.iter().chain(captured).cloned().collect()
    };
    let truth = TensorType::new(DType::Bool, ());
    let begins = graph::nodes(body, &op.test, with(carries, by_test))?;
    let begins = begins.into_iter().next().ok_or("a test without a result")?;

    let mut inner = body.inner();
    let number = Value::new(&inner.model.fresh("iteration"), DType::I64, ());
    let condition = Value::new(&inner.model.fresh("condition"), DType::Bool, ());
    let mut own = Vec::with_capacity(carries.len());
    for carry in carries {
        let name = inner.model.fresh("carry");
        own.push(Value {
            name,
            ..carry.clone()
        });
    }
    let next = graph::nodes(&mut inner, &op.body, with(&own, by_body))?;
    let goes_on = graph::nodes(&mut inner, &op.test, with(&next, by_test))?;
    let outputs: Vec<Value> = goes_on
        .iter()
        .chain(&next)
        .map(|v| given(&mut inner, v))
        .collect();
    let inputs: Vec<Value> = [number, condition].into_iter().chain(own).collect();
    let graph = inner.into_graph("iteration", &inputs, &outputs);
    let begins = Value {
        ty: truth,
        ..begins
    };
    // The name that is left out is that of the most iterations.
    let names = ["", begins.name.as_str()];
    let names: Vec<&str> = names
        .into_iter()
        .chain(carries.iter().map(|v| v.name.as_str()))
        .collect();
    let types = carries.iter().map(|v| v.ty.clone()).collect();
    let attributes = vec![attribute::graph("body", graph)];
    Ok(body.node_of_names("Loop", &names, attributes, types))
}

pub(super) fn branch(body: &mut Body<'_>, op: &Cond, operands: &[Value]) -> Out<Vec<Value>> {
    let (condition, rest) = operands.split_first().ok_or("it has no condition")?;
    let (then, otherwise) = rest.split_at(op.then.slots().len().min(rest.len()));
    let mut types = Vec::new();
    let mut region = |region: &kiln_ir::Graph, inputs: &[Value], name: &str| -> Out<_> {
        let mut inner = body.inner();
        let yielded = graph::nodes(&mut inner, region, inputs.to_vec())?;
        types = yielded.iter().map(|v| v.ty.clone()).collect();
        let outputs: Vec<Value> = yielded.iter().map(|v| given(&mut inner, v)).collect();
        Ok(inner.into_graph(name, &[], &outputs))
    };
    let then = region(&op.then, then, "then")?;
    let otherwise = region(&op.otherwise, otherwise, "otherwise")?;
    let attributes = vec![
        attribute::graph("then_branch", then),
        attribute::graph("else_branch", otherwise),
    ];
    Ok(body.node("If", &[condition], attributes, types))
}
