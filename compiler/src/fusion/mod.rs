//! Groups: which nodes of a graph are computed together.
//!
//! A [`Group`] is what one kernel computes in one sweep of one iteration space, or a matrix product or convolution with the kernel that
//! follows each of its panels. Grouping is one generic rule (see `form.rs`), not a list of named patterns. It decides which nodes get memory; it knows
//! nothing of loops, buffers or instructions. Every join that was refused is kept with its reason.

use kiln_ir::ops::Op;
use kiln_ir::{Dim, Graph, Node, NodeId};
use std::fmt;

mod border;
mod cost;
mod crossing;
mod form;
mod limits;
mod merge;
mod nodes;
mod place;
mod print;
mod query;
mod relation;
mod sides;
mod uses;

pub(crate) use cost::expr_is_cheap;
pub use form::form;
pub(crate) use nodes::{has_own_loops, is_given, product_axes, single_axis_index};
pub use print::Printed;
pub(crate) use relation::{ProductOperand, Strided, product_operand, strided};
pub(crate) use uses::row_major;

/// A group of a graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The position in [`Groups::groups`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a member is evaluated within its group's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Once for each unit: a row, or a column of a column reduction.
    Unit,
    /// Once for each point.
    Point,
    /// Wherever its consumers read it, through an index map.
    Inline,
    /// A concatenation whose parts are points: each is stored where it lies in the whole, and that is all there is to do.
    Parts,
}

/// An iteration space. Extents of exactly 1 are left out, so that `[b, 1]` and `[b]` are one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    /// Units are rows; the points of a unit are its columns. Reductions run over the columns.
    Rows {
        /// The extents that count units.
        rows: Vec<Dim>,
        /// The extents within a unit.
        columns: Vec<Dim>,
        /// Whether the border between rows and columns matters; a plain map may move it.
        fixed: bool,
    },
    /// Units are `outer x inner`; the points of a unit are walked along `reduced`.
    Columns {
        /// Extents before the reduced ones.
        outer: Vec<Dim>,
        /// The reduced extents.
        reduced: Vec<Dim>,
        /// Extents behind the reduced ones, at least one.
        inner: Vec<Dim>,
    },
}

impl Space {
    /// The space of an element-wise node.
    pub(crate) fn map(shape: &[Dim]) -> Self {
        Space::Rows {
            rows: squeezed(shape),
            columns: Vec::new(),
            fixed: false,
        }
    }

    /// The extents of a value with one element for each point.
    pub fn point(&self) -> Vec<Dim> {
        match self {
            Space::Rows { rows, columns, .. } => [&rows[..], columns].concat(),
            Space::Columns {
                outer,
                reduced,
                inner,
            } => [&outer[..], reduced, inner].concat(),
        }
    }

    /// The extents of a value with one element for each unit.
    pub fn unit(&self) -> Vec<Dim> {
        match self {
            Space::Rows { rows, .. } => rows.clone(),
            Space::Columns { outer, inner, .. } => [&outer[..], inner].concat(),
        }
    }
}

/// What one launch computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The space of its kernel.
    pub space: Space,
    /// All nodes that it computes, in topological order, and where.
    pub members: Vec<(NodeId, Level)>,
    /// The members that get memory, in topological order.
    pub roots: Vec<NodeId>,
    /// The matrix product or convolution that the group begins with; its kernel, if there are other members, is the epilogue.
    pub product: Option<NodeId>,
    /// Reductions over the rows that another group finishes: their operands are points of this group, whose kernel folds them in blocks
    /// of [`SERIAL_BLOCK`](crate::kernel::SERIAL_BLOCK) rows on the side.
    pub sides: Vec<NodeId>,
    /// The members that another group folds in blocks on the side, points of this one: what is left here is to fold the blocks.
    pub blocks: Vec<NodeId>,
}

/// Why two things are not computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusionRefusal {
    /// The node that was to join.
    pub producer: NodeId,
    /// The group that it was to join.
    pub group: GroupId,
    /// The reason, for people.
    pub reason: String,
}

/// A partition of a graph into groups. Cheap members may be in several of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The groups; each node with memory is a root of exactly one, or a source or a dense constant.
    pub groups: Vec<Group>,
    /// The joins that were refused.
    pub refusals: Vec<FusionRefusal>,
}

impl Group {
    /// The level of a member.
    pub fn level(&self, node: NodeId) -> Option<Level> {
        let found = self.members.iter().find(|(n, _)| *n == node);
        found.map(|(_, level)| *level)
    }

    /// What kind of group it is, in a word of the dump.
    pub fn kind(&self, graph: &Graph) -> &'static str {
        let op = |node: NodeId| graph.node(node).map(|n| &n.op);
        let alone = self
            .members
            .iter()
            .filter_map(|(n, _)| op(*n))
            .find(|op| has_own_loops(op));
        let mut ops = self.members.iter().filter_map(|(n, _)| op(*n));
        match ops.find(|op| op.as_compound().is_some()) {
            Some(Op::CustomCall(_)) => return "custom",
            Some(_) => return "control",
            None => {}
        }
        let folds = self
            .members
            .iter()
            .any(|(n, _)| graph.node(*n).is_some_and(|n| as_fold(graph, n).is_some()));
        let points = self
            .roots
            .iter()
            .any(|n| matches!(self.level(*n), Some(Level::Point | Level::Parts)));
        if let Some(op) = alone {
            return op.rules().name();
        }
        match (self.product, folds) {
            (Some(_), _) if self.members.len() > 1 => "contraction with epilogue",
            (Some(_), _) => "contraction",
            (None, true) if points => "row",
            (None, true) => "reduce",
            (None, false) => "map",
        }
    }
}

/// The extents that are not exactly 1.
pub(crate) fn squeezed(shape: &[Dim]) -> Vec<Dim> {
    let kept = shape.iter().filter(|d| d.constant() != Some(1));
    kept.cloned().collect()
}

/// The reduction of a node over at least one axis of a size other than 1.
pub(crate) struct FoldNode<'n> {
    /// The reduced axes of the operand, ascending.
    pub(crate) axes: &'n [usize],
}

/// The node as a reduction that needs a loop.
pub(crate) fn as_fold<'n>(graph: &Graph, node: &'n Node) -> Option<FoldNode<'n>> {
    let axes: &[usize] = match &node.op {
        Op::Reduce(reduce) => &reduce.axes,
        Op::Arg(arg) => std::slice::from_ref(&arg.axis),
        _ => return None,
    };
    let from = &graph.node(*node.operands.first()?)?.ty.shape;
    let loops = axes.iter().any(|a| from[*a].constant() != Some(1));
    loops.then_some(FoldNode { axes })
}

impl FoldNode<'_> {
    /// The space in which the reduction of an operand of this shape runs.
    pub(crate) fn space(&self, from: &[Dim]) -> Space {
        let kept = |range: std::ops::Range<usize>, reduced: bool| {
            let axes = range.filter(|a| self.axes.contains(a) == reduced);
            squeezed(&axes.map(|a| from[a].clone()).collect::<Vec<_>>())
        };
        let first = self.axes.first().copied().unwrap_or(0);
        let last = self.axes.last().copied().unwrap_or(0);
        let (outer, inner) = (kept(0..first, false), kept(last..from.len(), false));
        let reduced = kept(first..last + 1, true);
        if inner.is_empty() {
            Space::Rows {
                rows: outer,
                columns: reduced,
                fixed: true,
            }
        } else {
            Space::Columns {
                outer,
                reduced,
                inner,
            }
        }
    }
}
