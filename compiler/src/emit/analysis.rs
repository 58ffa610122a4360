//! What the emitter knows of a kernel before it emits: depths, what varies with the lanes, and how long bodies are.

use crate::kernel::{Access, Atom, Expr, Index, Kernel, Loop, LoopId, LoopKind, Stmt, ValueId};
use kiln_ir::DType;
use kiln_ir::ops::{Binary, Literal, Unary};
use std::collections::BTreeMap;

/// The facts, by value and by loop.
pub(crate) struct Facts {
    /// The number of loops around the definition of a value.
    value_depth: Vec<usize>,
    /// The number of loops around the body of a loop.
    loop_depth: BTreeMap<LoopId, usize>,
    /// Whether a value differs between the lanes of its lanes loop.
    varies: Vec<bool>,
    /// The literal that a value is.
    literals: Vec<Option<Literal>>,
    /// The index that a value is.
    indices: BTreeMap<ValueId, Index>,
    /// The random words whose positions step by 1 from lane to lane under one key and counter, with the position.
    in_a_row: BTreeMap<ValueId, Draw>,
}

/// Random words in a row: their key, their upper counter, and the position.
pub(super) type Draw = ([ValueId; 2], [ValueId; 2], Index);

impl Facts {
    pub(crate) fn of(kernel: &Kernel) -> Facts {
        let count = kernel.values.len();
        let mut facts = Facts {
            value_depth: vec![0; count],
            loop_depth: BTreeMap::new(),
            varies: vec![false; count],
            literals: vec![None; count],
            indices: BTreeMap::new(),
            in_a_row: BTreeMap::new(),
        };
        facts.visit(kernel, &kernel.body, 0, None);
        facts
    }

    fn visit(&mut self, kernel: &Kernel, body: &[Stmt], depth: usize, lanes: Option<LoopId>) {
        for stmt in body {
            match stmt {
                Stmt::Let { value, expr } => {
                    self.value_depth[value.index()] = depth;
                    self.varies[value.index()] =
                        lanes.is_some_and(|id| self.depends(kernel, expr, id));
                    self.remember(*value, expr, lanes);
                }
                Stmt::Store { .. } | Stmt::Sort(_) => {}
                Stmt::Apply(apply) => {
                    self.loop_depth.insert(apply.id, depth + 1);
                }
                Stmt::Loop(inner) => {
                    self.loop_depth.insert(inner.id, depth + 1);
                    let within = match inner.kind {
                        LoopKind::Lanes => Some(inner.id),
                        LoopKind::Grid | LoopKind::Serial | LoopKind::Strips => lanes,
                    };
                    self.visit(kernel, &inner.body, depth + 1, within);
                    for accumulator in &inner.accumulators {
                        self.value_depth[accumulator.value.index()] = depth;
                        // A fold within the lanes is kept for each lane, whatever is folded.
                        self.varies[accumulator.value.index()] = lanes.is_some();
                    }
                }
            }
        }
    }

    fn remember(&mut self, value: ValueId, expr: &Expr, lanes: Option<LoopId>) {
        match expr {
            Expr::Const(literal) => self.literals[value.index()] = Some(*literal),
            Expr::Index(index) => {
                self.indices.insert(value, index.clone());
            }
            Expr::Philox {
                key: [k0, k1],
                counter: [c0, c1],
                position,
            } => {
                let uniform = [k0, k1, c0, c1].into_iter().all(|v| !self.varies(*v));
                if let (Some(index), Some(lanes), true) =
                    (self.indices.get(position), lanes, uniform)
                {
                    let mut varying = index
                        .terms()
                        .iter()
                        .filter(|(atom, _)| self.atom_varies(atom, lanes));
                    let steps = matches!(varying.next(), Some((Atom::Loop(_), c)) if c.constant() == Some(1));
                    if steps && varying.next().is_none() {
                        let draw = ([*k0, *k1], [*c0, *c1], index.clone());
                        self.in_a_row.insert(value, draw);
                    }
                }
            }
            Expr::Load { .. } | Expr::Unary(..) | Expr::Binary(..) | Expr::Compare(..) => {}
            Expr::Select(..) | Expr::Fma(..) | Expr::Convert(_) | Expr::Bitcast(_) => {}
        }
    }

    /// The index that a value is.
    pub(super) fn index(&self, value: ValueId) -> Option<&Index> {
        self.indices.get(&value)
    }

    /// The position of random words that step by 1 from lane to lane under one key and counter.
    pub(super) fn in_a_row(&self, value: ValueId) -> Option<&Index> {
        self.in_a_row.get(&value).map(|(_, _, index)| index)
    }

    /// Such words with their key and counter.
    pub(super) fn draw(&self, value: ValueId) -> Option<Draw> {
        self.in_a_row.get(&value).cloned()
    }

    /// Whether a body draws such words.
    pub(super) fn draws_in_a_row(&self, body: &[Stmt]) -> bool {
        body.iter().any(|stmt| match stmt {
            Stmt::Let { value, .. } => self.in_a_row.contains_key(value),
            Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => false,
            Stmt::Loop(inner) => self.draws_in_a_row(&inner.body),
        })
    }

