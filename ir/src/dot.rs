//! The graph as petgraph sees it, and its DOT form for drawing.
//!
//! An edge runs from a node to each of its operands, in their order: it says "is computed from". So the neighbours of a node are at hand,
//! and petgraph's walks from the outputs visit what is alive. Against the edges, [`IntoNeighborsDirected`] looks through all later nodes,
//! because a graph keeps no lists of users; an algorithm that needs them many times should copy the graph into petgraph's own.
//!
//! Operands that do not exist have no edges, so that graphs which do not verify can be drawn.

use crate::graph::{Graph, Node, Role};
use crate::ids::NodeId;
use crate::ops::Op;
use crate::text::Labels;
use petgraph::dot::{Config, Dot};
use petgraph::visit::{
    Data, EdgeRef, GraphBase, GraphProp, IntoEdgeReferences, IntoNeighbors, IntoNeighborsDirected,
    IntoNodeIdentifiers, IntoNodeReferences, NodeCompactIndexable, NodeCount, NodeIndexable,
    Reversed, VisitMap, Visitable,
};
use petgraph::{Directed, Direction};
use std::collections::BTreeMap;
use std::vec::IntoIter;

/// An edge of petgraph's view: the use of a node as an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperandEdge {
    /// The node that uses.
    pub user: NodeId,
    /// Which of its operands.
    pub position: usize,
}

/// An edge with the node that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperandReference {
    edge: OperandEdge,
    operand: NodeId,
}

impl EdgeRef for OperandReference {
    type NodeId = NodeId;
    type EdgeId = OperandEdge;
    /// The position of the operand.
    type Weight = usize;

    fn source(&self) -> NodeId {
        self.edge.user
    }

    fn target(&self) -> NodeId {
        self.operand
    }

    fn weight(&self) -> &usize {
        &self.edge.position
    }

    fn id(&self) -> OperandEdge {
        self.edge
    }
}

/// The nodes that a walk has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visited(Vec<bool>);

impl Visited {
    /// Sets the mark of a node and gives the one before. Nodes beyond the graph have none and read as seen.
    fn set(&mut self, id: NodeId, mark: bool) -> bool {
        let entry = self.0.get_mut(id.index());
        entry.is_none_or(|entry| std::mem::replace(entry, mark))
    }
}

impl VisitMap<NodeId> for Visited {
    fn visit(&mut self, id: NodeId) -> bool {
        !self.set(id, true)
    }

    fn is_visited(&self, id: &NodeId) -> bool {
        self.0.get(id.index()).copied().unwrap_or(true)
    }

    fn unvisit(&mut self, id: NodeId) -> bool {
        self.set(id, false)
    }
}

impl GraphBase for Graph {
    type NodeId = NodeId;
    type EdgeId = OperandEdge;
}

impl GraphProp for Graph {
    type EdgeType = Directed;
}

impl Data for Graph {
    type NodeWeight = Node;
    type EdgeWeight = usize;
}

impl NodeCount for Graph {
    fn node_count(&self) -> usize {
        self.len()
    }
}

impl NodeIndexable for Graph {
    fn node_bound(&self) -> usize {
        self.len()
    }

    fn to_index(&self, id: NodeId) -> usize {
        id.index()
    }

    fn from_index(&self, i: usize) -> NodeId {
        NodeId::new(i)
    }
}

impl NodeCompactIndexable for Graph {}

impl Visitable for Graph {
    type Map = Visited;

    fn visit_map(&self) -> Visited {
        Visited(vec![false; self.len()])
    }

    fn reset_map(&self, map: &mut Visited) {
        *map = self.visit_map();
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = IntoIter<NodeId>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        let ids: Vec<NodeId> = self.nodes().map(|(id, _)| id).collect();
        ids.into_iter()
    }
}

