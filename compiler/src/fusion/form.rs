//! The grouping rule.
//!
//! Nodes are visited from the last to the first, so that a producer meets consumers that already have their groups. A producer all of
//! whose consumers sit in one group is computed there and gets no memory. One that must be stored is written by the group of one of its
//! consumers where it is read at its own place, or else begins a group. A cheap producer may be computed in several groups. A product
//! takes the group of a consumer as its epilogue. No join may make a group depend on itself.

use super::cost::is_cheap;
use super::merge::merge;
use super::relation::{Relation, classify, product_operand, walk};
use super::{FusionRefusal, Group, GroupId, Groups, Level, Space, as_fold, squeezed};
use crate::access::counters;
use crate::kernel::Index;
use kiln_ir::ops::{Dot, Op};
use kiln_ir::{DType, Dim, Graph, Node, NodeId};

/// A group never has more members, so that no kernel grows beyond what compiles in linear time.
pub(super) const MOST_MEMBERS: usize = 200;
/// A cheap node is computed in at most this many groups.
const MOST_COPIES: usize = 4;
/// A scalar is computed again wherever it is read if it takes at most this many ops from what is given.
const MOST_SCALAR_OPS: usize = 24;

pub(super) struct Use {
    pub(super) consumer: NodeId,
    pub(super) relation: Relation,
}

pub(super) struct Former<'g> {
    graph: &'g Graph,
    fuse: bool,
    /// Nodes that are computed or given as such; the others are movement and constants, read through.
    anchored: Vec<bool>,
    /// Nodes that get memory.
    pub(super) stored: Vec<bool>,
    pub(super) users: Vec<Vec<Use>>,
    pub(super) groups: Vec<Group>,
    pub(super) membership: Vec<Vec<GroupId>>,
    /// Outputs, values of updates and conditions of guards.
    sinks: Vec<bool>,
    /// Conditions of guards.
    pub(super) conditions: Vec<bool>,
    /// Scalars that take a few ops from sources and constants: a kernel computes them once a call, so a launch or a load is never worth it.
    scalars: Vec<bool>,
    refusals: Vec<FusionRefusal>,
}

/// A group's space and a member's level in it, if the member joins.
struct Place {
    level: Level,
    space: Space,
    /// Whether the members so far move from points to units.
    promote: bool,
}

/// Groups the nodes that the outputs and updates need. Without `fuse`, every node is a group of its own.
pub(crate) fn form(graph: &Graph, fuse: bool) -> Groups {
    let mut former = Former::new(graph, fuse);
    for (id, node) in graph.nodes().rev() {
        let wanted = former.stored[id.index()] || !former.users[id.index()].is_empty();
        if former.anchored[id.index()] && wanted && !is_given(node) {
            former.assign(id, node);
        }
    }
    if fuse {
        merge(&mut former);
    }
    former.finish()
}

/// Whether a node is in memory without being computed: a source, or a constant that is no single number.
pub(crate) fn is_given(node: &Node) -> bool {
    match &node.op {
        Op::Source(_) => true,
        Op::Constant(constant) => constant.as_splat().is_none(),
        _ => false,
    }
}

