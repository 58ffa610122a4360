//! What is computed at import: nodes on known tensors, by the interpreter; and arithmetic on symbolic extents, which is what models compute
//! of `Shape` to reshape, slice and expand.
//!
//! Sums, products and quotients of extents are those of [`Dim`].

use super::call::Call;
use super::elements::Elements;
use super::error::Reason;
use super::ops;
use super::value::{Known, Value, Weight};
use kiln_ir::ops::Op;
use kiln_ir::{Builder, DType, Dim, Expression, Graph, NodeId};
use std::cell::RefCell;

/// No node's result of more elements is computed while a graph is built, unless the node reads as many.
pub(crate) const MOST_FOLDED: usize = 1 << 16;
/// Nor the result of a node that reads more.
const MOST_READ: usize = 1 << 21;
/// Nor more elements on the way to it, counted as [`work`] does.
const MOST_WORK: usize = 1 << 23;
/// Nor more for all nodes together.
pub(crate) const MOST_WORK_IN_ALL: usize = 1 << 26;

/// The results where all inputs are known and few: the operator, computed by the interpreter. `None` where that does not do.
pub(crate) fn constant<'g>(call: &Call<'_, 'g>, import: ops::Import) -> Option<Vec<Value<'g>>> {
    let mut total = 0;
    let mut inputs = Vec::with_capacity(call.inputs.len());
    let mut weights = false;
    for input in &call.inputs {
        let (count, value) = match input {
            Value::Known(Known::Data(data)) => {
                (data.count(), Value::Known(Known::Data(data.clone())))
            }
            // What is computed of weights would no longer learn; integers made of floats are shapes and never do.
            Value::Weight(Weight { data, .. }) => {
                weights = true;
                (data.count(), Value::Known(Known::Data(data.clone())))
            }
            Value::Absent => (0, Value::Absent),
            Value::Known(Known::Dims(..))
            | Value::Tensor(_)
            | Value::Sequence(_)
            | Value::Failed => return None,
        };
        total += count;
        inputs.push(value);
    }
    let nested = call.node.attribute.iter().any(|a| a.g.is_some());
    if inputs.is_empty() || nested || total > MOST_READ {
        return None;
    }
    let scratch = Builder::new("known");
    let scope = call.scope.empty();
    let context = call.context;
    let call = Call {
        context,
        scope: &scope,
        node: call.node,
        version: call.version,
        inputs,
        builder: &scratch,
        asked: RefCell::default(),
    };
    let results = import(&call).ok()?;
    let asked = call.asked.into_inner();
    if call
        .node
        .attribute
        .iter()
        .any(|a| !asked.contains(a.name.as_str()))
    {
        return None;
    }
    let floats = |v: &Value<'_>| v.ty().is_some_and(|ty| ty.dtype.is_float());
    if weights && results.iter().any(floats) {
        return None;
    }
    let mut known = Vec::new();
    let mut elements = 0usize;
    for (position, result) in results.into_iter().enumerate() {
        known.push(match result {
            Value::Known(result) => Some(Value::Known(result)),
            Value::Absent => Some(Value::Absent),
            Value::Tensor(tensor) => {
                let count = tensor.ty()?.shape.elements().constant()?;
                elements = elements.checked_add(usize::try_from(count).ok()?)?;
                scratch.output(&position.to_string(), tensor);
                None
            }
            Value::Weight(_) | Value::Sequence(_) | Value::Failed => {
                return None;
            }
        });
    }
    if elements > MOST_FOLDED.max(total) {
        return None;
    }
    drop(call.inputs);
    let known: Vec<Option<Known>> = known
        .into_iter()
        .map(|v| match v {
            Some(Value::Known(known)) => Some(known),
            Some(_) | None => None,
        })
        .collect();
    let graph = scratch.finish().ok()?;
    context.take_work(work(&graph).filter(|w| *w <= MOST_WORK)?)?;
    let computed = kiln_ir::eval(&graph, |_| None).ok()?;
    let mut computed = computed.outputs.iter();
    let names: Vec<&str> = graph.outputs().iter().map(|o| o.name.as_str()).collect();
    let mut all = Vec::with_capacity(known.len());
    for (position, known) in known.into_iter().enumerate() {
        all.push(match known {
            Some(known) => known.into(),
            None if names.contains(&position.to_string().as_str()) => {
                Known::Data(Elements::from_array(computed.next()?)).into()
            }
            None => Value::Absent,
        });
    }
    Some(all)
}

