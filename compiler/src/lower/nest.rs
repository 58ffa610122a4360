//! Loops around the values of a point.
//!
//! A space of rows becomes a grid loop over rows around lanes loops over columns, one for each sweep: a sweep ends where a reduction's
//! result is needed. A space of columns becomes lanes over the kept axes around serial loops over the reduced ones. Each value is
//! computed at the outermost place where it is known: once a call, once a unit, or in each sweep that needs it. What a later sweep needs
//! again is computed again if that takes few cheap ops, and kept in a scratch row if not.

use super::points::{Item, PointStore, Points, visit_operands};
use super::{LoweredKernel, ParamSource};
use crate::fusion::{Space, expr_is_cheap};
use crate::kernel::{
    Access, Accumulator, Expr, Fold, Index, Kernel, Loop, LoopId, LoopKind, Param, ParamId, Stmt,
    ValueId,
};
use kiln_ir::Dim;

mod names;
mod split;
mod unroll;
mod walk;

use names::Names;
use walk::{Extents, Walk, choose, extent, flattened};

const GRID: LoopId = LoopId(0);
const LANES: LoopId = LoopId(1);
/// Sweeps are numbered from here, each loop having a counter of its own.
const SWEEP: u32 = 2;
/// The ops that a later sweep does again rather than load their result from a scratch row, which costs a store too.
const MOST_AGAIN: usize = 4;
/// Lanes are shared out among threads in multiples of this.
const LANES_GRAIN: usize = 64;
/// The columns of a reduction are shared out in multiples of this, a register of the widest machine: there may be few of them, and each is a
/// walk through all rows.
const COLUMNS_GRAIN: usize = 16;

/// Where a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Call,
    Unit,
    Sweep,
}

/// Puts the values of a group into loops.
pub(super) fn nest(points: Points, space: &Space, epilogue: bool) -> LoweredKernel {
    // Without a border to keep, the innermost axis may be cut where its lanes do not step evenly.
    let is_map =
        matches!(space, Space::Rows { columns, fixed, .. } if !*fixed || columns.is_empty());
    let cut = (is_map && !epilogue)
        .then(|| split::split(&points))
        .flatten();
    let points = match cut {
        Some(cut) => unroll::unroll(&cut).unwrap_or(cut),
        None => points,
    };
    let walk = choose(&points, space, epilogue);
    let mut points = flattened(points, &walk);
    let extents = Extents {
        grid: extent(&points.axes, &walk.grid),
        lanes: extent(&points.axes, &walk.lanes),
        serial: extent(&points.axes, &walk.serial),
    };
    let mut builder = Sweeps::new(&mut points, &walk, &extents);
    let body = builder.body();
    let kernel = Kernel {
        name: String::new(),
        params: points.params,
        values: points.values,
        body,
    };
    let (total, grain, inner) = match kernel.partition() {
        Some(outermost) if outermost.kind == LoopKind::Grid => {
            (extents.grid, 1, &extents.lanes * &extents.serial)
        }
        Some(_) if walk.sweep_is_lanes => (extents.lanes, LANES_GRAIN, extents.serial),
        Some(_) => (extents.lanes, COLUMNS_GRAIN, extents.serial),
        None => (
            Dim::from(1),
            1,
            &(&extents.grid * &extents.lanes) * &extents.serial,
        ),
    };
    // Panels of a product begin at any row.
    let grain = if epilogue { 1 } else { grain };
    let work = &inner * &Dim::from(kernel.params.len().max(1));
    LoweredKernel {
        kernel,
        params: points.sources,
        total,
        grain,
        work,
        over: None,
    }
}

/// Distributes values over the call, the units and the sweeps.
struct Sweeps<'p> {
    points: &'p mut Points,
    walk: &'p Walk,
    extents: &'p Extents,
    place: Vec<Place>,
    /// The sweep in which a value is first known.
    level: Vec<usize>,
    /// For each value, the position of its item.
    item: Vec<usize>,
    /// The scratch row of a value that later sweeps need.
    stash: Vec<Option<ParamId>>,
}

/// What one sweep does.
#[derive(Default)]
struct Plan {
    /// Items to compute, by position.
    items: Vec<bool>,
    /// Values to read back from scratch.
    reload: Vec<ValueId>,
}

impl<'p> Sweeps<'p> {
    fn new(points: &'p mut Points, walk: &'p Walk, extents: &'p Extents) -> Self {
        let n = points.values.len();
        let mut sweeps = Sweeps {
            place: vec![Place::Call; n],
            level: vec![0; n],
            item: vec![0; n],
            stash: vec![None; n],
            points,
            walk,
            extents,
        };
        for position in 0..sweeps.points.items.len() {
            sweeps.classify(position);
        }
        sweeps
    }

