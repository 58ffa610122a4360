//! The values of a group at one point of its space.
//!
//! Every root is evaluated at its own place, and what it reads at the place where it reads it: movement ops become index arithmetic, pads
//! and concatenations become predicates, reductions become folds over the counters of a unit. Equal values are computed once.

use super::blocks::Finish;
use super::{LowerError, ParamSource};
use crate::access::{counters, linear, through};
use crate::fusion::{Group, Level, Space, as_fold, single_axis_index};
use crate::kernel::{Access, Expr, Fold, Index, LoopId, Param, ParamId, ValueId};
use kiln_ir::ops::{ArgKind, Literal, Op, accumulator};
use kiln_ir::{DType, Dim, Graph, Node, NodeId};
use std::collections::BTreeMap;
use std::collections::HashMap;

mod masks;
mod ordered;
mod scatter;
mod side;
mod windows;

pub(super) use ordered::{evaluate_row, evaluate_running};
pub(super) use scatter::{JoinPoints, evaluate_scatter, evaluate_update};
pub(crate) use windows::MOST_ELEMENTS;

/// A value, in an order in which every operand comes first.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// `value = expr`.
    Let { value: ValueId, expr: Expr },
    /// The fold of an operand over the points of a unit.
    Fold {
        value: ValueId,
        fold: Fold,
        operand: ValueId,
    },
}

impl Item {
    pub(super) fn value(&self) -> ValueId {
        match self {
            Item::Let { value, .. } | Item::Fold { value, .. } => *value,
        }
    }
}

/// A value that is written.
#[derive(Clone, Debug)]
pub(super) struct PointStore {
    pub(super) param: ParamId,
    pub(super) index: Index,
    pub(super) value: ValueId,
}

/// What a group computes at a point; loop `i` is the counter of axis `i` of the space.
#[derive(Clone, Debug)]
pub(super) struct Points {
    pub(super) axes: Vec<Dim>,
    pub(super) values: Vec<DType>,
    pub(super) items: Vec<Item>,
    pub(super) stores: Vec<PointStore>,
    pub(super) params: Vec<Param>,
    pub(super) sources: Vec<ParamSource>,
    /// The reductions whose blocks are folded first.
    pub(super) finishes: Vec<Finish>,
}

impl Points {
    pub(super) fn new_value(&mut self, dtype: DType) -> ValueId {
        self.values.push(dtype);
        ValueId(self.values.len() as u32 - 1)
    }
}

/// A node at an index, read where the predicate holds.
type Key = (NodeId, Vec<Index>, Option<ValueId>);

struct Evaluator<'g> {
    graph: &'g Graph,
    stored: &'g [bool],
    group: &'g Group,
    points: Points,
    known: BTreeMap<Key, ValueId>,
    /// Looked up, never walked, so its order cannot reach a dump.
    exprs: HashMap<(DType, Expr), ValueId>,
}

/// A group of more members than this is evaluated member by member. Otherwise evaluation begins at the roots and descends, so that a value
/// is computed right before it is needed; but each member takes a level of the stack.
const MOST_LEVELS: usize = 64;

/// Evaluates the roots of a group.
pub(super) fn evaluate(
    graph: &Graph,
    stored: &[bool],
    group: &Group,
) -> Result<Points, LowerError> {
    let mut evaluator = Evaluator::new(graph, stored, group, group.space.point());
    if group.members.len() > MOST_LEVELS {
        for (id, level) in &group.members {
            let by_itself = !matches!(level, Level::Inline | Level::Parts);
            if by_itself && group.product != Some(*id) {
                let index = own_index(&group.space, &evaluator.node(*id)?.ty.shape, *level);
                evaluator.compute(*id, &index, None)?;
            }
        }
    }
    for root in group.roots.iter().filter(|r| group.product != Some(**r)) {
        evaluator.root(*root)?;
    }
    for side in &group.sides {
        evaluator.side(*side)?;
    }
    Ok(evaluator.points)
}

