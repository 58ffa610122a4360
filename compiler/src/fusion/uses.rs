//! Who reads whom, and how: the uses of every node through the movement ops in between.

use super::form::{Former, Use};
use super::nodes::{product_axes, single_axis_index};
use super::relation::{Relation, classify, product_operand, strided, walk};
use super::{Level, Space, as_fold};
use crate::access::{MOST_PARTS, counters};
use crate::kernel::Index;
use crate::likely::{likely, likely_elements};
use kiln_ir::ops::Op;
use kiln_ir::{Dim, Graph, Node, NodeId};

/// The elements from which on the base of a scatter is written by a launch of its own.
const LARGE_BASE: i64 = 1 << 16;

/// A concatenation whose rows are shorter, a register of the widest machine, is not stored part by part.
const LEAST_RUN: i64 = 16;

impl Use {
    /// How a consumer at a level reads the producer.
    pub(super) fn relation_to(&self, consumer: Level) -> Relation {
        match consumer {
            Level::Parts => self.as_part,
            Level::Unit | Level::Point | Level::Inline => self.relation,
        }
    }
}

impl<'g> Former<'g> {
    /// What a product cannot read as a strided matrix, or a convolution as a strided view, is written out first, and so is what a
    /// compound op takes.
    pub(super) fn anchor_product_operands(&mut self) {
        for (id, node) in self.graph.nodes() {
            if node.op.as_compound().is_some() {
                self.stored[id.index()] = true;
                for operand in &node.operands {
                    let base = row_major(self.graph, *operand);
                    self.anchored[base.index()] = true;
                    self.stored[base.index()] = true;
                }
                continue;
            }
            if let Op::Scatter(_) | Op::DynamicUpdateSlice(_) = node.op {
                self.anchor_base(node.operands[0]);
            }
            if !matches!(node.op, Op::Dot(_) | Op::Conv(_)) {
                continue;
            }
            self.stored[id.index()] = true;
            for (position, operand) in node.operands.iter().enumerate() {
                let base = self.contracted(node, position).unwrap_or(*operand);
                self.anchored[base.index()] = true;
                self.stored[base.index()] = true;
            }
        }
    }

    /// A large tensor that parts are written over is written out first, by all threads: then it is done with, and the parts are written in
    /// place. A small one is copied by the kernel that writes the parts.
    fn anchor_base(&mut self, base: NodeId) {
        let elements = self.shape(base).iter().fold(Dim::from(1), |n, d| &n * d);
        if self.fuse && likely(&elements) >= LARGE_BASE {
            self.anchored[base.index()] = true;
            self.stored[base.index()] = true;
        }
    }

    /// The tensor in memory that a product or convolution reads an operand from, if it can be read as a view.
    fn contracted(&self, node: &Node, position: usize) -> Option<NodeId> {
        let operand = node.operands[position];
        if let Op::Dot(dot) = &node.op {
            let ranks = [self.rank(node.operands[0]), self.rank(node.operands[1])];
            let axes = &product_axes(dot, ranks)[position];
            let axes = [&axes[0][..], &axes[1], &axes[2]];
            return Some(product_operand(self.graph, &self.anchored, operand, axes)?.base);
        }
        Some(strided(self.graph, &self.anchored, operand)?.base)
    }

    pub(super) fn rank(&self, id: NodeId) -> usize {
        self.graph.node(id).map_or(0, |n| n.ty.rank())
    }

