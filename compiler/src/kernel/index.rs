//! Index expressions: canonical sums `constant + coefficient * atom + ...` over loop counters and what cannot be made linear.
//!
//! Movement ops become index expressions when they are folded into loads. The form is canonical, so that equal indices are equal by
//! `==`, and so that the emitter reads off whether an index walks with the lanes (coefficient 1), stands still (0) or strides.

use super::{LoopId, ValueId};
use kiln_ir::Dim;
use std::collections::BTreeMap;

/// What an index varies with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// The counter of a loop.
    Loop(LoopId),
    /// A computed i64 value.
    Value(ValueId),
    /// The quotient by a positive size, rounded down.
    FloorDiv(Box<Index>, Dim),
    /// The remainder of that quotient, never negative.
    Mod(Box<Index>, Dim),
}

/// The greatest common divisor, of strides and borders; that of 0 and a number is the number.
pub(crate) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 {
        a.saturating_abs()
    } else {
        gcd(b, a % b)
    }
}

/// An index: an i64 number at each point of a nest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index {
    constant: Dim,
    /// Sorted by atom, without zero coefficients.
    terms: Vec<(Atom, Dim)>,
}

impl Index {
    /// An index that does not vary.
    pub fn constant(value: impl Into<Dim>) -> Self {
        Self {
            constant: value.into(),
            terms: Vec::new(),
        }
    }

    /// One atom.
    pub fn atom(atom: Atom) -> Self {
        Self {
            constant: Dim::from(0),
            terms: vec![(atom, Dim::from(1))],
        }
    }

    /// A loop's counter.
    pub fn counter(id: LoopId) -> Self {
        Self::atom(Atom::Loop(id))
    }

    /// The part that does not vary.
    pub fn base(&self) -> &Dim {
        &self.constant
    }

    /// The terms, sorted by atom.
    pub fn terms(&self) -> &[(Atom, Dim)] {
        &self.terms
    }

    /// The value, where nothing varies.
    pub fn as_constant(&self) -> Option<&Dim> {
        self.terms.is_empty().then_some(&self.constant)
    }

    /// The sum of two indices.
    pub fn plus(&self, other: &Index) -> Index {
        let mut terms: BTreeMap<Atom, Dim> = self.terms.iter().cloned().collect();
        for (atom, c) in &other.terms {
            match terms.get_mut(atom) {
                Some(sum) => *sum = &*sum + c,
                None => {
                    terms.insert(atom.clone(), c.clone());
                }
            }
        }
        let zero = Dim::from(0);
        terms.retain(|_, c| *c != zero);
        let sum = Index {
            constant: &self.constant + &other.constant,
            terms: terms.into_iter().collect(),
        };
        sum.recombined()
    }

    /// `d * (x div d) + (x mod d)` is `x`: what an unravelled counter becomes where an access is contiguous after all.
    fn recombined(self) -> Index {
        let pair = self.terms.iter().find_map(|(atom, c)| {
            let Atom::Mod(inner, divisor) = atom else {
                return None;
            };
            let quotient = Atom::FloorDiv(inner.clone(), divisor.clone());
            let scaled = c * divisor;
            let other = self.terms.iter().find(|(a, _)| *a == quotient)?;
            (other.1 == scaled).then(|| (atom.clone(), quotient, inner.times(c)))
        });
        match pair {
            Some((remainder, quotient, whole)) => {
                let rest = self.terms.into_iter();
                let rest = Index {
                    constant: self.constant,
                    terms: rest
                        .filter(|(a, _)| *a != remainder && *a != quotient)
                        .collect(),
                };
                rest.plus(&whole)
            }
            None => self,
        }
    }

    /// The index with every loop counter replaced.
    pub fn substitute(
        &self,
        replacement: &impl Fn(LoopId) -> Index,
        extent: &impl Fn(LoopId) -> Option<Dim>,
    ) -> Index {
        let start = Index::constant(self.constant.clone());
        self.terms.iter().fold(start, |sum, (atom, c)| {
            let replaced = match atom {
                Atom::Loop(id) => replacement(*id),
                Atom::Value(_) => Index::atom(atom.clone()),
                Atom::FloorDiv(inner, divisor) => inner
                    .substitute(replacement, extent)
                    .floor_div(divisor, extent),
                Atom::Mod(inner, divisor) => inner
                    .substitute(replacement, extent)
                    .modulo(divisor, extent),
            };
            sum.plus(&replaced.times(c))
        })
    }

    /// The index and a constant.
    pub fn offset(&self, by: &Dim) -> Index {
        Index {
            constant: &self.constant + by,
            terms: self.terms.clone(),
        }
    }

    /// The product with a size.
    pub fn times(&self, factor: &Dim) -> Index {
        let zero = Dim::from(0);
        if *factor == zero {
            return Index::constant(0);
        }
        let scaled = self.terms.iter().map(|(a, c)| (a.clone(), c * factor));
        Index {
            constant: &self.constant * factor,
            terms: scaled.filter(|(_, c)| *c != zero).collect(),
        }
    }

