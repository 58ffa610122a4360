//! The verifier of kernels, which lists their invariants. The driver runs it on every kernel; the emitter relies on it.
//!
//! 1. Every value, loop and parameter that is mentioned is in its table; a value is computed at most once, a loop opened once.
//! 2. A value is used behind its computation only, in the same body or in loops of that body; what a loop folds is visible behind the loop.
//! 3. Operands and results have the types that the op takes, predicates are `bool`, positions and index values are i64.
//! 4. Loads are from parameters that may be read, stores to those that may be written.
//! 5. Grid loops are within grid loops only and fold nothing; a lanes loop is not within a lanes loop.
//! 6. Indices mention loops around them only, and divide by sizes that are not known to be zero or negative.
//! 7. Extents are not known to be negative.
//! 8. Strips are within grid and serial loops only. They hold applications and lanes loops, which have the extent of the strips and fold
//!    nothing; what the strips fold is computed by the last lanes loop.
//! 9. An application stands directly in strips. It has a full-width function for the type of its elements, and the number of operands
//!    that this takes, of their type; all its indices walk with its counter in steps of 1, those
//!    of the streams asked for ahead too, which are two at most.
//! 10. A row is put in order outside of lanes and strips, in room of u64, to a parameter of its type or, for positions, of i64.
//!
//! Whether indices stay within their buffers is not decided here: it depends on sizes.

use super::print::reduction;
use super::{
    AHEAD, Access, Accumulator, Apply, Atom, Expr, Fold, Function, Index, Kernel, Loop, LoopId,
    LoopKind, Operand, ParamId, SortRow, Stmt, ValueId,
};
use crate::math::wide;
use kiln_ir::ops::{Binary, Compare, Literal, ReduceKind, Rules, Unary};
use kiln_ir::{DType, Dim, TensorType};
use std::collections::BTreeSet;

/// A rule that a kernel breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}, in `{place}`")]
pub struct KernelError {
    /// What is wrong and what would be right.
    pub rule: String,
    /// The statement, as it prints.
    pub place: String,
}

/// Checks all invariants of a kernel.
pub fn verify(kernel: &Kernel) -> Result<(), KernelError> {
    let mut verifier = Verifier {
        kernel,
        visible: vec![false; kernel.values.len()],
        computed: vec![false; kernel.values.len()],
        open: Vec::new(),
        loops: BTreeSet::new(),
    };
    verifier.body(&kernel.body)
}

struct Verifier<'k> {
    kernel: &'k Kernel,
    visible: Vec<bool>,
    computed: Vec<bool>,
    open: Vec<(LoopId, LoopKind)>,
    loops: BTreeSet<LoopId>,
}

/// A broken rule, before the place is known.
type Rule = Result<(), String>;

