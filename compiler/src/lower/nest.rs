//! Loops around the values of a point.
//!
//! A space of rows becomes a grid loop over rows around lanes loops over columns, one for each sweep: a sweep ends where a reduction's
//! result is needed. A space of columns becomes lanes over the kept axes around serial loops over the reduced ones. Each value is
//! computed at the outermost place where it is known: once a call, once a unit, or in each sweep that needs it. What a later sweep needs
//! again is computed again if that is cheap, and kept in a scratch row if not.

use super::points::{Item, PointStore, Points, visit_operands};
use super::{LoweredKernel, ParamSource, count};
use crate::access::unravel;
use crate::fusion::{Space, expr_is_cheap};
use crate::kernel::{
    Access, Accumulator, Atom, Expr, Fold, Index, Kernel, Loop, LoopId, LoopKind, Param, ParamId,
    Stmt, ValueId,
};
use kiln_ir::Dim;

const GRID: LoopId = LoopId(0);
const LANES: LoopId = LoopId(1);
/// Sweeps are numbered from here, each loop having a counter of its own.
const SWEEP: u32 = 2;
/// Lanes are shared out among threads in multiples of this.
const LANES_GRAIN: usize = 64;

/// How the axes of a space are walked.
struct Walk {
    /// The axes of the grid loop, by position.
    grid: Vec<usize>,
    /// Whether there is a grid loop: an epilogue has one even where its product has a single row.
    has_grid: bool,
    /// The axes of the lanes.
    lanes: Vec<usize>,
    /// The axes of the serial loop of a column reduction.
    serial: Vec<usize>,
    /// Whether the sweep is the lanes loop (rows) or the serial loop (columns).
    sweep_is_lanes: bool,
}

/// Where a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Call,
    Unit,
    Sweep,
}

/// Puts the values of a group into loops.
pub(super) fn nest(points: Points, space: &Space, epilogue: bool) -> LoweredKernel {
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
        Some(_) => (extents.lanes, LANES_GRAIN, extents.serial),
        None => (
            Dim::from(1),
            1,
            &(&extents.grid * &extents.lanes) * &extents.serial,
        ),
    };
    let work = &inner * &Dim::from(kernel.params.len().max(1));
    LoweredKernel {
        kernel,
        params: points.sources,
        total,
        grain,
        work,
    }
}

/// The trip counts of the loops; 1 where there is none.
struct Extents {
    grid: Dim,
    lanes: Dim,
    serial: Dim,
}

fn extent(axes: &[Dim], of: &[usize]) -> Dim {
    count(&of.iter().map(|a| axes[*a].clone()).collect::<Vec<_>>())
}

fn choose(points: &Points, space: &Space, epilogue: bool) -> Walk {
    let rank = points.axes.len();
    let rows = |k: usize| Walk {
        grid: (0..k).collect(),
        has_grid: k > 0,
        lanes: (k..rank).collect(),
        serial: Vec::new(),
        sweep_is_lanes: true,
    };
    match space {
        Space::Columns { outer, reduced, .. } => {
            let (o, r) = (outer.len(), outer.len() + reduced.len());
            Walk {
                grid: (0..o).collect(),
                has_grid: o > 0,
                lanes: (r..rank).collect(),
                serial: (o..r).collect(),
                sweep_is_lanes: false,
            }
        }
        Space::Rows {
            rows: fixed_rows,
            columns,
            fixed: true,
        } if !columns.is_empty() => Walk {
            has_grid: epilogue || !fixed_rows.is_empty(),
            ..rows(fixed_rows.len())
        },
        // The rows of an epilogue are its outermost loop even where a row has one column.
        Space::Rows { .. } if epilogue => rows(0),
        // Without a border to keep, as many axes as possible are walked as one, as long as the lanes step evenly.
        Space::Rows { .. } => (0..rank)
            .map(rows)
            .find(|walk| steps_evenly(points, walk))
            .unwrap_or_else(|| rows(rank.saturating_sub(1))),
    }
}

/// Whether no index needs a quotient or a remainder of the lanes' counter.
fn steps_evenly(points: &Points, walk: &Walk) -> bool {
    let replace = Replacement::new(points, walk);
    let even = |index: &Index| {
        let index = replace.index(index);
        index.terms().iter().all(|(atom, _)| match atom {
            Atom::Loop(_) | Atom::Value(_) => true,
            Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => {
                let mut varies = false;
                inner.visit_loops(&mut |id| varies |= id == LANES);
                !varies
            }
        })
    };
    let loads = points.items.iter().all(|item| match item {
        Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } => even(index),
        Item::Let { .. } | Item::Fold { .. } => true,
    });
    loads && points.stores.iter().all(|s| even(&s.index))
}

/// The counters of axes in terms of the loops.
struct Replacement {
    by_axis: Vec<Index>,
    extents: [Dim; 3],
}

