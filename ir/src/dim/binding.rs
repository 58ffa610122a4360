//! Numbers for symbols: evaluation of dims, and the solving of symbols from the sizes of real tensors.

use super::{Atom, Dim, Monomial, Symbol};
use std::collections::BTreeMap;

/// The numbers that symbols stand for in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bindings(BTreeMap<Symbol, i64>);

impl Bindings {
    /// No symbol bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds `symbol`; a later binding of the same symbol replaces the earlier one.
    pub fn insert(&mut self, symbol: Symbol, value: i64) {
        self.0.insert(symbol, value);
    }

    /// The number bound to `symbol`.
    pub fn get(&self, symbol: &Symbol) -> Option<i64> {
        self.0.get(symbol).copied()
    }

    /// All bindings, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, i64)> {
        self.0.iter().map(|(s, v)| (s, *v))
    }
}

impl<const N: usize> From<[(&str, i64); N]> for Bindings {
    fn from(pairs: [(&str, i64); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(s, v)| (Symbol::new(s), v))
                .collect(),
        )
    }
}

/// One thing known about the symbols: an axis declared as `dim` has `size` elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// The declared extent.
    pub dim: Dim,
    /// The size that was given.
    pub size: i64,
    /// What was given, for messages: "axis 0 of input `x`".
    pub place: String,
}

/// Why numbers for the symbols could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A symbol has no value.
    #[error("the dim `{symbol}` in `{dim}` has no value; feed an input that has it, or bind it")]
    Unbound {
        /// The symbol without a value.
        symbol: Symbol,
        /// The dim that needs it.
        dim: Dim,
    },
    /// A size contradicts the declaration, given what the other sizes said.
    #[error("{place} has size {size}, but {}{because}", declared(dim, *expected))]
    Conflict {
        /// What was given.
        place: String,
        /// The size that was given.
        size: i64,
        /// The declared extent.
        dim: Dim,
        /// The size that the declaration means.
        expected: i64,
        /// Where the symbols got their values.
        because: String,
    },
    /// No value of the symbol gives this size.
    #[error("{place} has size {size}, which no value of `{symbol}` makes out of `{dim}`")]
    Impossible {
        /// What was given.
        place: String,
        /// The size that was given.
        size: i64,
        /// The declared extent.
        dim: Dim,
        /// The symbol that was solved for.
        symbol: Symbol,
    },
    /// The value is negative, divides by zero or does not fit in 63 bits.
    #[error(
        "`{dim}` has no value as a size under this binding (negative, a division by zero, or too large)"
    )]
    OutOfRange {
        /// The dim.
        dim: Dim,
    },
}

/// What a declaration says of a size.
fn declared(dim: &Dim, expected: i64) -> String {
    match dim.constant() {
        Some(_) => format!("{expected} is declared"),
        None => format!("`{dim}` is {expected} there"),
    }
}

impl Dim {
    /// The value under `bindings`. Extents must use [`eval_size`](Self::eval_size); offsets and coefficients may be negative.
    pub fn eval(&self, bindings: &Bindings) -> Result<i64, BindError> {
        let out_of_range = || BindError::OutOfRange { dim: self.clone() };
        let mut total = 0i64;
        for (monomial, c) in self.terms() {
            let mut product = c;
            for (atom, power) in &monomial.0 {
                let value = self.eval_atom(atom, bindings)?;
                for _ in 0..*power {
                    product = product.checked_mul(value).ok_or_else(out_of_range)?;
                }
            }
            total = total.checked_add(product).ok_or_else(out_of_range)?;
        }
        Ok(total)
    }

    /// The value under `bindings` as an extent: negative values are errors.
    pub fn eval_size(&self, bindings: &Bindings) -> Result<usize, BindError> {
        usize::try_from(self.eval(bindings)?)
            .map_err(|_| BindError::OutOfRange { dim: self.clone() })
    }

    fn eval_atom(&self, atom: &Atom, bindings: &Bindings) -> Result<i64, BindError> {
        match atom {
            Atom::Symbol(symbol) => bindings.get(symbol).ok_or_else(|| BindError::Unbound {
                symbol: symbol.clone(),
                dim: self.clone(),
            }),
            Atom::Call(function, a, b) => function
                .apply(a.eval(bindings)?, b.eval(bindings)?)
                .ok_or_else(|| BindError::OutOfRange { dim: self.clone() }),
        }
    }

