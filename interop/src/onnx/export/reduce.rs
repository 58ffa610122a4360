//! Reductions, running reductions, and rows in order.

use super::attribute;
use super::body::{Body, Out, Value};
use super::control;
use super::elementwise::{as_signed, round_to};
use super::types::computed_in;
use kiln_ir::ops::{Arg, ArgKind, Argsort, Cumulative, Reduce, Sort};
use kiln_ir::{CumulativeKind, DType, Dim, ReduceKind, Shape, TensorType};

pub(super) fn reduce(body: &mut Body<'_>, op: &Reduce, x: &Value, ty: &TensorType) -> Out {
    if op.axes.is_empty() {
        return Ok(x.clone());
    }
    Ok(match op.kind {
        ReduceKind::Sum => summed(body, "ReduceSum", op, x, ty),
        ReduceKind::Prod => summed(body, "ReduceProd", op, x, ty),
        ReduceKind::Max => extreme(body, "ReduceMax", &op.axes, x, ty),
        ReduceKind::Min => extreme(body, "ReduceMin", &op.axes, x, ty),
        // As counts, so that the right answer is given of nothing as well.
        ReduceKind::Any => counted(body, &op.axes, x, ty, "Greater"),
        ReduceKind::All => {
            let not = body.same("Not", &[x]);
            counted(body, &op.axes, &not, ty, "Equal")
        }
    })
}

fn over(body: &mut Body<'_>, operator: &str, axes: &[usize], x: &Value, shape: &Shape) -> Value {
    let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
    let axes = body.model.integers(&axes);
    let gone = vec![attribute::int("keepdims", 0)];
    body.typed(operator, &[x], &[&axes], gone, shape)
}

/// Integers are summed and multiplied in i64, as signed numbers: the low bits are the same, and onnxruntime, which does not wrap, has room.
fn summed(body: &mut Body<'_>, operator: &str, op: &Reduce, x: &Value, ty: &TensorType) -> Value {
    let dtype = x.dtype();
    if dtype.is_float() {
        let wide = body.cast(x, op.accumulate.unwrap_or(dtype));
        let sum = over(body, operator, &op.axes, &wide, &ty.shape);
        return round_to(body, &sum, dtype);
    }
    let signed = body.cast(x, as_signed(dtype));
    let wide = body.cast(&signed, DType::I64);
    let sum = over(body, operator, &op.axes, &wide, &ty.shape);
    body.cast(&sum, dtype)
}

fn extreme(
    body: &mut Body<'_>,
    operator: &str,
    axes: &[usize],
    x: &Value,
    ty: &TensorType,
) -> Value {
    let signed = signed(body, x);
    let found = over(body, operator, axes, &signed, &ty.shape);
    unsigned(body, &found, x.dtype())
}

fn counted(body: &mut Body<'_>, axes: &[usize], x: &Value, ty: &TensorType, test: &str) -> Value {
    let numbers = body.cast(x, DType::I64);
    let count = over(body, "ReduceSum", axes, &numbers, &ty.shape);
    let zero = body.integer(DType::I64, 0);
    body.test(test, &[&count, &zero])
}

/// A u64 as the i64 that has its place in the order: with the top bit turned. Other types as they are.
pub(super) fn signed(body: &mut Body<'_>, x: &Value) -> Value {
    if x.dtype() != DType::U64 {
        return x.clone();
    }
    let top = body.integer(DType::U64, i64::MIN);
    let turned = body.same("BitwiseXor", &[x, &top]);
    body.cast(&turned, DType::I64)
}

/// Back from [`signed`].
pub(super) fn unsigned(body: &mut Body<'_>, x: &Value, dtype: DType) -> Value {
    if dtype != DType::U64 {
        return x.clone();
    }
    let top = body.integer(DType::U64, i64::MIN);
    let bits = body.cast(x, DType::U64);
    body.same("BitwiseXor", &[&bits, &top])
}

/// The first of equal elements, as in the IR. Where NaNs are found depends on the runtime.
pub(super) fn arg(body: &mut Body<'_>, op: Arg, x: &Value, ty: &TensorType) -> Value {
    let operator = match op.kind {
        ArgKind::Max => "ArgMax",
        ArgKind::Min => "ArgMin",
    };
    let x = signed(body, x);
    let x = body.cast(&x, computed_in(operator, x.dtype()));
    let attributes = vec![
        attribute::int("axis", op.axis as i64),
        attribute::int("keepdims", 0),
    ];
    body.one(operator, &[&x], attributes, ty.clone())
}

