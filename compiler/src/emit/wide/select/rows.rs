//! Column reductions as tapes: rows whose partial results lie in memory, or a row whose partial results have registers.

use super::super::fold::Folding;
use super::super::tape::{Element, Inst, Op, Out};
use super::{Known, Selected, Selector, Source, Stream, element};
use crate::emit::analysis::Facts;
use crate::kernel::{Atom, Expr, Index, Kernel, Loop, LoopId, Stmt, ValueId};
use kiln_ir::Dim;
use std::collections::BTreeSet;

/// The body of a column reduction as a tape of three parts: what is computed before the rows, what is the same for all lanes of a row, and
/// the rest of a row.
#[derive(Clone)]
pub(in super::super) struct Rows<'k> {
    pub(in super::super) body: Selected<'k>,
    /// Where the second part begins, and where the third does.
    pub(in super::super) before: usize,
    pub(in super::super) row: usize,
    /// By how many elements each stream goes on from row to row.
    pub(in super::super) strides: Vec<Dim>,
}

impl Rows<'_> {
    /// Which streams stay where they are.
    pub(in super::super) fn strides_are_zero(&self) -> Vec<bool> {
        let zero = |stride: &Dim| stride.constant() == Some(0);
        self.strides.iter().map(zero).collect()
    }
}

/// Selects instructions that fold some rows of a column reduction, whose partial results lie in memory: element by element, behind a
/// pointer for each accumulator, the first ones.
pub(in super::super) fn select_rows<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    lanes: &'k Loop,
    before: &'k [Stmt],
    rows: &'k Loop,
    count: usize,
) -> Option<Selected<'k>> {
    let mut selector = Selector::new(kernel, facts, lanes, rows.accumulators.len());
    for stmt in before {
        selector.stmt(stmt)?;
    }
    let foldings = Folding::all(kernel, &rows.accumulators)?;
    let mut states = Vec::with_capacity(foldings.len());
    for plane in 0..foldings.len() {
        states.push(selector.tape.load(plane as u32, Element::Word, None));
    }
    // What stands before the rows is the same for all of them.
    selector.local = Some(BTreeSet::new());
    for row in 0..count {
        selector.row = row;
        for stmt in &rows.body {
            selector.stmt(stmt)?;
        }
        let folds = foldings.iter().zip(&rows.accumulators);
        for (state, (folding, accumulator)) in states.iter_mut().zip(folds) {
            let operand = selector.lanes(accumulator.operand)?;
            *state = folding.join(&mut selector.tape, *state, operand)?;
        }
    }
    // One row at a time comes from DRAM, and the hardware looks ahead within a page only.
    if count == 1 {
        selector.look_ahead(rows.id);
    }
    for (plane, state) in states.into_iter().enumerate() {
        let tape = &mut selector.tape;
        tape.store(plane as u32, Element::Word, state, None);
    }
    selector.finish(Vec::new())
}

/// Selects instructions for a column reduction whose partial results are in registers.
pub(in super::super) fn select_columns<'k>(
    kernel: &'k Kernel,
    facts: &Facts,
    lanes: &'k Loop,
    before: &'k [Stmt],
    rows: &'k Loop,
) -> Option<Rows<'k>> {
    let mut selector = Selector::new(kernel, facts, lanes, rows.accumulators.len());
    for stmt in before {
        selector.stmt(stmt)?;
    }
    let end_of_before = selector.tape.insts.len();
    // What does not vary with the lanes is computed in all of them.
    let mut of_rows = BTreeSet::new();
    for stmt in &rows.body {
        if let Stmt::Let { value, expr } = stmt
            && !facts.varies(*value)
        {
            of_rows.insert(*value);
            selector.same_for_all(*value, expr)?;
        }
    }
    let end_of_same = selector.tape.insts.len();
    for stmt in &rows.body {
        selector.stmt(stmt)?;
    }
    let mut operands = Vec::with_capacity(rows.accumulators.len());
    for accumulator in &rows.accumulators {
        operands.push(selector.lanes(accumulator.operand)?);
    }
    let body = selector.finish(operands)?;
    let stride = |stream: &Stream<'_>| match stream.source {
        Source::Elements(_, index) => stride(index, rows.id, &of_rows),
        Source::Words(_) => None,
    };
    Some(Rows {
        strides: body.streams.iter().map(stride).collect::<Option<_>>()?,
        body,
        before: end_of_before,
        row: end_of_same,
    })
}

impl Selector<'_, '_> {
    /// Asks for what follows the streams that go on from row to row.
    fn look_ahead(&mut self, rows: LoopId) {
        for (i, stream) in self.streams.iter().enumerate() {
            let Source::Elements(param, index) = stream.source else {
                continue;
            };
            let mut goes_on = false;
            index.visit_loops(&mut |id| goes_on |= id == rows);
            let dtype = self.kernel.params[param.index()].dtype;
            if let (true, Some(element)) = (goes_on, element(dtype)) {
                let op = Op::Ahead((self.own + i) as u32, element);
                let ask = Inst::new(op, Out::Nothing, &[], None);
                self.tape.insts.push(ask);
            }
        }
    }
}

/// By how much an index grows from row to row, if always by the same.
fn stride(index: &Index, rows: LoopId, of_rows: &BTreeSet<ValueId>) -> Option<Dim> {
    let mut stride = Dim::from(0);
    for (atom, c) in index.terms() {
        let mut plain = true;
        match atom {
            Atom::Loop(id) if *id == rows => stride = c.clone(),
            Atom::Loop(_) => {}
            Atom::Value(value) => plain = !of_rows.contains(value),
            Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => {
                inner.visit_loops(&mut |id| plain &= id != rows);
                inner.visit_values(&mut |value| plain &= !of_rows.contains(&value));
            }
        }
        if !plain {
            return None;
        }
    }
    Some(stride)
}

impl<'k> Selector<'k, '_> {
    /// A value that does not vary with the lanes, computed in all of them.
    fn same_for_all(&mut self, value: ValueId, expr: &'k Expr) -> Option<()> {
        let known = match expr {
            Expr::Const(_) => return Some(()),
            Expr::Load {
                param,
                index,
                predicate: None,
            } if element(self.dtype(value)) == Some(Element::Word) => {
                if index.step(self.inner.id) != Some(0) {
                    return None;
                }
                let pointer = self.stream(Source::Elements(*param, index));
                Known::Lanes(self.tape.load(pointer, Element::Same, None))
            }
            Expr::Load { .. } => return None,
            _ => self.expr(value, expr)?,
        };
        self.known.insert(value, known);
        Some(())
    }
}
