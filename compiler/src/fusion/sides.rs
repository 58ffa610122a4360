//! The third part of the grouping rule: reductions over leading axes join the rows that their operands pass through.
//!
//! The backward of a layer norm is a kernel of rows (the gradient by the rows) and a reduction of columns (the gradients by scale and
//! shift), and both read the same tensors. A reduction over rows is defined in blocks of [`SERIAL_BLOCK`] rows
//! (`kernel::Accumulator`), so the kernel of rows can fold these on the side, each block onto a row of a small buffer that stays in
//! L1, and the group of the reduction is left with the blocks to fold and with what follows them. The number of launches stays what it
//! was, and one pass over memory is saved.
//!
//! It is not done where it would not pay: few rows, whose blocks are as large as what is saved; many columns, for which a row of blocks
//! does not stay in cache; epilogues of products, whose panels begin at any row.

use super::form::{Former, MOST_MEMBERS};
use super::place::read_level;
use super::{GroupId, Level, Space, squeezed};
use crate::kernel::SERIAL_BLOCK;
use kiln_ir::ops::Op;
use kiln_ir::{Dim, NodeId};

/// Rows, where their number is known, from which two blocks or more save more than they cost.
const LEAST_ROWS: i64 = 2 * SERIAL_BLOCK;
/// The elements of all rows of blocks that a row of a kernel reads and writes, at most: 64 KiB of floats, a part of any L2.
const MOST_COLUMNS: i64 = 1 << 14;
/// The columns, from which a map may be cut into rows for the sake of a reduction.
const LEAST_OF_MAP: i64 = 256;

/// Lets reductions join rows, each group of reductions those with which it shares most tensors.
pub(super) fn join_sides(former: &mut Former<'_>) {
    for at in 0..former.groups.len() {
        let columns = GroupId(at as u32);
        let Some(kept) = Kept::of(former, columns) else {
            continue;
        };
        let candidates = (0..former.groups.len()).filter_map(|rows| {
            let rows = GroupId(rows as u32);
            let shared = shared(former, &kept, columns, rows)?;
            Some((shared, rows))
        });
        // The first of the best.
        let best = candidates.rev().max_by_key(|(shared, _)| *shared);
        if let Some((_, rows)) = best {
            join(former, kept, columns, rows);
        }
    }
}

/// A group of reductions over leading axes, taken apart.
struct Kept {
    /// The reductions.
    folds: Vec<NodeId>,
    /// The members that the operands of the reductions need.
    before: Vec<NodeId>,
    /// The reductions, and the members that are computed from them or beside them.
    behind: Vec<NodeId>,
    reduced: Vec<Dim>,
    inner: Vec<Dim>,
}

impl Kept {
    /// The parts of a group whose reductions may join others.
    fn of(former: &Former<'_>, group: GroupId) -> Option<Kept> {
        let found = &former.groups[group.index()];
        let Space::Columns {
            outer,
            reduced,
            inner,
        } = &found.space
        else {
            return None;
        };
        let rows = product(reduced).unwrap_or(i64::MAX);
        let columns = product(inner)?;
        let folds: Vec<NodeId> = found.members.iter().map(|(n, _)| *n).collect();
        let folds: Vec<NodeId> = folds.into_iter().filter(|n| former.is_fold(*n)).collect();
        let width = columns.saturating_mul(folds.len() as i64);
        if !outer.is_empty() || rows < LEAST_ROWS || width > MOST_COLUMNS {
            return None;
        }
        let sums = |n: &NodeId| {
            let op = former.graph.node(*n).map(|n| &n.op);
            matches!(op, Some(Op::Reduce(_)))
        };
        if found.product.is_some() || folds.is_empty() || !folds.iter().all(sums) {
            return None;
        }
        let operands: Vec<NodeId> = folds.iter().flat_map(|n| former.read(*n)).collect();
        let before = needed(former, group, &[], operands);
        let behind = needed(former, group, &folds, found.roots.clone());
        let at_points = |n: &NodeId| found.level(*n) != Some(Level::Unit);
        before.iter().all(at_points).then(|| Kept {
            before,
            behind,
            reduced: reduced.clone(),
            inner: inner.clone(),
            folds,
        })
    }
}

/// The product of extents, where it is known.
fn product(extents: &[Dim]) -> Option<i64> {
    extents
        .iter()
        .try_fold(1_i64, |n, d| Some(n.saturating_mul(d.constant()?)))
}

/// The members of a group that some nodes are computed from, these among them, without what lies behind `ends`.
fn needed(
    former: &Former<'_>,
    group: GroupId,
    ends: &[NodeId],
    mut open: Vec<NodeId>,
) -> Vec<NodeId> {
    let mut found: Vec<NodeId> = Vec::new();
    while let Some(node) = open.pop() {
        if former.groups[group.index()].level(node).is_none() || found.contains(&node) {
            continue;
        }
        found.push(node);
        if !ends.contains(&node) {
            open.extend(former.read(node));
        }
    }
    found.sort_unstable();
    found
}

