//! Windows that slide over tensors: pools, their choices and their adjoints.
//!
//! A window is unrolled: each of its elements is a read of its own, with a predicate only where it may meet padding or a hole. What is
//! said of the elements, a sum, the largest or which one it is, is straight-line code, so that it runs in lanes like any other.

use super::Evaluator;
use crate::kernel::{Expr, Index, LoopId, ValueId};
use crate::lower::LowerError;
use kiln_ir::ops::{
    ArgKind, ArgWindow, Binary, Compare, GatherWindow, Literal, ReduceWindow, ScatterWindow,
    WindowAxis, WindowKind, Windows, accumulator,
};
use kiln_ir::{Class, DType, Dim, Node};

/// Windows of more elements are not unrolled, and have no code.
pub(crate) const MOST_ELEMENTS: i64 = 256;

/// Where an element of a window lies, and the lanes in which it lies on an element of the operand.
struct Met {
    index: Vec<Index>,
    /// Without one it always does.
    inside: Option<ValueId>,
}

impl Evaluator<'_> {
    pub(super) fn reduce_window(
        &mut self,
        node: &Node,
        reduce: &ReduceWindow,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let dtype = node.ty.dtype;
        let (wide, op, identity) = match reduce.kind {
            WindowKind::Sum => {
                let wide = reduce.accumulate.unwrap_or(accumulator(dtype));
                (wide, Binary::Add, zero(wide))
            }
            WindowKind::Max => (dtype, Binary::Max, extreme(dtype, false)),
            WindowKind::Min => (dtype, Binary::Min, extreme(dtype, true)),
        };
        let mut folded: Option<ValueId> = None;
        for element in elements(&reduce.windows) {
            let met = self.met(node, &reduce.windows, index, &element, predicate)?;
            let Some(met) = met else { continue };
            let value = self.operand(node, 0, &met.index, met.inside)?;
            let value = self.converted(value, wide);
            let value = match met.inside.filter(|_| met.inside != predicate) {
                Some(inside) => {
                    let nothing = self.bind(wide, Expr::Const(identity));
                    self.bind(wide, Expr::Select(inside, value, nothing))
                }
                None => value,
            };
            folded = Some(match folded {
                Some(before) => self.bind(wide, Expr::Binary(op, before, value)),
                None => value,
            });
        }
        let folded = match folded {
            Some(folded) => folded,
            None => self.bind(wide, Expr::Const(identity)),
        };
        Ok(self.converted(folded, dtype))
    }

    /// The first extreme, NaN before all numbers.
    pub(super) fn arg_window(
        &mut self,
        node: &Node,
        arg: &ArgWindow,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let dtype = node.ty.dtype;
        let from = self.node(node.operands[0])?.ty.dtype;
        let better = match arg.kind {
            ArgKind::Max => Compare::Gt,
            ArgKind::Min => Compare::Lt,
        };
        let mut number = self.bind(dtype, Expr::Const(Literal::Int(0)));
        let mut best: Option<(ValueId, Option<ValueId>)> = None;
        for (k, element) in elements(&arg.windows).enumerate() {
            let met = self.met(node, &arg.windows, index, &element, predicate)?;
            let Some(met) = met else { continue };
            let value = self.operand(node, 0, &met.index, met.inside)?;
            let own = self.bind(dtype, Expr::Const(Literal::Int(k as i64)));
            let inside = met.inside.filter(|_| met.inside != predicate);
            let Some((before, found)) = best else {
                number = match inside {
                    Some(inside) => self.bind(dtype, Expr::Select(inside, own, number)),
                    None => own,
                };
                best = Some((value, inside));
                continue;
            };
            let mut wins = self.bind(DType::Bool, Expr::Compare(better, value, before));
            if from.is_float() {
                let nan = |e: &mut Self, v| e.bind(DType::Bool, Expr::Compare(Compare::Ne, v, v));
                let (new, old) = (nan(self, value), nan(self, before));
                let number = self.not(old);
                let first = self.and(new, number);
                wins = self.or(wins, first);
            }
            if let Some(found) = found {
                let nothing = self.not(found);
                wins = self.or(wins, nothing);
            }
            if let Some(inside) = inside {
                wins = self.and(wins, inside);
            }
            number = self.bind(dtype, Expr::Select(wins, own, number));
            let value = self.bind(from, Expr::Select(wins, value, before));
            let found = match (found, inside) {
                (Some(a), Some(b)) => Some(self.or(a, b)),
                (None, _) | (_, None) => None,
            };
            best = Some((value, found));
        }
        Ok(number)
    }

    pub(super) fn gather_window(
        &mut self,
        node: &Node,
        gather: &GatherWindow,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let dtype = node.ty.dtype;
        let numbers = gather.windows.index_dtype();
        let chosen = self.operand(node, 1, index, predicate)?;
        let mut result = self.bind(dtype, Expr::Const(zero(dtype)));
        for (k, element) in elements(&gather.windows).enumerate() {
            let met = self.met(node, &gather.windows, index, &element, predicate)?;
            let Some(met) = met else { continue };
            let own = self.bind(numbers, Expr::Const(Literal::Int(k as i64)));
            let is_own = self.bind(DType::Bool, Expr::Compare(Compare::Eq, chosen, own));
            let inside = match met.inside {
                Some(inside) => self.and(is_own, inside),
                None => is_own,
            };
            let value = self.operand(node, 0, &met.index, Some(inside))?;
            result = self.bind(dtype, Expr::Select(inside, value, result));
        }
        Ok(result)
    }

    /// What the windows that meet an element add to it, in row-major order of their positions.
    pub(super) fn scatter_window(
        &mut self,
        node: &Node,
        scatter: &ScatterWindow,
        index: &[Index],
        predicate: Option<ValueId>,
    ) -> Result<ValueId, LowerError> {
        let dtype = node.ty.dtype;
        let windows = &scatter.windows;
        let positions = self.node(node.operands[0])?.ty.shape;
        let numbers = windows.index_dtype();
        let mut sum = self.bind(dtype, Expr::Const(zero(dtype)));
        // Of windows without holes, those that reach an element are neighbours, the first of which begins farthest before it.
        let counts: Vec<i64> = windows
            .axes
            .iter()
            .zip(&windows.sizes)
            .map(|(axis, size)| reach(axis, *size))
            .collect();
        for back in row_major(&counts) {
            let mut place = Vec::with_capacity(index.len());
            let mut inside = predicate;
            let mut number = Index::constant(0);
            for (i, axis) in windows.axes.iter().enumerate() {
                let steps = counts[i] - 1 - back[i];
                let size = windows.sizes[i];
                let extents = [&node.ty.shape[i], &positions[i]];
                let (at, element, holds) =
                    self.reaching(axis, &index[i], extents, size, steps, inside);
                inside = holds;
                place.push(at);
                number = number.times(&Dim::from(windows.sizes[i])).plus(&element);
            }
            let chosen = self.operand(node, 1, &place, inside)?;
            let own = self.counted(numbers, number);
            let mut takes = self.bind(DType::Bool, Expr::Compare(Compare::Eq, chosen, own));
            if let Some(inside) = inside {
                takes = self.and(takes, inside);
            }
            let value = self.operand(node, 0, &place, inside)?;
            let nothing = self.bind(dtype, Expr::Const(zero(dtype)));
            let value = self.bind(dtype, Expr::Select(takes, value, nothing));
            sum = self.bind(dtype, Expr::Binary(Binary::Add, sum, value));
        }
        Ok(sum)
    }

    /// The window that is `steps` before the last one that can reach an element: its position, the element of it that does, and whether
    /// there is one.
    ///
    /// With a stride of 1, or a dilated window or operand, `steps` counts elements of the window from its first one instead.
    fn reaching(
        &mut self,
        axis: &WindowAxis,
        at: &Index,
        [base, positions]: [&Dim; 2],
        size: i64,
        steps: i64,
        predicate: Option<ValueId>,
    ) -> (Index, Index, Option<ValueId>) {
        let axes = self.points.axes.clone();
        let extent = |id: LoopId| axes.get(id.index()).cloned();
        let padded = at.times(&Dim::from(axis.base_dilation)).offset(&axis.low);
        if size == 1 && axis == &WindowAxis::default() {
            return (at.clone(), Index::constant(0), predicate);
        }
        let stride = Dim::from(axis.stride);
        let mut inside = predicate;
        let (position, element) = if walks_windows(axis) {
            let position = padded
                .floor_div(&stride, &extent)
                .offset(&Dim::from(-steps));
            let element = padded
                .modulo(&stride, &extent)
                .offset(&(&stride * &Dim::from(steps)));
            // The last of them may begin too far before.
            if (steps + 1) * axis.stride > size {
                inside = self.within(&element, &Dim::from(size), inside);
            }
            (position, element)
        } else {
            let shifted = padded.offset(&Dim::from(-steps.saturating_mul(axis.window_dilation)));
            if axis.stride > 1 {
                let remainder = shifted.modulo(&stride, &extent);
                inside = self.within(&remainder, &Dim::from(1), inside);
            }
            (shifted.floor_div(&stride, &extent), Index::constant(steps))
        };
        // Windows side by side over all elements: each element lies in the one that it falls on.
        let tiles = walks_windows(axis) && steps == 0 && axis.low.constant() == Some(0);
        let covered = &stride * positions;
        let covers = covered == *base
            || matches!((covered.constant(), base.constant()), (Some(c), Some(b)) if c >= b);
        if !(tiles && covers) {
            inside = self.within(&position, positions, inside);
        }
        (position, element, inside)
    }

    /// Where an element of the window at a position lies; `None` if it is never on the operand.
    fn met(
        &mut self,
        node: &Node,
        windows: &Windows,
        index: &[Index],
        element: &[i64],
        predicate: Option<ValueId>,
    ) -> Result<Option<Met>, LowerError> {
        let from = self.node(node.operands[0])?.ty.shape;
        let axes = self.points.axes.clone();
        let extent = |id: LoopId| axes.get(id.index()).cloned();
        let mut inside = predicate;
        let mut place = Vec::with_capacity(index.len());
        for (i, axis) in windows.axes.iter().enumerate() {
            let (k, size) = (element[i], windows.sizes[i]);
            let step = Dim::from(k.saturating_mul(axis.window_dilation));
            let at = index[i]
                .times(&Dim::from(axis.stride))
                .offset(&(&step - &axis.low));
            if axis.base_dilation == 1 && always_inside(axis, k, size) {
                place.push(at);
                continue;
            }
            let dilation = Dim::from(axis.base_dilation);
            if axis.base_dilation > 1 {
                let remainder = at.modulo(&dilation, &extent);
                inside = self.within(&remainder, &Dim::from(1), inside);
            }
            let at = at.floor_div(&dilation, &extent);
            if at
                .as_constant()
                .and_then(Dim::constant)
                .is_some_and(|c| c < 0)
            {
                return Ok(None);
            }
            inside = self.within(&at, &from[i], inside);
            place.push(at);
        }
        Ok(Some(Met {
            index: place,
            inside,
        }))
    }

    fn and(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.bind(DType::Bool, Expr::Binary(Binary::And, a, b))
    }

    fn or(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.bind(DType::Bool, Expr::Binary(Binary::Or, a, b))
    }

    fn not(&mut self, a: ValueId) -> ValueId {
        self.bind(DType::Bool, Expr::Unary(kiln_ir::ops::Unary::Not, a))
    }
}

