//! What each phase of a loop computes, stores and reads back.

use super::Cutter;
use crate::emit::wide::takes;
use crate::fusion::expr_is_cheap;
use crate::kernel::{Access, Expr, Fold, Function, Index, Loop, ParamId, Stmt, ValueId};
use crate::lower::ParamSource;
use crate::math::wide;
use kiln_ir::ops::Cost;
use std::collections::BTreeMap;

/// The trip count, where it is known, from which a call pays.
const LEAST: i64 = 64;

/// The short functions for each long one up to which a loop becomes functions only. Each costs the trip through L1 that a phase makes once
/// for all that it does.
const SHORT: usize = 5;
/// Where the elements of a value lie from one phase to the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// In a strip, from its start.
    Strip(ParamId),
    /// Where the loop's counter says: an operand as it was loaded, or a result as it is stored.
    Element(ParamId, Index),
}

/// What is known of a value of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its statement.
    at: usize,
    /// The phase from which it is known.
    pub(super) level: usize,
    /// Whether it differs from lane to lane.
    varies: bool,
    /// The function that makes it, if it is one for strips.
    pub(super) function: Option<Function>,
}

/// A lanes loop, cut.
pub(super) struct Phases<'k> {
    pub(super) inner: &'k Loop,
    pub(super) known: BTreeMap<ValueId, Known>,
    /// The last phase; there are as many applications one behind the other.
    pub(super) last: usize,
    /// The values that each phase computes, and those that it reads back.
    pub(super) computed: Vec<Vec<ValueId>>,
    pub(super) reloaded: Vec<Vec<ValueId>>,
    /// The values that lie in memory between phases, functions' results among them.
    pub(super) kept: Vec<ValueId>,
    /// The functions that are needed, in order.
    pub(super) applied: Vec<ValueId>,
    /// The results that are computed where they are stored.
    pub(super) direct: BTreeMap<ValueId, (ParamId, Index)>,
}

