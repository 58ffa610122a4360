//! The graph: append-only nodes in topological order, and a signature.
//!
//! A finished [`Graph`] is plain immutable data. Nodes refer only to earlier nodes, so the order of the table is an order of
//! evaluation. Passes build new graphs; nothing edits one in place.

use crate::ids::NodeId;
use crate::init::Init;
use crate::ops::Op;
use crate::provenance::Provenance;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// One op applied to earlier nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// From what, in order.
    pub operands: Vec<NodeId>,
    /// The type of the result. A node of several results has the type of the first here.
    pub ty: TensorType,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// What kind of source a slot is, and how it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// Fed at each step.
    Input,
    /// Trainable; drawn from the initialiser when a session starts.
    Param(Init),
    /// Kept from step to step but not trained: moments, running statistics, counters.
    State(Init),
}

/// A named source of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The name, unique among the slots.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its node.
    pub node: NodeId,
}

/// A named result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The name, unique among the outputs.
    pub name: String,
    /// Its node.
    pub node: NodeId,
}

/// `target := value` when the step ends; readers of the target within the step see the old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// A param or state node.
    pub target: NodeId,
    /// The new value, of the same type.
    pub value: NodeId,
}

/// A computation: sources, nodes, results and updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The name, an identifier.
    pub name: String,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    outputs: Vec<Output>,
    updates: Vec<Update>,
}

impl Graph {
    /// A graph without nodes.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: Vec::new(),
            slots: Vec::new(),
            outputs: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// The node named by `id`, if the graph has it.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// All nodes with their ids, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (NodeId::new(i), n))
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Inputs, params and state, in the order of declaration.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The results, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The updates, in order.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Appends a node. The verifier, not this function, checks it.
    pub fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId::new(self.nodes.len() - 1)
    }

    /// Puts another op in the place of a node's: one of which the old one's results are a part.
    pub(crate) fn replace_op(&mut self, id: NodeId, op: Op) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.op = op;
        }
    }

    /// Declares a source.
    pub fn push_slot(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// Moves the slot of a source to a position among all slots.
    pub(crate) fn move_slot(&mut self, node: NodeId, position: usize) {
        if let Some(at) = self.slots.iter().position(|slot| slot.node == node) {
            let slot = self.slots.remove(at);
            self.slots.insert(position.min(self.slots.len()), slot);
        }
    }

    /// Declares a result.
    pub fn push_output(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Declares an update.
    pub fn push_update(&mut self, update: Update) {
        self.updates.push(update);
    }
}