pub(super) fn cumulative(body: &mut Body<'_>, op: Cumulative, x: &Value) -> Out {
    let dtype = x.dtype();
    let wide = body.cast(x, op.accumulate.unwrap_or(dtype));
    let result = match op.kind {
        CumulativeKind::Sum => {
            let axis = body.integer(DType::I64, op.axis as i64);
            let reverse = vec![attribute::int("reverse", i64::from(op.reverse))];
            let shape = x.ty.shape.clone();
            body.typed("CumSum", &[&wide], &[&axis], reverse, shape)
        }
        CumulativeKind::Prod => {
            let one = body.number(wide.dtype(), 1.0);
            running(body, op, "Mul", &one, &wide)?
        }
        CumulativeKind::Max => {
            let signed = signed(body, &wide);
            let least = match signed.dtype().is_float() {
                true => body.number(signed.dtype(), f64::NEG_INFINITY),
                false => {
                    let bits = 8 * signed.dtype().size() as u32;
                    let least = match signed.dtype().class() {
                        kiln_ir::Class::Signed => i64::MIN >> (64 - bits),
                        kiln_ir::Class::Unsigned | kiln_ir::Class::Bool | kiln_ir::Class::Float => {
                            0
                        }
                    };
                    body.integer(signed.dtype(), least)
                }
            };
            let largest = running(body, op, "Max", &least, &signed)?;
            unsigned(body, &largest, dtype)
        }
    };
    Ok(round_to(body, &result, dtype))
}

/// ONNX has running sums only; others are loops over the axis.
fn running(body: &mut Body<'_>, op: Cumulative, operator: &str, first: &Value, x: &Value) -> Out {
    let mut row: Vec<Dim> = x.shape().to_vec();
    row.remove(op.axis);
    let row: Shape = row.into();
    let first = body.expand(first, &row)?;
    let entry = TensorType::new(x.dtype(), &row);
    let sweep = control::Sweep {
        axis: op.axis,
        reverse: op.reverse,
    };
    let mut results = control::sweep(
        body,
        &sweep,
        &[first],
        std::slice::from_ref(x),
        |inner, own, entries| {
            let next = inner.same(operator, &[&own[0], &entries[0]]);
            let next = Value {
                ty: entry.clone(),
                ..next
            };
            Ok((vec![next.clone()], vec![next]))
        },
    )?;
    results.pop().ok_or_else(|| "a loop without results".into())
}

/// The first `count` elements of rows in order, and where they come from. `TopK` keeps equal elements in their order; where it puts NaN
/// depends on the runtime.
fn top(
    body: &mut Body<'_>,
    x: &Value,
    axis: usize,
    descending: bool,
    count: &Dim,
) -> Out<(Value, Value)> {
    let signed = signed(body, x);
    let within = computed_in("TopK", signed.dtype());
    let cast = body.cast(&signed, within);
    let count_value = body.model.extent(count)?;
    let attributes = vec![
        attribute::int("axis", axis as i64),
        attribute::int("largest", i64::from(descending)),
        attribute::int("sorted", 1),
    ];
    let mut dims = x.shape().to_vec();
    dims[axis] = count.clone();
    let shape: Shape = dims.into();
    let types = vec![
        TensorType::new(within, &shape),
        TensorType::new(DType::I64, &shape),
    ];
    let found = body.node("TopK", &[&cast, &count_value], attributes, types);
    let [values, places] = found.as_slice() else {
        return Err("a node without results".into());
    };
    Ok((values.clone(), places.clone()))
}

pub(super) fn sort(body: &mut Body<'_>, op: Sort, x: &Value) -> Out {
    let count = x.shape()[op.axis].clone();
    let (values, _) = top(body, x, op.axis, op.descending, &count)?;
    if x.dtype() == DType::U64 {
        return Ok(unsigned(body, &values, DType::U64));
    }
    Ok(body.cast(&values, x.dtype()))
}

pub(super) fn argsort(body: &mut Body<'_>, op: &Argsort, x: &Value) -> Out {
    let (_, places) = top(body, x, op.axis, op.descending, &op.count)?;
    Ok(places)
}
