//! An interpreter of kernels in plain Rust, one number at a time. It is the definition that the emitted code is held against: it knows no
//! lanes, and folds in the order that the documentation of `Accumulator` gives.

use crate::elementwise::{binary_reference, reference, unary_reference};
use kiln_compiler::kernel::{
    Accumulator, Apply, Atom, Expr, Fold, Function, Index, Kernel, LANES_BLOCK, Loop, LoopId,
    LoopKind, Operand, SERIAL_BLOCK, STRIP, Stmt, ValueId,
};
use kiln_ir::ops::{Binary, Compare, Convert, Literal, ReduceKind, Select};
use kiln_ir::philox::philox4x32;
use kiln_ir::{Array, Bindings, DType, Values};
use std::collections::BTreeMap;

/// Runs a kernel over a range of its partition; the arrays are the parameters.
pub(crate) fn interpret(
    kernel: &Kernel,
    bindings: &Bindings,
    range: std::ops::Range<i64>,
    params: &mut [Array],
) {
    let mut interpreter = Interpreter {
        kernel,
        bindings,
        range,
        memory: params.iter().map(|p| p.values().clone()).collect(),
        values: BTreeMap::new(),
        counters: BTreeMap::new(),
    };
    interpreter.body(&kernel.body);
    for (param, values) in params.iter_mut().zip(interpreter.memory) {
        *param = Array::new(param.dtype(), param.shape().to_vec(), values).unwrap();
    }
}

struct Interpreter<'k> {
    kernel: &'k Kernel,
    bindings: &'k Bindings,
    range: std::ops::Range<i64>,
    memory: Vec<Values>,
    values: BTreeMap<ValueId, Array>,
    counters: BTreeMap<LoopId, i64>,
}

fn float(dtype: DType, value: f64) -> Array {
    Array::new(dtype, vec![1], Values::Float(vec![value])).unwrap()
}

fn int(dtype: DType, value: i64) -> Array {
    Array::new(dtype, vec![1], Values::Int(vec![value])).unwrap()
}