/// How many elements a graph computes, with the products of a matrix product. `None` where it has loops or windows, which may go over far more
/// elements than they give.
fn work(graph: &Graph) -> Option<usize> {
    let count =
        |id: &NodeId| usize::try_from(graph.node(*id)?.ty.shape.elements().constant()?).ok();
    let mut sum = 0usize;
    for (id, node) in graph.nodes() {
        let own = count(&id)?;
        let cost = match &node.op {
            Op::Conv(_)
            | Op::ReduceWindow(_)
            | Op::ArgWindow(_)
            | Op::GatherWindow(_)
            | Op::ScatterWindow(_) => return None,
            op if op.as_compound().is_some() => return None,
            // m k, k n and m n elements are m n k products.
            Op::Dot(_) => {
                let operands = node.operands.iter().map(|o| Some(count(o)? as f64));
                let all: Option<f64> = operands.product();
                (all? * own as f64).sqrt() as usize
            }
            _ => own,
        };
        sum = sum.checked_add(cost)?;
    }
    Some(sum)
}

/// The result of a node on known integers of which at least one is symbolic; `None` where it is not such a node.
pub(crate) fn symbolic(call: &Call<'_, '_>) -> Result<Option<Known>, Reason> {
    let symbolic = |v: &Value<'_>| matches!(v, Value::Known(Known::Dims(..)));
    if !call.inputs.iter().any(symbolic) {
        return Ok(None);
    }
    let known: Option<Vec<(Vec<usize>, Vec<Dim>)>> = (call.inputs.iter())
        .map(|v| match v {
            Value::Known(known) => Some((known.shape().to_vec(), known.dims()?)),
            Value::Weight(_)
            | Value::Tensor(_)
            | Value::Sequence(_)
            | Value::Absent
            | Value::Failed => None,
        })
        .collect();
    let Some(known) = known else {
        return Ok(None);
    };
    let result = match (call.node.op_type.as_str(), known.as_slice()) {
        ("Add", [a, b]) => pairs(a, b, |x, y| Some(x + y)),
        ("Sub", [a, b]) => pairs(a, b, |x, y| Some(x - y)),
        ("Mul", [a, b]) => pairs(a, b, product),
        // Sizes are not negative, so flooring is truncation.
        ("Div", [a, b]) => pairs(a, b, |x, y| {
            let sizes = x.is_sum_of_sizes() && y.constant().is_some_and(|y| y > 0);
            let floor = || sizes.then(|| x.floor_div(y));
            floor()
                .or_else(|| x.exact_div(y))
                .or_else(|| without_rest(x, y))
        }),
        ("Mod", [a, b]) => pairs(a, b, |x, y| {
            y.constant().is_some_and(|y| y > 0).then(|| x.modulo(y))
        }),
        ("Max", [a, b]) => pairs(a, b, |x, y| Some(x.maximum(y))),
        ("Min", [a, b]) => pairs(a, b, |x, y| Some(x.minimum(y))),
        ("Neg", [(shape, dims)]) => Some((shape.clone(), dims.iter().map(|d| -d).collect())),
        ("ReduceProd", [(_, dims)]) => {
            let all = dims
                .iter()
                .try_fold(Dim::from(1), |all, d| product(&all, d));
            let shape = vec![1; usize::from(call.int_or("keepdims", 1)? != 0)];
            all.map(|all| (shape, vec![all]))
        }
        ("Cast", [(shape, dims)]) => match call.dtype("to")? {
            Some(DType::I64 | DType::I32) => Some((shape.clone(), dims.clone())),
            Some(_) | None => None,
        },
        ("Concat", all) => concat(all),
        ("Gather", [(shape, dims), (at, indices)]) if shape.len() == 1 => {
            let pick = |i: &Dim| {
                let i = i.constant()?;
                let i = if i < 0 {
                    i.checked_add(dims.len() as i64)?
                } else {
                    i
                };
                dims.get(usize::try_from(i).ok()?).cloned()
            };
            let picked: Option<Vec<Dim>> = indices.iter().map(pick).collect();
            picked.map(|picked| (at.clone(), picked))
        }
        ("Squeeze" | "Unsqueeze" | "Reshape" | "Flatten", [(_, dims), ..]) => reshaped(call, dims),
        ("Slice", [(shape, dims), rest @ ..]) if shape.len() == 1 => slice(dims, rest),
        (_, _) => None,
    };
    let dtype = match call.node.op_type.as_str() {
        "Cast" => call.dtype("to")?,
        _ => call.input(0).ty().map(|ty| ty.dtype),
    };
    let dtype = dtype.unwrap_or(DType::I64);
    Ok(result.map(|(shape, dims)| Known::of_dims_in(dtype, shape, dims)))
}