    fn classify(&mut self, position: usize) {
        let item = &self.points.items[position];
        let value = item.value().index();
        self.item[value] = position;
        let mut operands = Vec::new();
        visit_operands(item, &mut |v| operands.push(v));
        let mut place = operands
            .iter()
            .map(|v| self.place[v.index()])
            .max()
            .unwrap_or(Place::Call);
        let mut level = operands
            .iter()
            .map(|v| self.level[v.index()])
            .max()
            .unwrap_or(0);
        match item {
            Item::Fold { .. } => {
                let units = self.walk.has_grid || !self.walk.sweep_is_lanes;
                place = if units { Place::Unit } else { Place::Call };
                level += 1;
            }
            Item::Let {
                expr: Expr::Load { index, .. } | Expr::Index(index),
                ..
            } => {
                index.visit_loops(&mut |id| place = place.max(self.place_of(id)));
            }
            Item::Let { .. } => {}
        }
        self.place[value] = place;
        self.level[value] = level;
    }

    fn place_of(&self, id: LoopId) -> Place {
        match id {
            GRID => Place::Unit,
            LANES if self.walk.sweep_is_lanes => Place::Sweep,
            LANES => Place::Unit,
            _ => Place::Sweep,
        }
    }

    fn body(&mut self) -> Vec<Stmt> {
        let sweeps = self.plan();
        let mut done = vec![false; self.points.values.len()];
        let mut call = self.lets(Place::Call, 0, &mut done);
        // Values known once a call but behind a fold belong to the nest like units: only a nest without a grid has them.
        let mut unit = Vec::new();
        for (number, plan) in sweeps.iter().enumerate() {
            unit.extend(self.lets(Place::Call, number, &mut done));
            unit.extend(self.lets(Place::Unit, number, &mut done));
            unit.extend(self.sweep(number, plan));
        }
        unit.extend(self.lets(Place::Call, usize::MAX, &mut done));
        unit.extend(self.lets(Place::Unit, usize::MAX, &mut done));
        let stores = self.points.stores.clone();
        let outside = stores
            .iter()
            .filter(|s| self.place_of_store(s) != Place::Sweep);
        unit.extend(outside.map(store));
        if !self.walk.sweep_is_lanes {
            unit = vec![self.looped(LANES, &self.extents.lanes, LoopKind::Lanes, unit)];
        }
        if self.walk.has_grid {
            unit = vec![self.looped(GRID, &self.extents.grid, LoopKind::Grid, unit)];
        }
        call.extend(unit);
        call
    }

    fn looped(&self, id: LoopId, extent: &Dim, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
        Stmt::Loop(Loop {
            id,
            extent: extent.clone(),
            kind,
            accumulators: Vec::new(),
            body,
        })
    }

    /// A store happens where its value and its index are known, whichever is further in.
    fn place_of_store(&self, store: &PointStore) -> Place {
        let mut place = self.place[store.value.index()];
        store
            .index
            .visit_loops(&mut |id| place = place.max(self.place_of(id)));
        place
    }