impl<'k> Phases<'k> {
    /// The phases of a loop that is worth it.
    pub(super) fn of(cutter: &Cutter<'_>, inner: &'k Loop) -> Option<Phases<'k>> {
        if inner.extent.constant().is_some_and(|n| n < LEAST) {
            return None;
        }
        if cutter.rest && takes(&cutter.lowered.kernel, &cutter.facts, inner) {
            return None;
        }
        let (mut loaded, mut stored) = (Vec::new(), Vec::new());
        for stmt in &inner.body {
            match stmt {
                Stmt::Let {
                    expr: Expr::Load { param, .. },
                    ..
                } => loaded.push(*param),
                Stmt::Let { .. } => {}
                Stmt::Store { param, .. } => stored.push(*param),
                Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => return None,
            }
        }
        if stored.iter().any(|p| loaded.contains(p)) {
            return None;
        }
        let mut phases = Phases {
            inner,
            known: BTreeMap::new(),
            last: 0,
            computed: Vec::new(),
            reloaded: Vec::new(),
            kept: Vec::new(),
            applied: Vec::new(),
            direct: BTreeMap::new(),
        };
        phases.classify(cutter);
        if phases.last == 0 {
            return None;
        }
        phases.find_direct(cutter);
        phases.distribute();
        Some(phases)
    }

    fn classify(&mut self, cutter: &Cutter<'_>) {
        let whole = self.is_whole(cutter);
        for (at, stmt) in self.inner.body.iter().enumerate() {
            let Stmt::Let { value, expr } = stmt else {
                continue;
            };
            let (mut level, mut varies) = (0, false);
            expr.visit_values(&mut |v| {
                if let Some(known) = self.known.get(&v) {
                    level = level.max(known.level);
                    varies |= known.varies;
                }
            });
            if let Expr::Load { index, .. } | Expr::Index(index) = expr {
                index.visit_loops(&mut |id| varies |= id == self.inner.id);
            }
            if let Expr::Load { param, .. } = expr {
                varies |= cutter.lowered.kernel.params[param.index()].access != Access::Read;
            }
            let dtype = cutter.dtype(*value);
            let function = Function::of(expr).filter(|f| {
                varies
                    && wide::position(*f, dtype).is_some()
                    && match f.cost() {
                        Cost::Long => true,
                        Cost::Slow => self.is_at_hand(expr, true),
                        Cost::Short if whole => self.is_at_hand(expr, true),
                        Cost::Short => {
                            self.is_at_hand(expr, false) && self.only_for_functions(*value)
                        }
                    }
            });
            let known = Known {
                at,
                level: level + usize::from(function.is_some()),
                varies,
                function,
            };
            self.last = self.last.max(known.level);
            self.known.insert(*value, known);
        }
    }

    /// Whether functions can do all that the loop does, and few short ones beside the long: no phase is then needed at all.
    fn is_whole(&self, cutter: &Cutter<'_>) -> bool {
        let (mut long, mut short) = (0, 0);
        let mut whole = self.inner.accumulators.is_empty();
        for stmt in &self.inner.body {
            match stmt {
                Stmt::Let { value, expr } => {
                    let dtype = cutter.dtype(*value);
                    let function = Function::of(expr);
                    match function
                        .filter(|f| wide::position(*f, dtype).is_some())
                        .map(Function::cost)
                    {
                        Some(Cost::Long) => long += 1,
                        Some(Cost::Slow | Cost::Short) => short += 1,
                        None => whole &= self.is_adjacent_load(expr),
                    }
                }
                Stmt::Store {
                    index, predicate, ..
                } => whole &= predicate.is_none() && self.is_adjacent(index),
                Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => whole = false,
            }
        }
        whole && short <= SHORT * long
    }

    /// Whether all operands are in memory, with an element for each lane, or numbers from outside of the loop.
    fn is_at_hand(&self, expr: &Expr, results: bool) -> bool {
        let mut at_hand = true;
        expr.visit_values(&mut |v| {
            let is_result = self.known.get(&v).is_some_and(|k| k.function.is_some());
            at_hand &=
                !self.known.contains_key(&v) || self.loaded(v).is_some() || (results && is_result);
        });
        at_hand
    }

    /// Whether a value is used, and by long functions only: then it is cheaper where they are, than in a phase of its own.
    fn only_for_functions(&self, value: ValueId) -> bool {
        let (mut used, mut otherwise) = (false, false);
        for stmt in &self.inner.body {
            match stmt {
                Stmt::Let { expr, .. } => {
                    let long = Function::of(expr).is_some_and(|f| f.cost() == Cost::Long);
                    expr.visit_values(&mut |v| {
                        used |= v == value;
                        otherwise |= v == value && !long;
                    });
                }
                Stmt::Store {
                    index,
                    value: stored,
                    predicate,
                    ..
                } => {
                    otherwise |= *stored == value || *predicate == Some(value);
                    index.visit_values(&mut |v| otherwise |= v == value);
                }
                Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => {}
            }
        }
        for accumulator in &self.inner.accumulators {
            otherwise |= accumulator.operand == value;
        }
        used && !otherwise
    }

    fn expr(&self, value: ValueId) -> Option<&'k Expr> {
        let known = self.known.get(&value)?;
        match &self.inner.body[known.at] {
            Stmt::Let { expr, .. } => Some(expr),
            Stmt::Store { .. } | Stmt::Loop(_) | Stmt::Apply(_) | Stmt::Sort(_) => None,
        }
    }

    /// Whether an index walks with the lanes from one element to the next.
    pub(super) fn is_adjacent(&self, index: &Index) -> bool {
        self.step(index) == Some(1)
    }

    /// The distance of an index from lane to lane, where it is the same everywhere.
    fn step(&self, index: &Index) -> Option<i64> {
        let mut varies = false;
        index.visit_values(&mut |v| varies |= self.known.get(&v).is_some_and(|k| k.varies));
        index.step(self.inner.id).filter(|_| !varies)
    }

    /// Finds the results that need no strip: those that go to a scratch row, and, if no phase would follow, those that go elsewhere.
    fn find_direct(&mut self, cutter: &Cutter<'_>) {
        let mut elsewhere = BTreeMap::new();
        let mut all = self.inner.accumulators.is_empty();
        for stmt in &self.inner.body {
            let Stmt::Store {
                param,
                index,
                value,
                predicate,
            } = stmt
            else {
                continue;
            };
            let known = self.known.get(value);
            let is_function = known.is_some_and(|k| k.function.is_some());
            let fits = is_function && predicate.is_none() && self.is_adjacent(index);
            let scratch = matches!(
                cutter.lowered.params[param.index()],
                ParamSource::Scratch(..)
            );
            if fits && scratch && !self.direct.contains_key(value) {
                self.direct.insert(*value, (*param, index.clone()));
                continue;
            }
            all &= fits && known.is_some_and(|k| k.level == self.last);
            all &= elsewhere.insert(*value, (*param, index.clone())).is_none();
        }
        all &= !elsewhere.keys().any(|v| self.direct.contains_key(v));
        if all {
            self.direct.extend(elsewhere);
        }
    }

    /// Whether a store is done by the application that computes its value.
    pub(super) fn is_direct(&self, param: ParamId, index: &Index, value: ValueId) -> bool {
        let found = self.direct.get(&value);
        found.is_some_and(|(p, i)| *p == param && i == index)
    }

    /// Decides what each phase does, from the last one to the first, since a later one may need what an earlier one must keep.
    fn distribute(&mut self) {
        let mut wanted: Vec<Vec<ValueId>> = vec![Vec::new(); self.last + 1];
        let at_end = &mut wanted[self.last];
        for stmt in &self.inner.body {
            if let Stmt::Store {
                param,
                index,
                value,
                predicate,
            } = stmt
            {
                if self.is_direct(*param, index, *value) {
                    self.applied.push(*value);
                    continue;
                }
                at_end.push(*value);
                at_end.extend(predicate);
                index.visit_values(&mut |v| at_end.push(v));
            }
        }
        for accumulator in &self.inner.accumulators {
            at_end.push(accumulator.operand);
            if let Fold::ArgMax(position) | Fold::ArgMin(position) = accumulator.fold {
                at_end.push(position);
            }
        }
        self.computed = vec![Vec::new(); self.last + 1];
        self.reloaded = vec![Vec::new(); self.last + 1];
        for phase in (0..=self.last).rev() {
            for value in std::mem::take(&mut wanted[phase]) {
                self.need(value, phase, &mut wanted);
            }
            // What was asked for by now are all functions that run before this phase or a later one.
            let functions: Vec<ValueId> = self
                .applied
                .iter()
                .copied()
                .filter(|v| self.known[v].level == phase)
                .collect();
            for function in functions {
                for operand in self.operands_of(function) {
                    if self.known.contains_key(&operand) && self.loaded(operand).is_none() {
                        self.keep(operand, &mut wanted);
                    }
                }
            }
        }
        let known = &self.known;
        self.applied.sort_by_key(|v| known.get(v).map(|k| k.at));
        self.applied.dedup();
    }

    fn need(&mut self, value: ValueId, phase: usize, wanted: &mut [Vec<ValueId>]) {
        let (Some(known), Some(expr)) = (self.known.get(&value).copied(), self.expr(value)) else {
            return;
        };
        if self.computed[phase].contains(&value) || self.reloaded[phase].contains(&value) {
            return;
        }
        let again = known.level < phase && known.varies && !self.is_cheap(expr);
        if known.function.is_some() || again {
            self.keep(value, wanted);
            self.reloaded[phase].push(value);
            return;
        }
        self.computed[phase].push(value);
        let mut uses = Vec::new();
        expr.visit_values(&mut |v| uses.push(v));
        for operand in uses {
            self.need(operand, phase, wanted);
        }
    }

    /// Sees to it that a value is in memory behind the phase, or the function, that makes it.
    fn keep(&mut self, value: ValueId, wanted: &mut [Vec<ValueId>]) {
        if self.kept.contains(&value) {
            return;
        }
        self.kept.push(value);
        match self.known.get(&value) {
            Some(known) if known.function.is_some() => self.applied.push(value),
            Some(known) => wanted[known.level].push(value),
            // A value from outside of the loop is there in every phase.
            None => {}
        }
    }

    /// Whether a value is computed again rather than kept in a strip.
    fn is_cheap(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Load {
                index, predicate, ..
            } => {
                let step = self.step(index);
                predicate.is_none() && matches!(step, Some(0 | 1))
            }
            _ => expr_is_cheap(expr),
        }
    }

    pub(super) fn operands_of(&self, value: ValueId) -> Vec<ValueId> {
        let mut found = Vec::new();
        if let Some(expr) = self.expr(value) {
            expr.visit_values(&mut |v| found.push(v));
        }
        found
    }

    /// Where a value was loaded from, if a function can read it there.
    pub(super) fn loaded(&self, value: ValueId) -> Option<(ParamId, Index)> {
        match self.expr(value)? {
            Expr::Load { param, index, .. } if self.is_adjacent_load(self.expr(value)?) => {
                Some((*param, index.clone()))
            }
            _ => None,
        }
    }

    fn is_adjacent_load(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Load {
                index,
                predicate: None,
                ..
            } => self.is_adjacent(index),
            _ => false,
        }
    }
}
