//! The interpreter: every op computed plainly, in f64 where the type is floating, rounded to the type after each op.
//!
//! It is the oracle that the compiler is tested against. It shares no code with the compiler, and it is slow.

use crate::array::{Array, EvalError};
use crate::dim::{Bindings, Equation, solve};
use crate::graph::{Graph, Role, Slot};
use crate::ids::NodeId;
use crate::ops::Op;
use crate::types::TensorType;
use std::collections::BTreeMap;

/// What one step computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The results, in the order of the graph's outputs.
    pub outputs: Vec<Array>,
    /// The new values of the updated slots, in the order of the graph's updates.
    pub updates: Vec<(NodeId, Array)>,
}

/// Runs one step. `feed` gives the value of each slot by its declaration; a slot without one is an error, and so are values whose
/// types or sizes contradict the declarations. What goes wrong in a node comes back as [`EvalError::Node`].
pub fn eval(
    graph: &Graph,
    mut feed: impl FnMut(&Slot) -> Option<Array>,
) -> Result<Step, EvalError> {
    let mut values: Vec<Option<Array>> = vec![None; graph.len()];
    let mut equations = Vec::new();
    for slot in graph.slots() {
        let kind = match slot.role {
            Role::Input => "input",
            Role::Param(_) => "param",
            Role::State(_) => "state",
        };
        let invalid = |why: String| EvalError::Invalid(format!("{kind} `{}` {why}", slot.name));
        let node = graph
            .node(slot.node)
            .ok_or_else(|| invalid("has no node".into()))?;
        let array = feed(slot).ok_or_else(|| invalid("has no value".into()))?;
        if array.dtype() != node.ty.dtype || array.shape().len() != node.ty.rank() {
            return Err(invalid(format!(
                "is {}, but got {} of shape {:?}",
                node.ty,
                array.dtype(),
                array.shape()
            )));
        }
        for (axis, (dim, size)) in node.ty.shape.iter().zip(array.shape()).enumerate() {
            let size = i64::try_from(*size).map_err(|_| invalid("is too large".into()))?;
            equations.push(Equation {
                dim: dim.clone(),
                size,
                place: format!("axis {axis} of {kind} `{}`", slot.name),
            });
        }
        if !matches!(node.op, Op::Source(_)) {
            return Err(invalid("is not a source".into()));
        }
        values[slot.node.index()] = Some(array);
    }
    let bindings = solve(&equations)?;
    compute(graph, &mut values, &bindings)?;
    let read = |id: NodeId| {
        let value = values.get(id.index()).and_then(Clone::clone);
        value.ok_or_else(|| EvalError::Invalid(format!("{id} has no value")))
    };
    Ok(Step {
        outputs: graph
            .outputs()
            .iter()
            .map(|o| read(o.node))
            .collect::<Result<_, _>>()?,
        updates: graph
            .updates()
            .iter()
            .map(|u| Ok((u.target, read(u.value)?)))
            .collect::<Result<_, EvalError>>()?,
    })
}

/// What a region yields on values of its inputs, in order.
pub(crate) fn run(
    graph: &Graph,
    inputs: Vec<Array>,
    bindings: &Bindings,
) -> Result<Vec<Array>, EvalError> {
    let mut values: Vec<Option<Array>> = vec![None; graph.len()];
    for (slot, input) in graph.slots().iter().zip(inputs) {
        if let Some(value) = values.get_mut(slot.node.index()) {
            *value = Some(input);
        }
    }
    compute(graph, &mut values, bindings)?;
    let read = |id: NodeId| {
        let value = values.get(id.index()).and_then(Clone::clone);
        value.ok_or_else(|| EvalError::Invalid(format!("{id} has no value")))
    };
    graph.outputs().iter().map(|o| read(o.node)).collect()
}

fn compute(
    graph: &Graph,
    values: &mut [Option<Array>],
    bindings: &Bindings,
) -> Result<(), EvalError> {
    // Of compound ops, all results.
    let mut results: BTreeMap<NodeId, Vec<Array>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        if values[id.index()].is_some() {
            continue;
        }
        if let (Op::Part(part), [of]) = (&node.op, node.operands.as_slice()) {
            let part = results.get(of).and_then(|all| all.get(part.index));
            if let Some(part) = part {
                values[id.index()] = Some(part.clone());
                continue;
            }
        }
        let operand = |o: &NodeId| -> Option<(&TensorType, &Array)> {
            let value = values.get(o.index()).and_then(Option::as_ref)?;
            Some((&graph.node(*o)?.ty, value))
        };
        let operands: Option<Vec<(&TensorType, &Array)>> =
            node.operands.iter().map(operand).collect();
        let value = match operands {
            Some(operands) => match node.op.as_compound() {
                None => node.op.eval(&operands, &node.ty, bindings),
                Some(compound) => node.op.fits(&operands, &node.ty, bindings).and_then(|_| {
                    let arrays: Vec<&Array> = operands.iter().map(|(_, array)| *array).collect();
                    let all = compound.eval_all(&arrays, bindings)?;
                    let none = || EvalError::Invalid("there is no result".into());
                    let first = all.first().ok_or_else(none)?.clone();
                    results.insert(id, all);
                    Ok(first)
                }),
            },
            None => Err(EvalError::Invalid("an operand has no value".into())),
        };
        let value = value.map_err(|source| EvalError::Node {
            node: id,
            op: node.op.rules().name(),
            location: node.provenance.location.clone(),
            scope: node.provenance.scope.clone(),
            source: Box::new(source),
        })?;
        values[id.index()] = Some(value);
    }
    Ok(())
}
