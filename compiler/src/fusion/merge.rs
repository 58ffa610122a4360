//! The second half of the grouping rule: groups over one space that touch the same memory become one.
//!
//! A producer met its consumers' groups when it was placed, but two groups that were begun apart may turn out to walk the same space: the
//! loss of each row beside the gradient of each row. They are merged where one reads what the other writes at its own place, or both
//! read the same tensor, and where the result depends on nothing that waits for it. Results that only the merged group reads lose their
//! memory.

use super::border::bordered;
use super::form::{Former, MOST_MEMBERS};
use super::place::read_level;
use super::relation::Relation;
use super::{GroupId, Level, Space};
use kiln_ir::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Merges until nothing more can be. Each group is compared with those behind it, in order, that have anything in common with what it has
/// become: most groups of a large graph never meet.
pub(super) fn merge(former: &mut Former<'_>) {
    let mut kin = Kin::of(former);
    for first in 0..former.groups.len() {
        let mut open: BTreeSet<usize> = kin.behind(first, first).collect();
        while let Some(second) = open.pop_first() {
            let (a, b) = (GroupId(first as u32), GroupId(second as u32));
            if let Some(space) = merged_space(former, &kin, a, b) {
                join(former, a, b, space);
                kin.loads[first] = sorted(former.loads(a));
                open.extend(kin.behind(second, second));
            } else if let Some((map, with_border)) = bordered(former, a, b) {
                let without = std::mem::replace(&mut former.groups[map.index()], with_border);
                match merged_space(former, &kin, a, b) {
                    Some(space) => {
                        join(former, a, b, space);
                        kin.loads[first] = sorted(former.loads(a));
                        open.extend(kin.behind(second, second));
                    }
                    None => former.groups[map.index()] = without,
                }
            }
        }
    }
    former.drop_empty();
}

/// What groups have in common. A group behind the one that grows has not changed since this was collected.
struct Kin {
    /// The tensors that each group reads from memory, ascending.
    loads: Vec<Vec<NodeId>>,
    /// The same as it was at first, with the groups that read each tensor.
    first_loads: Vec<Vec<NodeId>>,
    readers: BTreeMap<NodeId, Vec<usize>>,
    /// Groups of which one computes with what the other writes.
    near: Vec<Vec<usize>>,
    /// Groups that run once a step.
    once: Vec<usize>,
    is_once: Vec<bool>,
}

impl Kin {
    fn of(former: &Former<'_>) -> Self {
        let count = former.groups.len();
        let all = || (0..count).map(|g| GroupId(g as u32));
        let loads: Vec<Vec<NodeId>> = all().map(|g| sorted(former.loads(g))).collect();
        let mut readers: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (group, loads) in loads.iter().enumerate() {
            for node in loads {
                readers.entry(*node).or_default().push(group);
            }
        }
        let mut near: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (writer, group) in former.groups.iter().enumerate() {
            for user in group.roots.iter().flat_map(|r| &former.users[r.index()]) {
                for reader in &former.membership[user.consumer.index()] {
                    near[writer].push(reader.index());
                    near[reader.index()].push(writer);
                }
            }
        }
        let is_once: Vec<bool> = former.groups.iter().map(|g| runs_once(&g.space)).collect();
        Kin {
            first_loads: loads.clone(),
            loads,
            readers,
            near,
            once: (0..count).filter(|g| is_once[*g]).collect(),
            is_once,
        }
    }

    /// The groups behind position `after` that may have something in common with a group as it was at first.
    fn behind(&self, group: usize, after: usize) -> impl Iterator<Item = usize> {
        let shared = self.first_loads[group].iter();
        let shared = shared.filter_map(|n| self.readers.get(n)).flatten();
        let once = self.once.iter().filter(move |_| self.is_once[group]);
        let all = shared.chain(&self.near[group]).chain(once).copied();
        all.filter(move |g| *g > after)
    }

    /// Whether both groups read a tensor.
    fn share(&self, a: GroupId, b: GroupId) -> bool {
        let theirs = &self.loads[b.index()];
        let mut own = self.loads[a.index()].iter();
        own.any(|n| theirs.binary_search(n).is_ok())
    }
}

fn sorted(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes
}

fn merged_space(former: &Former<'_>, kin: &Kin, a: GroupId, b: GroupId) -> Option<Space> {
    let (first, second) = (&former.groups[a.index()], &former.groups[b.index()]);
    if let Some(space) = scalar_space(former, a, b) {
        return Some(space);
    }
    let alive = !first.members.is_empty() && !second.members.is_empty();
    let products = first.product.is_some() && second.product.is_some();
    if !alive || products || first.members.len() + second.members.len() > MOST_MEMBERS {
        return None;
    }
    if former.stands_alone(a) || former.stands_alone(b) {
        return None;
    }
    if former.is_rowless(a) || former.is_rowless(b) {
        return None;
    }
    let space = common_space(&first.space, &second.space)?;
    let points = |members: &[(NodeId, Level)]| members.iter().any(|(_, l)| *l == Level::Point);
    let stores_points = [first, second].iter().any(|g| {
        g.roots.iter().any(|r| {
            g.product != Some(*r) && matches!(g.level(*r), Some(Level::Point | Level::Parts))
        })
    });
    let whole = matches!(&space, Space::Rows { rows, columns, fixed: true } if rows.is_empty() && !columns.is_empty());
    if whole && stores_points && first.product.is_none() && second.product.is_none() {
        return None;
    }
    let agree = first
        .members
        .iter()
        .all(|(n, level)| second.level(*n).is_none_or(|other| other == *level));
    if !agree || (!points(&first.members) && !points(&second.members) && space.point().is_empty()) {
        return None;
    }
    let touches = reads_in_place(former, a, b, &space)? | reads_in_place(former, b, a, &space)?;
    if !touches && !kin.share(a, b) {
        return None;
    }
    let circle = former.reaches_through(a, b) || former.reaches_through(b, a);
    (!circle).then_some(space)
}

