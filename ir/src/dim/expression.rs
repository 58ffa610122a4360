//! A dim taken apart, for whoever computes extents by other means than [`Dim::eval`](super::Dim::eval): an exporter writes arithmetic on
//! extents in the operators of another format.

use super::{Atom, Dim, Function, Monomial, Repr, Symbol};
use std::collections::BTreeMap;

/// The outermost operation of a dim. What it is applied to are dims again, each smaller than the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A number.
    Constant(i64),
    /// A symbol alone.
    Symbol(Symbol),
    /// Two or more terms, in the order in which they print.
    Sum(Vec<Dim>),
    /// Two or more factors: a coefficient other than 1 first, a power as a factor repeated.
    Product(Vec<Dim>),
    /// The largest integer not above the quotient of the two.
    FloorDiv(Dim, Dim),
    /// The remainder of that quotient, with the sign of the second.
    Mod(Dim, Dim),
    /// The smaller of the two.
    Min(Dim, Dim),
    /// The larger of the two.
    Max(Dim, Dim),
}

impl Dim {
    /// The outermost operation.
    ///
    /// ```
    /// use kiln_ir::{Dim, Expression, Symbol};
    ///
    /// let dim: Dim = "2*b + floordiv(t, 2)".parse()?;
    /// let Expression::Sum(terms) = dim.expression() else { unreachable!() };
    /// let b = Dim::symbol("b");
    /// assert!(terms.iter().any(|t| t.expression() == Expression::Product(vec![Dim::from(2), b.clone()])));
    /// assert_eq!(b.expression(), Expression::Symbol(Symbol::new("b")));
    /// # Ok::<(), kiln_ir::DimParseError>(())
    /// ```
    pub fn expression(&self) -> Expression {
        let polynomial = match &self.0 {
            Repr::Constant(c) => return Expression::Constant(*c),
            Repr::Polynomial(polynomial) => polynomial,
        };
        let mut terms = polynomial.0.iter();
        let (Some((monomial, coefficient)), None) = (terms.next(), terms.next()) else {
            let term =
                |(m, c): (&Monomial, &i64)| Dim::from_terms(BTreeMap::from([(m.clone(), *c)]));
            return Expression::Sum(polynomial.0.iter().map(term).collect());
        };
        if let (1, [(atom, 1)]) = (*coefficient, monomial.0.as_slice()) {
            return match atom {
                Atom::Symbol(symbol) => Expression::Symbol(symbol.clone()),
                Atom::Call(function, a, b) => {
                    let (a, b) = (a.clone(), b.clone());
                    match function {
                        Function::FloorDiv => Expression::FloorDiv(a, b),
                        Function::Mod => Expression::Mod(a, b),
                        Function::Min => Expression::Min(a, b),
                        Function::Max => Expression::Max(a, b),
                    }
                }
            };
        }
        let mut factors = Vec::new();
        if *coefficient != 1 {
            factors.push(Dim::from(*coefficient));
        }
        for (atom, power) in &monomial.0 {
            let factor = Dim::atom(atom.clone());
            factors.extend(std::iter::repeat_n(factor, *power as usize));
        }
        Expression::Product(factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dim that the parts make.
    fn assembled(dim: &Dim) -> Dim {
        match dim.expression() {
            Expression::Constant(c) => Dim::from(c),
            Expression::Symbol(symbol) => Dim::symbol(symbol.name()),
            Expression::Sum(terms) => terms.iter().fold(Dim::from(0), |s, t| &s + &assembled(t)),
            Expression::Product(all) => all.iter().fold(Dim::from(1), |p, f| &p * &assembled(f)),
            Expression::FloorDiv(a, b) => assembled(&a).floor_div(&assembled(&b)),
            Expression::Mod(a, b) => assembled(&a).modulo(&assembled(&b)),
            Expression::Min(a, b) => assembled(&a).minimum(&assembled(&b)),
            Expression::Max(a, b) => assembled(&a).maximum(&assembled(&b)),
        }
    }

    #[test]
    fn the_parts_of_a_dim_make_it() {
        for text in [
            "0",
            "-7",
            "b",
            "-b",
            "b*b*b - 1",
            "-3*b*t + 2*floordiv(b*t + 1, 3) - mod(b, t)",
            "max(b, min(t, 4))*t",
        ] {
            let dim: Dim = text.parse().unwrap();
            assert_eq!(assembled(&dim), dim, "{text}");
        }
    }
}
