//! How the text calls each node, and the order in which it names them.
//!
//! Printer, verifier and parser must agree to the letter on which constants print as literals: the rule is here, once.

use super::cursor::Name;
use crate::graph::{Graph, Node, Output, Slot, Update};
use crate::ids::NodeId;
use crate::ops::{Literal, Op, Region};
use crate::provenance::Origin;
use crate::types::TensorType;
use std::fmt;

/// The spellings of a graph's nodes in its text: `%w`, `%3`, or a literal.
#[derive(Clone, Debug)]
pub struct Labels {
    labels: Vec<Label>,
    /// The nodes that have lines, in order.
    lines: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq)]
enum Label {
    /// The spelling of a slot.
    Slot(String),
    /// The number of the node's line in its body.
    Line(usize),
    /// The constant stands inside the node that uses it.
    Inline(String),
}

/// What the graph of a region is called where it is read from text, which does not name it.
pub(in crate::text) const REGION_NAME: &str = "body";

/// The splat literal of a node, and its type.
fn as_splat(node: &Node) -> Option<(Literal, &TensorType)> {
    let Op::Constant(constant) = &node.op else {
        return None;
    };
    Some((constant.as_splat()?, &constant.ty))
}

/// The type that a literal among these operands has: that of the last one which is no splat constant. Literals are `None`.
pub(in crate::text) fn literal_type<'n>(
    operands: impl DoubleEndedIterator<Item = Option<&'n Node>>,
) -> Option<&'n TensorType> {
    let mut tensors = operands.rev().flatten().filter(|n| as_splat(n).is_none());
    tensors.next().map(|n| &n.ty)
}

impl Labels {
    /// The labels of `graph`, which need not verify.
    pub fn of(graph: &Graph) -> Self {
        let mut labels: Vec<Option<Label>> = vec![None; graph.len()];
        for slot in graph.slots() {
            if let Some(label @ None) = labels.get_mut(slot.node.index()) {
                *label = Some(Label::Slot(format!("%{}", Name(&slot.name))));
            }
        }
        let uses = count_uses(graph);
        for (user, node) in graph.nodes() {
            let operands = node.operands.iter();
            let Some(ty) = literal_type(operands.map(|o| graph.node(*o))) else {
                continue;
            };
            for operand in &node.operands {
                let Some((literal, own)) = graph.node(*operand).and_then(as_splat) else {
                    continue;
                };
                // A constant behind its user is a mistake that the text must show.
                if *operand < user && own == ty && uses[operand.index()] == 1 {
                    labels[operand.index()] = Some(Label::Inline(literal.text(own.dtype)));
                }
            }
        }
        let mut lines = Vec::new();
        for (id, _) in graph.nodes() {
            let label = &mut labels[id.index()];
            if label.is_none() {
                *label = Some(Label::Line(lines.len()));
                lines.push(id);
            }
        }
        Self {
            labels: labels.into_iter().flatten().collect(),
            lines,
        }
    }

    /// The spelling of a node. Ids that the graph does not have are spelled `%?7`, which nothing parses to.
    pub fn get(&self, id: NodeId) -> impl fmt::Display + '_ {
        struct Spelling<'l>(Option<&'l Label>, NodeId);
        impl fmt::Display for Spelling<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Some(Label::Slot(name)) => f.write_str(name),
                    Some(Label::Line(number)) => write!(f, "%{number}"),
                    Some(Label::Inline(literal)) => f.write_str(literal),
                    None => write!(f, "%?{}", self.1.index()),
                }
            }
        }
        Spelling(self.labels.get(id.index()), id)
    }

    /// The nodes that have lines of their own, in order.
    pub(in crate::text) fn lines(&self) -> &[NodeId] {
        &self.lines
    }

    fn is_inline(&self, id: NodeId) -> bool {
        matches!(self.labels.get(id.index()), Some(Label::Inline(_)))
    }
}

/// How often each node is used, by operands, outputs and updates.
fn count_uses(graph: &Graph) -> Vec<u32> {
    let mut uses = vec![0u32; graph.len()];
    let operands = graph.nodes().flat_map(|(_, n)| &n.operands).copied();
    let outputs = graph.outputs().iter().map(|o| o.node);
    let updates = graph.updates().iter().flat_map(|u| [u.target, u.value]);
    let slots = graph.slots().iter().map(|s| s.node);
    for id in operands.chain(outputs).chain(updates).chain(slots) {
        if let Some(count) = uses.get_mut(id.index()) {
            *count = count.saturating_add(1);
        }
    }
    uses
}

impl Graph {
    /// The same graph with its node table in the order in which the text names nodes: sources first, in the order of the signature;
    /// then the rest in its own order, but a constant that prints as a literal directly before the node that uses it.
    pub fn canonical(&self) -> Graph {
        let labels = Labels::of(self);
        let mut order: Vec<NodeId> = Vec::with_capacity(self.len());
        let mut place: Vec<Option<NodeId>> = vec![None; self.len()];
        let mut put = |id: NodeId| {
            if let Some(at @ None) = place.get_mut(id.index()) {
                *at = Some(NodeId::new(order.len()));
                order.push(id);
            }
        };
        for slot in self.slots() {
            put(slot.node);
        }
        for id in labels.lines() {
            let operands = self.node(*id).map_or(&[][..], |n| &n.operands);
            operands
                .iter()
                .filter(|o| labels.is_inline(**o))
                .for_each(|o| put(*o));
            put(*id);
        }
        let moved = |id: NodeId| place.get(id.index()).copied().flatten().unwrap_or(id);
        let mut graph = Graph::empty(&self.name);
        for node in order.iter().filter_map(|id| self.node(*id)) {
            let mut node = node.clone();
            if let Some(control) = node.op.as_compound() {
                let regions = control.regions().into_iter();
                let regions = regions.map(|region| canonical_region(region));
                node.op = control.with_regions(regions.collect());
            }
            node.operands.iter_mut().for_each(|o| *o = moved(*o));
            if let Origin::Vjp(of) = node.provenance.origin {
                node.provenance.origin = Origin::Vjp(moved(of));
            }
            graph.push(node);
        }
        for slot in self.slots() {
            graph.push_slot(Slot {
                node: moved(slot.node),
                ..slot.clone()
            });
        }
        for output in self.outputs() {
            graph.push_output(Output {
                node: moved(output.node),
                ..output.clone()
            });
        }
        for update in self.updates() {
            graph.push_update(Update {
                target: moved(update.target),
                value: moved(update.value),
            });
        }
        graph
    }
}

/// A region as the text has it: its values yielded by position, and without a name.
fn canonical_region(region: &Graph) -> Region {
    let graph = region.canonical();
    let mut new = Graph::empty(REGION_NAME);
    for (_, node) in graph.nodes() {
        new.push(node.clone());
    }
    for slot in graph.slots() {
        new.push_slot(slot.clone());
    }
    for (position, output) in graph.outputs().iter().enumerate() {
        new.push_output(Output {
            name: position.to_string(),
            node: output.node,
        });
    }
    Region::new(new)
}
