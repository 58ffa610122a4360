//! Where a node would be evaluated in a group of its consumers, or why it cannot be.

use super::cost::is_cheap;
use super::form::{Former, MOST_MEMBERS, Use};
use super::limits::Inlined;
use super::nodes::is_given;
use super::relation::Relation;
use super::{GroupId, Level, Space, as_fold, squeezed};
use kiln_ir::ops::{Conv, DataRole, Op};
use kiln_ir::{DType, Dim, Node, NodeId};

/// A cheap node is computed in at most this many groups.
const MOST_COPIES: usize = 4;

/// A group's space and a member's level in it, if the member joins.
pub(super) struct Place {
    pub(super) level: Level,
    pub(super) space: Space,
    /// Whether the members so far move from points to units.
    pub(super) promote: bool,
    /// What it takes to evaluate the node, if its level is inline.
    pub(super) inlined: Inlined,
}

impl Former<'_> {
    pub(super) fn place_product(
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

    /// How many extents of a product's or convolution's squeezed shape count its rows; its panels are cut there, so the border of its group is too.
    pub(super) fn product_rows(&self, node: &Node) -> Option<usize> {
        let dot = match &node.op {
            Op::Dot(dot) => dot,
            Op::Conv(conv) => return convolution_rows(conv, &node.ty.shape),
            _ => return None,
        };
        let right = self.rank(node.operands[1]) - dot.contract.1.len() - dot.batch.1.len();
        Some(squeezed(&node.ty.shape[..node.ty.rank() - right]).len())
    }

    /// Whether a node may be computed again in each of several groups: cheap, and all it reads is in memory anyway.
    pub(super) fn may_copy(&self, id: NodeId, node: &Node, groups: &[GroupId]) -> bool {
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
    pub(super) fn place_stored(
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
        // Groups are to be numbered anew, so the reason names a reader.
        let reads = |other: &GroupId| {
            let mut readers = self.users[id.index()].iter().map(|u| u.consumer);
            readers.find(|r| self.membership[r.index()].contains(other))
        };
        match circle.and_then(reads) {
            Some(reader) => Err(format!("the group needs {reader}, which reads it too")),
            None => Ok(place),
        }
    }

    /// Where the node would be evaluated in a group of its consumers, or why it cannot be.
    pub(super) fn place(
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
        let mut inlined = Inlined::default();
        for user in &self.users[id.index()] {
            let Some(level) = joined.level(user.consumer) else {
                continue;
            };
            if joined.product == Some(user.consumer) || user.relation == Relation::Memory {
                return Err(format!("{} reads it in memory", user.consumer));
            }
            let consumer = self.graph.node(user.consumer);
            let reduces = consumer.is_some_and(|c| as_fold(self.graph, c).is_some());
            let (read, border) = read_level(&joined.space, level, reduces, user, cheap && !stored);
            if read == Level::Inline {
                let by = self.inlined.get(&(group, user.consumer));
                inlined = inlined.read(by.copied(), user.views);
                replicated |= !matches!(
                    user.relation_to(level),
                    Relation::Same | Relation::Other { replicates: false }
                );
            }
            if !levels.contains(&(read, border)) {
                levels.push((read, border));
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
        if inline
            && !self.scalars[id.index()]
            && let Some(reason) = inlined.excess()
        {
            return Err(reason);
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
        if promote && joined.members.iter().any(|(_, l)| *l == Level::Parts) {
            return Err("the group joins parts of points".into());
        }
        if promote && joined.product.is_some() {
            return Err("the group is the epilogue of a product".into());
        }
        Ok(Place {
            level,
            space,
            promote,
            inlined,
        })
    }
}

/// The rows of a convolution are all features of one image at one position. They need to lie together, groups outermost, and the images
/// outside or inside of the positions.
fn convolution_rows(conv: &Conv, shape: &[Dim]) -> Option<usize> {
    let (axes, last) = (&conv.axes.out, shape.len() - 1);
    let ordered = axes.spatial.is_sorted() && (axes.batch == 0 || axes.batch + 1 == last);
    let together = axes.feature == last && conv.groups.out == DataRole::Feature;
    (ordered && together).then(|| squeezed(&shape[..last]).len())
}

/// The level at which a producer is read, and the border between rows and columns that this takes.
pub(super) fn read_level(
    space: &Space,
    consumer: Level,
    reduces: bool,
    read: &Use,
    movable: bool,
) -> (Level, Option<usize>) {
    let inline = (Level::Inline, None);
    // A reduction reads its operand at the points of its unit.
    let at = if reduces { Level::Point } else { consumer };
    match (at, read.relation_to(consumer)) {
        (_, Relation::Other { .. } | Relation::Memory) | (Level::Inline, _) => inline,
        (Level::Point | Level::Parts, Relation::Same) => (Level::Point, None),
        (Level::Unit, Relation::Same) => (Level::Unit, None),
        (Level::Unit, Relation::Prefix(_)) => inline,
        (Level::Point | Level::Parts, Relation::Prefix(k)) => match space {
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
pub(super) fn fixed_at(space: &Space, k: usize) -> Option<Space> {
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
