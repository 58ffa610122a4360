//! Symbolic extents: canonical polynomials over named symbols.
//!
//! A [`Dim`] is a constant or a polynomial with integer coefficients over symbols (`b`, `t`) and the atoms `floordiv`, `mod`, `min` and
//! `max`, which strides and pools need. The form is canonical: two dims that are equal as polynomials are equal by `==`, hash alike and
//! print alike. That is all the equality the compiler knows; nothing here proves inequalities. Coefficients saturate instead of
//! overflowing, so hostile input cannot cause a panic; evaluation is checked and says when a number does not fit.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

mod binding;
mod expression;
mod text;

pub use binding::{BindError, Bindings, Equation, solve};
pub use expression::Expression;
pub use text::DimParseError;

/// The name of a symbolic extent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol called `name`.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The extent of an axis: an integer, or a polynomial over symbols.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Constant(i64),
    /// Never a constant, never with a zero coefficient.
    Polynomial(Arc<Polynomial>),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Polynomial(BTreeMap<Monomial, i64>);

/// A product of powers, sorted by atom; empty for the constant term.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Monomial(Vec<(Atom, u32)>);

impl Monomial {
    fn degree(&self) -> u32 {
        self.0.iter().fold(0, |d, (_, p)| d.saturating_add(*p))
    }
}

impl Ord for Monomial {
    /// Higher degree first, so that the printed order is the customary one and the constant comes last.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .degree()
            .cmp(&self.degree())
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Monomial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Symbol),
    Call(Function, Dim, Dim),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Function {
    FloorDiv,
    Mod,
    Min,
    Max,
}

impl Function {
    const ALL: [Function; 4] = [
        Function::FloorDiv,
        Function::Mod,
        Function::Min,
        Function::Max,
    ];

    fn name(self) -> &'static str {
        match self {
            Function::FloorDiv => "floordiv",
            Function::Mod => "mod",
            Function::Min => "min",
            Function::Max => "max",
        }
    }

    /// The value on two numbers; `None` for a division by zero or an overflow.
    fn apply(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Function::FloorDiv => {
                let q = a.checked_div(b)?;
                let exact = a.checked_rem(b)? == 0;
                if !exact && (a < 0) != (b < 0) {
                    q.checked_sub(1)
                } else {
                    Some(q)
                }
            }
            Function::Mod => {
                let r = a.checked_rem(b)?;
                if r != 0 && (r < 0) != (b < 0) {
                    r.checked_add(b)
                } else {
                    Some(r)
                }
            }
            Function::Min => Some(a.min(b)),
            Function::Max => Some(a.max(b)),
        }
    }
}

impl Dim {
    /// The extent named `name`.
    pub fn symbol(name: &str) -> Self {
        Self::atom(Atom::Symbol(Symbol::new(name)))
    }

    /// The value, where it is a constant.
    pub fn constant(&self) -> Option<i64> {
        match &self.0 {
            Repr::Constant(c) => Some(*c),
            Repr::Polynomial(_) => None,
        }
    }