/// How many tensors of the size of the points both groups touch, if the reductions of one may join the other.
fn shared(former: &Former<'_>, kept: &Kept, columns: GroupId, rows: GroupId) -> Option<usize> {
    let found = &former.groups[rows.index()];
    let Space::Rows {
        rows: own,
        columns: across,
        fixed,
    } = &found.space
    else {
        return None;
    };
    let same = if *fixed {
        *own == kept.reduced && *across == kept.inner
    } else {
        let wide = product(&kept.inner).is_some_and(|n| n >= LEAST_OF_MAP);
        wide && found.space.point() == [&kept.reduced[..], &kept.inner].concat()
    };
    let alive = !found.members.is_empty();
    let members = found.members.len() + kept.before.len();
    if !same || !alive || found.product.is_some() || members > MOST_MEMBERS {
        return None;
    }
    if former.stands_alone(rows) || former.stands_alone(columns) {
        return None;
    }
    let agree = kept.before.iter().all(|n| {
        let theirs = former.groups[columns.index()].level(*n);
        let own = found.level(*n);
        own.is_none() || own == theirs || theirs == Some(Level::Inline)
    });
    if !agree || !reads_in_place(former, kept, columns, rows) {
        return None;
    }
    let full = |n: &NodeId| squeezed(former.shape(*n)) == found.space.point();
    let mut touched = former.loads(rows);
    touched.extend(&found.roots);
    let mut read: Vec<NodeId> = former.loads(columns);
    read.extend(kept.folds.iter().flat_map(|n| former.read(*n)));
    read.sort_unstable();
    read.dedup();
    let shared = read.iter().filter(|n| full(n) && touched.contains(n));
    let shared = shared.count();
    let circle = former.reaches(columns, rows) || former.reaches_through(rows, columns);
    (shared > 0 && !circle).then_some(shared)
}

/// Whether all that the reductions need of what the rows store is needed where the rows compute it.
fn reads_in_place(former: &Former<'_>, kept: &Kept, columns: GroupId, rows: GroupId) -> bool {
    let (from, to) = (
        &former.groups[rows.index()],
        &former.groups[columns.index()],
    );
    let space = Space::Rows {
        rows: kept.reduced.clone(),
        columns: kept.inner.clone(),
        fixed: true,
    };
    let in_place = |root: &NodeId| {
        former.users[root.index()].iter().all(|user| {
            let reduces = kept.folds.contains(&user.consumer);
            if !reduces && !kept.before.contains(&user.consumer) {
                return true;
            }
            let level = to.level(user.consumer).unwrap_or(Level::Inline);
            let (read, border) = read_level(&space, level, reduces, user, false);
            from.level(*root) == Some(read) && border.is_none()
        })
    };
    from.roots.iter().all(in_place)
}

fn join(former: &mut Former<'_>, kept: Kept, columns: GroupId, rows: GroupId) {
    let group = &mut former.groups[columns.index()];
    let before: Vec<(NodeId, Level)> = kept
        .before
        .iter()
        .filter_map(|n| Some((*n, group.level(*n)?)))
        .collect();
    // What is left is a map over the columns.
    group.members.retain(|(n, _)| kept.behind.contains(n));
    for (_, level) in &mut group.members {
        if *level == Level::Unit {
            *level = Level::Point;
        }
    }
    group.space = Space::map(&kept.inner);
    group.blocks.clone_from(&kept.folds);
    for (node, level) in before {
        let joined = &mut former.groups[rows.index()];
        if joined.level(node).is_none() {
            joined.members.push((node, level));
        }
        let groups = &mut former.membership[node.index()];
        groups.retain(|g| *g != rows && (*g != columns || kept.behind.contains(&node)));
        groups.push(rows);
    }
    let joined = &mut former.groups[rows.index()];
    joined.space = Space::Rows {
        rows: kept.reduced,
        columns: kept.inner,
        fixed: true,
    };
    for fold in kept.folds {
        joined.sides.push(fold);
        former.side_of[fold.index()] = Some(rows);
    }
    former.forget_inner_roots(rows);
}

impl Former<'_> {
    /// The anchored nodes that a node is computed from.
    fn read(&self, id: NodeId) -> Vec<NodeId> {
        let Some(node) = self.graph.node(id) else {
            return Vec::new();
        };
        let operands = node.operands.iter().enumerate();
        operands
            .filter_map(|(position, operand)| Some(self.reach(node, position, *operand)?.0))
            .collect()
    }
}