impl Replacement {
    fn new(points: &Points, walk: &Walk) -> Self {
        let mut by_axis = vec![Index::constant(0); points.axes.len()];
        let loops = [
            (GRID, &walk.grid),
            (LANES, &walk.lanes),
            (LoopId(SWEEP), &walk.serial),
        ];
        let extents = loops.each_ref().map(|(_, of)| extent(&points.axes, of));
        for (id, of) in loops {
            let shape: Vec<Dim> = of.iter().map(|a| points.axes[*a].clone()).collect();
            let known = |l: LoopId| extents.get(l.index()).cloned();
            let index = unravel(&Index::counter(id), &shape, &known);
            for (axis, index) in of.iter().zip(index) {
                by_axis[*axis] = index;
            }
        }
        Self { by_axis, extents }
    }

    fn index(&self, index: &Index) -> Index {
        index.substitute(&|id| self.by_axis[id.index()].clone(), &|id| {
            self.extents.get(id.index()).cloned()
        })
    }
}

fn flattened(mut points: Points, walk: &Walk) -> Points {
    let replace = Replacement::new(&points, walk);
    for item in &mut points.items {
        if let Item::Let {
            expr: Expr::Load { index, .. } | Expr::Index(index),
            ..
        } = item
        {
            *index = replace.index(index);
        }
    }
    for store in &mut points.stores {
        store.index = replace.index(&store.index);
    }
    points
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
        let mut plans = Vec::new();
        for (number, seeds) in seeds.into_iter().enumerate() {
            let mut plan = Plan {
                items: vec![false; self.points.items.len()],
                reload: Vec::new(),
            };
            for value in seeds {
                self.need(value, number, &mut plan);
            }
            plans.push(plan);
        }
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
        if self.level[at] < number && !cheap && self.walk.sweep_is_lanes {
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

/// The names that values have within one sweep: a value computed in several sweeps has a name in each.
struct Names {
    renamed: Vec<Option<ValueId>>,
    first_new: usize,
    new: Vec<kiln_ir::DType>,
    dtypes: Vec<kiln_ir::DType>,
    stash: Vec<Option<ParamId>>,
    rename: bool,
    /// The counter of the flattened points, and the counter of this sweep.
    counter: (LoopId, LoopId),
}

impl Names {
    fn new(sweeps: &Sweeps<'_>, number: usize, id: LoopId) -> Self {
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

    fn value(&self, value: ValueId) -> ValueId {
        let renamed = self.renamed.get(value.index()).copied().flatten();
        renamed.unwrap_or(value)
    }

    fn fresh(&mut self, value: ValueId) -> ValueId {
        if !self.rename {
            return value;
        }
        self.new.push(self.dtypes[value.index()]);
        let fresh = ValueId((self.first_new + self.new.len() - 1) as u32);
        self.renamed[value.index()] = Some(fresh);
        fresh
    }

    fn index(&self, index: &Index) -> Index {
        let (flat, own) = self.counter;
        let replaced = index.substitute(
            &|id| Index::counter(if id == flat { own } else { id }),
            &|_| None,
        );
        replaced.with_values(&|v| self.value(v))
    }

    fn reload(&mut self, value: ValueId) -> Stmt {
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

    fn computed(&mut self, value: ValueId, expr: &Expr) -> Stmt {
        let expr = map_expr(expr, &|v| self.value(v), &|i| self.index(i));
        Stmt::Let {
            value: self.fresh(value),
            expr,
        }
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

fn map_expr(
    expr: &Expr,
    value: &impl Fn(ValueId) -> ValueId,
    index: &impl Fn(&Index) -> Index,
) -> Expr {
    match expr {
        Expr::Load {
            param,
            index: at,
            predicate,
        } => Expr::Load {
            param: *param,
            index: index(at),
            predicate: predicate.map(value),
        },
        Expr::Const(literal) => Expr::Const(*literal),
        Expr::Index(at) => Expr::Index(index(at)),
        Expr::Unary(op, a) => Expr::Unary(*op, value(*a)),
        Expr::Binary(op, a, b) => Expr::Binary(*op, value(*a), value(*b)),
        Expr::Compare(op, a, b) => Expr::Compare(*op, value(*a), value(*b)),
        Expr::Select(a, b, c) => Expr::Select(value(*a), value(*b), value(*c)),
        Expr::Fma(a, b, c) => Expr::Fma(value(*a), value(*b), value(*c)),
        Expr::Convert(a) => Expr::Convert(value(*a)),
        Expr::Bitcast(a) => Expr::Bitcast(value(*a)),
        Expr::Philox {
            key,
            counter,
            position,
        } => Expr::Philox {
            key: key.map(value),
            counter: counter.map(value),
            position: value(*position),
        },
    }
}