    /// The symbol, where the dim is just one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Repr::Polynomial(p) = &self.0 else {
            return None;
        };
        let mut terms = p.0.iter();
        match (terms.next(), terms.next()) {
            (Some((m, 1)), None) => match m.0.as_slice() {
                [(Atom::Symbol(s), 1)] => Some(s),
                [] | [_] | [_, _, ..] => None,
            },
            (None | Some(_), _) => None,
        }
    }

    /// The largest integer not above `self / divisor`.
    pub fn floor_div(&self, divisor: &Dim) -> Self {
        if divisor.constant() == Some(1) {
            return self.clone();
        }
        if let Some(q) = self.exact_div(divisor) {
            return q;
        }
        let (whole, rest) = self.divided(divisor);
        &whole + &Self::call(Function::FloorDiv, &rest, divisor)
    }

    /// `q` and `r` with `self = q * divisor + r`, where `q` has the terms that a constant divides: whatever the sizes are, the floor of the
    /// quotient is `q` and that of `r`. For another divisor `q` is 0.
    fn divided(&self, divisor: &Dim) -> (Self, Self) {
        let mut whole = Self::from(0);
        if let Some(divisor) = divisor.constant() {
            let all = self.terms().into_iter();
            let fits =
                |(m, c): &(Monomial, i64)| !m.0.is_empty() && c.checked_rem(divisor) == Some(0);
            let divides = all.filter(fits).map(|(m, c)| (m, c / divisor));
            whole = Self::from_terms(divides.collect());
        }
        let rest = self - &(&whole * divisor);
        (whole, rest)
    }

    /// The remainder of [`floor_div`](Self::floor_div), with the sign of the divisor.
    pub fn modulo(&self, divisor: &Dim) -> Self {
        if self.exact_div(divisor).is_some() {
            return Self::from(0);
        }
        let (_, rest) = self.divided(divisor);
        Self::call(Function::Mod, &rest, divisor)
    }

    /// The smaller of the two.
    pub fn minimum(&self, other: &Dim) -> Self {
        if self == other {
            self.clone()
        } else {
            Self::call(Function::Min, self, other)
        }
    }

    /// The larger of the two.
    pub fn maximum(&self, other: &Dim) -> Self {
        if self == other {
            self.clone()
        } else {
            Self::call(Function::Max, self, other)
        }
    }

    /// `self / divisor` where the division is exact as polynomials and the divisor is one term; `None` otherwise.
    pub fn exact_div(&self, divisor: &Dim) -> Option<Self> {
        let divisor = divisor.terms();
        let [(dm, dc)] = divisor.as_slice() else {
            return None;
        };
        if *dc == 0 {
            return None;
        }
        let mut out = BTreeMap::new();
        for (m, c) in self.terms() {
            if c.checked_rem(*dc)? != 0 {
                return None;
            }
            let mut powers = m.0;
            for (atom, p) in &dm.0 {
                let at = powers.iter().position(|(a, q)| a == atom && q >= p)?;
                powers[at].1 -= p;
            }
            powers.retain(|(_, p)| *p > 0);
            out.insert(Monomial(powers), c / dc);
        }
        Some(Self::from_terms(out))
    }

    /// Whether the dim is built from sizes by sums, products, quotients and the like, without a difference or a negative number: then no
    /// sizes make it negative. `false` decides nothing.
    pub fn is_sum_of_sizes(&self) -> bool {
        self.terms().iter().all(|(monomial, coefficient)| {
            let sizes = monomial.0.iter().all(|(atom, _)| match atom {
                Atom::Symbol(_) => true,
                Atom::Call(Function::Max, a, b) => a.is_sum_of_sizes() || b.is_sum_of_sizes(),
                Atom::Call(Function::FloorDiv | Function::Mod | Function::Min, a, b) => {
                    a.is_sum_of_sizes() && b.is_sum_of_sizes()
                }
            });
            *coefficient >= 0 && sizes
        })
    }

    /// The symbols that occur, each once, in order of name.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut found = Vec::new();
        self.collect_symbols(&mut found);
        found.sort();
        found.dedup();
        found
    }

    fn collect_symbols(&self, found: &mut Vec<Symbol>) {
        for (m, _) in self.terms() {
            for (atom, _) in m.0 {
                match atom {
                    Atom::Symbol(s) => found.push(s),
                    Atom::Call(_, a, b) => {
                        a.collect_symbols(found);
                        b.collect_symbols(found);
                    }
                }
            }
        }
    }

    fn atom(atom: Atom) -> Self {
        Self::from_terms(BTreeMap::from([(Monomial(vec![(atom, 1)]), 1)]))
    }

    fn call(function: Function, a: &Dim, b: &Dim) -> Self {
        if let (Some(x), Some(y)) = (a.constant(), b.constant())
            && let Some(v) = function.apply(x, y)
        {
            return Self::from(v);
        }
        // min and max commute, so one order is the canonical one.
        let swap = matches!(function, Function::Min | Function::Max) && b < a;
        let (a, b) = if swap { (b, a) } else { (a, b) };
        Self::atom(Atom::Call(function, a.clone(), b.clone()))
    }

    fn terms(&self) -> Vec<(Monomial, i64)> {
        match &self.0 {
            Repr::Constant(0) => Vec::new(),
            Repr::Constant(c) => vec![(Monomial::default(), *c)],
            Repr::Polynomial(p) => p.0.iter().map(|(m, c)| (m.clone(), *c)).collect(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Monomial, i64>) -> Self {
        terms.retain(|_, c| *c != 0);
        let constant = Monomial::default();
        match terms.len() {
            0 => Self::from(0),
            1 if terms.contains_key(&constant) => Self::from(terms[&constant]),
            _ => Self(Repr::Polynomial(Arc::new(Polynomial(terms)))),
        }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self(Repr::Constant(value))
    }
}

impl From<i32> for Dim {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<usize> for Dim {
    /// Saturates at `i64::MAX`, which no tensor reaches.
    fn from(value: usize) -> Self {
        Self::from(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&Dim> for Dim {
    fn from(value: &Dim) -> Self {
        value.clone()
    }
}

impl Add for &Dim {
    type Output = Dim;

    fn add(self, other: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.constant(), other.constant()) {
            return Dim::from(a.saturating_add(b));
        }
        let mut sum: BTreeMap<Monomial, i64> = self.terms().into_iter().collect();
        for (m, c) in other.terms() {
            let entry = sum.entry(m).or_insert(0);
            *entry = entry.saturating_add(c);
        }
        Dim::from_terms(sum)
    }
}

impl Mul for &Dim {
    type Output = Dim;

    fn mul(self, other: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.constant(), other.constant()) {
            return Dim::from(a.saturating_mul(b));
        }
        let mut product: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (ma, ca) in self.terms() {
            for (mb, cb) in other.terms() {
                let mut powers: BTreeMap<Atom, u32> = ma.0.iter().cloned().collect();
                for (atom, p) in mb.0 {
                    let power = powers.entry(atom).or_insert(0);
                    *power = power.saturating_add(p);
                }
                let entry = product
                    .entry(Monomial(powers.into_iter().collect()))
                    .or_insert(0);
                *entry = entry.saturating_add(ca.saturating_mul(cb));
            }
        }
        Dim::from_terms(product)
    }
}

impl Neg for &Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        self * &Dim::from(-1)
    }
}

impl Sub for &Dim {
    type Output = Dim;

    fn sub(self, other: &Dim) -> Dim {
        self + &-other
    }
}

macro_rules! owned_operators {
    ($($op:ident :: $method:ident),+) => {$(
        impl<R: Into<Dim>> $op<R> for Dim {
            type Output = Dim;

            fn $method(self, other: R) -> Dim {
                $op::$method(&self, &other.into())
            }
        }
    )+};
}
owned_operators!(Add::add, Mul::mul, Sub::sub);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_are_one_value() {
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        assert_eq!((&b + &t) * 2, b.clone() * 2 + t.clone() * 2);
        assert_eq!(&b - &b, Dim::from(0));
        assert_eq!(&(&b * &t), &(&t * &b));
        assert_ne!(b, t);
        assert_eq!((&(&b * &t) * &Dim::from(2)).floor_div(&b), t * 2);
        let odd = b.clone() * 4 + 1;
        assert_eq!(odd.floor_div(&Dim::from(2)), b.clone() * 2);
        assert_eq!(odd.modulo(&Dim::from(2)), Dim::from(1));
        assert_eq!((odd + 2).floor_div(&Dim::from(-4)), b * -1 - 1);
    }

    #[test]
    fn floor_division_and_remainder_follow_the_divisor_sign() {
        for (a, b, q, r) in [
            (7, 2, 3, 1),
            (-7, 2, -4, 1),
            (7, -2, -4, -1),
            (-7, -2, 3, -1),
            (6, 2, 3, 0),
        ] {
            assert_eq!(Function::FloorDiv.apply(a, b), Some(q), "{a} div {b}");
            assert_eq!(Function::Mod.apply(a, b), Some(r), "{a} mod {b}");
        }
        assert_eq!(Function::FloorDiv.apply(1, 0), None);
        assert_eq!(Function::FloorDiv.apply(i64::MIN, -1), None);
    }
}