    /// `(symbol, factor, rest)` where the dim is `factor * symbol + rest` and `rest` is a constant.
    pub(crate) fn linear(&self) -> Option<(Symbol, i64, i64)> {
        let mut rest = 0;
        let mut found = None;
        for (monomial, c) in self.terms() {
            match monomial {
                Monomial(powers) if powers.is_empty() => rest = c,
                Monomial(powers) => match (powers.as_slice(), &found) {
                    ([(Atom::Symbol(s), 1)], None) => found = Some((s.clone(), c)),
                    ([] | [_] | [_, _, ..], _) => return None,
                },
            }
        }
        found.map(|(s, factor)| (s, factor, rest))
    }
}

/// Finds the symbols from the sizes of real tensors, and checks every equation under the result.
///
/// An equation that is linear in one unbound symbol binds it, in the order given; all others only check. The first conflict is
/// reported, with the place that gave the symbol its value.
pub fn solve(equations: &[Equation]) -> Result<Bindings, BindError> {
    let mut bindings = Bindings::new();
    let mut origin: BTreeMap<Symbol, &str> = BTreeMap::new();
    for equation in equations {
        let Some((symbol, factor, rest)) = equation.dim.linear() else {
            continue;
        };
        if bindings.get(&symbol).is_some() {
            continue;
        }
        let value = equation
            .size
            .checked_sub(rest)
            .filter(|n| n.checked_rem(factor) == Some(0))
            .map(|n| n / factor)
            .filter(|v| *v >= 0)
            .ok_or_else(|| BindError::Impossible {
                place: equation.place.clone(),
                size: equation.size,
                dim: equation.dim.clone(),
                symbol: symbol.clone(),
            })?;
        origin.insert(symbol.clone(), &equation.place);
        bindings.insert(symbol, value);
    }
    for equation in equations {
        let expected = equation.dim.eval(&bindings)?;
        if expected != equation.size {
            let because: Vec<String> = equation
                .dim
                .symbols()
                .iter()
                .filter_map(|s| {
                    Some(format!(
                        "`{s}` = {} from {}",
                        bindings.get(s)?,
                        origin.get(s)?
                    ))
                })
                .collect();
            return Err(BindError::Conflict {
                place: equation.place.clone(),
                size: equation.size,
                dim: equation.dim.clone(),
                expected,
                because: if because.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", because.join(", "))
                },
            });
        }
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equation(dim: &str, size: i64, place: &str) -> Equation {
        Equation {
            dim: dim.parse().unwrap(),
            size,
            place: place.into(),
        }
    }

    #[test]
    fn symbols_are_solved_and_checked() {
        let found = solve(&[
            equation("2*b + 1", 65, "x"),
            equation("b*t", 96, "y"),
            equation("t", 3, "z"),
        ])
        .unwrap();
        assert_eq!(found, Bindings::from([("b", 32), ("t", 3)]));
    }

    #[test]
    fn a_conflict_names_both_places() {
        let error = solve(&[
            equation("b", 32, "axis 0 of `x`"),
            equation("b", 31, "axis 0 of `y`"),
        ])
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "axis 0 of `y` has size 31, but `b` is 32 there (`b` = 32 from axis 0 of `x`)"
        );
        assert!(matches!(
            solve(&[equation("2*b", 31, "x")]),
            Err(BindError::Impossible { .. })
        ));
        assert!(matches!(
            solve(&[equation("b*t", 31, "x")]),
            Err(BindError::Unbound { .. })
        ));
        assert!(matches!(
            solve(&[equation("784", 783, "x")]),
            Err(BindError::Conflict { .. })
        ));
    }

    #[test]
    fn overflow_is_an_error() {
        let huge = Bindings::from([("b", i64::MAX)]);
        assert!(matches!(
            "b*b".parse::<Dim>().unwrap().eval(&huge),
            Err(BindError::OutOfRange { .. })
        ));
        assert!(
            "b - 5"
                .parse::<Dim>()
                .unwrap()
                .eval_size(&Bindings::from([("b", 4)]))
                .is_err()
        );
    }
}