impl<'g> IntoNodeReferences for &'g Graph {
    type NodeRef = (NodeId, &'g Node);
    type NodeReferences = IntoIter<(NodeId, &'g Node)>;

    fn node_references(self) -> Self::NodeReferences {
        let nodes: Vec<(NodeId, &Node)> = self.nodes().collect();
        nodes.into_iter()
    }
}

impl IntoEdgeReferences for &Graph {
    type EdgeRef = OperandReference;
    type EdgeReferences = IntoIter<OperandReference>;

    fn edge_references(self) -> Self::EdgeReferences {
        let edges = self.nodes().flat_map(|(user, node)| {
            let operands = node.operands.iter().enumerate();
            let existing = operands.filter(|(_, operand)| self.node(**operand).is_some());
            existing.map(move |(position, operand)| OperandReference {
                edge: OperandEdge { user, position },
                operand: *operand,
            })
        });
        edges.collect::<Vec<_>>().into_iter()
    }
}

impl IntoNeighbors for &Graph {
    type Neighbors = IntoIter<NodeId>;

    fn neighbors(self, id: NodeId) -> Self::Neighbors {
        self.neighbors_directed(id, Direction::Outgoing)
    }
}

impl IntoNeighborsDirected for &Graph {
    type NeighborsDirected = IntoIter<NodeId>;

    fn neighbors_directed(self, id: NodeId, direction: Direction) -> Self::NeighborsDirected {
        let found: Vec<NodeId> = match direction {
            Direction::Outgoing => {
                let operands = self.node(id).map_or(&[][..], |n| &n.operands);
                let existing = operands.iter().filter(|o| self.node(**o).is_some());
                existing.copied().collect()
            }
            Direction::Incoming => self
                .nodes()
                .flat_map(|(user, node)| node.operands.iter().map(move |o| (user, *o)))
                .filter(|(_, operand)| *operand == id)
                .map(|(user, _)| user)
                .collect(),
        };
        found.into_iter()
    }
}

/// A text inside the quotes of a DOT attribute.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Graph {
    /// The graph in the DOT language of Graphviz. Arrows run with the data, from operands to users; sources are boxes, and what a node is
    /// an output or a new value of stands in its last lines.
    pub fn to_dot(&self) -> String {
        let labels = Labels::of(self);
        let mut results: BTreeMap<NodeId, String> = BTreeMap::new();
        for output in self.outputs() {
            let entry = results.entry(output.node).or_default();
            *entry += &format!("\\noutput {}", escaped(&output.name));
        }
        for update in self.updates() {
            let entry = results.entry(update.value).or_default();
            let target = labels.get(update.target).to_string();
            *entry += &format!("\\nupdate {}", escaped(&target));
        }
        let slots: BTreeMap<NodeId, &Role> =
            self.slots().iter().map(|s| (s.node, &s.role)).collect();
        let style = |_, (id, node): (NodeId, &Node)| {
            let (what, shape) = match slots.get(&id) {
                Some(Role::Input) => ("input", "box"),
                Some(Role::Param(_)) => ("param", "box"),
                Some(Role::State(_)) => ("state", "box"),
                None => (node.op.rules().name(), "ellipse"),
            };
            let called = if let Op::CustomCall(call) = &node.op {
                format!(" {}", escaped(&call.target))
            } else {
                String::new()
            };
            let name = escaped(&labels.get(id).to_string());
            let result = results.get(&id).map_or("", String::as_str);
            format!(
                "label = \"{name} {what}{called}\\n{}{result}\" shape = {shape}",
                node.ty
            )
        };
        let config = [Config::NodeNoLabel, Config::EdgeNoLabel];
        let plain = |_, _| String::new();
        let dot = Dot::with_attr_getters(Reversed(self), &config, &plain, &style);
        format!("{dot:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, DType, Init};
    use petgraph::visit::{Dfs, Topo, Walker};

    fn example() -> Graph {
        let g = Builder::new("m");
        let x = g.input("x \"0\"", DType::F32, [2]);
        let w = g.param("w", [2], Init::zeros());
        let _dead = x.exp();
        g.update(w, w + x * 2.0);
        g.output("y", x - w);
        g.finish().unwrap()
    }

    #[test]
    fn dot_shows_the_data_flow() {
        assert_eq!(
            example().to_dot(),
            r#"digraph {
    0 [ label = "%\"x \\\"0\\\"\" input\nf32[2]" shape = box]
    1 [ label = "%w param\nf32[2]" shape = box]
    2 [ label = "%0 exp\nf32[2]" shape = ellipse]
    3 [ label = "2.0 const\nf32[2]" shape = ellipse]
    4 [ label = "%1 mul\nf32[2]" shape = ellipse]
    5 [ label = "%2 add\nf32[2]\nupdate %w" shape = ellipse]
    6 [ label = "%3 sub\nf32[2]\noutput y" shape = ellipse]
    0 -> 2 [ ]
    0 -> 4 [ ]
    3 -> 4 [ ]
    1 -> 5 [ ]
    4 -> 5 [ ]
    0 -> 6 [ ]
    1 -> 6 [ ]
}
"#
        );
    }

    #[test]
    fn petgraph_walks_the_graph() {
        let graph = example();
        let output = graph.outputs()[0].node;
        let mut alive: Vec<NodeId> = Dfs::new(&graph, output).iter(&graph).collect();
        alive.sort_unstable();
        assert_eq!(alive, [0, 1, 6].map(NodeId::new));
        let users = Reversed(&graph).neighbors(NodeId::new(0));
        assert_eq!(
            users.collect::<Vec<_>>(),
            [2, 4, 6].map(NodeId::new),
            "users in order"
        );
        let order: Vec<NodeId> = Topo::new(Reversed(&graph)).iter(Reversed(&graph)).collect();
        assert_eq!(order.len(), graph.len());
        for edge in graph.edge_references() {
            let place = |id| order.iter().position(|o| *o == id);
            assert!(place(edge.target()) < place(edge.source()));
        }
    }
}
