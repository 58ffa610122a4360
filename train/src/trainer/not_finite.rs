//! Finding the tensor that went bad first.
//!
//! A guarded step is refused before it writes anything, so params and batch are still those that it failed on. The interpreter replays them
//! node by node; the first node with an element that is no finite number, though its operands have none, is the one to look at.

use super::error::TrainError;
use super::recipe::{Recipe, Types};
use kiln_interop::TensorRef;
use kiln_ir::{Array, Graph, Node, NodeId, Op, Output, Role, eval};
use kiln_nn::Mode;
use kiln_runtime::{Feed, Session};
use std::fmt;

/// A step whose loss is no finite number, and where that began.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// The epoch, from 1.
    pub epoch: u64,
    /// The batch, from 1.
    pub batch: u64,
    /// The tensor that went bad first; `None` where the interpreter finds all of them finite, or has no room for them.
    pub culprit: Option<Culprit>,
}

/// The tensor that went bad first.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// `param dense_1/w`, `input x`, or the op and the scope of a value within the step.
    pub tensor: String,
    /// The line that made it.
    pub location: String,
    /// The index of its first bad element.
    pub index: Vec<usize>,
    /// That element.
    pub value: f64,
    /// The shape.
    pub shape: Vec<usize>,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "batch {} of epoch {} has a loss that is not finite; no param or state has changed",
            self.batch, self.epoch
        )?;
        match &self.culprit {
            Some(culprit) => write!(
                f,
                "\nthe first tensor that went bad is the {} of shape {:?}, made at {}: element {:?} is {}",
                culprit.tensor, culprit.shape, culprit.location, culprit.index, culprit.value
            ),
            None => Ok(()),
        }
    }
}

/// Replays the step that `session` refused on `feeds`, which are in the order of its inputs.
pub(super) fn find(
    recipe: &Recipe,
    targets: &Types,
    session: &Session,
    feeds: &[Feed<'_>],
) -> Result<Option<Culprit>, TrainError> {
    // Without the guard, at which the interpreter would stop as well.
    let measured = recipe.measured(targets, Mode::Training, false)?;
    let probe = all_outputs(&measured.graph);
    let inputs = &session.program().inputs;
    let step = eval(&probe, |slot| match slot.role {
        Role::Input => {
            let index = inputs.iter().position(|port| port.name == slot.name)?;
            let feed = feeds.get(index)?;
            array(feed.dtype(), feed.shape(), feed.bytes())
        }
        Role::Param(_) | Role::State(_) => {
            let state = session.state(&slot.name).ok()?;
            array(state.dtype(), state.shape(), state.bytes())
        }
    });
    let Ok(step) = step else {
        return Ok(None);
    };
    // Outputs are nodes, in their order.
    let first_bad = |array: &Array| {
        let elements = array.floats().ok()?;
        elements.iter().position(|value| !value.is_finite())
    };
    let bad: Vec<Option<usize>> = step.outputs.iter().map(first_bad).collect();
    for ((id, node), (array, at)) in probe.nodes().zip(step.outputs.iter().zip(&bad)) {
        // A constant is what its author wrote, such as the infinity of a mask, and what is made of it no surprise.
        let inherited = node.operands.iter().any(|of| bad[of.index()].is_some());
        let (Some(bad), false, Ok(elements)) = (*at, inherited, array.floats()) else {
            continue;
        };
        if matches!(node.op, Op::Constant(_)) {
            continue;
        }
        return Ok(Some(Culprit {
            tensor: tensor(&probe, id, node),
            location: node.provenance.location.to_string(),
            index: Array::unravel(bad, array.shape()),
            value: elements[bad],
            shape: array.shape().to_vec(),
        }));
    }
    Ok(None)
}

/// The graph with every node as an output, in the order of evaluation, and no updates.
fn all_outputs(graph: &Graph) -> Graph {
    let mut all = Graph::empty(&graph.name);
    for (id, node) in graph.nodes() {
        all.push(node.clone());
        all.push_output(Output {
            name: id.to_string(),
            node: id,
        });
    }
    for slot in graph.slots() {
        all.push_slot(slot.clone());
    }
    all
}

fn array(dtype: kiln_ir::DType, shape: &[usize], bytes: &[u8]) -> Option<Array> {
    TensorRef::new("", dtype, shape, bytes)
        .ok()?
        .to_array()
        .ok()
}

fn tensor(graph: &Graph, id: NodeId, node: &Node) -> String {
    let slot = graph.slots().iter().find(|slot| slot.node == id);
    if let Some(slot) = slot {
        let kind = match slot.role {
            Role::Input => "input",
            Role::Param(_) => "param",
            Role::State(_) => "state",
        };
        return format!("{kind} `{}`", slot.name);
    }
    let name = node.op.rules().name();
    match &*node.provenance.scope {
        "" => format!("result of `{name}`"),
        scope => format!("result of `{name}` in `{scope}`"),
    }
}
