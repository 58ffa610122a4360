//! Random well-formed kernels against the reference: nests, types, indices, predicates and folds in combinations that nobody thought of.

use crate::elements::{Random, TYPES, numbers};
use crate::support::{Build, agrees_over, folding, n, store, store_if};
use kiln_compiler::kernel::{
    Access, Accumulator, Atom, Expr, Fold, Index, Kernel, LoopId, LoopKind, Stmt, ValueId, verify,
};
use kiln_ir::ops::{Binary, Compare, ReduceKind, Unary};
use kiln_ir::{DType, Dim};

/// The elements of every parameter: more than any index reaches.
const ELEMENTS: usize = 256;
/// The types that take part; a kernel with all of them would be too long to read.
const KINDS: usize = 3;

struct Generator {
    random: Random,
    build: Build,
    dtypes: Vec<DType>,
    /// The values that are visible, innermost last.
    visible: Vec<(ValueId, DType)>,
    open: Vec<LoopId>,
    loops: u32,
    outputs: Vec<DType>,
}

impl Generator {
    fn below(&mut self, count: usize) -> usize {
        (self.random.next() >> 8) as usize % count
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len());
        from[at]
    }

    /// A visible value of a type, the newest ones more likely; a literal if there is none.
    fn operand(&mut self, body: &mut Vec<Stmt>, dtype: DType) -> ValueId {
        let fitting: Vec<ValueId> = self
            .visible
            .iter()
            .filter(|(_, d)| *d == dtype)
            .map(|(v, _)| *v)
            .collect();
        if !fitting.is_empty() && self.below(8) > 0 {
            let back = self.below(fitting.len().min(4));
            return fitting[fitting.len() - 1 - back];
        }
        let value = self.below(5) as i64;
        let value = if dtype.is_float() {
            self.build.float(body, dtype, value as f64 * 0.75 - 1.0)
        } else {
            self.build.int(
                body,
                dtype,
                value & if dtype == DType::Bool { 1 } else { 7 },
            )
        };
        self.visible.push((value, dtype));
        value
    }

    /// An index below [`ELEMENTS`] for counters below 17.
    fn index(&mut self) -> Index {
        let mut sum = Index::constant(self.below(3) as i64);
        for id in self.open.clone() {
            let counter = Index::counter(id);
            let (divisor, factor) = (
                Dim::from(self.below(5) as i64 + 2),
                self.below(3) as i64 + 1,
            );
            let extent = |_| None;
            let term = match self.below(8) {
                0 => continue,
                1..=4 => counter,
                5 => counter.times(&Dim::from(factor)),
                6 => counter.floor_div(&divisor, &extent),
                _ => counter.modulo(&divisor, &extent).times(&Dim::from(2)),
            };
            sum = sum.plus(&term);
        }
        let positions: Vec<ValueId> = self
            .visible
            .iter()
            .filter(|(_, d)| *d == DType::I64)
            .map(|(v, _)| *v)
            .collect();
        if !positions.is_empty() && self.below(6) == 0 {
            let v = self.pick(&positions);
            let bounded = Index::atom(Atom::Value(v)).modulo(&Dim::from(11), &|_| None);
            sum = sum.plus(&bounded);
        }
        sum
    }

    fn predicate(&mut self, body: &mut Vec<Stmt>) -> Option<ValueId> {
        (self.below(4) == 0).then(|| self.operand(body, DType::Bool))
    }

    fn statement(&mut self, body: &mut Vec<Stmt>) {
        let dtypes = self.dtypes.clone();
        let at = self.below(dtypes.len());
        let dtype = dtypes[at];
        let expr = match self.below(9) {
            0 | 1 => {
                let index = self.index();
                let predicate = self.predicate(body);
                let value = self.build.load_if(body, at as u32, index, predicate);
                self.visible.push((value, dtype));
                return;
            }
            2 => (DType::I64, Expr::Index(self.index())),
            3 => {
                let (a, b) = (self.operand(body, dtype), self.operand(body, dtype));
                let op = self.pick(&Compare::ALL);
                (DType::Bool, Expr::Compare(op, a, b))
            }
            4 => {
                let c = self.operand(body, DType::Bool);
                let (a, b) = (self.operand(body, dtype), self.operand(body, dtype));
                (dtype, Expr::Select(c, a, b))
            }
            5 => {
                let to = self.pick(&TYPES);
                (to, Expr::Convert(self.operand(body, dtype)))
            }
            6 if dtype.is_float() => {
                let op = self.pick(&[
                    Unary::Neg,
                    Unary::Abs,
                    Unary::Exp,
                    Unary::Tanh,
                    Unary::Floor,
                    Unary::Sign,
                ]);
                (dtype, Expr::Unary(op, self.operand(body, dtype)))
            }
            _ => {
                let bits = [Binary::And, Binary::Or, Binary::Xor];
                let numbers = [
                    Binary::Add,
                    Binary::Sub,
                    Binary::Mul,
                    Binary::Max,
                    Binary::Min,
                    Binary::Div,
                ];
                let op = if dtype == DType::Bool {
                    self.pick(&bits)
                } else {
                    self.pick(&numbers)
                };
                let (a, b) = (self.operand(body, dtype), self.operand(body, dtype));
                (dtype, Expr::Binary(op, a, b))
            }
        };
        let value = self.build.compute(body, expr.0, expr.1);
        self.visible.push((value, expr.0));
    }

    /// Stores a visible value to a parameter of its own, at an index that no two iterations share.
    fn output(&mut self, body: &mut Vec<Stmt>) {
        let (value, dtype) = match self.visible.last() {
            Some(last) => *last,
            None => (self.operand(body, DType::F32), DType::F32),
        };
        let mut index = Index::constant(0);
        for id in &self.open {
            index = index.times(&Dim::from(17)).plus(&Index::counter(*id));
        }
        let predicate = self.predicate(body);
        let param = (KINDS + self.outputs.len()) as u32;
        self.outputs.push(dtype);
        body.push(store_if(param, index, value, predicate));
    }

    fn nested(&mut self, kind: LoopKind, depth: usize, in_lanes: bool) -> Stmt {
        let id = self.loops;
        self.loops += 1;
        let outside = self.visible.len();
        self.open.push(LoopId(id));
        let mut body = Vec::new();
        for _ in 0..2 + self.below(5) {
            self.statement(&mut body);
        }
        let in_lanes = in_lanes || kind == LoopKind::Lanes;
        if depth < 2 && self.open.len() < 3 && self.below(3) > 0 {
            let inner = match (in_lanes, kind) {
                (true, _) => LoopKind::Serial,
                (false, LoopKind::Grid) => {
                    self.pick(&[LoopKind::Grid, LoopKind::Serial, LoopKind::Lanes])
                }
                (false, _) => self.pick(&[LoopKind::Serial, LoopKind::Lanes]),
            };
            let stmt = self.nested(inner, depth + 1, in_lanes);
            body.push(stmt);
            for _ in 0..self.below(3) {
                self.statement(&mut body);
            }
        }
        if self.outputs.len() < 4 {
            self.output(&mut body);
        }
        let mut folds = Vec::new();
        if kind != LoopKind::Grid {
            for _ in 0..self.below(3) {
                let newest = self.visible.len() - 1;
                let back = self.below(3).min(newest);
                let (operand, dtype) = self.visible[newest - back];
                let kinds: &[ReduceKind] = if dtype == DType::Bool {
                    &[ReduceKind::Any, ReduceKind::All]
                } else {
                    &[
                        ReduceKind::Sum,
                        ReduceKind::Prod,
                        ReduceKind::Max,
                        ReduceKind::Min,
                    ]
                };
                let fold = Fold::Reduce(self.pick(kinds));
                folds.push(Accumulator {
                    value: self.build.value(dtype),
                    fold,
                    operand,
                });
            }
        }
        self.open.pop();
        self.visible.truncate(outside);
        for fold in &folds {
            let dtype = self.build.dtype(fold.value);
            self.visible.push((fold.value, dtype));
        }
        let extent = if self.below(2) == 0 {
            n()
        } else {
            Dim::from(self.below(17) as i64)
        };
        folding(kind, id, extent, body, folds)
    }
}

