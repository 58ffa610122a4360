//! The few blocks of an axis, computed beside one another: each has its own stores, and no predicate is left.
//!
//! Where a map joins tensors, a point of the joined one reads one of them, and which one is known once the block is. With the blocks written
//! out, every tensor is read where it is needed and nowhere else, and what the tensors are computed from together is computed once: of four
//! gates, each is a store of one straight loop.

use crate::kernel::{Expr, Index, LoopId, ValueId};
use crate::lower::points::{Item, PointStore, Points, visit_operands};
use kiln_ir::DType;
use kiln_ir::ops::{Binary, Compare, Literal};
use std::collections::{BTreeSet, HashMap};

/// More blocks are left to a loop.
const MOST_BLOCKS: i64 = 8;
/// More values make a loop that no machine has registers for.
const MOST_ITEMS: usize = 256;

/// The points without the axis before the last, which counts blocks; none where there are too many, or an index is data.
pub(super) fn unroll(points: &Points) -> Option<Points> {
    let inner = points.axes.len().checked_sub(1)?;
    let axis = inner.checked_sub(1)?;
    let blocks = points.axes[axis].constant()?;
    if blocks > MOST_BLOCKS || points.items.len() > MOST_ITEMS {
        return None;
    }
    let mut unrolled = Unrolled {
        old: points,
        new: Points {
            values: Vec::new(),
            items: Vec::new(),
            stores: Vec::new(),
            ..points.clone()
        },
        axis,
        known: HashMap::new(),
        literals: HashMap::new(),
    };
    unrolled.new.axes.remove(axis);
    for block in 0..blocks {
        unrolled.block(block)?;
    }
    let mut new = unrolled.new;
    drop_dead(&mut new);
    (new.items.len() <= MOST_ITEMS).then_some(new)
}

struct Unrolled<'p> {
    old: &'p Points,
    new: Points,
    axis: usize,
    /// What has been computed, in any block. Looked up, never walked.
    known: HashMap<(DType, Expr), ValueId>,
    /// The new values that are numbers.
    literals: HashMap<ValueId, i64>,
}

impl Unrolled<'_> {
    /// Appends what one block computes and stores.
    fn block(&mut self, block: i64) -> Option<()> {
        let old = self.old;
        let mut map: Vec<Option<ValueId>> = vec![None; old.values.len()];
        for item in &old.items {
            let Item::Let { value, expr } = item else {
                return None;
            };
            let mut data = false;
            if let Expr::Load { index, .. } | Expr::Index(index) = expr {
                index.visit_values(&mut |_| data = true);
            }
            if data {
                return None;
            }
            let dtype = old.values[value.0 as usize];
            let expr = expr.map(&|v| map[v.0 as usize].unwrap_or(v), &|index| {
                self.index(index, block)
            });
            map[value.0 as usize] = Some(self.simple(dtype, expr));
        }
        for store in &old.stores {
            let index = self.index(&store.index, block);
            self.new.stores.push(PointStore {
                param: store.param,
                index,
                value: map[store.value.0 as usize]?,
            });
        }
        Some(())
    }

    /// The index within a block.
    fn index(&self, index: &Index, block: i64) -> Index {
        let counter = |id: LoopId| match id.index() {
            at if at < self.axis => Index::counter(id),
            at if at == self.axis => Index::constant(block),
            at => Index::counter(LoopId(at as u32 - 1)),
        };
        index.substitute(&counter, &|id| self.old.axes.get(id.index()).cloned())
    }

    /// The value of an expression, with what is known of its operands made use of.
    fn simple(&mut self, dtype: DType, expr: Expr) -> ValueId {
        let number = |v: &ValueId| self.literals.get(v).copied();
        let literal = match &expr {
            Expr::Const(Literal::Int(number)) => Some(*number),
            Expr::Index(index) => index.as_constant().and_then(|dim| dim.constant()),
            Expr::Compare(op, a, b) if self.is_count(*a) => match (number(a), number(b)) {
                (Some(a), Some(b)) => match op {
                    Compare::Ge => Some(i64::from(a >= b)),
                    Compare::Lt => Some(i64::from(a < b)),
                    Compare::Eq | Compare::Ne | Compare::Le | Compare::Gt => None,
                },
                (Some(_) | None, Some(_) | None) => None,
            },
            Expr::Binary(Binary::And, a, b) if dtype == DType::Bool => match (number(a), number(b))
            {
                (Some(a), Some(b)) => Some(a & b),
                (Some(0), None) | (None, Some(0)) => Some(0),
                (Some(_) | None, Some(_) | None) => None,
            },
            Expr::Select(condition, yes, no) => match number(condition) {
                Some(0) => return *no,
                Some(_) => return *yes,
                None => None,
            },
            Expr::Load {
                predicate: Some(predicate),
                ..
            } if number(predicate) == Some(0) => {
                let zero = Expr::Const(Literal::of(dtype, 0.0));
                return self.value(dtype, zero);
            }
            _ => None,
        };
        match (expr, literal) {
            (_, Some(number)) => {
                let value = self.value(dtype, Expr::Const(Literal::Int(number)));
                self.literals.insert(value, number);
                value
            }
            (
                Expr::Load {
                    param,
                    index,
                    predicate: Some(predicate),
                },
                None,
            ) => {
                let always = self.literals.get(&predicate).is_some_and(|p| *p != 0);
                let predicate = (!always).then_some(predicate);
                let load = Expr::Load {
                    param,
                    index,
                    predicate,
                };
                self.value(dtype, load)
            }
            (expr, None) => self.value(dtype, expr),
        }
    }

    /// Whether a value is of the type of indices.
    fn is_count(&self, value: ValueId) -> bool {
        self.new.values.get(value.0 as usize) == Some(&DType::I64)
    }

    /// The value, computed once.
    fn value(&mut self, dtype: DType, expr: Expr) -> ValueId {
        let key = (dtype, expr);
        if let Some(value) = self.known.get(&key) {
            return *value;
        }
        let value = self.new.new_value(dtype);
        let expr = key.1.clone();
        self.new.items.push(Item::Let { value, expr });
        self.known.insert(key, value);
        value
    }
}

/// Drops what no store needs.
fn drop_dead(points: &mut Points) {
    let mut live: BTreeSet<ValueId> = points.stores.iter().map(|s| s.value).collect();
    for item in points.items.iter().rev() {
        if live.contains(&item.value()) {
            visit_operands(item, &mut |v| {
                live.insert(v);
            });
        }
    }
    points.items.retain(|item| live.contains(&item.value()));
}
