//! Reductions over leading axes in two kernels: rows fold their operands in blocks on the side, and a small kernel folds the blocks.
//!
//! A fold in order goes in blocks of [`SERIAL_BLOCK`] rows, each begun with the identity, and then over the blocks from the start (see
//! `kernel::Accumulator`). Both parts become plain lanes loops over the columns with the partial results in memory, so that the order is
//! that of the definition by construction, for any number of blocks. The buffer between the two has one row for each block. Whoever
//! writes it must own whole blocks, so the rows are shared out in multiples of [`SERIAL_BLOCK`].

use super::{LoweredKernel, count};
use crate::fusion::as_fold;
use crate::kernel::{
    Expr, Index, Loop, LoopId, LoopKind, ParamId, SERIAL_BLOCK, Stmt, ValueId, fold_op, identity,
    start,
};
use kiln_ir::ops::{Op, ReduceKind, accumulator};
use kiln_ir::{DType, Dim, Graph, NodeId};

/// A reduction over leading axes, as rows and columns.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) kind: ReduceKind,
    /// The type in which it is folded.
    pub(super) dtype: DType,
    rows: Dim,
    pub(super) columns: Dim,
}

impl Side {
    /// The node as such a reduction.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Side> {
        let node = graph.node(id)?;
        let Op::Reduce(reduce) = &node.op else {
            return None;
        };
        let fold = as_fold(graph, node)?;
        let from = &graph.node(*node.operands.first()?)?.ty.shape;
        let reduced: Vec<Dim> = fold.axes.iter().map(|a| from[*a].clone()).collect();
        Some(Side {
            kind: reduce.kind,
            dtype: reduce.accumulate.unwrap_or(accumulator(node.ty.dtype)),
            rows: count(&reduced),
            columns: node.ty.shape.elements(),
        })
    }

    /// The number of blocks.
    fn blocks(&self) -> Dim {
        let rounded = &self.rows + &Dim::from(SERIAL_BLOCK - 1);
        rounded.floor_div(&Dim::from(SERIAL_BLOCK))
    }

    /// The elements of the buffer of the blocks.
    pub(super) fn elements(&self) -> Dim {
        &self.blocks() * &self.columns
    }
}

/// A reduction of which a kernel folds the blocks.
#[derive(Clone, Debug)]
pub(super) struct Finish {
    pub(super) node: NodeId,
    pub(super) side: Side,
    /// The blocks, which are read.
    pub(super) blocks: ParamId,
    /// The result, a row of scratch.
    pub(super) result: ParamId,
}

/// Puts the loops that fold the blocks before those that need the results. What runs once in order runs on one thread.
pub(super) fn fold_first(lowered: &mut LoweredKernel, finishes: &[Finish]) {
    let Some(Finish { side, .. }) = finishes.first() else {
        return;
    };
    let (columns, blocks) = (side.columns.clone(), side.blocks());
    let kernel = &mut lowered.kernel;
    let next = next_loop(&kernel.body);
    let [begin, serial, lanes] = [0, 1, 2].map(|i| LoopId(next + i));
    let mut new = |dtype: DType| {
        kernel.values.push(dtype);
        ValueId(kernel.values.len() as u32 - 1)
    };
    let (mut starts, mut begins, mut folds) = (Vec::new(), Vec::new(), Vec::new());
    for Finish {
        side,
        blocks,
        result,
        ..
    } in finishes
    {
        let [value, so_far, block, sum] = [(); 4].map(|()| new(side.dtype));
        starts.push(Stmt::Let {
            value,
            expr: Expr::Const(start(side.dtype, side.kind)),
        });
        begins.push(store(*result, Index::counter(begin), value));
        let here = Index::counter(lanes);
        let row = Index::counter(serial).times(&columns);
        folds.extend([
            load(so_far, *result, here.clone()),
            load(block, *blocks, row.plus(&here)),
            Stmt::Let {
                value: sum,
                expr: Expr::Binary(fold_op(side.kind), so_far, block),
            },
            store(*result, here, sum),
        ]);
    }
    let mut body = starts;
    body.push(looped(begin, &columns, LoopKind::Lanes, begins));
    let folds = looped(lanes, &columns, LoopKind::Lanes, folds);
    body.push(looped(serial, &blocks, LoopKind::Serial, vec![folds]));
    body.append(&mut kernel.body);
    kernel.body = body;
    let folded = &(&blocks * &columns) * &Dim::from(2 * finishes.len());
    lowered.work = &folded + &(&lowered.work * &lowered.total);
    lowered.total = Dim::from(1);
    lowered.grain = 1;
}

/// The operand of a row's kernel at the point at hand, folded onto its block: the value to begin with is the identity where a block begins.
pub(super) struct Onto {
    /// The element of the blocks.
    pub(super) element: Index,
    /// The row within its block.
    pub(super) within: Index,
}

impl Side {
    /// Where a row and a column meet the blocks.
    pub(super) fn onto(
        &self,
        row: &Index,
        column: &Index,
        extent: &impl Fn(LoopId) -> Option<Dim>,
    ) -> Onto {
        let size = Dim::from(SERIAL_BLOCK);
        let block = row.floor_div(&size, extent);
        Onto {
            element: block.times(&self.columns).plus(column),
            within: row.modulo(&size, extent),
        }
    }

    /// What a block begins with.
    pub(super) fn identity(&self) -> Expr {
        Expr::Const(identity(self.dtype, self.kind))
    }
}

/// A number that no loop has yet.
fn next_loop(body: &[Stmt]) -> u32 {
    let next = |stmt: &Stmt| match stmt {
        Stmt::Loop(inner) => next_loop(&inner.body).max(inner.id.0 + 1),
        Stmt::Apply(apply) => apply.id.0 + 1,
        Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => 0,
    };
    body.iter().map(next).max().unwrap_or(0)
}

fn load(value: ValueId, param: ParamId, index: Index) -> Stmt {
    let expr = Expr::Load {
        param,
        index,
        predicate: None,
    };
    Stmt::Let { value, expr }
}

fn store(param: ParamId, index: Index, value: ValueId) -> Stmt {
    Stmt::Store {
        param,
        index,
        value,
        predicate: None,
    }
}

fn looped(id: LoopId, extent: &Dim, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop {
        id,
        extent: extent.clone(),
        kind,
        accumulators: Vec::new(),
        body,
    })
}