    pub(super) fn shape(&self, id: NodeId) -> &'g [Dim] {
        self.graph.node(id).map_or(&[], |n| &n.ty.shape)
    }

    /// Fills `users`, from the last node to the first, so that only what is needed is counted.
    pub(super) fn collect_uses(&mut self) {
        for (id, node) in self.graph.nodes().rev() {
            let needed = self.stored[id.index()] || !self.users[id.index()].is_empty();
            if !self.anchored[id.index()] || !needed {
                continue;
            }
            for (position, operand) in node.operands.iter().enumerate() {
                let Some((producer, relation)) = self.reach(node, position, *operand) else {
                    continue;
                };
                let as_part = match &node.op {
                    Op::Concat(_) => {
                        let part = self.shape(*operand);
                        let read = self.read_at(*operand, counters(part.len()), part);
                        read.map_or(relation, |(_, relation)| relation)
                    }
                    _ => relation,
                };
                if relation == Relation::Memory {
                    self.stored[producer.index()] = true;
                }
                self.users[producer.index()].push(Use {
                    consumer: id,
                    relation,
                    as_part,
                    views: self.views[operand.index()],
                });
            }
        }
    }

    /// The anchored node behind an operand that is read at an index, and how a space with these extents reads it.
    fn read_at(
        &self,
        operand: NodeId,
        index: Vec<Index>,
        space: &[Dim],
    ) -> Option<(NodeId, Relation)> {
        let (producer, index) = walk(self.graph, &self.anchored, operand, index, space)?;
        let relation = classify(&index, self.shape(producer), space);
        Some((producer, relation))
    }

    /// The space of the parts of a concatenation, where each may be stored by itself: they are of one shape, and rows of some length
    /// stay together.
    pub(super) fn part_space(&self, node: &Node) -> Option<Space> {
        let Op::Concat(concat) = &node.op else {
            return None;
        };
        let mut parts = node.operands.iter().map(|o| self.shape(*o));
        let first = parts.next()?;
        let run = likely_elements(&first[concat.axis..]);
        let alike = (2..=MOST_PARTS).contains(&node.operands.len()) && parts.all(|p| p == first);
        (alike && run >= LEAST_RUN).then(|| Space::map(first))
    }

    /// The anchored node behind an operand, and how the consumer reads it.
    pub(super) fn reach(
        &self,
        node: &Node,
        position: usize,
        operand: NodeId,
    ) -> Option<(NodeId, Relation)> {
        let own = &node.ty.shape;
        let read = |index: Vec<Index>, space: &[Dim]| self.read_at(operand, index, space);
        let memory = |found: Option<(NodeId, Relation)>| {
            found.map(|(producer, _)| (producer, Relation::Memory))
        };
        let from = self.shape(operand);
        match &node.op {
            Op::Dot(_) | Op::Conv(_) => Some((self.contracted(node, position)?, Relation::Memory)),
            Op::Reduce(_) | Op::Arg(_) if as_fold(self.graph, node).is_some() => {
                read(counters(from.len()), from)
            }
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_) => read(counters(own.len()), own),
            // A reduction of axes of size 1 reads its only element.
            Op::Reduce(_) | Op::Arg(_) => {
                let kept = single_axis_index(node, from.len(), &counters(own.len()));
                read(kept, own)
            }
            Op::Pad(_) | Op::Concat(_) | Op::RngBits(_) => {
                let replicates = !matches!(node.op, Op::Concat(_)) && position > 0
                    || matches!(node.op, Op::RngBits(_));
                let (producer, _) = walk(
                    self.graph,
                    &self.anchored,
                    operand,
                    counters(from.len()),
                    from,
                )?;
                Some((producer, Relation::Other { replicates }))
            }
            Op::Gather(gather) if position == 1 => {
                let all = counters(own.len());
                read(all[gather.axis..gather.axis + from.len()].to_vec(), own)
            }
            // Where a window begins is a number of the whole call.
            Op::DynamicSlice(_) if position > 0 => read(Vec::new(), own),
            Op::Gather(_)
            | Op::Scatter(_)
            | Op::ReduceWindow(_)
            | Op::ArgWindow(_)
            | Op::GatherWindow(_)
            | Op::ScatterWindow(_)
            | Op::Cumulative(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Sort(_)
            | Op::Argsort(_)
            | Op::Part(_) => memory(read(counters(from.len()), from)),
            Op::Scan(_) | Op::While(_) | Op::Cond(_) | Op::CustomCall(_) => {
                Some((row_major(self.graph, operand), Relation::Memory))
            }
            // A view that is stored as such: its operand is what the movement reaches.
            Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Require(_)
            | Op::StopGradient(_) => {
                if position > 0 {
                    return None;
                }
                let extents = |id: crate::kernel::LoopId| own.get(id.index()).cloned();
                let index = counters(own.len());
                let (at, index) = crate::access::through(self.graph, node, &index, &extents)?;
                self.read_at(at, index, own)
            }
            Op::Source(_) | Op::Constant(_) | Op::Iota(_) | Op::DimSize(_) => memory(None),
        }
    }
}

/// The node whose elements, in row-major order, are those of `id`: the one behind reshapes.
pub(crate) fn row_major(graph: &Graph, mut id: NodeId) -> NodeId {
    while let Some(node) = graph.node(id) {
        match (&node.op, node.operands.as_slice()) {
            (Op::Reshape(_), [operand]) => id = *operand,
            _ => break,
        }
    }
    id
}
