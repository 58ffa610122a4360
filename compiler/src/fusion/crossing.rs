//! What crosses from one group to another is computed on the side where less has to cross.
//!
//! Nodes join the groups of their consumers. So the slope of a gate, which hangs on the forward pass alone, is found in the backward pass,
//! and everything that it hangs on is kept until then. Where a group computes something of another group's results alone, and these are
//! larger than that and are kept for nobody else, that other group computes it. Partitioners of forward and backward graphs look for such a cut
//! (AOTAutograd's by a minimum cut); here it is looked for between two groups, and no value is computed twice for it.

use super::form::{Former, MOST_MEMBERS};
use super::nodes::is_given;
use super::relation::Relation;
use super::{GroupId, Level, Space, squeezed};
use crate::access::is_element_wise;
use kiln_ir::NodeId;
use std::collections::BTreeSet;

/// Moves whatever makes less cross between two groups.
pub(super) fn shift(former: &mut Former<'_>) {
    for reader in (0..former.groups.len()).map(|g| GroupId(g as u32)) {
        let loads = former.loads(reader).into_iter();
        let writers: BTreeSet<GroupId> = loads
            .flat_map(|n| former.membership[n.index()].iter().copied())
            .filter(|g| *g != reader)
            .collect();
        for writer in writers {
            if may_take(former, writer, reader)
                && let Some((moved, crossing)) = Shift::of(former, writer, reader)
            {
                apply(former, writer, reader, moved, crossing);
            }
        }
    }
}

/// Whether `writer` could compute points of `reader` at all.
fn may_take(former: &Former<'_>, writer: GroupId, reader: GroupId) -> bool {
    let [to, from] = [writer, reader].map(|g| &former.groups[g.index()]);
    let Space::Rows { rows, columns, .. } = &to.space else {
        return false;
    };
    let whole = rows.is_empty() && !columns.is_empty();
    let small = to.members.len() + from.members.len() <= MOST_MEMBERS;
    let same = to.space.point() == from.space.point();
    let alone = former.stands_alone(writer) || former.stands_alone(reader);
    same && small && !whole && !former.is_rowless(writer) && !alone
}

/// Members of one group that another one computes instead.
struct Shift<'f, 'g> {
    former: &'f Former<'g>,
    writer: GroupId,
    reader: GroupId,
    /// Members of the reader that hang on the writer's points alone.
    moved: BTreeSet<NodeId>,
}

impl<'f, 'g> Shift<'f, 'g> {
    /// What the writer had better compute, and what of it crosses then; `None` where nothing is gained.
    fn of(
        former: &'f Former<'g>,
        writer: GroupId,
        reader: GroupId,
    ) -> Option<(BTreeSet<NodeId>, Vec<NodeId>)> {
        let mut members = former.groups[reader.index()].members.clone();
        members.sort_unstable();
        let mut moved = BTreeSet::new();
        for (id, level) in members {
            if level != Level::Point || former.stored[id.index()] {
                continue;
            }
            let moves = match former.groups[writer.index()].level(id) {
                // Both compute it.
                Some(level) => level == Level::Point,
                None => hangs_on(former, id, writer, &moved),
            };
            if moves {
                moved.insert(id);
            }
        }
        let mut shift = Shift {
            former,
            writer,
            reader,
            moved,
        };
        shift.trim();
        let crossing = shift.crossing().collect();
        (shift.gain() > 0).then_some((shift.moved, crossing))
    }

    /// Leaves in the reader whatever gains nothing: consumers come first.
    fn trim(&mut self) {
        let mut gain = self.gain();
        for id in self.moved.clone().into_iter().rev() {
            let read = self.readers(id).any(|u| self.moved.contains(&u));
            if read || !self.moved.remove(&id) {
                continue;
            }
            match self.gain() {
                less if less < gain => {
                    self.moved.insert(id);
                }
                same_or_more => gain = same_or_more,
            }
        }
    }

    /// The bytes for each point that need not be kept any more, less those that must be kept instead.
    fn gain(&self) -> isize {
        let bytes = |id: NodeId| {
            let node = self.former.graph.node(id);
            node.map_or(0, |n| n.ty.dtype.size() as isize)
        };
        let writer = &self.former.groups[self.writer.index()];
        let roots = writer.roots.iter().copied();
        let spared = roots
            .filter(|r| writer.level(*r) == Some(Level::Point) && self.is_spared(*r))
            .map(bytes);
        let crossing = self.crossing().map(bytes);
        spared.sum::<isize>() - crossing.sum::<isize>()
    }

    /// The members of the reader that read a node.
    fn readers(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let group = &self.former.groups[self.reader.index()];
        let users = self.former.users[id.index()].iter().map(|u| u.consumer);
        users.filter(|u| group.level(*u).is_some())
    }

    /// What is moved and read by what is not.
    fn crossing(&self) -> impl Iterator<Item = NodeId> {
        let moved = self.moved.iter().copied();
        moved.filter(|id| self.readers(*id).any(|u| !self.moved.contains(&u)))
    }

    /// Whether a result of the writer is kept for what is moved, and for nobody else. A product has memory all the same, but others may
    /// have it behind the epilogue.
    fn is_spared(&self, root: NodeId) -> bool {
        let former = self.former;
        let mut users = former.users[root.index()].iter();
        former.is_read_outside(root, self.writer)
            && !former.sinks[root.index()]
            && users.all(|user| {
                let mut groups = former.readers(user.consumer).iter();
                let moved = self.moved.contains(&user.consumer);
                user.relation != Relation::Memory
                    && groups.all(|g| *g == self.writer || *g == self.reader && moved)
            })
    }
}

/// Moves members from one group to the other.
fn apply(
    former: &mut Former<'_>,
    writer: GroupId,
    reader: GroupId,
    moved: BTreeSet<NodeId>,
    crossing: Vec<NodeId>,
) {
    let members = &mut former.groups[reader.index()].members;
    members.retain(|(id, _)| !moved.contains(id));
    for id in moved {
        former.inlined.remove(&(reader, id));
        let groups = &mut former.membership[id.index()];
        groups.retain(|g| *g != reader);
        if !groups.contains(&writer) {
            groups.push(writer);
            let members = &mut former.groups[writer.index()].members;
            members.push((id, Level::Point));
        }
    }
    for id in crossing {
        former.stored[id.index()] = true;
        former.groups[writer.index()].roots.push(id);
    }
    former.forget_inner_roots(writer);
}

/// Whether a node is element-wise and reads nothing but numbers, points of `writer`, and what is moved there.
fn hangs_on(former: &Former<'_>, id: NodeId, writer: GroupId, moved: &BTreeSet<NodeId>) -> bool {
    let Some(node) = former.graph.node(id) else {
        return false;
    };
    let mut reads = node.operands.iter().enumerate();
    is_element_wise(&node.op)
        && reads.all(
            |(position, operand)| match former.reach(node, position, *operand) {
                None => true,
                Some((producer, relation)) => {
                    let given = former.graph.node(producer).is_some_and(is_given);
                    let number = given && squeezed(former.shape(producer)).is_empty();
                    let point = former.groups[writer.index()].level(producer) == Some(Level::Point);
                    number || relation == Relation::Same && (point || moved.contains(&producer))
                }
            },
        )
}
