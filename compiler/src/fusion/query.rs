//! Questions about the groups so far: what depends on what, and what they touch.

use super::form::Former;
use super::nodes::has_own_loops;
use super::relation::Relation;
use super::{GroupId, as_fold, squeezed};
use kiln_ir::NodeId;

impl Former<'_> {
    /// Whether what `from` computes is needed, through others, by `to`.
    pub(super) fn reaches(&self, from: GroupId, to: GroupId) -> bool {
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
                let readers = self.readers(user.consumer).iter();
                // A group that computes the root itself does not wait for it.
                let waiting = readers
                    .filter(|g| **g == group || self.groups[g.index()].level(*root).is_none());
                next.extend(waiting.copied());
            }
        }
        for side in &self.groups[group.index()].sides {
            next.extend(&self.membership[side.index()]);
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    /// The groups that read the operands of a node: those that compute it, or the one that folds it on the side.
    pub(super) fn readers(&self, consumer: NodeId) -> &[GroupId] {
        match &self.side_of[consumer.index()] {
            Some(group) => std::slice::from_ref(group),
            None => &self.membership[consumer.index()],
        }
    }

    /// Whether a group is an op with loops of its own, which nothing else fits into: of its kernel, or of the program.
    pub(super) fn stands_alone(&self, group: GroupId) -> bool {
        let members = self.groups[group.index()].members.iter();
        members
            .filter_map(|(n, _)| self.graph.node(*n))
            .any(|n| has_own_loops(&n.op) || n.op.as_compound().is_some())
    }

    /// Whether a group begins with a convolution whose features do not lie together: it has no rows that an epilogue could follow.
    pub(super) fn is_rowless(&self, group: GroupId) -> bool {
        let contraction = self.groups[group.index()].product;
        let node = contraction.and_then(|id| self.graph.node(id));
        node.is_some_and(|node| self.product_rows(node).is_none())
    }

    pub(super) fn is_fold(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        node.is_some_and(|n| as_fold(self.graph, n).is_some())
    }

    /// Whether a node must stay in memory when all its readers within `group` read the value itself.
    pub(super) fn is_read_outside(&self, id: NodeId, group: GroupId) -> bool {
        self.sinks[id.index()]
            || self.users[id.index()].iter().any(|user| {
                let groups = self.readers(user.consumer);
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
}
