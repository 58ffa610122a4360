//! Reductions over leading axes that a kernel of rows folds in blocks, and those that are folded from blocks (`lower/blocks.rs`).

use super::super::blocks::{Finish, Onto, Side};
use super::super::{LowerError, ParamSource};
use super::{Evaluator, PointStore, own_index};
use crate::access::{counters, linear};
use crate::fusion::{Level, Space};
use crate::kernel::{Access, Expr, Index, LoopId, ParamId, ValueId, fold_op};
use kiln_ir::ops::{Compare, Literal};
use kiln_ir::{DType, Node, NodeId};

impl Evaluator<'_> {
    /// Folds the operand at this point onto its block.
    pub(super) fn side(&mut self, id: NodeId) -> Result<(), LowerError> {
        let operand = self.node(id)?.operands[0];
        let shape = self.node(operand)?.ty.shape;
        let (Some(side), Space::Rows { rows, columns, .. }) =
            (Side::of(self.graph, id), &self.group.space)
        else {
            return Err(self.missing(id, "it is no reduction over the rows"));
        };
        let at = own_index(&self.group.space, &shape, Level::Point);
        let value = self.value(operand, &at, None)?;
        let value = self.converted(value, side.dtype);
        let all = counters(rows.len() + columns.len());
        let row = linear(&all[..rows.len()], rows);
        let column = linear(&all[rows.len()..], columns);
        let axes = self.points.axes.clone();
        let extent = |id: LoopId| axes.get(id.index()).cloned();
        let Onto { element, within } = side.onto(&row, &column, &extent);
        let within = self.bind(DType::I64, Expr::Index(within));
        let zero = self.bind(DType::I64, Expr::Const(Literal::Int(0)));
        let begins = self.bind(DType::Bool, Expr::Compare(Compare::Eq, within, zero));
        let identity = self.bind(side.dtype, side.identity());
        let source = ParamSource::Blocks(id, side.dtype, side.elements());
        let param = self.param(source, side.dtype, Access::ReadWrite);
        let so_far = self.loaded(param, side.dtype, element.clone());
        let so_far = self.bind(side.dtype, Expr::Select(begins, identity, so_far));
        let folded = Expr::Binary(fold_op(side.kind), so_far, value);
        let value = self.bind(side.dtype, folded);
        self.points.stores.push(PointStore {
            param,
            index: element,
            value,
        });
        Ok(())
    }

    /// A reduction whose blocks have been folded before the loops of this kernel.
    pub(super) fn finished(
        &mut self,
        id: NodeId,
        node: &Node,
        index: &[Index],
    ) -> Result<ValueId, LowerError> {
        let known = self.points.finishes.iter().find(|f| f.node == id);
        let (result, dtype) = match known {
            Some(known) => (known.result, known.side.dtype),
            None => self.finish(id)?,
        };
        let value = self.loaded(result, dtype, linear(index, &node.ty.shape));
        Ok(self.converted(value, node.ty.dtype))
    }

    fn finish(&mut self, id: NodeId) -> Result<(ParamId, DType), LowerError> {
        let side = Side::of(self.graph, id);
        let side = side.ok_or_else(|| self.missing(id, "it is no reduction over the rows"))?;
        let dtype = side.dtype;
        let source = ParamSource::Blocks(id, dtype, side.elements());
        let blocks = self.param(source, dtype, Access::Read);
        let row = ParamSource::Scratch(dtype, side.columns.clone());
        let result = self.new_param(row, dtype, Access::ReadWrite);
        self.points.finishes.push(Finish {
            node: id,
            side,
            blocks,
            result,
        });
        Ok((result, dtype))
    }

    fn loaded(&mut self, param: ParamId, dtype: DType, index: Index) -> ValueId {
        self.bind(
            dtype,
            Expr::Load {
                param,
                index,
                predicate: None,
            },
        )
    }
}