    /// The values of a place outside the sweeps that are known before sweep `number`, and not yet computed.
    fn lets(&self, place: Place, number: usize, done: &mut [bool]) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        for item in &self.points.items {
            let Item::Let { value, expr } = item else {
                continue;
            };
            let at = value.index();
            if self.place[at] == place && self.level[at] <= number && !done[at] {
                done[at] = true;
                stmts.push(Stmt::Let {
                    value: *value,
                    expr: expr.clone(),
                });
            }
        }
        stmts
    }

    /// What each sweep computes. A sweep folds what is complete in it and stores what is complete in it; what an earlier sweep could
    /// have computed is computed again or read back.
    fn plan(&mut self) -> Vec<Plan> {
        let mut seeds: Vec<Vec<ValueId>> = Vec::new();
        let mut seed = |level: usize, value: ValueId| {
            if seeds.len() <= level {
                seeds.resize(level + 1, Vec::new());
            }
            seeds[level].push(value);
        };
        for item in &self.points.items {
            if let Item::Fold { operand, fold, .. } = item {
                let level = self.level[item.value().index()] - 1;
                seed(level, *operand);
                if let Fold::ArgMax(position) | Fold::ArgMin(position) = fold {
                    seed(level, *position);
                }
            }
        }
        for store in &self.points.stores {
            if self.place_of_store(store) == Place::Sweep {
                seed(self.level[store.value.index()], store.value);
            }
        }
        // From the last sweep to the first: what a later sweep reads back is computed in the sweep in which it is first known.
        let mut plans = Vec::new();
        for number in (0..seeds.len()).rev() {
            let mut plan = Plan {
                items: vec![false; self.points.items.len()],
                reload: Vec::new(),
            };
            for value in std::mem::take(&mut seeds[number]) {
                self.need(value, number, &mut plan);
            }
            for value in &plan.reload {
                seeds[self.level[value.index()]].push(*value);
            }
            plans.push(plan);
        }
        plans.reverse();
        plans
    }

    fn need(&mut self, value: ValueId, number: usize, plan: &mut Plan) {
        let at = value.index();
        if self.place[at] != Place::Sweep
            || plan.items[self.item[at]]
            || plan.reload.contains(&value)
        {
            return;
        }
        let item = self.points.items[self.item[at]].clone();
        let cheap = match &item {
            Item::Let { expr, .. } => expr_is_cheap(expr),
            Item::Fold { .. } => true,
        };
        let again = self.level[at] < number && self.walk.sweep_is_lanes;
        if again && (!cheap || self.ops(value, plan, &mut Vec::new()) > MOST_AGAIN) {
            self.keep(value);
            plan.reload.push(value);
            return;
        }
        plan.items[self.item[at]] = true;
        let mut operands = Vec::new();
        visit_operands(&item, &mut |v| operands.push(v));
        for operand in operands {
            self.need(operand, number, plan);
        }
    }

    /// How many ops it takes to compute a value in a sweep, beside what the sweep computes anyway. Loads are not counted: a value that
    /// was kept is loaded too.
    fn ops(&self, value: ValueId, plan: &Plan, seen: &mut Vec<ValueId>) -> usize {
        let at = value.index();
        let there = plan.items[self.item[at]] || plan.reload.contains(&value);
        if self.place[at] != Place::Sweep || there || seen.contains(&value) {
            return 0;
        }
        seen.push(value);
        let item = &self.points.items[self.item[at]];
        let own = match item {
            Item::Let { expr, .. } => usize::from(!matches!(expr, Expr::Load { .. })),
            Item::Fold { .. } => 0,
        };
        let mut operands = Vec::new();
        visit_operands(item, &mut |v| operands.push(v));
        let below = operands.into_iter().map(|v| self.ops(v, plan, seen));
        own + below.sum::<usize>()
    }

    /// Gives a value a scratch row.
    fn keep(&mut self, value: ValueId) {
        if self.stash[value.index()].is_some() {
            return;
        }
        let dtype = self.points.values[value.index()];
        self.points.params.push(Param {
            dtype,
            access: Access::ReadWrite,
        });
        self.points
            .sources
            .push(ParamSource::Scratch(dtype, self.extents.lanes.clone()));
        self.stash[value.index()] = Some(ParamId(self.points.params.len() as u32 - 1));
    }

    /// The loop of one sweep; nothing if it neither folds nor stores. A walk without axes has no loop either.
    fn sweep(&mut self, number: usize, plan: &Plan) -> Vec<Stmt> {
        let (id, extent, kind) = if self.walk.sweep_is_lanes {
            let id = if number == 0 {
                LANES
            } else {
                LoopId(SWEEP + number as u32)
            };
            (id, self.extents.lanes.clone(), LoopKind::Lanes)
        } else {
            (
                LoopId(SWEEP + number as u32),
                self.extents.serial.clone(),
                LoopKind::Serial,
            )
        };
        let mut names = Names::new(self, number, id);
        let mut body: Vec<Stmt> = plan.reload.iter().map(|v| names.reload(*v)).collect();
        let items = self.points.items.clone();
        for (position, item) in items.iter().enumerate() {
            if let (true, Item::Let { value, expr }) = (plan.items[position], item) {
                body.push(names.computed(*value, expr));
            }
        }
        let kept: Vec<ValueId> = items
            .iter()
            .map(Item::value)
            .filter(|v| self.stash[v.index()].is_some() && self.level[v.index()] == number)
            .collect();
        for value in kept {
            if let Some(param) = self.stash[value.index()] {
                body.push(Stmt::Store {
                    param,
                    index: Index::counter(id),
                    value: names.value(value),
                    predicate: None,
                });
            }
        }
        let stores = self.points.stores.clone();
        for s in &stores {
            let here = self.level[s.value.index()] == number;
            if here && self.place_of_store(s) == Place::Sweep {
                body.push(Stmt::Store {
                    param: s.param,
                    index: names.index(&s.index),
                    value: names.value(s.value),
                    predicate: None,
                });
            }
        }
        let accumulators: Vec<Accumulator> = items
            .iter()
            .filter_map(|item| match item {
                Item::Fold {
                    value,
                    fold,
                    operand,
                } if self.level[value.index()] == number + 1 => Some(Accumulator {
                    value: *value,
                    fold: match fold {
                        Fold::Reduce(kind) => Fold::Reduce(*kind),
                        Fold::ArgMax(p) => Fold::ArgMax(names.value(*p)),
                        Fold::ArgMin(p) => Fold::ArgMin(names.value(*p)),
                    },
                    operand: names.value(*operand),
                }),
                Item::Fold { .. } | Item::Let { .. } => None,
            })
            .collect();
        let new = names.new;
        self.points.values.extend(new);
        if body.is_empty() && accumulators.is_empty() {
            return Vec::new();
        }
        vec![Stmt::Loop(Loop {
            id,
            extent,
            kind,
            accumulators,
            body,
        })]
    }
}

fn store(s: &PointStore) -> Stmt {
    Stmt::Store {
        param: s.param,
        index: s.index.clone(),
        value: s.value,
        predicate: None,
    }
}