fn kernel(seed: u64) -> (Kernel, Vec<DType>) {
    let mut random = Random::new(seed);
    let dtypes: Vec<DType> = (0..KINDS)
        .map(|_| TYPES[(random.next() >> 8) as usize % TYPES.len()])
        .collect();
    let inputs: Vec<(DType, Access)> = dtypes.iter().map(|d| (*d, Access::Read)).collect();
    let mut g = Generator {
        random,
        build: Build::new(&inputs),
        dtypes: dtypes.clone(),
        visible: Vec::new(),
        open: Vec::new(),
        loops: 0,
        outputs: Vec::new(),
    };
    let mut body = Vec::new();
    for _ in 0..g.below(3) {
        g.statement(&mut body);
    }
    for _ in 0..1 + g.below(2) {
        let kind = g.pick(&[
            LoopKind::Grid,
            LoopKind::Lanes,
            LoopKind::Lanes,
            LoopKind::Serial,
        ]);
        let stmt = g.nested(kind, 0, false);
        body.push(stmt);
    }
    // What is folded last goes out too.
    if let (Some((value, dtype)), true) = (g.visible.last().copied(), g.below(2) == 0) {
        let param = (KINDS + g.outputs.len()) as u32;
        g.outputs.push(dtype);
        body.push(store(param, Index::constant(0), value));
    }
    let Generator {
        mut build, outputs, ..
    } = g;
    for dtype in &outputs {
        build.param(*dtype, Access::Write);
    }
    let mut all = dtypes;
    all.extend(outputs);
    (build.finish(body), all)
}

#[test]
fn random_kernels() {
    for seed in 1..400 {
        let (kernel, dtypes) = kernel(seed);
        assert_eq!(verify(&kernel), Ok(()), "seed {seed}\n{kernel}");
        agrees_over(&kernel, &[0, 1, 3, 16, 17], |_| {
            let size = |p: usize| if p < KINDS { ELEMENTS } else { 17 * 17 * 17 };
            let params = dtypes.iter().enumerate();
            params
                .map(|(p, d)| numbers(*d, size(p), seed + p as u64))
                .collect()
        });
    }
}