impl<'g> Evaluator<'g> {
    fn new(graph: &'g Graph, stored: &'g [bool], group: &'g Group, axes: Vec<Dim>) -> Self {
        Evaluator {
            graph,
            stored,
            group,
            points: Points {
                axes,
                values: Vec::new(),
                items: Vec::new(),
                stores: Vec::new(),
                params: Vec::new(),
                sources: Vec::new(),
                finishes: Vec::new(),
            },
            known: BTreeMap::new(),
            exprs: HashMap::new(),
        }
    }

    fn root(&mut self, id: NodeId) -> Result<(), LowerError> {
        let node = self.node(id)?;
        let level = self.group.level(id).unwrap_or(Level::Point);
        if let (Level::Parts, Op::Concat(concat)) = (level, &node.op) {
            return self.parts(id, &node, concat.axis);
        }
        let index = own_index(&self.group.space, &node.ty.shape, level);
        let target = linear(&index, &node.ty.shape);
        let value = self.compute(id, &index, None)?;
        let param = self.param(ParamSource::Node(id), node.ty.dtype, Access::Write);
        self.points.stores.push(PointStore {
            param,
            index: target,
            value,
        });
        Ok(())
    }

    fn node(&self, id: NodeId) -> Result<Node, LowerError> {
        self.graph.node(id).cloned().ok_or(LowerError {
            node: id,
            reason: "it does not exist".into(),
        })
    }

    fn param(&mut self, source: ParamSource, dtype: DType, access: Access) -> ParamId {
        if let Some(i) = self.points.sources.iter().position(|s| *s == source) {
            return ParamId(i as u32);
        }
        self.new_param(source, dtype, access)
    }

    fn new_param(&mut self, source: ParamSource, dtype: DType, access: Access) -> ParamId {
        self.points.sources.push(source);
        self.points.params.push(Param { dtype, access });
        ParamId(self.points.params.len() as u32 - 1)
    }

    /// The value of an expression, the earlier one if it is there.
    fn bind(&mut self, dtype: DType, expr: Expr) -> ValueId {
        if let Some(value) = self.exprs.get(&(dtype, expr.clone())) {
            return *value;
        }
        let value = self.points.new_value(dtype);
        self.exprs.insert((dtype, expr.clone()), value);
        self.points.items.push(Item::Let { value, expr });
        value
    }

    /// The value of a node at an index; loaded, if the node has memory that another group wrote.
    fn value(
        &mut self,
        id: NodeId,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let elsewhere = self.group.product == Some(id) || self.group.level(id).is_none();
        if self.stored[id.index()] && elsewhere {
            let node = self.node(id)?;
            let index = linear(index, &node.ty.shape);
            return Ok(self.load(id, node.ty.dtype, index, predicate));
        }
        self.compute(id, index, predicate)
    }

    fn load(
        &mut self,
        id: NodeId,
        dtype: DType,
        index: Index,
        predicate: Option<ValueId>,
    ) -> ValueId {
        let param = self.param(ParamSource::Node(id), dtype, Access::Read);
        self.bind(
            dtype,
            Expr::Load {
                param,
                index,
                predicate,
            },
        )
    }

    fn compute(
        &mut self,
        id: NodeId,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let key = (id, index.to_vec(), predicate);
        if let Some(value) = self.known.get(&key) {
            return Ok(*value);
        }
        let node = self.node(id)?;
        let value = if self.group.blocks.contains(&id) {
            self.finished(id, &node, index)?
        } else if as_fold(self.graph, &node).is_some() {
            self.fold(&node, index)?
        } else {
            self.expression(id, &node, index, predicate)?
        };
        self.known.insert(key, value);
        Ok(value)
    }

    fn operand(
        &mut self,
        node: &Node,
        position: usize,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        self.value(node.operands[position], index, predicate)
    }

