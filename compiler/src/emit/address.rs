//! Indices as scalar code.
//!
//! An index is a sum over atoms. What does not vary with the lanes is summed from the outermost loop inwards, each partial sum right
//! before the loop that it does not depend on ([`Emitter::hoist`]), so that a loop adds its own counter only. What walks with the lanes
//! is one address for all groups, with the distance of a group as an immediate offset.

use super::emitter::{Counters, Emitter, Key, Point};
use crate::kernel::{Atom, Expr, Index, Loop, ParamId, Stmt};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use kiln_ir::Dim;

/// Where the four elements of an access lie.
#[derive(Clone, Copy, Debug)]
pub(super) enum Address {
    /// One element for all lanes.
    Same(Value),
    /// Adjacent elements, from an address and an offset in bytes.
    Adjacent(Value, i32),
    /// An address and an offset for each lane.
    Apart([(Value, i32); 4]),
    /// Where `holds` is true, one element for all lanes or adjacent ones, from an address; anything elsewhere.
    Row {
        first: Value,
        adjacent: bool,
        holds: Value,
    },
}

/// How an index depends on the lanes.
enum Walk {
    Still,
    Linear(Dim),
    Free,
}

impl Emitter<'_, '_> {
    /// Computes, before a loop, whatever its accesses need that does not depend on it.
    pub(super) fn hoist(&mut self, inner: &Loop) {
        let mut accesses = Vec::new();
        collect(&inner.body, &mut accesses);
        for (param, index) in accesses {
            let outer = self.part(index, |e, atom| {
                e.facts.depth(atom) <= e.depth && !e.varies(atom)
            });
            self.uniform(Some(param), &outer);
        }
    }

    fn varies(&self, atom: &Atom) -> bool {
        self.lanes
            .is_some_and(|lanes| self.facts.atom_varies(atom, lanes.id))
    }

    fn part(&self, index: &Index, keep: impl Fn(&Self, &Atom) -> bool) -> Index {
        let terms = index.terms().iter().filter(|(atom, _)| keep(self, atom));
        let start = Index::constant(index.base().clone());
        terms.fold(start, |sum, (atom, c)| {
            sum.plus(&Index::atom(atom.clone()).times(c))
        })
    }

    /// An index that does not vary with the lanes: the element's address in a parameter, or its number.
    pub(super) fn uniform(&mut self, param: Option<ParamId>, index: &Index) -> Value {
        let key = Key::Uniform(param, index.clone());
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        let scale = param.map_or(1, |p| self.element_size(p));
        let deepest = index
            .terms()
            .iter()
            .map(|(atom, _)| self.facts.depth(atom))
            .max();
        let sum = match deepest {
            None => {
                let pointer = param.map(|p| self.pointer(p));
                match (pointer, index.base().constant()) {
                    (Some(pointer), Some(0)) => pointer,
                    (Some(pointer), _) => {
                        let offset = self.size(index.base(), scale);
                        self.b.ins().iadd(pointer, offset)
                    }
                    (None, _) => self.size(index.base(), scale),
                }
            }
            Some(depth) => {
                let outer = self.part(index, |e, atom| e.facts.depth(atom) < depth);
                let bare =
                    param.is_none() && outer.as_constant().is_some_and(|c| c.constant() == Some(0));
                let mut sum = if bare {
                    None
                } else {
                    Some(self.uniform(param, &outer))
                };
                for (atom, c) in index.terms() {
                    if self.facts.depth(atom) == depth {
                        let atom = self.uniform_atom(atom);
                        let term = self.times(atom, c, scale);
                        sum = Some(match sum {
                            Some(sum) => self.b.ins().iadd(sum, term),
                            None => term,
                        });
                    }
                }
                sum.unwrap_or_else(|| self.int(0))
            }
        };
        self.memo.insert(key, sum);
        sum
    }

    fn element_size(&self, param: ParamId) -> i64 {
        self.kernel.params[param.index()].dtype.size() as i64
    }

    fn uniform_atom(&mut self, atom: &Atom) -> Value {
        if let Atom::Loop(id) = atom {
            return self.counters[id];
        }
        let key = Key::Atom(atom.clone());
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        let value = match atom {
            Atom::Loop(id) => self.counters[id],
            Atom::Value(value) => {
                let register = self.form(*value, Point::Uniform).one();
                self.b.ins().extractlane(register, 0)
            }
            Atom::FloorDiv(inner, divisor) => {
                let inner = self.uniform(None, inner);
                self.floor_div(inner, divisor)
            }
            Atom::Mod(inner, divisor) => {
                let whole = self.uniform(None, inner);
                let quotient = Atom::FloorDiv(inner.clone(), divisor.clone());
                let quotient = self.uniform_atom(&quotient);
                let product = self.times(quotient, divisor, 1);
                self.b.ins().isub(whole, product)
            }
        };
        self.memo.insert(key, value);
        value
    }