impl Interpreter<'_> {
    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { value, expr } => {
                    let result = self.expr(self.kernel.values[value.index()], expr);
                    self.values.insert(*value, result);
                }
                Stmt::Store {
                    param,
                    index,
                    value,
                    predicate,
                } => {
                    if predicate.is_none_or(|p| self.truth(p)) {
                        let at = self.index(index) as usize;
                        match (&mut self.memory[param.index()], self.values[value].values()) {
                            (Values::Float(memory), Values::Float(v)) => memory[at] = v[0],
                            (Values::Int(memory), Values::Int(v)) => memory[at] = v[0],
                            _ => unreachable!("an element has its parameter's type"),
                        }
                    }
                }
                Stmt::Loop(inner) => self.nested(inner),
                Stmt::Apply(_) => unreachable!("an application stands in strips"),
                Stmt::Sort(_) => {
                    unreachable!("rows are put in order against the interpreter of graphs")
                }
            }
        }
    }

    /// The phases over one strip; calls `folded` behind each element of the last lanes loop.
    fn strip(
        &mut self,
        strips: &Loop,
        strip: std::ops::Range<i64>,
        folded: &mut dyn FnMut(&mut Self),
    ) {
        self.counters.insert(strips.id, strip.start);
        let last = strips.body.iter().rposition(|s| matches!(s, Stmt::Loop(_)));
        for (position, stmt) in strips.body.iter().enumerate() {
            for i in strip.clone() {
                match stmt {
                    Stmt::Loop(phase) => {
                        self.counters.insert(phase.id, i);
                        self.body(&phase.body);
                        if Some(position) == last {
                            folded(self);
                        }
                    }
                    Stmt::Apply(apply) => {
                        self.counters.insert(apply.id, i);
                        self.apply(apply);
                    }
                    Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => {
                        unreachable!("not in strips")
                    }
                }
            }
        }
    }

    fn apply(&mut self, apply: &Apply) {
        let dtype = self.kernel.params[apply.target.param.index()].dtype;
        let operands: Vec<Array> = apply
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Element(element) => {
                    let at = self.index(&element.index) as usize;
                    match &self.memory[element.param.index()] {
                        Values::Float(memory) => float(dtype, memory[at]),
                        Values::Int(_) => unreachable!("strips are floats"),
                    }
                }
                Operand::Value(value) => self.values[value].clone(),
            })
            .collect();
        let result = match apply.function {
            Function::Unary(op) => unary_reference(op, &operands[0]),
            Function::Binary(op) => binary_reference(op, &operands[0], &operands[1]),
        };
        let at = self.index(&apply.target.index) as usize;
        if let Values::Float(memory) = &mut self.memory[apply.target.param.index()] {
            memory[at] = result.floats().unwrap()[0];
        }
    }

    fn nested(&mut self, inner: &Loop) {
        let shared = self.kernel.partition().is_some_and(|l| l.id == inner.id);
        let range = if shared {
            self.range.clone()
        } else {
            0..inner.extent.eval(self.bindings).unwrap()
        };
        let mut operands: Vec<Vec<(Array, i64)>> = vec![Vec::new(); inner.accumulators.len()];
        let mut fold = |this: &mut Self| {
            for (accumulator, operands) in inner.accumulators.iter().zip(&mut operands) {
                let position = match accumulator.fold {
                    Fold::Reduce(_) => 0,
                    Fold::ArgMax(p) | Fold::ArgMin(p) => this.values[&p].ints().unwrap()[0],
                };
                operands.push((this.values[&accumulator.operand].clone(), position));
            }
        };
        if inner.kind == LoopKind::Strips {
            for first in range.clone().step_by(STRIP as usize) {
                let strip = first..range.end.min(first + STRIP);
                self.strip(inner, strip, &mut fold);
            }
        } else {
            for i in range {
                self.counters.insert(inner.id, i);
                self.body(&inner.body);
                fold(self);
            }
        }
        for (accumulator, operands) in inner.accumulators.iter().zip(&operands) {
            let dtype = self.kernel.values[accumulator.operand.index()];
            let result = folded(accumulator, inner.kind, dtype, operands);
            self.values.insert(accumulator.value, result);
        }
    }

    fn truth(&self, value: ValueId) -> bool {
        self.values[&value].ints().unwrap()[0] != 0
    }

    fn index(&self, index: &Index) -> i64 {
        let dim = |d: &kiln_ir::Dim| d.eval(self.bindings).unwrap();
        index
            .terms()
            .iter()
            .fold(dim(index.base()), |sum, (atom, c)| {
                sum + self.atom(atom) * dim(c)
            })
    }

    fn atom(&self, atom: &Atom) -> i64 {
        match atom {
            Atom::Loop(id) => self.counters[id],
            Atom::Value(id) => self.values[id].ints().unwrap()[0],
            Atom::FloorDiv(inner, d) => {
                self.index(inner).div_euclid(d.eval(self.bindings).unwrap())
            }
            Atom::Mod(inner, d) => self.index(inner).rem_euclid(d.eval(self.bindings).unwrap()),
        }
    }

    fn expr(&self, dtype: DType, expr: &Expr) -> Array {
        let value = |v: &ValueId| &self.values[v];
        match expr {
            Expr::Load {
                predicate: Some(p), ..
            } if !self.truth(*p) => {
                if dtype.is_float() {
                    float(dtype, 0.0)
                } else {
                    int(dtype, 0)
                }
            }
            Expr::Load { param, index, .. } => {
                let at = self.index(index) as usize;
                match &self.memory[param.index()] {
                    Values::Float(memory) => float(dtype, memory[at]),
                    Values::Int(memory) => int(dtype, memory[at]),
                }
            }
            Expr::Const(Literal::Float(bits)) => float(dtype, f64::from_bits(*bits)),
            Expr::Const(Literal::Int(i)) => int(dtype, *i),
            Expr::Index(index) => int(DType::I64, self.index(index)),
            Expr::Unary(op, a) => unary_reference(*op, value(a)),
            Expr::Binary(op, a, b) => binary_reference(*op, value(a), value(b)),
            Expr::Compare(op, a, b) => reference(*op, &[value(a), value(b)]),
            Expr::Select(a, b, c) => reference(Select, &[value(a), value(b), value(c)]),
            Expr::Fma(a, b, c) => {
                let [a, b, c] = [a, b, c].map(|v| value(v).floats().unwrap()[0]);
                let fused = match dtype {
                    DType::F32 => f64::from((a as f32).mul_add(b as f32, c as f32)),
                    _ => a.mul_add(b, c),
                };
                float(dtype, fused)
            }
            Expr::Convert(a) => reference(Convert { to: dtype }, &[value(a)]),
            Expr::Bitcast(a) => crate::elements::decode(dtype, &crate::elements::encode(value(a))),
            Expr::Philox {
                key,
                counter,
                position,
            } => {
                let word = |v: &ValueId| value(v).ints().unwrap()[0] as u32;
                let p = value(position).ints().unwrap()[0].cast_unsigned();
                let block = p / 4;
                let counter = [
                    block as u32,
                    (block >> 32) as u32,
                    word(&counter[0]),
                    word(&counter[1]),
                ];
                let words = philox4x32(counter, [word(&key[0]), word(&key[1])]);
                int(DType::U32, i64::from(words[(p % 4) as usize]))
            }
        }
    }
}