/// Whether a node is a number or a view that its readers can work out for themselves.
fn is_free(node: &Node) -> bool {
    match &node.op {
        Op::Constant(_)
        | Op::Iota(_)
        | Op::DimSize(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Require(_)
        | Op::StopGradient(_) => true,
        Op::Source(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Fma(_)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reduce(_)
        | Op::Arg(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::RngBits(_)
        | Op::Dot(_) => false,
    }
}

/// Which nodes are scalars of a few element-wise ops on sources and constants.
fn scalars(graph: &Graph) -> Vec<bool> {
    let mut ops: Vec<Option<usize>> = vec![None; graph.len()];
    for (id, node) in graph.nodes() {
        let single = squeezed(&node.ty.shape).is_empty();
        let pointwise = match &node.op {
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_) => Some(1),
            Op::Source(_)
            | Op::Constant(_)
            | Op::DimSize(_)
            | Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::StopGradient(_) => Some(0),
            Op::Iota(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Require(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reduce(_)
            | Op::Arg(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::RngBits(_)
            | Op::Dot(_) => None,
        };
        let below: Option<usize> = node
            .operands
            .iter()
            .map(|o| ops[o.index()])
            .try_fold(0usize, |sum, n| Some(sum.saturating_add(n?)));
        ops[id.index()] = match (single, pointwise, below) {
            (true, Some(own), Some(below)) => Some(own + below).filter(|n| *n <= MOST_SCALAR_OPS),
            (_, _, _) => None,
        };
    }
    ops.iter().map(Option::is_some).collect()
}

/// Whether a node has no operand to read through to.
fn is_leaf(node: &Node) -> bool {
    node.operands.is_empty()
}

/// The operand's index where a reduction runs over axes of size 1 only.
pub(crate) fn single_axis_index(node: &Node, rank: usize, index: &[Index]) -> Vec<Index> {
    let axes: &[usize] = match &node.op {
        Op::Reduce(reduce) => &reduce.axes,
        Op::Arg(arg) => std::slice::from_ref(&arg.axis),
        _ => &[],
    };
    let mut kept = index.iter();
    (0..rank)
        .map(|axis| {
            let next = if axes.contains(&axis) {
                None
            } else {
                kept.next()
            };
            next.cloned().unwrap_or_else(|| Index::constant(0))
        })
        .collect()
}

/// The batch, free and contracted axes of both sides of a product.
pub(crate) fn product_axes(dot: &Dot, ranks: [usize; 2]) -> [[Vec<usize>; 3]; 2] {
    let side = |batch: &[usize], contract: &[usize], rank: usize| {
        let free = (0..rank).filter(|a| !batch.contains(a) && !contract.contains(a));
        [batch.to_vec(), free.collect(), contract.to_vec()]
    };
    [
        side(&dot.batch.0, &dot.contract.0, ranks[0]),
        side(&dot.batch.1, &dot.contract.1, ranks[1]),
    ]
}

impl<'g> Former<'g> {
    fn new(graph: &'g Graph, fuse: bool) -> Self {
        let n = graph.len();
        let mut former = Former {
            graph,
            fuse,
            anchored: vec![false; n],
            stored: vec![false; n],
            users: (0..n).map(|_| Vec::new()).collect(),
            groups: Vec::new(),
            membership: vec![Vec::new(); n],
            sinks: vec![false; n],
            conditions: vec![false; n],
            scalars: scalars(graph),
            refusals: Vec::new(),
        };
        let results = graph.outputs().iter().map(|o| o.node);
        for sink in results.chain(graph.updates().iter().map(|u| u.value)) {
            former.anchored[sink.index()] = true;
            former.stored[sink.index()] = true;
            former.sinks[sink.index()] = true;
        }
        for (id, node) in graph.nodes() {
            let alone = !fuse && !is_leaf(node);
            if alone || is_given(node) || !is_free(node) {
                former.anchored[id.index()] = true;
            }
            if alone {
                former.stored[id.index()] = true;
            }
        }
        // The condition of a guard is read by the program, not by a kernel.
        let conditions = graph.nodes().filter_map(|(_, n)| match &n.op {
            Op::Require(_) => n.operands.get(1),
            _ => None,
        });
        for condition in conditions {
            former.anchored[condition.index()] = true;
            former.stored[condition.index()] = true;
            former.sinks[condition.index()] = true;
            former.conditions[condition.index()] = true;
        }
        former.anchor_product_operands();
        former.collect_uses();
        former
    }

    /// What a product cannot read as a strided matrix is written out first.
    fn anchor_product_operands(&mut self) {
        for (id, node) in self.graph.nodes() {
            let Op::Dot(dot) = &node.op else { continue };
            self.stored[id.index()] = true;
            let rank = |i: usize| self.rank(node.operands[i]);
            let axes = product_axes(dot, [rank(0), rank(1)]);
            for (operand, axes) in node.operands.iter().zip(&axes) {
                let axes = [&axes[0][..], &axes[1], &axes[2]];
                let view = product_operand(self.graph, &self.anchored, *operand, axes);
                let base = view.map_or(*operand, |v| v.base);
                self.anchored[base.index()] = true;
                self.stored[base.index()] = true;
            }
        }
    }

    fn rank(&self, id: NodeId) -> usize {
        self.graph.node(id).map_or(0, |n| n.ty.rank())
    }

    fn shape(&self, id: NodeId) -> &'g [Dim] {
        self.graph.node(id).map_or(&[], |n| &n.ty.shape)
    }

    /// Fills `users`, from the last node to the first, so that only what is needed is counted.
    fn collect_uses(&mut self) {
        for (id, node) in self.graph.nodes().rev() {
            let needed = self.stored[id.index()] || !self.users[id.index()].is_empty();
            if !self.anchored[id.index()] || !needed {
                continue;
            }
            for (position, operand) in node.operands.iter().enumerate() {
                let Some((producer, relation)) = self.reach(node, position, *operand) else {
                    continue;
                };
                if relation == Relation::Memory {
                    self.stored[producer.index()] = true;
                }
                self.users[producer.index()].push(Use {
                    consumer: id,
                    relation,
                });
            }
        }
    }

    /// The anchored node behind an operand, and how the consumer reads it.
    fn reach(&self, node: &Node, position: usize, operand: NodeId) -> Option<(NodeId, Relation)> {
        let own = &node.ty.shape;
        let read = |index: Vec<Index>, space: &[Dim]| {
            let (producer, index) = walk(self.graph, &self.anchored, operand, index, space)?;
            let relation = classify(&index, self.shape(producer), space);
            Some((producer, relation))
        };
        let memory = |found: Option<(NodeId, Relation)>| {
            found.map(|(producer, _)| (producer, Relation::Memory))
        };
        let from = self.shape(operand);
        match &node.op {
            Op::Dot(dot) => {
                let ranks = [self.rank(node.operands[0]), self.rank(node.operands[1])];
                let axes = &product_axes(dot, ranks)[position];
                let axes = [&axes[0][..], &axes[1], &axes[2]];
                let view = product_operand(self.graph, &self.anchored, operand, axes)?;
                Some((view.base, Relation::Memory))
            }
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
            Op::Gather(_) | Op::Scatter(_) => memory(read(counters(from.len()), from)),
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
                let (producer, index) = walk(self.graph, &self.anchored, at, index, own)?;
                Some((producer, classify(&index, self.shape(producer), own)))
            }
            Op::Source(_) | Op::Constant(_) | Op::Iota(_) | Op::DimSize(_) => memory(None),
        }
    }

    fn assign(&mut self, id: NodeId, node: &Node) {
        if matches!(node.op, Op::Dot(_)) {
            return self.assign_product(id, node);
        }
        if matches!(node.op, Op::Scatter(_)) {
            self.stored[id.index()] = true;
            return self.begin(id, Level::Point, Space::map(&node.ty.shape), None);
        }
        let candidates = self.consumer_groups(id);
        if self.fuse && self.scalars[id.index()] && !candidates.is_empty() {
            let copied = self.copy_scalar(id, node, &candidates);
            if copied && !self.stored[id.index()] {
                return;
            }
            if copied {
                return self.begin(id, Level::Point, Space::map(&node.ty.shape), None);
            }
        }
        if self.fuse && !self.stored[id.index()] {
            match candidates.as_slice() {
                [only] => match self.place(id, node, *only, false) {
                    Ok(place) => return self.join(id, *only, place),
                    Err(reason) => self.refuse(id, *only, reason),
                },
                [_, _, ..] if self.may_copy(id, node, &candidates) => {
                    let places: Result<Vec<Place>, String> = candidates
                        .iter()
                        .map(|g| self.place(id, node, *g, false))
                        .collect();
                    if let Ok(places) = places {
                        for (group, place) in candidates.iter().zip(places) {
                            self.join(id, *group, place);
                        }
                        return;
                    }
                }
                [] | [_, _, ..] => {}
            }
        }
        self.stored[id.index()] = true;
        if self.fuse {
            for group in &candidates {
                match self.place_stored(id, node, *group, &candidates) {
                    Ok(place) => {
                        self.join(id, *group, place);
                        self.groups[group.index()].roots.push(id);
                        return;
                    }
                    Err(reason) => self.refuse(id, *group, reason),
                }
            }
        }
        let (space, level) = match as_fold(self.graph, node) {
            Some(fold) => (fold.space(self.shape(node.operands[0])), Level::Unit),
            None => (Space::map(&node.ty.shape), Level::Point),
        };
        self.begin(id, level, space, None);
    }

    /// A product begins a group, or becomes the head of the group of a consumer.
    fn assign_product(&mut self, id: NodeId, node: &Node) {
        let candidates = self.consumer_groups(id);
        if self.fuse {
            for group in &candidates {
                match self.place_product(id, node, *group, &candidates) {
                    Ok(place) => {
                        self.join(id, *group, place);
                        self.groups[group.index()].product = Some(id);
                        self.groups[group.index()].roots.push(id);
                        return;
                    }
                    Err(reason) => self.refuse(id, *group, reason),
                }
            }
        }
        let space = Space::map(&node.ty.shape);
        let rows = self.product_rows(node);
        let space = rows.and_then(|k| fixed_at(&space, k)).unwrap_or(space);
        self.begin(id, Level::Point, space, Some(id));
    }

    fn place_product(
        &self,
        id: NodeId,
        node: &Node,
        group: GroupId,
        candidates: &[GroupId],
    ) -> Result<Place, String> {
        let found = &self.groups[group.index()];
        if found.product.is_some() {
            return Err("the group follows another product already".into());
        }
        let place = self.place_stored(id, node, group, candidates)?;
        if place.level != Level::Point {
            return Err("the product is not read at the group's points".into());
        }
        let rows = self.product_rows(node).ok_or("it is no product")?;
        let space = fixed_at(&place.space, rows)
            .ok_or("the group's rows are not the rows of the product")?;
        Ok(Place { space, ..place })
    }

    /// How many extents of a product's squeezed shape count its rows; its panels are cut there, so the border of its group is too.
    fn product_rows(&self, node: &Node) -> Option<usize> {
        let Op::Dot(dot) = &node.op else {
            return None;
        };
        let right = self.rank(node.operands[1]) - dot.contract.1.len() - dot.batch.1.len();
        Some(squeezed(&node.ty.shape[..node.ty.rank() - right]).len())
    }

    fn consumer_groups(&self, id: NodeId) -> Vec<GroupId> {
        let mut found: Vec<GroupId> = Vec::new();
        for user in &self.users[id.index()] {
            for group in &self.membership[user.consumer.index()] {
                if !found.contains(group) {
                    found.push(*group);
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn refuse(&mut self, producer: NodeId, group: GroupId, reason: String) {
        let refusal = FusionRefusal {
            producer,
            group,
            reason,
        };
        // A node that may not be computed in a group is often refused once more as one that would be stored there.
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    fn begin(&mut self, id: NodeId, level: Level, space: Space, product: Option<NodeId>) {
        let group = GroupId(self.groups.len() as u32);
        self.groups.push(Group {
            space,
            members: vec![(id, level)],
            roots: vec![id],
            product,
        });
        self.membership[id.index()].push(group);
    }

    fn join(&mut self, id: NodeId, group: GroupId, place: Place) {
        let joined = &mut self.groups[group.index()];
        if place.promote {
            for (_, level) in &mut joined.members {
                if *level == Level::Point {
                    *level = Level::Unit;
                }
            }
        }
        joined.space = place.space;
        joined.members.push((id, place.level));
        self.membership[id.index()].push(group);
    }

    /// Computes a scalar in each group that reads it, if all of them can.
    fn copy_scalar(&mut self, id: NodeId, node: &Node, candidates: &[GroupId]) -> bool {
        let places: Result<Vec<Place>, String> = candidates
            .iter()
            .map(|g| self.place(id, node, *g, false))
            .collect();
        let Ok(places) = places else {
            return false;
        };
        for (group, place) in candidates.iter().zip(places) {
            self.join(id, *group, place);
        }
        true
    }

    /// Whether a node may be computed again in each of several groups: cheap, and all it reads is in memory anyway.
    fn may_copy(&self, id: NodeId, node: &Node, groups: &[GroupId]) -> bool {
        let reads_memory = node.operands.iter().enumerate().all(|(position, operand)| {
            match self.reach(node, position, *operand) {
                Some((producer, _)) => {
                    self.stored[producer.index()] || self.graph.node(producer).is_some_and(is_given)
                }
                None => true,
            }
        });
        // A truth value takes a byte: to keep it is cheaper than to keep what it is computed from.
        let narrow = node.ty.dtype == DType::Bool && !self.users[id.index()].is_empty();
        is_cheap(&node.op) && reads_memory && !narrow && groups.len() <= MOST_COPIES
    }

    /// As [`place`](Self::place), for a node that the group writes to memory for others to read.
    fn place_stored(
        &self,
        id: NodeId,
        node: &Node,
        group: GroupId,
        candidates: &[GroupId],
    ) -> Result<Place, String> {
        let place = self.place(id, node, group, true)?;
        let circle = candidates
            .iter()
            .find(|other| **other != group && self.reaches(**other, group));
        match circle {
            Some(other) => Err(format!("{other} reads it too, and the group needs {other}")),
            None => Ok(place),
        }
    }

    /// Where the node would be evaluated in a group of its consumers, or why it cannot be.
    fn place(
        &self,
        id: NodeId,
        node: &Node,
        group: GroupId,
        stored: bool,
    ) -> Result<Place, String> {
        let joined = &self.groups[group.index()];
        if joined.members.len() >= MOST_MEMBERS {
            return Err(format!("the group has {MOST_MEMBERS} members already"));
        }
        let cheap = is_cheap(&node.op) || self.scalars[id.index()];
        let fold = as_fold(self.graph, node).map(|f| f.space(self.shape(node.operands[0])));
        let mut levels: Vec<(Level, Option<usize>)> = Vec::new();
        let mut replicated = false;
        for user in &self.users[id.index()] {
            let Some(level) = joined.level(user.consumer) else {
                continue;
            };
            if joined.product == Some(user.consumer) || user.relation == Relation::Memory {
                return Err(format!("{} reads it in memory", user.consumer));
            }
            let consumer = self.graph.node(user.consumer);
            let reduces = consumer.is_some_and(|c| as_fold(self.graph, c).is_some());
            let (level, border) = read_level(
                &joined.space,
                level,
                reduces,
                user.relation,
                cheap && !stored,
            );
            if level == Level::Inline {
                replicated |= !matches!(
                    user.relation,
                    Relation::Same | Relation::Other { replicates: false }
                );
            }
            if !levels.contains(&(level, border)) {
                levels.push((level, border));
            }
        }
        let inline = levels.iter().any(|(l, _)| *l == Level::Inline);
        levels.retain(|(l, _)| *l != Level::Inline);
        let (level, border) = match levels.as_slice() {
            [] => (Level::Inline, None),
            [one] => *one,
            [_, _, ..] => return Err("it is read at units and at points".into()),
        };
        if inline && fold.is_some() {
            return Err("a reduction is read away from its own place".into());
        }
        if inline && (!cheap && (replicated || level != Level::Inline)) {
            return Err("it would be computed more than once for each element".into());
        }
        if inline && stored {
            return Err("it is read away from its own place and stored".into());
        }
        let mut space = match border {
            Some(k) => fixed_at(&joined.space, k).ok_or("the rows of the group are others")?,
            None => joined.space.clone(),
        };
        let mut promote = false;
        let mut level = level;
        if let Some(own) = fold {
            (space, promote) = fold_space(&space, level, &own)?;
            level = Level::Unit;
        } else if stored && level == Level::Point {
            match &space {
                Space::Columns { .. } => {
                    return Err("a reduction over leading axes stores no points".into());
                }
                Space::Rows {
                    rows,
                    columns,
                    fixed: true,
                } if rows.is_empty() && !columns.is_empty() && joined.product.is_none() => {
                    return Err("it would share the one thread of a whole reduction".into());
                }
                Space::Rows { .. } => {}
            }
        }
        if promote && joined.product.is_some() {
            return Err("the group is the epilogue of a product".into());
        }
        Ok(Place {
            level,
            space,
            promote,
        })
    }

    /// Whether what `from` computes is needed, through others, by `to`.
    fn reaches(&self, from: GroupId, to: GroupId) -> bool {
        let mut seen = vec![false; self.groups.len()];
        let mut open = vec![from];
        while let Some(group) = open.pop() {
            if group == to {
                return true;
            }
            if std::mem::replace(&mut seen[group.index()], true) {
                continue;
            }
            open.extend(self.next_groups(group));
        }
        false
    }

    /// Whether a path leads from one group to the other through a third.
    pub(super) fn reaches_through(&self, from: GroupId, to: GroupId) -> bool {
        let next = self.next_groups(from);
        next.into_iter()
            .any(|g| g != to && g != from && self.reaches(g, to))
    }

    /// The groups that read what a group writes.
    pub(super) fn next_groups(&self, group: GroupId) -> Vec<GroupId> {
        let mut next = Vec::new();
        for root in &self.groups[group.index()].roots {
            for user in &self.users[root.index()] {
                let readers = self.membership[user.consumer.index()].iter();
                // A group that computes the root itself does not wait for it.
                let waiting = readers
                    .filter(|g| **g == group || self.groups[g.index()].level(*root).is_none());
                next.extend(waiting.copied());
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    pub(super) fn is_scatter(&self, group: GroupId) -> bool {
        let members = self.groups[group.index()].members.iter();
        members
            .filter_map(|(n, _)| self.graph.node(*n))
            .any(|n| matches!(n.op, Op::Scatter(_)))
    }

    pub(super) fn is_fold(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        node.is_some_and(|n| as_fold(self.graph, n).is_some())
    }

    /// Whether a node must stay in memory when all its readers within `group` read the value itself.
    pub(super) fn is_read_outside(&self, id: NodeId, group: GroupId) -> bool {
        self.sinks[id.index()]
            || self.users[id.index()].iter().any(|user| {
                let groups = &self.membership[user.consumer.index()];
                user.relation == Relation::Memory || groups.iter().any(|g| *g != group)
            })
    }

    /// The tensors that a group's kernel reads from memory.
    pub(super) fn loads(&self, group: GroupId) -> Vec<NodeId> {
        let joined = &self.groups[group.index()];
        let mut found = Vec::new();
        for (id, _) in &joined.members {
            let Some(node) = self.graph.node(*id) else {
                continue;
            };
            if joined.product == Some(*id) {
                continue;
            }
            for (position, operand) in node.operands.iter().enumerate() {
                let reached = self.reach(node, position, *operand).map(|(n, _)| n);
                let outside =
                    reached.filter(|n| joined.level(*n).is_none() || joined.product == Some(*n));
                // A scalar is no traffic worth a merge.
                let large = outside.filter(|n| !squeezed(self.shape(*n)).is_empty());
                if let Some(producer) = large
                    && !found.contains(&producer)
                {
                    found.push(producer);
                }
            }
        }
        found
    }

    /// Forgets groups without members.
    pub(super) fn drop_empty(&mut self) {
        let mut next = 0;
        let renumbered: Vec<Option<GroupId>> = self
            .groups
            .iter()
            .map(|g| {
                let alive = !g.members.is_empty();
                let id = alive.then_some(GroupId(next));
                next += u32::from(alive);
                id
            })
            .collect();
        self.groups.retain(|g| !g.members.is_empty());
        for groups in &mut self.membership {
            *groups = groups
                .iter()
                .filter_map(|g| renumbered[g.index()])
                .collect();
        }
        self.refusals = std::mem::take(&mut self.refusals)
            .into_iter()
            .filter_map(|r| {
                let group = renumbered[r.group.index()]?;
                Some(FusionRefusal { group, ..r })
            })
            .collect();
    }

    fn finish(mut self) -> Groups {
        for group in &mut self.groups {
            group.members.sort_unstable();
            group.roots.sort_unstable();
        }
        // Groups were begun from the last node to the first.
        let count = self.groups.len() as u32;
        self.groups.reverse();
        for refusal in &mut self.refusals {
            refusal.group = GroupId(count - 1 - refusal.group.0);
        }
        self.refusals.reverse();
        Groups {
            groups: self.groups,
            refusals: self.refusals,
        }
    }
}

/// The level at which a producer is read, and the border between rows and columns that this takes.
pub(super) fn read_level(
    space: &Space,
    consumer: Level,
    reduces: bool,
    relation: Relation,
    movable: bool,
) -> (Level, Option<usize>) {
    let inline = (Level::Inline, None);
    // A reduction reads its operand at the points of its unit.
    let at = if reduces { Level::Point } else { consumer };
    match (at, relation) {
        (_, Relation::Other { .. } | Relation::Memory) | (Level::Inline, _) => inline,
        (Level::Point, Relation::Same) => (Level::Point, None),
        (Level::Unit, Relation::Same) => (Level::Unit, None),
        (Level::Unit, Relation::Prefix(_)) => inline,
        (Level::Point, Relation::Prefix(k)) => match space {
            Space::Rows {
                rows, fixed: true, ..
            } if rows.len() == k => (Level::Unit, None),
            // Cheap values are read again rather than tie the border down.
            Space::Rows { fixed: false, .. } if !movable => (Level::Unit, Some(k)),
            Space::Rows { .. } | Space::Columns { .. } => inline,
        },
    }
}

/// The space with the border behind the first `k` extents, if it may be there.
fn fixed_at(space: &Space, k: usize) -> Option<Space> {
    let Space::Rows {
        rows,
        columns,
        fixed,
    } = space
    else {
        return None;
    };
    if *fixed {
        return (rows.len() == k).then(|| space.clone());
    }
    let all = [&rows[..], columns].concat();
    (k <= all.len()).then(|| Space::Rows {
        rows: all[..k].to_vec(),
        columns: all[k..].to_vec(),
        fixed: true,
    })
}

/// The space of a group that takes in a reduction, and whether its members become units.
fn fold_space(space: &Space, level: Level, own: &Space) -> Result<(Space, bool), String> {
    match (space, level) {
        // A map over what the reduction gives.
        (Space::Rows { fixed: false, .. }, Level::Point) => {
            if space.point() == own.unit() {
                Ok((own.clone(), true))
            } else {
                Err("the reduction has another space".into())
            }
        }
        // A map, or rows, over what the reduction reads.
        (Space::Rows { .. }, Level::Unit) => {
            let Space::Rows { rows, columns, .. } = own else {
                return Err("a reduction over leading axes does not run along rows".into());
            };
            let same = space.point() == own.point() && space.unit() == *rows;
            if !same {
                return Err("the reduction has another space".into());
            }
            if rows.is_empty() && !columns.is_empty() {
                return Err("a whole reduction is one thread's work".into());
            }
            Ok((own.clone(), false))
        }
        (Space::Columns { .. }, Level::Unit) if space == own => Ok((own.clone(), false)),
        (Space::Rows { .. } | Space::Columns { .. }, _) => {
            Err("the reduction has another space".into())
        }
    }
}