    fn depends(&self, kernel: &Kernel, expr: &Expr, lanes: LoopId) -> bool {
        match expr {
            // What the kernel writes may change from lane to lane.
            Expr::Load {
                param,
                index,
                predicate,
            } => {
                kernel.params[param.index()].access != Access::Read
                    || self.index_varies(index, lanes)
                    || predicate.is_some_and(|p| self.varies(p))
            }
            Expr::Const(_) => false,
            Expr::Index(index) => self.index_varies(index, lanes),
            Expr::Unary(_, a) | Expr::Convert(a) | Expr::Bitcast(a) => self.varies(*a),
            Expr::Binary(_, a, b) | Expr::Compare(_, a, b) => self.varies(*a) || self.varies(*b),
            Expr::Select(a, b, c) | Expr::Fma(a, b, c) => {
                [a, b, c].into_iter().any(|v| self.varies(*v))
            }
            Expr::Philox {
                key,
                counter,
                position,
            } => {
                let [k0, k1] = key;
                let [c0, c1] = counter;
                [k0, k1, c0, c1, position]
                    .into_iter()
                    .any(|v| self.varies(*v))
            }
        }
    }

    /// Whether a value differs between lanes.
    pub(super) fn varies(&self, value: ValueId) -> bool {
        self.varies[value.index()]
    }

    /// The literal that a value is.
    pub(super) fn literal(&self, value: ValueId) -> Option<Literal> {
        self.literals[value.index()]
    }

    /// Whether an atom differs between the lanes of a loop.
    pub(super) fn atom_varies(&self, atom: &Atom, lanes: LoopId) -> bool {
        match atom {
            Atom::Loop(id) => *id == lanes,
            Atom::Value(value) => self.varies(*value),
            Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => self.index_varies(inner, lanes),
        }
    }

    fn index_varies(&self, index: &Index, lanes: LoopId) -> bool {
        index
            .terms()
            .iter()
            .any(|(atom, _)| self.atom_varies(atom, lanes))
    }

    /// The number of loops within which an atom is known.
    pub(super) fn depth(&self, atom: &Atom) -> usize {
        match atom {
            Atom::Loop(id) => self.loop_depth.get(id).copied().unwrap_or(0),
            Atom::Value(value) => self.value_depth[value.index()],
            Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => {
                let depths = inner.terms().iter().map(|(atom, _)| self.depth(atom));
                depths.max().unwrap_or(0)
            }
        }
    }
}

/// About how many instructions a body is for one group.
pub(super) fn cost(kernel: &Kernel, body: &[Stmt]) -> usize {
    let cost_of = |stmt: &Stmt| match stmt {
        Stmt::Let { value, expr } => {
            let wide = super::form::is_wide(kernel.values[value.index()]);
            expr_cost(kernel, expr) * if wide { 2 } else { 1 }
        }
        Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => 1,
        Stmt::Loop(inner) => 5 + loop_cost(kernel, inner),
    };
    body.iter().map(cost_of).sum()
}

fn loop_cost(kernel: &Kernel, inner: &Loop) -> usize {
    cost(kernel, &inner.body) + 2 * inner.accumulators.len()
}

fn expr_cost(kernel: &Kernel, expr: &Expr) -> usize {
    match expr {
        Expr::Load {
            index, predicate, ..
        } => {
            let linear = |atom: &Atom| matches!(atom, Atom::Loop(_));
            let plain = index.terms().iter().all(|(atom, _)| linear(atom));
            (if plain { 1 } else { 40 }) + if predicate.is_some() { 20 } else { 0 }
        }
        Expr::Const(_) => 0,
        Expr::Index(_) => 2,
        Expr::Unary(op, operand) => {
            let wide = super::form::is_wide(kernel.values[operand.index()]);
            unary_cost(*op) * if wide { 2 } else { 1 }
        }
        Expr::Binary(op, left, _) => binary_cost(*op, kernel.values[left.index()]),
        Expr::Compare(..) | Expr::Select(..) | Expr::Fma(..) | Expr::Bitcast(_) => 1,
        Expr::Convert(_) => 4,
        Expr::Philox { .. } => 220,
    }
}

fn unary_cost(op: Unary) -> usize {
    match op {
        Unary::Neg | Unary::Abs | Unary::Sqrt | Unary::Recip | Unary::Not => 1,
        Unary::Floor | Unary::Ceil | Unary::Round => 1,
        Unary::Sign | Unary::Rsqrt | Unary::IsFinite => 2,
        Unary::Exp | Unary::Expm1 | Unary::Log | Unary::Logistic => 28,
        Unary::Log1p | Unary::Tanh | Unary::Erf => 40,
        Unary::Sin | Unary::Cos | Unary::Tan => 55,
        Unary::Erfc => 60,
    }
}

fn binary_cost(op: Binary, dtype: DType) -> usize {
    let float = dtype.is_float();
    match op {
        Binary::Add | Binary::Sub | Binary::Mul => 1,
        Binary::And | Binary::Or | Binary::Xor => 1,
        Binary::Max | Binary::Min => {
            if float {
                6
            } else {
                1
            }
        }
        Binary::Div => {
            if float {
                1
            } else {
                40
            }
        }
        Binary::Rem => 40,
        Binary::Shl | Binary::Shr => 16,
        Binary::Pow => 120,
        Binary::Atan2 => 50,
    }
}
