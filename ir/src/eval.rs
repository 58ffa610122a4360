//! The interpreter: every op computed plainly, in f64 where the type is floating, rounded to the type after each op.
//!
//! It is the oracle that the compiler is tested against. It shares no code with the compiler, and it is slow.

use crate::array::{Array, EvalError};
use crate::dim::{Bindings, Equation, solve};
use crate::graph::{Graph, Role, Slot};
use crate::ids::NodeId;
use crate::ops::EvalCx;

/// What one step computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The results, in the order of the graph's outputs.
    pub outputs: Vec<Array>,
    /// The new values of the updated slots, in the order of the graph's updates.
    pub updates: Vec<(NodeId, Array)>,
}

/// Runs one step. `feed` gives the value of each slot by its declaration; a slot without one is an error, and so are values whose
/// types or sizes contradict the declarations.
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

fn compute(
    graph: &Graph,
    values: &mut [Option<Array>],
    bindings: &Bindings,
) -> Result<(), EvalError> {
    for (id, node) in graph.nodes() {
        if values[id.index()].is_some() {
            continue;
        }
        let shape: Result<Vec<usize>, _> = node
            .ty
            .shape
            .iter()
            .map(|d| d.eval_size(bindings))
            .collect();
        let operands: Option<Vec<&Array>> = node
            .operands
            .iter()
            .map(|o| values.get(o.index()).and_then(Option::as_ref))
            .collect();
        let operands = operands
            .ok_or_else(|| EvalError::Invalid(format!("an operand of {id} has no value")))?;
        let cx = EvalCx {
            ty: &node.ty,
            shape: &shape?,
            bindings,
        };
        let value = node.op.rules().eval(&operands, &cx)?;
        values[id.index()] = Some(value);
    }
    Ok(())
}
