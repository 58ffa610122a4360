//! The names of values within a sweep.

use super::{LANES, SWEEP, Sweeps};
use crate::kernel::{Expr, Index, LoopId, ParamId, Stmt, ValueId};

/// The names that values have within one sweep: a value computed in several sweeps has a name in each.
pub(super) struct Names {
    renamed: Vec<Option<ValueId>>,
    first_new: usize,
    pub(super) new: Vec<kiln_ir::DType>,
    dtypes: Vec<kiln_ir::DType>,
    stash: Vec<Option<ParamId>>,
    rename: bool,
    /// The counter of the flattened points, and the counter of this sweep.
    counter: (LoopId, LoopId),
}

impl Names {
    pub(super) fn new(sweeps: &Sweeps<'_>, number: usize, id: LoopId) -> Self {
        let flat = if sweeps.walk.sweep_is_lanes {
            LANES
        } else {
            LoopId(SWEEP)
        };
        Self {
            renamed: vec![None; sweeps.points.values.len()],
            first_new: sweeps.points.values.len(),
            new: Vec::new(),
            dtypes: sweeps.points.values.clone(),
            stash: sweeps.stash.clone(),
            rename: number > 0,
            counter: (flat, id),
        }
    }

    pub(super) fn value(&self, value: ValueId) -> ValueId {
        let renamed = self.renamed.get(value.index()).copied().flatten();
        renamed.unwrap_or(value)
    }

    pub(super) fn fresh(&mut self, value: ValueId) -> ValueId {
        if !self.rename {
            return value;
        }
        self.new.push(self.dtypes[value.index()]);
        let fresh = ValueId((self.first_new + self.new.len() - 1) as u32);
        self.renamed[value.index()] = Some(fresh);
        fresh
    }

    pub(super) fn index(&self, index: &Index) -> Index {
        let (flat, own) = self.counter;
        let replaced = index.substitute(
            &|id| Index::counter(if id == flat { own } else { id }),
            &|_| None,
        );
        replaced.with_values(&|v| self.value(v))
    }

    pub(super) fn reload(&mut self, value: ValueId) -> Stmt {
        let param = self.stash[value.index()].unwrap_or(ParamId(u32::MAX));
        let index = Index::counter(self.counter.1);
        Stmt::Let {
            value: self.fresh(value),
            expr: Expr::Load {
                param,
                index,
                predicate: None,
            },
        }
    }

    pub(super) fn computed(&mut self, value: ValueId, expr: &Expr) -> Stmt {
        let expr = expr.map(&|v| self.value(v), &|i| self.index(i));
        Stmt::Let {
            value: self.fresh(value),
            expr,
        }
    }
}