/// The space of a group of scalars and another group that runs once a step, which saves a launch whether they share anything or not.
/// A group that a guard waits for is left alone: nothing that writes state may run before it.
fn scalar_space(former: &Former<'_>, a: GroupId, b: GroupId) -> Option<Space> {
    let [first, second] = [a, b].map(|g| &former.groups[g.index()]);
    let alone = |g: &super::Group| {
        let guarded = g.roots.iter().any(|r| former.conditions[r.index()]);
        runs_once(&g.space) && !guarded && g.product.is_none() && !g.members.is_empty()
    };
    let small = first.members.len() + second.members.len() <= MOST_MEMBERS;
    let (one, other) = (is_scalar(&first.space), is_scalar(&second.space));
    if !small || !alone(first) || !alone(second) || !(one || other) {
        return None;
    }
    if former.stands_alone(a) || former.stands_alone(b) {
        return None;
    }
    let space = if one { &second.space } else { &first.space };
    let unit = |g: &super::Group, n: NodeId| g.level(n).map(|l| as_unit(&g.space, space, l));
    let agree = first.members.iter().all(|(n, _)| {
        let other = unit(second, *n);
        other.is_none() || other == unit(first, *n)
    });
    let circle = former.reaches_through(a, b) || former.reaches_through(b, a);
    let reads = former.next_groups(a).contains(&b) || former.next_groups(b).contains(&a);
    (agree && !circle && !reads).then(|| space.clone())
}

/// Whether a kernel over the space has one unit: a scalar, or a reduction of a whole tensor.
fn runs_once(space: &Space) -> bool {
    match space {
        Space::Rows {
            rows,
            columns,
            fixed,
        } => rows.is_empty() && (*fixed || columns.is_empty()),
        Space::Columns { .. } => false,
    }
}

fn is_scalar(space: &Space) -> bool {
    matches!(space, Space::Rows { .. }) && space.point().is_empty()
}

/// The level of a member of `from` once its group walks `to`: what was a point of a space of one is a unit of a larger one.
fn as_unit(from: &Space, to: &Space, level: Level) -> Level {
    if level == Level::Point && is_scalar(from) && !is_scalar(to) {
        Level::Unit
    } else {
        level
    }
}

/// The space of both, if it is one.
fn common_space(a: &Space, b: &Space) -> Option<Space> {
    match (a, b) {
        (Space::Rows { fixed: false, .. }, Space::Rows { .. }) => {
            (a.point() == b.point()).then(|| b.clone())
        }
        (Space::Rows { .. }, Space::Rows { fixed: false, .. }) => {
            (a.point() == b.point()).then(|| a.clone())
        }
        (Space::Rows { .. } | Space::Columns { .. }, _) => (a == b).then(|| a.clone()),
    }
}

/// Whether `reader` reads roots of `writer`; `None` if it does so away from their own place, or in memory.
fn reads_in_place(
    former: &Former<'_>,
    writer: GroupId,
    reader: GroupId,
    space: &Space,
) -> Option<bool> {
    let (from, to) = (
        &former.groups[writer.index()],
        &former.groups[reader.index()],
    );
    let mut touches = false;
    for root in &from.roots {
        for user in &former.users[root.index()] {
            // A node is in few groups, but a group has many members.
            if !former.membership[user.consumer.index()].contains(&reader) {
                continue;
            }
            let Some(level) = to.level(user.consumer) else {
                continue;
            };
            let own = from.level(*root)?;
            let in_product = to.product == Some(user.consumer);
            if in_product || user.relation == Relation::Memory {
                return None;
            }
            let reduces = former.is_fold(user.consumer);
            let (read, border) = read_level(space, level, reduces, user, false);
            if read != own || border.is_some() {
                return None;
            }
            touches = true;
        }
    }
    Some(touches)
}

fn join(former: &mut Former<'_>, a: GroupId, b: GroupId, space: Space) {
    let gone = std::mem::replace(
        &mut former.groups[b.index()],
        super::Group {
            space: space.clone(),
            members: Vec::new(),
            roots: Vec::new(),
            product: None,
            sides: Vec::new(),
            blocks: Vec::new(),
        },
    );
    let kept = &mut former.groups[a.index()];
    for (_, level) in &mut kept.members {
        *level = as_unit(&kept.space, &space, *level);
    }
    let from = gone.space;
    let to = space.clone();
    kept.space = space;
    kept.product = kept.product.or(gone.product);
    for (node, level) in gone.members {
        if kept.level(node).is_none() {
            kept.members.push((node, as_unit(&from, &to, level)));
        }
        let groups = &mut former.membership[node.index()];
        groups.retain(|g| *g != b && *g != a);
        groups.push(a);
    }
    kept.roots.extend(gone.roots);
    former.forget_inner_roots(a);
}