    /// The counter of an element of the iteration.
    fn counter(&mut self, element: usize) -> Value {
        let Some(lanes) = self.lanes else {
            return self.int(0);
        };
        let first = match lanes.counters {
            Counters::Full { first } | Counters::Tail { first, .. } => first,
        };
        let key = Key::Counter(element);
        if element == 0 {
            return first;
        }
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        let mut value = self.b.ins().iadd_imm_s(first, element as i64);
        if let Counters::Tail { last, .. } = lanes.counters {
            value = self.b.ins().smin(value, last);
        }
        self.memo.insert(key, value);
        value
    }

    fn lane_atom(&mut self, atom: &Atom, element: usize) -> Value {
        if !self.varies(atom) {
            return self.uniform_atom(atom);
        }
        if let Atom::Loop(_) = atom {
            return self.counter(element);
        }
        let key = Key::Lane(atom.clone(), element);
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        let value = match atom {
            Atom::Loop(_) => self.counter(element),
            Atom::Value(value) => {
                let registers = self.form(*value, Point::Group(element / 4)).two();
                let register = registers[element % 4 / 2];
                self.b.ins().extractlane(register, (element % 2) as u8)
            }
            Atom::FloorDiv(inner, divisor) => {
                let inner = self.lane_index(inner, element);
                self.floor_div(inner, divisor)
            }
            Atom::Mod(inner, divisor) => {
                let whole = self.lane_index(inner, element);
                let quotient = Atom::FloorDiv(inner.clone(), divisor.clone());
                let quotient = self.lane_atom(&quotient, element);
                let product = self.times(quotient, divisor, 1);
                self.b.ins().isub(whole, product)
            }
        };
        self.memo.insert(key, value);
        value
    }

    /// An index at an element of the iteration.
    pub(super) fn lane_index(&mut self, index: &Index, element: usize) -> Value {
        self.lane_sum(None, index, element)
    }

    fn lane_sum(&mut self, param: Option<ParamId>, index: &Index, element: usize) -> Value {
        let scale = param.map_or(1, |p| self.element_size(p));
        let still = self.part(index, |e, atom| !e.varies(atom));
        let mut sum = self.uniform(param, &still);
        for (atom, c) in index.terms() {
            if self.varies(atom) {
                let atom = self.lane_atom(atom, element);
                let term = self.times(atom, c, scale);
                sum = self.b.ins().iadd(sum, term);
            }
        }
        sum
    }

    fn walk(&self, index: &Index) -> Walk {
        let mut varying = index.terms().iter().filter(|(atom, _)| self.varies(atom));
        match (varying.next(), varying.next()) {
            (None, _) => Walk::Still,
            (Some((Atom::Loop(_), c)), None) => Walk::Linear(c.clone()),
            (Some(_), _) => Walk::Free,
        }
    }

    /// An index that steps by a constant from lane to lane in a full iteration: the number of the iteration's first element, the step.
    pub(super) fn steps(&mut self, index: &Index) -> Option<(Value, i64)> {
        let full = self
            .lanes
            .is_some_and(|l| matches!(l.counters, Counters::Full { .. }));
        match self.walk(index) {
            Walk::Linear(c) if full => Some((self.lane_index(index, 0), c.constant()?)),
            Walk::Still | Walk::Linear(_) | Walk::Free => None,
        }
    }

    /// Where the elements of an access lie.
    pub(super) fn address(&mut self, param: ParamId, index: &Index, point: Point) -> Address {
        let Point::Group(group) = point else {
            return Address::Same(self.uniform(Some(param), index));
        };
        let full = self
            .lanes
            .is_some_and(|l| matches!(l.counters, Counters::Full { .. }));
        let row = match self.walk(index) {
            Walk::Still => return Address::Same(self.uniform(Some(param), index)),
            Walk::Linear(c) if full => return self.stride(param, index, &c, group),
            Walk::Free if full => self.row(param, index, group),
            Walk::Linear(_) | Walk::Free => None,
        };
        row.unwrap_or_else(|| Address::Apart(self.apart(param, index, group)))
    }

    /// The address of each lane of a group.
    pub(super) fn apart(
        &mut self,
        param: ParamId,
        index: &Index,
        group: usize,
    ) -> [(Value, i32); 4] {
        std::array::from_fn(|j| (self.walking(param, index, 4 * group + j), 0))
    }

    /// The test whether a group lies within one row of every quotient of an index, if that makes its elements adjacent or the same.
    fn row(&mut self, param: ParamId, index: &Index, group: usize) -> Option<Address> {
        let mut quotients = Vec::new();
        let adjacent = match self.slope(index, &mut quotients)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut holds = None;
        for quotient in &quotients {
            let low = self.lane_atom(quotient, 4 * group);
            let high = self.lane_atom(quotient, 4 * group + 3);
            let same = self.b.ins().icmp(IntCC::Equal, low, high);
            holds = Some(match holds {
                Some(others) => self.b.ins().band(others, same),
                None => same,
            });
        }
        let first = self.walking(param, index, 4 * group);
        holds.map(|holds| Address::Row {
            first,
            adjacent,
            holds,
        })
    }

