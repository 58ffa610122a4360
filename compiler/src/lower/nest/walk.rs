//! Which loops walk which axes of a space.

use super::{GRID, LANES, SWEEP};
use crate::access::unravel;
use crate::fusion::Space;
use crate::kernel::{Atom, Expr, Index, LoopId};
use crate::lower::count;
use crate::lower::points::{Item, Points};
use kiln_ir::Dim;

/// How the axes of a space are walked.
pub(super) struct Walk {
    /// The axes of the grid loop, by position.
    pub(super) grid: Vec<usize>,
    /// Whether there is a grid loop: an epilogue has one even where its product has a single row.
    pub(super) has_grid: bool,
    /// The axes of the lanes.
    pub(super) lanes: Vec<usize>,
    /// The axes of the serial loop of a column reduction.
    pub(super) serial: Vec<usize>,
    /// Whether the sweep is the lanes loop (rows) or the serial loop (columns).
    pub(super) sweep_is_lanes: bool,
}

/// The trip counts of the loops; 1 where there is none.
pub(super) struct Extents {
    pub(super) grid: Dim,
    pub(super) lanes: Dim,
    pub(super) serial: Dim,
}

pub(super) fn extent(axes: &[Dim], of: &[usize]) -> Dim {
    count(&of.iter().map(|a| axes[*a].clone()).collect::<Vec<_>>())
}

pub(super) fn choose(points: &Points, space: &Space, epilogue: bool) -> Walk {
    let rank = points.axes.len();
    let rows = |k: usize| Walk {
        grid: (0..k).collect(),
        has_grid: k > 0,
        lanes: (k..rank).collect(),
        serial: Vec::new(),
        sweep_is_lanes: true,
    };
    match space {
        Space::Columns { outer, reduced, .. } => {
            let (o, r) = (outer.len(), outer.len() + reduced.len());
            Walk {
                grid: (0..o).collect(),
                has_grid: o > 0,
                lanes: (r..rank).collect(),
                serial: (o..r).collect(),
                sweep_is_lanes: false,
            }
        }
        Space::Rows {
            rows: fixed_rows,
            columns,
            fixed: true,
        } if !columns.is_empty() => Walk {
            has_grid: epilogue || !fixed_rows.is_empty(),
            ..rows(fixed_rows.len())
        },
        // The rows of an epilogue are its outermost loop even where a row has one column.
        Space::Rows { .. } if epilogue => rows(0),
        // Without a border to keep, as many axes as possible are walked as one, as long as the lanes step evenly.
        Space::Rows { .. } => (0..rank)
            .map(rows)
            .find(|walk| steps_evenly(points, walk))
            .unwrap_or_else(|| rows(rank.saturating_sub(1))),
    }
}

/// Whether no index needs a quotient or a remainder of the lanes' counter.
pub(super) fn steps_evenly(points: &Points, walk: &Walk) -> bool {
    let replace = Replacement::new(points, walk);
    let even = |index: &Index| {
        let index = replace.index(index);
        index.terms().iter().all(|(atom, _)| match atom {
            Atom::Loop(_) | Atom::Value(_) => true,
            Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => {
                let mut varies = false;
                inner.visit_loops(&mut |id| varies |= id == LANES);
                !varies
            }
        })
    };
    let loads = points.items.iter().all(|item| match item {
        Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } => even(index),
        Item::Let { .. } | Item::Fold { .. } => true,
    });
    loads && points.stores.iter().all(|s| even(&s.index))
}

/// The counters of axes in terms of the loops.
pub(super) struct Replacement {
    pub(super) by_axis: Vec<Index>,
    pub(super) extents: [Dim; 3],
}

impl Replacement {
    pub(super) fn new(points: &Points, walk: &Walk) -> Self {
        let mut by_axis = vec![Index::constant(0); points.axes.len()];
        let loops = [
            (GRID, &walk.grid),
            (LANES, &walk.lanes),
            (LoopId(SWEEP), &walk.serial),
        ];
        let extents = loops.each_ref().map(|(_, of)| extent(&points.axes, of));
        for (id, of) in loops {
            let shape: Vec<Dim> = of.iter().map(|a| points.axes[*a].clone()).collect();
            let known = |l: LoopId| extents.get(l.index()).cloned();
            let index = unravel(&Index::counter(id), &shape, &known);
            for (axis, index) in of.iter().zip(index) {
                by_axis[*axis] = index;
            }
        }
        Self { by_axis, extents }
    }

    pub(super) fn index(&self, index: &Index) -> Index {
        index.substitute(&|id| self.by_axis[id.index()].clone(), &|id| {
            self.extents.get(id.index()).cloned()
        })
    }
}

pub(super) fn flattened(mut points: Points, walk: &Walk) -> Points {
    let replace = Replacement::new(&points, walk);
    for item in &mut points.items {
        if let Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } = item
        {
            *index = replace.index(index);
        }
    }
    for store in &mut points.stores {
        store.index = replace.index(&store.index);
    }
    points
}