/// The product, where it has no more terms than any extent of a model has.
fn product(x: &Dim, y: &Dim) -> Option<Dim> {
    let terms = x.term_count().saturating_mul(y.term_count());
    (terms <= 256).then(|| x * y)
}

/// The floor of `n / y` for `x = n - mod(n, y)`, which is how it is written where `n` may be negative.
fn without_rest(x: &Dim, y: &Dim) -> Option<Dim> {
    let Expression::Sum(terms) = x.expression() else {
        return None;
    };
    terms.iter().find_map(|term| {
        let rest = -term;
        let whole = x + &rest;
        (whole.modulo(y) == rest).then(|| whole.floor_div(y))
    })
}

type Extents = (Vec<usize>, Vec<Dim>);

/// Two of one shape, or a scalar and any.
fn pairs(a: &Extents, b: &Extents, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Extents> {
    let shape = if a.1.len() == 1 && b.0.len() >= a.0.len() {
        &b.0
    } else if b.1.len() == 1 && a.0.len() >= b.0.len() || a.0 == b.0 {
        &a.0
    } else {
        return None;
    };
    let count: usize = shape.iter().product();
    let at = |side: &Extents, i: usize| {
        let i = if side.1.len() == 1 { 0 } else { i };
        side.1.get(i).cloned()
    };
    let dims: Option<Vec<Dim>> = (0..count).map(|i| f(&at(a, i)?, &at(b, i)?)).collect();
    Some((shape.clone(), dims?))
}

/// Vectors, one after the other.
fn concat(all: &[Extents]) -> Option<Extents> {
    if all.iter().any(|(shape, _)| shape.len() != 1) {
        return None;
    }
    let dims: Vec<Dim> = all
        .iter()
        .flat_map(|(_, dims)| dims.iter().cloned())
        .collect();
    Some((vec![dims.len()], dims))
}

/// Scalars and vectors are all that shape arithmetic reshapes: to a scalar where one is left, else to a vector.
fn reshaped(call: &Call<'_, '_>, dims: &[Dim]) -> Option<Extents> {
    let rank = call.input(0).ty()?.rank();
    let shape = match (call.node.op_type.as_str(), rank, dims.len()) {
        ("Squeeze", 0 | 1, 1) => vec![],
        ("Unsqueeze", 0, 1) => vec![1],
        ("Reshape", _, count) => {
            let target = call.input(1).dims()?;
            match target.as_slice() {
                [] if count == 1 => vec![],
                [one] if one.constant() == Some(-1) || one.constant() == Some(count as i64) => {
                    vec![count]
                }
                [] | [_] | [_, ..] => return None,
            }
        }
        (_, _, _) => return None,
    };
    Some((shape, dims.to_vec()))
}

/// A stretch of a vector: starts, ends, axes and steps are inputs since version 10.
fn slice(dims: &[Dim], rest: &[Extents]) -> Option<Extents> {
    let count = dims.len() as i64;
    let number = |position: usize, default: i64| match rest.get(position) {
        Some((_, values)) => values.first()?.constant(),
        None => Some(default),
    };
    let bound = |i: i64| (if i < 0 { i.saturating_add(count) } else { i }).clamp(0, count);
    let (start, end) = (bound(number(0, 0)?), bound(number(1, count)?));
    if number(3, 1)? != 1 || rest.len() < 2 {
        return None;
    }
    let picked = dims.get(start as usize..end.max(start) as usize)?;
    Some((vec![picked.len()], picked.to_vec()))
}