    fn expression(
        &mut self,
        id: NodeId,
        node: &Node,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let dtype = node.ty.dtype;
        let axes = self.points.axes.clone();
        let extents = move |id: LoopId| axes.get(id.index()).cloned();
        if let Some((operand, moved)) = through(self.graph, node, index, &extents) {
            return self.moved(node, operand, &moved, index, predicate);
        }
        let expr = match &node.op {
            Op::Constant(constant) => match constant.as_splat() {
                Some(literal) => Expr::Const(literal),
                None => return Err(self.missing(id, "a dense constant without memory")),
            },
            Op::Iota(iota) => return Ok(self.counted(dtype, index[iota.axis].clone())),
            Op::DimSize(size) => Expr::Index(Index::constant(size.dim.clone())),
            Op::Unary(op) => Expr::Unary(*op, self.operand(node, 0, index, predicate)?),
            Op::Binary(op) => Expr::Binary(
                *op,
                self.operand(node, 0, index, predicate)?,
                self.operand(node, 1, index, predicate)?,
            ),
            Op::Compare(op) => Expr::Compare(
                *op,
                self.operand(node, 0, index, predicate)?,
                self.operand(node, 1, index, predicate)?,
            ),
            Op::Select(_) => Expr::Select(
                self.operand(node, 0, index, predicate)?,
                self.operand(node, 1, index, predicate)?,
                self.operand(node, 2, index, predicate)?,
            ),
            Op::Fma(_) => Expr::Fma(
                self.operand(node, 0, index, predicate)?,
                self.operand(node, 1, index, predicate)?,
                self.operand(node, 2, index, predicate)?,
            ),
            Op::Convert(_) => {
                let from = self.operand(node, 0, index, predicate)?;
                return Ok(self.converted(from, dtype));
            }
            Op::Bitcast(_) => Expr::Bitcast(self.operand(node, 0, index, predicate)?),
            Op::Reduce(_) => {
                let from = self.node(node.operands[0])?.ty.rank();
                let kept = single_axis_index(node, from, index);
                return self.operand(node, 0, &kept, predicate);
            }
            Op::Arg(_) => Expr::Const(Literal::Int(0)),
            Op::Pad(pad) => return self.pad(node, pad, index, predicate),
            Op::Concat(concat) => return self.concat(node, concat, index, predicate),
            Op::Gather(gather) => return self.gather(node, gather, index, predicate),
            Op::DynamicSlice(_) => return self.dynamic_slice(node, index, predicate),
            Op::ReduceWindow(op) => return self.reduce_window(node, op, index, predicate),
            Op::ArgWindow(op) => return self.arg_window(node, op, index, predicate),
            Op::GatherWindow(op) => return self.gather_window(node, op, index, predicate),
            Op::ScatterWindow(op) => return self.scatter_window(node, op, index, predicate),
            Op::RngBits(_) => {
                let position = linear(index, &node.ty.shape);
                let position = self.bind(DType::I64, Expr::Index(position));
                let mut word = |operand: usize, at: i64| {
                    self.operand(node, operand, &[Index::constant(at)], predicate)
                };
                Expr::Philox {
                    key: [word(0, 0)?, word(0, 1)?],
                    counter: [word(1, 0)?, word(1, 1)?],
                    position,
                }
            }
            Op::Source(_)
            | Op::Broadcast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::StopGradient(_)
            | Op::Require(_)
            | Op::Scatter(_)
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::Cumulative(_)
            | Op::Scan(_)
            | Op::While(_)
            | Op::Cond(_)
            | Op::Part(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Sort(_)
            | Op::Argsort(_)
            | Op::CustomCall(_) => {
                return Err(self.missing(id, "it has no memory and is no expression"));
            }
        };
        Ok(self.bind(dtype, expr))
    }

    fn missing(&self, node: NodeId, reason: &str) -> LowerError {
        LowerError {
            node,
            reason: reason.into(),
        }
    }

    /// A view of an operand. A reshape of memory is read by its row-major offset, which it shares with the memory.
    fn moved(
        &mut self,
        node: &Node,
        operand: NodeId,
        moved: &[Index],
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let elsewhere = self.group.product == Some(operand) || self.group.level(operand).is_none();
        if matches!(node.op, Op::Reshape(_)) && self.stored[operand.index()] && elsewhere {
            let offset = linear(index, &node.ty.shape);
            return Ok(self.load(operand, node.ty.dtype, offset, predicate));
        }
        self.value(operand, moved, predicate)
    }

    fn converted(&mut self, from: ValueId, to: DType) -> ValueId {
        if self.points.values[from.index()] == to {
            return from;
        }
        self.bind(to, Expr::Convert(from))
    }

    /// An index as a number of a type.
    fn counted(&mut self, dtype: DType, index: Index) -> ValueId {
        let count = self.bind(DType::I64, Expr::Index(index));
        self.converted(count, dtype)
    }

    fn fold(&mut self, node: &Node, index: &[Index]) -> Result<ValueId, LowerError> {
        let operand = node.operands[0];
        let from = self.node(operand)?.ty;
        let Some(fold) = as_fold(self.graph, node) else {
            return Err(self.missing(operand, "it is not reduced"));
        };
        let axes = fold.axes.to_vec();
        let mut kept = index.iter();
        let mut within = reduced_counters(&self.group.space).into_iter();
        let inner: Vec<Index> = (0..from.rank())
            .map(|axis| {
                let one = from.shape[axis].constant() == Some(1);
                let next = match (axes.contains(&axis), one) {
                    (true, true) => None,
                    (true, false) => within.next(),
                    (false, _) => kept.next().cloned(),
                };
                next.unwrap_or_else(|| Index::constant(0))
            })
            .collect();
        let value = self.value(operand, &inner, None)?;
        match &node.op {
            Op::Reduce(reduce) => {
                let dtype = reduce.accumulate.unwrap_or(accumulator(node.ty.dtype));
                let wide = self.converted(value, dtype);
                let folded = self.folded(dtype, Fold::Reduce(reduce.kind), wide);
                Ok(self.converted(folded, node.ty.dtype))
            }
            Op::Arg(arg) => {
                let at = inner[arg.axis].clone();
                let position = self.bind(DType::I64, Expr::Index(at));
                let fold = match arg.kind {
                    ArgKind::Max => Fold::ArgMax(position),
                    ArgKind::Min => Fold::ArgMin(position),
                };
                Ok(self.folded(DType::I64, fold, value))
            }
            _ => Err(self.missing(operand, "it is no reduction")),
        }
    }

    fn folded(&mut self, dtype: DType, fold: Fold, operand: ValueId) -> ValueId {
        let value = self.points.new_value(dtype);
        self.points.items.push(Item::Fold {
            value,
            fold,
            operand,
        });
        value
    }
}

/// The counters that run within a unit.
fn reduced_counters(space: &Space) -> Vec<Index> {
    let (skip, take) = match space {
        Space::Rows { rows, columns, .. } => (rows.len(), columns.len()),
        Space::Columns { outer, reduced, .. } => (outer.len(), reduced.len()),
    };
    let all = counters(skip + take);
    all[skip..].to_vec()
}

/// Where a member at points or units stands: the space's counters on its axes of other sizes than 1.
fn own_index(space: &Space, shape: &[Dim], level: Level) -> Vec<Index> {
    // One counter an axis, in the order of the space's points.
    let all = counters(space.point().len());
    let own: Vec<Index> = match (level, space) {
        (Level::Point | Level::Inline | Level::Parts, _) => all,
        (Level::Unit, Space::Rows { rows, .. }) => all[..rows.len()].to_vec(),
        (Level::Unit, Space::Columns { outer, reduced, .. }) => {
            [&all[..outer.len()], &all[outer.len() + reduced.len()..]].concat()
        }
    };
    let mut own = own.into_iter();
    shape
        .iter()
        .map(|d| {
            if d.constant() == Some(1) {
                Index::constant(0)
            } else {
                own.next().unwrap_or_else(|| Index::constant(0))
            }
        })
        .collect()
}

/// Calls `visit` with every value that an item is computed from.
pub(super) fn visit_operands(item: &Item, visit: &mut dyn FnMut(ValueId)) {
    match item {
        Item::Fold { operand, fold, .. } => {
            visit(*operand);
            if let Fold::ArgMax(position) | Fold::ArgMin(position) = fold {
                visit(*position);
            }
        }
        Item::Let { expr, .. } => expr.visit_values(visit),
    }
}