    /// The quotient by a positive size, rounded down. `extent` gives the trip count of a loop, so that a counter below the divisor is
    /// known to have the quotient 0.
    pub fn floor_div(&self, divisor: &Dim, extent: &impl Fn(LoopId) -> Option<Dim>) -> Index {
        let (whole, rest) = self.divided(divisor, extent);
        match rest {
            Rest::Below(_) => whole,
            Rest::Unknown(rest) => whole.plus(&Index::atom(Atom::FloorDiv(
                Box::new(rest),
                divisor.clone(),
            ))),
        }
    }

    /// The remainder of [`floor_div`](Self::floor_div).
    pub fn modulo(&self, divisor: &Dim, extent: &impl Fn(LoopId) -> Option<Dim>) -> Index {
        match self.divided(divisor, extent).1 {
            Rest::Below(rest) => rest,
            Rest::Unknown(rest) => Index::atom(Atom::Mod(Box::new(rest), divisor.clone())),
        }
    }

    /// `self = divisor * whole + rest`.
    fn divided(&self, divisor: &Dim, extent: &impl Fn(LoopId) -> Option<Dim>) -> (Index, Rest) {
        if divisor.constant() == Some(1) {
            return (self.clone(), Rest::Below(Index::constant(0)));
        }
        let (mut whole, mut rest) = (Index::constant(0), Index::constant(0));
        match self.constant.exact_div(divisor) {
            Some(quotient) => whole.constant = quotient,
            None => rest.constant = self.constant.clone(),
        }
        for (atom, c) in &self.terms {
            match c.exact_div(divisor) {
                Some(quotient) => whole.terms.push((atom.clone(), quotient)),
                None => rest.terms.push((atom.clone(), c.clone())),
            }
        }
        let below = rest.is_below(divisor, extent);
        let rest = if below {
            Rest::Below(rest)
        } else {
            Rest::Unknown(rest)
        };
        (whole, rest)
    }

    /// A bound above a single counter or remainder, where one is known.
    fn range(&self, extent: &impl Fn(LoopId) -> Option<Dim>) -> Option<Dim> {
        let [(atom, c)] = self.terms.as_slice() else {
            return None;
        };
        if self.constant != Dim::from(0) || c.constant() != Some(1) {
            return None;
        }
        match atom {
            Atom::Loop(id) => extent(*id),
            Atom::Mod(_, divisor) => Some(divisor.clone()),
            Atom::FloorDiv(inner, divisor) => inner.range(extent)?.exact_div(divisor),
            Atom::Value(_) => None,
        }
    }

    /// Whether `0 <= self < bound` is certain. The test is for mixed-radix numbers: the counters' coefficients, largest last, are each
    /// the product of the one before and its extent, as row-major offsets within one block are.
    fn is_below(&self, bound: &Dim, extent: &impl Fn(LoopId) -> Option<Dim>) -> bool {
        if self.constant != Dim::from(0) {
            let constants = (self.constant.constant(), bound.constant());
            return self.terms.is_empty()
                && matches!(constants, (Some(c), Some(b)) if (0..b).contains(&c));
        }
        let mut open: Vec<(Dim, Dim)> = Vec::new();
        for (atom, c) in &self.terms {
            let bound = match atom {
                Atom::Loop(id) => extent(*id),
                Atom::Mod(_, divisor) => Some(divisor.clone()),
                Atom::FloorDiv(inner, divisor) => inner
                    .range(extent)
                    .and_then(|range| range.exact_div(divisor)),
                Atom::Value(_) => None,
            };
            match bound {
                Some(bound) => open.push((c.clone(), bound)),
                None => return false,
            }
        }
        let mut radix = Dim::from(1);
        while !open.is_empty() {
            let Some(i) = open.iter().position(|(c, _)| *c == radix) else {
                return false;
            };
            let (c, extent) = open.swap_remove(i);
            radix = &c * &extent;
        }
        radix == *bound
            || radix.constant() == Some(1)
            || matches!((radix.constant(), bound.constant()), (Some(r), Some(b)) if r <= b)
            || bound.exact_div(&radix).is_some()
    }

    /// The index with every computed value renamed.
    pub fn with_values(&self, rename: &dyn Fn(ValueId) -> ValueId) -> Index {
        let start = Index::constant(self.constant.clone());
        self.terms.iter().fold(start, |sum, (atom, c)| {
            let renamed = match atom {
                Atom::Loop(id) => Atom::Loop(*id),
                Atom::Value(id) => Atom::Value(rename(*id)),
                Atom::FloorDiv(inner, divisor) => {
                    Atom::FloorDiv(Box::new(inner.with_values(rename)), divisor.clone())
                }
                Atom::Mod(inner, divisor) => {
                    Atom::Mod(Box::new(inner.with_values(rename)), divisor.clone())
                }
            };
            sum.plus(&Index::atom(renamed).times(c))
        })
    }