impl Verifier<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), KernelError> {
        let outside = self.visible.clone();
        for stmt in body {
            match stmt {
                Stmt::Let { value, expr } => {
                    let place = || format!("{value} = {expr}");
                    self.expr(*value, expr).map_err(|rule| KernelError {
                        rule,
                        place: place(),
                    })?;
                    self.define(*value).map_err(|rule| KernelError {
                        rule,
                        place: place(),
                    })?;
                }
                Stmt::Store {
                    param,
                    index,
                    value,
                    predicate,
                } => {
                    let stored = self.store(*param, index, *value, *predicate);
                    stored.map_err(|rule| KernelError {
                        rule,
                        place: format!("store {param}[{index}] = {value}"),
                    })?;
                }
                Stmt::Loop(inner) => self.nested(inner)?,
                Stmt::Apply(apply) => self.apply(apply).map_err(|rule| KernelError {
                    rule,
                    place: apply.to_string(),
                })?,
                Stmt::Sort(sort) => self.sort(sort).map_err(|rule| KernelError {
                    rule,
                    place: sort.to_string(),
                })?,
            }
        }
        self.visible = outside;
        Ok(())
    }

    fn nested(&mut self, inner: &Loop) -> Result<(), KernelError> {
        let place = format!("{} {} < {}", inner.kind, inner.id, inner.extent);
        let at = |rule: String| KernelError {
            rule,
            place: place.clone(),
        };
        self.placement(inner).map_err(at)?;
        self.open.push((inner.id, inner.kind));
        let outside = self.visible.clone();
        self.body(&inner.body)?;
        // What the body computes is visible to the folds, though no longer behind the loop.
        for stmt in &inner.body {
            match stmt {
                Stmt::Let { value, .. } => self.show(*value),
                Stmt::Loop(nested) => nested.accumulators.iter().for_each(|a| self.show(a.value)),
                Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => {}
            }
        }
        if inner.kind == LoopKind::Strips {
            let phases = self.strips(inner).map_err(at)?;
            for stmt in phases.last().iter().flat_map(|last| &last.body) {
                if let Stmt::Let { value, .. } = stmt {
                    self.show(*value);
                }
            }
        }
        for accumulator in &inner.accumulators {
            self.accumulator(accumulator).map_err(|rule| KernelError {
                rule,
                place: format!("{} = {accumulator}", accumulator.value),
            })?;
        }
        self.open.pop();
        self.visible = outside;
        for accumulator in &inner.accumulators {
            self.define(accumulator.value).map_err(at)?;
        }
        Ok(())
    }

    fn placement(&mut self, inner: &Loop) -> Rule {
        if !self.loops.insert(inner.id) {
            return Err(format!("loop {} is opened twice", inner.id));
        }
        if inner.extent.constant().is_some_and(|n| n < 0) {
            return Err("an extent is not negative".into());
        }
        let within = |kind: LoopKind| self.open.iter().any(|(_, k)| *k == kind);
        match inner.kind {
            LoopKind::Grid if self.open.iter().any(|(_, k)| *k != LoopKind::Grid) => {
                Err("a grid loop is within grid loops only".into())
            }
            LoopKind::Strips if within(LoopKind::Strips) || within(LoopKind::Lanes) => {
                Err("strips are within grid and serial loops only".into())
            }
            LoopKind::Grid if !inner.accumulators.is_empty() => {
                Err("a grid loop folds nothing".into())
            }
            LoopKind::Lanes if within(LoopKind::Lanes) => {
                Err("a lanes loop is not within a lanes loop".into())
            }
            LoopKind::Grid | LoopKind::Lanes | LoopKind::Serial | LoopKind::Strips => Ok(()),
        }
    }

    /// The phases of strips, which hold nothing else but applications.
    fn strips<'l>(&self, strips: &'l Loop) -> Result<Vec<&'l Loop>, String> {
        let mut phases = Vec::new();
        for stmt in &strips.body {
            match stmt {
                Stmt::Apply(_) => {}
                Stmt::Loop(phase) if phase.kind == LoopKind::Lanes => {
                    if phase.extent != strips.extent {
                        return Err(format!("the phase {} has another extent", phase.id));
                    }
                    if !phase.accumulators.is_empty() {
                        return Err(format!("the phase {} folds by itself", phase.id));
                    }
                    phases.push(phase);
                }
                Stmt::Loop(_) | Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => {
                    return Err("strips hold lanes loops and applications only".into());
                }
            }
        }
        if phases.is_empty() && !strips.accumulators.is_empty() {
            return Err("strips without a lanes loop fold nothing".into());
        }
        Ok(phases)
    }

    fn apply(&mut self, apply: &Apply) -> Rule {
        if !matches!(self.open.last(), Some((_, LoopKind::Strips))) {
            return Err("an application stands directly in strips".into());
        }
        if !self.loops.insert(apply.id) {
            return Err(format!("loop {} is opened twice", apply.id));
        }
        let dtype = self.param(apply.target.param, Access::Write)?;
        if wide::position(apply.function, dtype).is_none() {
            return Err(format!(
                "`{}` of {dtype} has no full-width function",
                apply.function
            ));
        }
        let takes = match apply.function {
            Function::Unary(_) => 1,
            Function::Binary(_) => 2,
        };
        if apply.operands.len() != takes {
            return Err(format!("`{}` takes {takes} operands", apply.function));
        }
        for operand in &apply.operands {
            let found = match operand {
                Operand::Element(element) => self.param(element.param, Access::Read)?,
                Operand::Value(value) => self.operand(*value)?,
            };
            if found != dtype {
                return Err(format!("{operand} is {found}, not {dtype}"));
            }
        }
        self.open.push((apply.id, LoopKind::Lanes));
        if apply.ahead.len() > AHEAD {
            return Err(format!("no more than {AHEAD} streams are asked for ahead"));
        }
        for element in &apply.ahead {
            if element.param.index() >= self.kernel.params.len() {
                return Err(format!(
                    "{} is not in the table of parameters",
                    element.param
                ));
            }
        }
        for element in apply.elements().chain(&apply.ahead) {
            self.index(&element.index)?;
            if element.index.step(apply.id) != Some(1) {
                return Err(format!(
                    "{element} does not walk with {} in steps of 1",
                    apply.id
                ));
            }
        }
        self.open.pop();
        Ok(())
    }

    fn sort(&self, sort: &SortRow) -> Rule {
        let simultaneous = |kind: LoopKind| matches!(kind, LoopKind::Lanes | LoopKind::Strips);
        if self.open.iter().any(|(_, kind)| simultaneous(*kind)) {
            return Err("a row is put in order outside of lanes and strips".into());
        }
        let row = self.param(sort.row, Access::Read)?;
        if matches!(row, DType::F16 | DType::BF16) {
            return Err(format!("rows of {row} have no order yet"));
        }
        let found = self.param(sort.target.param, Access::Write)?;
        let wanted = if sort.positions { DType::I64 } else { row };
        if found != wanted {
            return Err(format!("{} is {found}, not {wanted}", sort.target));
        }
        let room = self.param(sort.room, Access::ReadWrite)?;
        if room != DType::U64 {
            return Err(format!("the room {} is {room}, not u64", sort.room));
        }
        for dim in [&sort.stride, &sort.extent, &sort.count] {
            if dim.constant().is_some_and(|n| n < 0) {
                return Err(format!("{dim} is negative"));
            }
        }
        self.index(&sort.target.index)
    }

    fn define(&mut self, value: ValueId) -> Rule {
        self.dtype_of(value)?;
        if std::mem::replace(&mut self.computed[value.index()], true) {
            return Err(format!("{value} is computed twice"));
        }
        self.show(value);
        Ok(())
    }

    fn show(&mut self, value: ValueId) {
        if let Some(visible) = self.visible.get_mut(value.index()) {
            *visible = true;
        }
    }

    fn dtype_of(&self, value: ValueId) -> Result<DType, String> {
        let dtype = self.kernel.values.get(value.index()).copied();
        dtype.ok_or_else(|| {
            format!(
                "{value} is not in the table of {} values",
                self.kernel.values.len()
            )
        })
    }

    /// The type of an operand, which must be visible.
    fn operand(&self, value: ValueId) -> Result<DType, String> {
        let dtype = self.dtype_of(value)?;
        if self.visible[value.index()] {
            Ok(dtype)
        } else {
            Err(format!("{value} is not visible here"))
        }
    }

    fn has_type(&self, value: ValueId, wanted: DType, role: &str) -> Rule {
        let found = self.operand(value)?;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{role} {value} is {found}, not {wanted}"))
        }
    }

    fn param(&self, param: ParamId, wanted: Access) -> Result<DType, String> {
        let found = self.kernel.params.get(param.index());
        let found = found.ok_or_else(|| format!("{param} is not in the table of parameters"))?;
        if found.access == wanted || found.access == Access::ReadWrite {
            Ok(found.dtype)
        } else {
            Err(format!("{param} is for {} only", found.access))
        }
    }

    fn predicate(&self, predicate: Option<ValueId>) -> Rule {
        predicate.map_or(Ok(()), |p| self.has_type(p, DType::Bool, "the predicate"))
    }

    fn store(
        &self,
        param: ParamId,
        index: &Index,
        value: ValueId,
        predicate: Option<ValueId>,
    ) -> Rule {
        let dtype = self.param(param, Access::Write)?;
        self.index(index)?;
        self.has_type(value, dtype, "the stored value")?;
        self.predicate(predicate)
    }

    fn index(&self, index: &Index) -> Rule {
        for (atom, _) in index.terms() {
            match atom {
                Atom::Loop(id) if self.open.iter().any(|(open, _)| open == id) => {}
                Atom::Loop(id) => return Err(format!("loop {id} is not around this index")),
                Atom::Value(value) => self.has_type(*value, DType::I64, "the index value")?,
                Atom::FloorDiv(inner, divisor) | Atom::Mod(inner, divisor) => {
                    self.index(inner)?;
                    positive(divisor)?;
                }
            }
        }
        Ok(())
    }

    fn expr(&self, value: ValueId, expr: &Expr) -> Rule {
        let result = self.dtype_of(value)?;
        let inferred = match expr {
            Expr::Load {
                param,
                index,
                predicate,
            } => {
                self.index(index)?;
                self.predicate(*predicate)?;
                self.param(*param, Access::Read)?
            }
            Expr::Const(literal) => {
                return match (literal, result.is_float()) {
                    (Literal::Float(_), true) | (Literal::Int(_), false) => Ok(()),
                    (Literal::Float(_) | Literal::Int(_), _) => {
                        Err(format!("the literal {literal} is not of {result}"))
                    }
                };
            }
            Expr::Index(index) => {
                self.index(index)?;
                DType::I64
            }
            Expr::Unary(op, a) => self.unary(*op, *a)?,
            Expr::Binary(op, a, b) => self.binary(*op, *a, *b)?,
            Expr::Compare(op, a, b) => self.compare(*op, *a, *b)?,
            Expr::Select(condition, yes, no) => {
                self.has_type(*condition, DType::Bool, "the condition")?;
                let dtype = self.operand(*yes)?;
                self.has_type(*no, dtype, "the third operand")?;
                dtype
            }
            Expr::Fma(a, b, c) => {
                let dtype = self.operand(*a)?;
                self.has_type(*b, dtype, "the second factor")?;
                self.has_type(*c, dtype, "the summand")?;
                if !dtype.is_float() {
                    return Err(format!("`fma` takes floating types, not {dtype}"));
                }
                dtype
            }
            Expr::Convert(a) => {
                self.operand(*a)?;
                result
            }
            Expr::Bitcast(a) => {
                let from = self.operand(*a)?;
                if from.size() != result.size() {
                    return Err(format!("{from} and {result} differ in width"));
                }
                result
            }
            Expr::Philox {
                key,
                counter,
                position,
            } => {
                for word in key.iter().chain(counter) {
                    self.has_type(*word, DType::U32, "the word")?;
                }
                self.has_type(*position, DType::I64, "the position")?;
                DType::U32
            }
        };
        if inferred == result {
            Ok(())
        } else {
            Err(format!(
                "{value} is {result}, but the expression is {inferred}"
            ))
        }
    }

    fn unary(&self, op: Unary, a: ValueId) -> Result<DType, String> {
        self.infer(&op, &[a])
    }

    fn binary(&self, op: Binary, a: ValueId, b: ValueId) -> Result<DType, String> {
        self.infer(&op, &[a, b])
    }

    fn compare(&self, op: Compare, a: ValueId, b: ValueId) -> Result<DType, String> {
        self.infer(&op, &[a, b])
    }

    /// The result of an op by its own rule.
    fn infer(&self, op: &impl Rules, operands: &[ValueId]) -> Result<DType, String> {
        let scalars: Result<Vec<TensorType>, String> = operands
            .iter()
            .map(|v| Ok(TensorType::new(self.operand(*v)?, ())))
            .collect();
        let scalars = scalars?;
        let operands: Vec<&TensorType> = scalars.iter().collect();
        let ty = op.infer(&operands).map_err(|refusal| refusal.message)?;
        Ok(ty.dtype)
    }

    fn accumulator(&self, accumulator: &Accumulator) -> Rule {
        let operand = self.operand(accumulator.operand)?;
        let result = self.dtype_of(accumulator.value)?;
        match accumulator.fold {
            Fold::Reduce(kind) => {
                let fits = match kind {
                    ReduceKind::Any | ReduceKind::All => operand == DType::Bool,
                    ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => {
                        operand != DType::Bool
                    }
                };
                if !fits {
                    return Err(format!("`{}` does not take {operand}", reduction(kind)));
                }
                if operand != result {
                    return Err(format!("a fold of {operand} is not {result}"));
                }
            }
            Fold::ArgMax(position) | Fold::ArgMin(position) => {
                self.has_type(position, DType::I64, "the position")?;
                if operand == DType::Bool {
                    return Err("`argmax` does not take bool".into());
                }
                if result != DType::I64 {
                    return Err(format!("a position is i64, not {result}"));
                }
            }
        }
        Ok(())
    }
}

fn positive(divisor: &Dim) -> Rule {
    match divisor.constant() {
        Some(c) if c <= 0 => Err(format!("an index is divided by {c}")),
        Some(_) | None => Ok(()),
    }
}
