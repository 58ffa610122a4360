//! What crosses from one group to another is computed on the side where less has to cross.
//!
//! Nodes join the groups of their consumers. So the slope of a gate, which hangs on the forward pass alone, is found in the backward pass,
//! and everything that it hangs on is kept until then. Where a group computes something of another group's results alone, and these are
//! larger than that and are kept for nobody else, that other group computes it. The cut is that of the rematerialization in AOTAutograd's partitioner,
//! in one direction and between two groups: no value is computed twice for it.

use super::form::{Former, MOST_MEMBERS};
use super::nodes::is_given;
use super::relation::Relation;
use super::{GroupId, Level, Space, squeezed};
use kiln_ir::NodeId;
use kiln_ir::ops::Op;
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
                && let Some(shift) = Shift::of(former, writer, reader)
            {
                shift.apply(former);
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
    let rowless = to.product.and_then(|id| former.graph.node(id));
    let rowless = rowless.is_some_and(|node| former.product_rows(node).is_none());
    let small = to.members.len() + from.members.len() <= MOST_MEMBERS;
    let same = to.space.point() == from.space.point();
    let alone = former.stands_alone(writer) || former.stands_alone(reader);
    same && small && !whole && !rowless && !alone
}

/// Members of one group that another one computes instead.
struct Shift {
    writer: GroupId,
    reader: GroupId,
    /// Members of the reader that hang on the writer's points alone.
    moved: BTreeSet<NodeId>,
    /// Those of them that the rest of the reader reads.
    crossing: Vec<NodeId>,
}

impl Shift {
    /// `None` where nothing is gained.
    fn of(former: &Former<'_>, writer: GroupId, reader: GroupId) -> Option<Shift> {
        let [group, other] = [reader, writer].map(|g| &former.groups[g.index()]);
        let point = |level: Option<Level>| level.is_none_or(|l| l == Level::Point);
        let mut members = group.members.clone();
        members.sort_unstable();
        let mut moved = BTreeSet::new();
        for (id, level) in members {
            let points = level == Level::Point && point(other.level(id));
            let free = points && !group.roots.contains(&id);
            if free && hangs_on(former, id, writer, &moved) {
                moved.insert(id);
            }
        }
        let crosses = |id: &NodeId| {
            let users = former.users[id.index()].iter().map(|u| u.consumer);
            let mut here = users.filter(|u| group.level(*u).is_some());
            here.any(|u| !moved.contains(&u))
        };
        let crossing: Vec<NodeId> = moved.iter().copied().filter(crosses).collect();
        let shift = Shift {
            writer,
            reader,
            moved,
            crossing,
        };
        let bytes = |id: NodeId| former.graph.node(id).map_or(0, |n| n.ty.dtype.size());
        let roots = other.roots.iter().copied();
        let spared =
            roots.filter(|r| other.level(*r) == Some(Level::Point) && shift.is_spared(former, *r));
        let spared: usize = spared.map(bytes).sum();
        let crossing: usize = shift.crossing.iter().copied().map(bytes).sum();
        (spared > crossing).then_some(shift)
    }

    /// Whether a result of the writer is kept for what is moved, and for nobody else.
    fn is_spared(&self, former: &Former<'_>, root: NodeId) -> bool {
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

    fn apply(self, former: &mut Former<'_>) {
        let (writer, reader) = (self.writer, self.reader);
        let moved = &self.moved;
        former.groups[reader.index()]
            .members
            .retain(|(id, _)| !moved.contains(id));
        for id in moved {
            former.inlined.remove(&(reader, *id));
            let groups = &mut former.membership[id.index()];
            groups.retain(|g| *g != reader);
            if !groups.contains(&writer) {
                groups.push(writer);
                former.groups[writer.index()]
                    .members
                    .push((*id, Level::Point));
            }
        }
        for id in self.crossing {
            former.stored[id.index()] = true;
            former.groups[writer.index()].roots.push(id);
        }
        former.forget_inner_roots(writer);
    }
}

/// Whether a node is element-wise and reads nothing but numbers, points of `writer`, and what is moved there.
fn hangs_on(former: &Former<'_>, id: NodeId, writer: GroupId, moved: &BTreeSet<NodeId>) -> bool {
    let Some(node) = former.graph.node(id) else {
        return false;
    };
    let element_wise = matches!(
        node.op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
    );
    let mut reads = node.operands.iter().enumerate();
    element_wise
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