    /// Calls `visit` with every size of the index.
    pub fn visit_dims(&self, visit: &mut impl FnMut(&Dim)) {
        visit(&self.constant);
        for (atom, c) in &self.terms {
            visit(c);
            match atom {
                Atom::Loop(_) | Atom::Value(_) => {}
                Atom::FloorDiv(inner, divisor) | Atom::Mod(inner, divisor) => {
                    visit(divisor);
                    // A boxed closure type would grow with each level of nesting without the indirection.
                    inner.visit_dims_dyn(visit);
                }
            }
        }
    }

    fn visit_dims_dyn(&self, visit: &mut dyn FnMut(&Dim)) {
        self.visit_dims(&mut |d| visit(d));
    }

    /// By how much the index grows with the counter of a loop, where that is known and always the same.
    ///
    /// Computed values are taken to be the same all through the loop.
    pub fn step(&self, id: LoopId) -> Option<i64> {
        let mut step = 0;
        for (atom, c) in &self.terms {
            match atom {
                Atom::Loop(own) if *own == id => step = c.constant()?,
                Atom::Loop(_) | Atom::Value(_) => {}
                Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => {
                    let mut varies = false;
                    inner.visit_loops(&mut |own| varies |= own == id);
                    if varies {
                        return None;
                    }
                }
            }
        }
        Some(step)
    }

    /// Calls `visit` with every loop counter that the index varies with.
    pub fn visit_loops(&self, visit: &mut dyn FnMut(LoopId)) {
        for (atom, _) in &self.terms {
            match atom {
                Atom::Loop(id) => visit(*id),
                Atom::Value(_) => {}
                Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => inner.visit_loops(visit),
            }
        }
    }

    /// Calls `visit` with every computed value that the index varies with.
    pub fn visit_values(&self, visit: &mut dyn FnMut(ValueId)) {
        for (atom, _) in &self.terms {
            match atom {
                Atom::Value(id) => visit(*id),
                Atom::Loop(_) => {}
                Atom::FloorDiv(inner, _) | Atom::Mod(inner, _) => inner.visit_values(visit),
            }
        }
    }
}

enum Rest {
    /// Certainly between 0 and the divisor.
    Below(Index),
    Unknown(Index),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(i: u32) -> Index {
        Index::counter(LoopId(i))
    }

    #[test]
    fn sums_are_canonical() {
        let (i, j) = (counter(0), counter(1));
        let sum = i
            .times(&Dim::from(3))
            .plus(&j)
            .plus(&i.times(&Dim::from(-3)));
        assert_eq!(sum, j);
        assert_eq!(i.plus(&j), j.plus(&i));
        assert_eq!(i.times(&Dim::from(0)), Index::constant(0));
    }

    #[test]
    fn splitting_a_row_major_offset_gives_the_counters_back() {
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        let extents = [b, t.clone(), Dim::from(28)];
        let extent = |id: LoopId| extents.get(id.index()).cloned();
        // ((i * t) + j) * 28 + k
        let width = Dim::from(28);
        let offset = counter(0)
            .times(&(&t * &width))
            .plus(&counter(1).times(&width))
            .plus(&counter(2));
        assert_eq!(offset.modulo(&width, &extent), counter(2));
        let rows = offset.floor_div(&width, &extent);
        assert_eq!(rows, counter(0).times(&t).plus(&counter(1)));
        assert_eq!(rows.floor_div(&t, &extent), counter(0));
        assert_eq!(rows.modulo(&t, &extent), counter(1));
    }

    #[test]
    fn an_unravelled_counter_comes_back_where_the_access_is_contiguous() {
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        let (d, flat) = (Dim::from(28), LoopId(9));
        let total = &(&b * &t) * &d;
        let extent = |id: LoopId| (id == flat).then(|| total.clone());
        let linear = Index::counter(flat);
        let last = linear.modulo(&d, &extent);
        let rest = linear.floor_div(&d, &extent);
        let axes = [rest.floor_div(&t, &extent), rest.modulo(&t, &extent), last];
        let offset = counter(0)
            .times(&(&t * &d))
            .plus(&counter(1).times(&d))
            .plus(&counter(2));
        assert_eq!(
            offset.substitute(&|id| axes[id.index()].clone(), &extent),
            linear
        );
        // A gap between rows keeps the quotient.
        let padded = counter(1).times(&Dim::from(32)).plus(&counter(2));
        let found = padded.substitute(&|id| axes[id.index()].clone(), &extent);
        assert_ne!(found, linear);
    }

    #[test]
    fn what_cannot_be_split_stays_a_quotient() {
        let extent = |_| Some(Dim::from(100));
        let seven = Dim::from(7);
        let quotient = counter(0).floor_div(&seven, &extent);
        assert!(matches!(quotient.terms(), [(Atom::FloorDiv(..), _)]));
        let small = |_| Some(Dim::from(7));
        assert_eq!(counter(0).floor_div(&seven, &small), Index::constant(0));
        assert_eq!(counter(0).modulo(&seven, &small), counter(0));
        assert_eq!(
            Index::constant(5).floor_div(&seven, &small),
            Index::constant(0)
        );
    }
}
