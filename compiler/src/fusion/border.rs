//! A map that follows rows takes over their border.
//!
//! Cheap values that a map reads for each of its rows are placed inline, so that the map may be walked as one: it has no border between
//! rows and columns. Where such a value hangs on what a kernel of rows reduces, the map is a pass over memory that this kernel could do:
//! the last addition in the gradient of a mean, for one. With the border of the rows, these values are units, and the two may merge.

use super::form::Former;
use super::place::read_level;
use super::{Group, GroupId, Level, Space};

/// The map of two groups, and what it would be with the border of the other one, if that makes a difference.
pub(super) fn bordered(former: &Former<'_>, a: GroupId, b: GroupId) -> Option<(GroupId, Group)> {
    let fixed = |id: GroupId| match &former.groups[id.index()].space {
        Space::Rows { fixed, columns, .. } => Some(*fixed && !columns.is_empty()),
        Space::Columns { .. } => None,
    };
    match (fixed(a)?, fixed(b)?) {
        (false, true) => Some((a, with_border(former, a, b)?)),
        (true, false) => Some((b, with_border(former, b, a)?)),
        (true, true) | (false, false) => None,
    }
}

fn with_border(former: &Former<'_>, map: GroupId, rows: GroupId) -> Option<Group> {
    let (from, to) = (&former.groups[map.index()], &former.groups[rows.index()]);
    let alone = !from.members.is_empty() && from.product.is_none();
    if !alone || from.space.point() != to.space.point() {
        return None;
    }
    let mut group = Group {
        space: to.space.clone(),
        ..from.clone()
    };
    // Consumers come first.
    group.members.sort_unstable();
    let mut changed = false;
    for at in (0..group.members.len()).rev() {
        let (id, level) = group.members[at];
        let read = |user: &super::form::Use| {
            let level = group.level(user.consumer)?;
            let reduces = former.is_fold(user.consumer);
            Some(read_level(&group.space, level, reduces, user, false).0)
        };
        let mut levels = former.users[id.index()].iter().filter_map(read);
        let unit = level == Level::Inline
            && levels.next() == Some(Level::Unit)
            && levels.all(|l| l == Level::Unit);
        if unit {
            group.members[at].1 = Level::Unit;
            changed = true;
        }
    }
    changed.then_some(group)
}