/// Whether element `k` of a window lies on the operand at every position: the first position begins `low` before the operand, and the
/// last one ends at most `high` behind it.
fn always_inside(axis: &WindowAxis, k: i64, size: i64) -> bool {
    let (Some(low), Some(high)) = (axis.low.constant(), axis.high.constant()) else {
        return false;
    };
    let before = k.saturating_mul(axis.window_dilation);
    let behind = (size - 1 - k).saturating_mul(axis.window_dilation);
    low <= before && high <= behind
}

/// Whether the windows that reach an element are found by walking from window to window: they have no holes, and it takes fewer steps.
fn walks_windows(axis: &WindowAxis) -> bool {
    axis.stride > 1 && axis.window_dilation == 1 && axis.base_dilation == 1
}

/// How many windows, or elements of a window, are asked whether they reach an element.
fn reach(axis: &WindowAxis, size: i64) -> i64 {
    if walks_windows(axis) {
        (size + axis.stride - 1) / axis.stride
    } else {
        size
    }
}

/// The elements of a window in row-major order.
fn elements(windows: &Windows) -> impl Iterator<Item = Vec<i64>> + use<> {
    row_major(&windows.sizes)
}

fn row_major(sizes: &[i64]) -> impl Iterator<Item = Vec<i64>> + use<> {
    let sizes = sizes.to_vec();
    let count: i64 = sizes.iter().product();
    (0..count).map(move |number| {
        let mut rest = number;
        let mut element = vec![0; sizes.len()];
        for (axis, size) in sizes.iter().enumerate().rev() {
            element[axis] = rest % size;
            rest /= size;
        }
        element
    })
}

fn zero(dtype: DType) -> Literal {
    if dtype.is_float() {
        Literal::Float(0f64.to_bits())
    } else {
        Literal::Int(0)
    }
}

/// The largest or the least value of a type.
fn extreme(dtype: DType, largest: bool) -> Literal {
    let bits = 8 * dtype.size() as u32;
    match (dtype.class(), largest) {
        (Class::Float, true) => Literal::Float(f64::INFINITY.to_bits()),
        (Class::Float, false) => Literal::Float(f64::NEG_INFINITY.to_bits()),
        (Class::Bool, largest) => Literal::Int(i64::from(largest)),
        (Class::Unsigned, true) => Literal::Int((u64::MAX >> (64 - bits)).cast_signed()),
        (Class::Unsigned, false) => Literal::Int(0),
        (Class::Signed, true) => Literal::Int(i64::MAX >> (64 - bits)),
        (Class::Signed, false) => Literal::Int(i64::MIN >> (64 - bits)),
    }
}