    /// How much an index grows from lane to lane as long as its quotients, which are collected, stay the same. As the dividends of these
    /// are then linear, it is enough that the first and the last lane agree.
    fn slope(&self, index: &Index, quotients: &mut Vec<Atom>) -> Option<i64> {
        let mut sum = 0_i64;
        for (atom, c) in index.terms() {
            if !self.varies(atom) {
                continue;
            }
            let slope = match atom {
                Atom::Loop(_) => 1,
                Atom::Value(_) => return None,
                Atom::FloorDiv(inner, divisor) | Atom::Mod(inner, divisor) => {
                    let slope = self.slope(inner, quotients)?;
                    let quotient = Atom::FloorDiv(inner.clone(), divisor.clone());
                    if !quotients.contains(&quotient) {
                        quotients.push(quotient);
                    }
                    if matches!(atom, Atom::Mod(..)) {
                        slope
                    } else {
                        0
                    }
                }
            };
            if slope != 0 {
                sum = sum.checked_add(c.constant()?.checked_mul(slope)?)?;
            }
        }
        Some(sum)
    }

    /// The address of an element of the iteration.
    pub(super) fn walking(&mut self, param: ParamId, index: &Index, element: usize) -> Value {
        let key = Key::Walk(param, index.clone(), element);
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        let value = self.lane_sum(Some(param), index, element);
        self.memo.insert(key, value);
        value
    }

    fn stride(&mut self, param: ParamId, index: &Index, step: &Dim, group: usize) -> Address {
        let size = self.element_size(param);
        let first = self.walking(param, index, 0);
        let bytes = step.constant().map(|c| c.saturating_mul(size));
        if let Some(bytes) = bytes.filter(|b| b.unsigned_abs() < 1 << 26) {
            let offset = |element: usize| (bytes * element as i64) as i32;
            if bytes == size {
                return Address::Adjacent(first, offset(4 * group));
            }
            return Address::Apart(std::array::from_fn(|j| (first, offset(4 * group + j))));
        }
        let stride = self.size(step, size);
        Address::Apart(std::array::from_fn(|j| {
            let element = 4 * group + j;
            (self.chain(param, index, stride, element), 0)
        }))
    }

    /// The address of an element, a stride behind the one before.
    fn chain(&mut self, param: ParamId, index: &Index, stride: Value, element: usize) -> Value {
        let key = Key::Walk(param, index.clone(), element);
        if let Some(value) = self.memo.find(&key) {
            return value;
        }
        if element == 0 {
            return self.walking(param, index, 0);
        }
        let before = self.chain(param, index, stride, element - 1);
        let value = self.b.ins().iadd(before, stride);
        self.memo.insert(key, value);
        value
    }

    /// The quotient rounded down. A divisor that is not positive, which no shape gives, counts as 1.
    fn floor_div(&mut self, dividend: Value, divisor: &Dim) -> Value {
        match divisor.constant() {
            Some(d) if d <= 1 => dividend,
            Some(d) if d & (d - 1) == 0 => {
                let by = i64::from(d.trailing_zeros());
                self.b.ins().sshr_imm_s(dividend, by)
            }
            Some(d) => {
                // floor(x / d) is ~floor(~x / d) for negative x, so that only 63 bits are divided. With l = ceil(log2 d), the product
                // with floor(2^(63 + l) / d) + 1 is off by less than a quotient's distance from the next integer (Granlund and
                // Montgomery 1994, theorem 4.2).
                let l = 64 - (d - 1).leading_zeros();
                let magic = ((1_u128 << (63 + l)) / d.unsigned_abs() as u128 + 1) as u64;
                let sign = self.b.ins().sshr_imm_s(dividend, 63);
                let magnitude = self.b.ins().bxor(dividend, sign);
                let magic = self.int(magic.cast_signed());
                let high = self.b.ins().umulhi(magnitude, magic);
                let quotient = self.b.ins().ushr_imm_s(high, i64::from(l) - 1);
                self.b.ins().bxor(quotient, sign)
            }
            None => {
                let d = self.size(divisor, 1);
                let one = self.int(1);
                let positive = self.b.ins().icmp(IntCC::SignedGreaterThan, d, one);
                let d = self.b.ins().select(positive, d, one);
                let sign = self.b.ins().sshr_imm_s(dividend, 63);
                let magnitude = self.b.ins().bxor(dividend, sign);
                let quotient = self.b.ins().udiv(magnitude, d);
                self.b.ins().bxor(quotient, sign)
            }
        }
    }
}

fn collect<'s>(body: &'s [Stmt], accesses: &mut Vec<(ParamId, &'s Index)>) {
    for stmt in body {
        match stmt {
            Stmt::Let {
                expr: Expr::Load { param, index, .. },
                ..
            }
            | Stmt::Store { param, index, .. } => {
                accesses.push((*param, index));
            }
            Stmt::Let { .. } => {}
            Stmt::Loop(inner) => collect(&inner.body, accesses),
            Stmt::Apply(apply) => {
                for element in apply.elements() {
                    accesses.push((element.param, &element.index));
                }
            }
            Stmt::Sort(sort) => accesses.push((sort.target.param, &sort.target.index)),
        }
    }
}
