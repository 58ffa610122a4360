//! The innermost axis of a map cut into blocks, within which every read is one of adjacent elements.
//!
//! Where a map joins tensors along its innermost axis, or reads heads that lie apart, a lane's index needs a quotient, a remainder or a
//! predicate. Where the borders of all of them are multiples of one block, the blocks become an axis of the grid: within a block the lanes
//! step evenly, and what is read or not is known once a block. The gradient of what was sliced into queries, keys and values, or into gates,
//! is such a map.
//!
//! Blocks of fewer lanes than a register of the widest machine are not worth a loop of their own.

use super::walk::{Walk, steps_evenly};
use crate::kernel::{Atom, Expr, Index, LoopId, ValueId, gcd};
use crate::lower::points::{Item, Points, visit_operands};
use kiln_ir::ops::{Compare, Literal};
use kiln_ir::{DType, Dim};
use std::collections::BTreeMap;

/// The least lanes of a block.
const LEAST: i64 = 16;

/// The points with their last axis cut, or none where nothing is gained.
pub(super) fn split(points: &Points) -> Option<Points> {
    let last = points.axes.len().checked_sub(1)?;
    let extent = points.axes[last].constant()?;
    let axis = LoopId(last as u32);
    let borders = Borders::of(points, axis)?;
    let block = borders.divisors.iter().fold(extent, |a, b| gcd(a, *b));
    if block < LEAST || block >= extent {
        return None;
    }
    let mut cut = points.clone();
    cut.axes[last] = (extent / block).into();
    cut.axes.push(block.into());
    let blocks = Blocks {
        axis,
        inner: LoopId(last as u32 + 1),
        size: block,
        axes: cut.axes.clone(),
    };
    for item in &mut cut.items {
        if let Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } = item
        {
            *index = blocks.index(index);
        }
    }
    for store in &mut cut.stores {
        store.index = blocks.index(&store.index);
    }
    compare_blocks(&mut cut, &borders.compared, &blocks);
    let rank = cut.axes.len();
    let walk = Walk {
        grid: (0..rank - 1).collect(),
        has_grid: true,
        lanes: vec![rank - 1],
        serial: Vec::new(),
        sweep_is_lanes: true,
    };
    steps_evenly(&cut, &walk).then_some(cut)
}

/// What a cut of an axis has to respect.
struct Borders {
    /// A block divides them all.
    divisors: Vec<i64>,
    /// The comparisons of an index with a border, by their values: the index, and the border.
    compared: BTreeMap<ValueId, (Index, i64)>,
}

impl Borders {
    /// None where an index that varies along the axis is used otherwise than in reads and predicates.
    fn of(points: &Points, axis: LoopId) -> Option<Self> {
        let mut borders = Borders {
            divisors: Vec::new(),
            compared: BTreeMap::new(),
        };
        let mut indices: BTreeMap<ValueId, &Index> = BTreeMap::new();
        let mut literals: BTreeMap<ValueId, i64> = BTreeMap::new();
        for item in &points.items {
            let Item::Let { value, expr } = item else {
                return None;
            };
            match expr {
                Expr::Load { index, .. } => borders.divide(index, axis),
                Expr::Index(index) => {
                    match index.as_constant().map(Dim::constant) {
                        Some(Some(constant)) => {
                            literals.insert(*value, constant);
                        }
                        _ => {
                            indices.insert(*value, index);
                        }
                    }
                    continue;
                }
                Expr::Const(Literal::Int(constant)) => {
                    literals.insert(*value, *constant);
                }
                Expr::Compare(Compare::Ge | Compare::Lt, at, border)
                    if indices.contains_key(at) && literals.contains_key(border) =>
                {
                    let (index, border) = (indices[at], literals[border]);
                    if varies(index, axis) {
                        borders.divide(index, axis);
                        // The border along the axis itself.
                        borders.divisors.push(index.base().constant()?);
                        borders.divisors.push(border);
                    }
                    borders.compared.insert(*value, (index.clone(), border));
                    continue;
                }
                _ => {}
            }
            let mut counts = false;
            visit_operands(item, &mut |v| {
                counts |= indices.get(&v).is_some_and(|index| varies(index, axis));
            });
            if counts {
                return None;
            }
        }
        points
            .stores
            .iter()
            .for_each(|store| borders.divide(&store.index, axis));
        (!borders.divisors.is_empty()).then_some(borders)
    }

    /// Notes by what the counter of the axis is divided in an index.
    fn divide(&mut self, index: &Index, axis: LoopId) {
        for (atom, _) in index.terms() {
            if let Atom::FloorDiv(inner, divisor) | Atom::Mod(inner, divisor) = atom
                && varies(inner, axis)
            {
                self.divisors.push(divisor.constant().unwrap_or(1));
                self.divisors.push(inner.base().constant().unwrap_or(1));
                self.divide(inner, axis);
            }
        }
    }
}

fn varies(index: &Index, axis: LoopId) -> bool {
    let mut varies = false;
    index.visit_loops(&mut |id| varies |= id == axis);
    varies
}

/// The axis that is cut and the one within its blocks.
struct Blocks {
    axis: LoopId,
    inner: LoopId,
    size: i64,
    axes: Vec<Dim>,
}

impl Blocks {
    /// An index in terms of both axes.
    fn index(&self, index: &Index) -> Index {
        let counter = |id: LoopId| {
            let own = Index::counter(id);
            if id == self.axis {
                own.times(&self.size.into())
                    .plus(&Index::counter(self.inner))
            } else {
                own
            }
        };
        index.substitute(&counter, &|id| self.extent(id))
    }

    /// The number of the block that an index falls in.
    fn number(&self, index: &Index) -> Index {
        let index = self.index(index);
        index.floor_div(&self.size.into(), &|id| self.extent(id))
    }

    fn extent(&self, id: LoopId) -> Option<Dim> {
        self.axes.get(id.index()).cloned()
    }
}

/// Compares the number of the block with that of the border: `x >= n b` is `x div b >= n`, and so for `<`.
fn compare_blocks(
    points: &mut Points,
    compared: &BTreeMap<ValueId, (Index, i64)>,
    blocks: &Blocks,
) {
    for mut item in std::mem::take(&mut points.items) {
        if let Item::Let {
            value,
            expr: Expr::Compare(_, at, border),
        } = &mut item
            && let Some((index, limit)) = compared.get(value)
            && varies(index, blocks.axis)
        {
            let mut counted = |index: Index| {
                let value = points.new_value(DType::I64);
                let expr = Expr::Index(index);
                points.items.push(Item::Let { value, expr });
                value
            };
            *at = counted(blocks.number(index));
            *border = counted(Index::constant(limit / blocks.size));
        }
        points.items.push(item);
    }
}
