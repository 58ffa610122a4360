//! The grouping rule.
//!
//! Nodes are visited from the last to the first, so that a producer meets consumers that already have their groups. A producer all of
//! whose consumers sit in one group is computed there and gets no memory. One that must be stored is written by the group of one of its
//! consumers where it is read at its own place, or else begins a group. A cheap producer may be computed in several groups. A product
//! takes the group of a consumer as its epilogue. No join may make a group depend on itself.

use super::crossing::shift;
use super::limits::{Inlined, Views, views};
use super::merge::merge;
use super::nodes::{has_own_loops, is_free, is_given, is_leaf, scalars};
use super::place::{Place, fixed_at};
use super::relation::Relation;
use super::sides::join_sides;
use super::{FusionRefusal, Group, GroupId, Groups, Level, Space, as_fold};
use kiln_ir::ops::Op;
use kiln_ir::{Graph, Node, NodeId};
use std::collections::BTreeMap;

/// A group never has more members, so that no kernel grows beyond what compiles in linear time.
pub(super) const MOST_MEMBERS: usize = 200;

pub(super) struct Use {
    pub(super) consumer: NodeId,
    pub(super) relation: Relation,
    /// The same where the consumer is a concatenation that is stored part by part: how the part reads it.
    pub(super) as_part: Relation,
    /// The views between the two.
    pub(super) views: Views,
}

pub(super) struct Former<'g> {
    pub(super) graph: &'g Graph,
    pub(super) fuse: bool,
    /// Nodes that are computed or given as such; the others are movement and constants, read through.
    pub(super) anchored: Vec<bool>,
    /// Nodes that get memory.
    pub(super) stored: Vec<bool>,
    pub(super) users: Vec<Vec<Use>>,
    pub(super) groups: Vec<Group>,
    pub(super) membership: Vec<Vec<GroupId>>,
    /// For each reduction whose blocks another group folds on the side, that group.
    pub(super) side_of: Vec<Option<GroupId>>,
    /// Outputs, values of updates and conditions of guards.
    pub(super) sinks: Vec<bool>,
    /// Conditions of guards.
    pub(super) conditions: Vec<bool>,
    /// Scalars that take a few ops from sources and constants: a kernel computes them once a call, so a launch or a load is never worth it.
    pub(super) scalars: Vec<bool>,
    /// For each node that is free, the views from it down to what is anchored.
    pub(super) views: Vec<Views>,
    /// What it takes to evaluate the members that are inline.
    pub(super) inlined: BTreeMap<(GroupId, NodeId), Inlined>,
    refusals: Vec<FusionRefusal>,
}

/// Groups the nodes that the outputs and updates of a graph that verifies need. Without `fuse`, every node is a group of its own.
pub fn form(graph: &Graph, fuse: bool) -> Groups {
    let mut former = Former::new(graph, fuse);
    for (id, node) in graph.nodes().rev() {
        let wanted = former.stored[id.index()] || !former.users[id.index()].is_empty();
        if former.anchored[id.index()] && wanted && !is_given(node) {
            former.assign(id, node);
        }
    }
    if fuse {
        merge(&mut former);
        shift(&mut former);
        join_sides(&mut former);
    }
    former.finish()
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
            side_of: vec![None; n],
            sinks: vec![false; n],
            conditions: vec![false; n],
            scalars: scalars(graph),
            views: Vec::new(),
            inlined: BTreeMap::new(),
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
        let (views, ends) = views(graph, &former.anchored);
        former.views = views;
        for end in ends {
            former.anchored[end.index()] = true;
            former.stored[end.index()] = true;
        }
        former.anchor_product_operands();
        former.collect_uses();
        former
    }

    fn assign(&mut self, id: NodeId, node: &Node) {
        if matches!(node.op, Op::Dot(_) | Op::Conv(_)) {
            return self.assign_product(id, node);
        }
        if has_own_loops(&node.op) {
            self.stored[id.index()] = true;
            return self.begin(id, Level::Point, Space::map(&node.ty.shape), None);
        }
        if matches!(node.op, Op::Part(_)) {
            // It belongs to the group of its compound op, which the walk has not reached yet.
            self.stored[id.index()] = true;
            return;
        }
        if node.op.as_compound().is_some() {
            return self.assign_compound(id);
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
        let (space, level) = match (as_fold(self.graph, node), self.part_space(node)) {
            (Some(fold), _) => (fold.space(self.shape(node.operands[0])), Level::Unit),
            (None, Some(parts)) if self.fuse => (parts, Level::Parts),
            (None, _) => (Space::map(&node.ty.shape), Level::Point),
        };
        self.begin(id, level, space, None);
    }

    /// A compound op is a group of its own, whose roots are those of its results that are read.
    fn assign_compound(&mut self, id: NodeId) {
        let users = self.users[id.index()].iter();
        let mut parts: Vec<NodeId> = users.map(|user| user.consumer).collect();
        parts.sort_unstable();
        parts.dedup();
        self.begin(id, Level::Point, Space::map(&[]), None);
        let group = GroupId(self.groups.len() as u32 - 1);
        let begun = &mut self.groups[group.index()];
        begun
            .members
            .extend(parts.iter().map(|p| (*p, Level::Point)));
        begun.roots.clone_from(&parts);
        for part in parts {
            self.membership[part.index()].push(group);
        }
    }

    /// A product or convolution begins a group, or becomes the head of the group of a consumer.
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
            sides: Vec::new(),
            blocks: Vec::new(),
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
        if place.level == Level::Inline {
            self.inlined.insert((group, id), place.inlined);
        }
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

    /// Takes the memory from results that only their own group reads, but for products, which always have it.
    pub(super) fn forget_inner_roots(&mut self, group: GroupId) {
        let roots = std::mem::take(&mut self.groups[group.index()].roots);
        let product = self.groups[group.index()].product;
        let (needed, inner): (Vec<NodeId>, Vec<NodeId>) = roots
            .into_iter()
            .partition(|r| product == Some(*r) || self.is_read_outside(*r, group));
        for node in inner {
            self.stored[node.index()] = false;
        }
        self.groups[group.index()].roots = needed;
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
            group.sides.sort_unstable();
            group.blocks.sort_unstable();
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