/// The fold of the operands in the documented order.
fn folded(
    accumulator: &Accumulator,
    kind: LoopKind,
    dtype: DType,
    operands: &[(Array, i64)],
) -> Array {
    let op = match accumulator.fold {
        Fold::Reduce(ReduceKind::Sum) => Binary::Add,
        Fold::Reduce(ReduceKind::Prod) => Binary::Mul,
        Fold::Reduce(ReduceKind::Max) => Binary::Max,
        Fold::Reduce(ReduceKind::Min) => Binary::Min,
        Fold::Reduce(ReduceKind::Any) => Binary::Or,
        Fold::Reduce(ReduceKind::All) => Binary::And,
        Fold::ArgMax(_) => return int(DType::I64, position(operands, false)),
        Fold::ArgMin(_) => return int(DType::I64, position(operands, true)),
    };
    let identity = identity(op, dtype);
    let elements: Vec<Array> = operands.iter().map(|(a, _)| a.clone()).collect();
    let add = |a: Array, b: &Array| reference(op, &[&a, b]);
    let blocks = match kind {
        LoopKind::Lanes | LoopKind::Strips => elements.chunks(LANES_BLOCK as usize),
        LoopKind::Serial | LoopKind::Grid => elements.chunks(SERIAL_BLOCK as usize),
    };
    // A sum begins at +0, so that the sum of nothing is +0; its parts begin at -0, which leaves them as they are.
    let start = if op == Binary::Add && dtype.is_float() {
        float(dtype, 0.0)
    } else {
        identity.clone()
    };
    blocks.fold(start, |result, block| {
        let folded = if kind != LoopKind::Serial {
            sixteen(block, &identity, &add)
        } else {
            block.iter().fold(identity.clone(), add)
        };
        add(result, &folded)
    })
}

/// A block over lanes: sixteen partial results, then the tree.
fn sixteen(block: &[Array], identity: &Array, add: &dyn Fn(Array, &Array) -> Array) -> Array {
    let mut partial = vec![identity.clone(); 16];
    let whole = block.len() / 16 * 16;
    for (r, element) in block.iter().enumerate() {
        let j = if r < whole { r % 16 } else { r % 4 };
        partial[j] = add(partial[j].clone(), element);
    }
    let p = |j: usize| partial[j].clone();
    let four = |j: usize| add(add(p(j), &p(j + 4)), &add(p(j + 8), &p(j + 12)));
    let (even, odd) = (add(four(0), &four(2)), add(four(1), &four(3)));
    add(even, &odd)
}

fn identity(op: Binary, dtype: DType) -> Array {
    let bits = 8 * dtype.size() as u32;
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    match op {
        Binary::Add if dtype.is_float() => float(dtype, -0.0),
        Binary::Mul if dtype.is_float() => float(dtype, 1.0),
        Binary::Mul => int(dtype, 1),
        Binary::Max if dtype.is_float() => float(dtype, f64::NEG_INFINITY),
        Binary::Min if dtype.is_float() => float(dtype, f64::INFINITY),
        Binary::Max if signed => int(dtype, i64::MIN >> (64 - bits)),
        Binary::Min if signed => int(dtype, i64::MAX >> (64 - bits)),
        Binary::Min => int(dtype, (u64::MAX >> (64 - bits)).cast_signed()),
        Binary::And => int(dtype, 1),
        _ => int(dtype, 0),
    }
}

/// The position of the first NaN, or else of the extreme number at the least position; 0 of nothing.
fn position(operands: &[(Array, i64)], least: bool) -> i64 {
    let is_nan = |a: &Array| a.floats().is_ok_and(|v| v[0].is_nan());
    let better = |a: &Array, b: &Array| {
        let (small, large) = if least { (b, a) } else { (a, b) };
        let above = reference(Compare::Lt, &[small, large]).ints().unwrap()[0] != 0;
        above || (is_nan(b) && !is_nan(a))
    };
    let mut best: Option<&(Array, i64)> = None;
    for candidate in operands {
        best = match best {
            None => Some(candidate),
            Some(kept) if better(&kept.0, &candidate.0) => Some(candidate),
            Some(kept) if !better(&candidate.0, &kept.0) && candidate.1 < kept.1 => Some(candidate),
            Some(kept) => Some(kept),
        };
    }
    best.map_or(0, |(_, position)| *position)
}
