//! Printing and parsing of dims: `2*b*t + 1`, `floordiv(b + 1, 2)`. Serde uses the same spelling.
//!
//! A dim that is read is bounded in nesting, degree and number of terms, so that hostile text costs neither the stack nor the time of
//! a product of polynomials. [`Dim::unreadable`] says which dims print to text that would not be read.

use super::{Atom, Dim, Function, Monomial, Repr};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.terms();
        if terms.is_empty() {
            return f.write_str("0");
        }
        for (i, (monomial, c)) in terms.iter().enumerate() {
            match (i, *c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            write_term(f, monomial, c.unsigned_abs())?;
        }
        Ok(())
    }
}

fn write_term(f: &mut fmt::Formatter<'_>, monomial: &Monomial, c: u64) -> fmt::Result {
    if monomial.0.is_empty() {
        return write!(f, "{c}");
    }
    if c != 1 {
        write!(f, "{c}*")?;
    }
    let mut first = true;
    for (atom, power) in &monomial.0 {
        for _ in 0..*power {
            if !first {
                f.write_str("*")?;
            }
            first = false;
            match atom {
                Atom::Symbol(s) => write!(f, "{s}")?,
                Atom::Call(function, a, b) => write!(f, "{}({a}, {b})", function.name())?,
            }
        }
    }
    Ok(())
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A dim that does not parse: what was expected, and the byte offset in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at offset {offset} of a dim")]
pub struct DimParseError {
    /// Byte offset of the trouble.
    pub offset: usize,
    /// What would have been right there.
    pub expected: &'static str,
}

impl FromStr for Dim {
    type Err = DimParseError;

    fn from_str(text: &str) -> Result<Self, DimParseError> {
        let (dim, end) = Dim::parse_prefix(text)?;
        if end < text.len() {
            return Err(DimParseError {
                offset: end,
                expected: "the end",
            });
        }
        Ok(dim)
    }
}

impl Dim {
    /// Parses a dim at the start of `text` and gives the offset behind it.
    pub fn parse_prefix(text: &str) -> Result<(Self, usize), DimParseError> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let dim = parser.sum()?;
        parser.space();
        Ok((dim, parser.at))
    }
}

/// Nesting is limited, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 32;
/// The degree is limited too: `b*b*b*...` would otherwise cost quadratic time.
const MAX_FACTORS: usize = 64;
/// And so is the number of terms, which a product of sums multiplies.
const MAX_TERMS: usize = 256;

impl Dim {
    /// The number of terms of the polynomial; 1 for a constant.
    pub fn term_count(&self) -> usize {
        match &self.0 {
            Repr::Constant(_) => 1,
            Repr::Polynomial(p) => p.0.len(),
        }
    }

    /// Whether more than `most` numbers, symbols and functions are written in the dim. Parts are shared in memory, so that a small program can
    /// make dims that no memory could print; this takes time that grows with `most`, not with the dim.
    ///
    /// ```
    /// use kiln_ir::Dim;
    ///
    /// let mut dim = Dim::symbol("n");
    /// for _ in 0..10 {
    ///     dim = dim.minimum(&(&dim + &Dim::from(1)));
    /// }
    /// assert!(dim.is_larger_than(100));
    /// assert!(!Dim::symbol("n").is_larger_than(1));
    /// ```
    pub fn is_larger_than(&self, most: usize) -> bool {
        self.written(most).is_none()
    }

    /// What is left of `most` once the dim is written; `None` where that is too little.
    fn written(&self, most: usize) -> Option<usize> {
        let Repr::Polynomial(polynomial) = &self.0 else {
            return most.checked_sub(1);
        };
        let mut left = most;
        for (monomial, coefficient) in &polynomial.0 {
            let number = *coefficient != 1 || monomial.0.is_empty();
            left = left.checked_sub(usize::from(number))?;
            for (atom, power) in &monomial.0 {
                left = left.checked_sub(*power as usize)?;
                if let Atom::Call(_, a, b) = atom {
                    left = b.written(a.written(left)?)?;
                }
            }
        }
        Some(left)
    }

    /// Why the printed form would not be read back, if it would not: no sensible graph has such a dim.
    pub(crate) fn unreadable(&self) -> Option<&'static str> {
        self.unreadable_at(1)
    }

    fn unreadable_at(&self, depth: usize) -> Option<&'static str> {
        if depth > MAX_DEPTH {
            return Some("it nests too deep");
        }
        if self.term_count() > MAX_TERMS {
            return Some("it has too many terms");
        }
        for (monomial, c) in self.terms() {
            let coefficient = usize::from(c.unsigned_abs() != 1);
            if monomial.degree() as usize + coefficient > MAX_FACTORS {
                return Some("its degree is too high");
            }
            if c == i64::MIN {
                return Some("a coefficient is out of range");
            }
            for (atom, _) in &monomial.0 {
                let why = match atom {
                    Atom::Symbol(s) => (!is_identifier(s.name()))
                        .then_some("a symbol is not a name of letters, digits and `_`"),
                    Atom::Call(_, a, b) => a
                        .unreadable_at(depth + 1)
                        .or_else(|| b.unreadable_at(depth + 1)),
                };
                if why.is_some() {
                    return why;
                }
            }
        }
        None
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(' ').len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn error<T>(&self, expected: &'static str) -> Result<T, DimParseError> {
        Err(DimParseError {
            offset: self.at,
            expected,
        })
    }

    fn sum(&mut self) -> Result<Dim, DimParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("less nesting");
        }
        let mut total = if self.eat('-') {
            -&self.term()?
        } else {
            self.term()?
        };
        // What is written is bounded, not only what it simplifies to.
        let mut written = total.term_count();
        loop {
            if self.eat('+') {
                total = &total + &self.term()?;
            } else if self.eat('-') {
                total = &total - &self.term()?;
            } else {
                self.depth -= 1;
                return Ok(total);
            }
            written += 1;
            if written > MAX_TERMS || total.term_count() > MAX_TERMS {
                return self.error("fewer terms");
            }
        }
    }

    fn term(&mut self) -> Result<Dim, DimParseError> {
        let mut product = self.factor()?;
        let mut factors = 1;
        while self.eat('*') {
            factors += 1;
            if factors > MAX_FACTORS {
                return self.error("fewer factors");
            }
            let factor = self.factor()?;
            if product.term_count() * factor.term_count() > MAX_TERMS {
                return self.error("fewer terms");
            }
            product = &product * &factor;
        }
        Ok(product)
    }

    fn factor(&mut self) -> Result<Dim, DimParseError> {
        self.space();
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() {
            return self.error("a number or a name");
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return match word.parse::<i64>() {
                Ok(value) => {
                    self.at += end;
                    Ok(Dim::from(value))
                }
                Err(_) => self.error("a number below 2^63"),
            };
        }
        self.at += end;
        if !self.eat('(') {
            return Ok(Dim::symbol(word));
        }
        let Some(function) = Function::ALL.into_iter().find(|f| f.name() == word) else {
            return self.error("floordiv, mod, min or max before the parenthesis");
        };
        let a = self.sum()?;
        if !self.eat(',') {
            return self.error("`,`");
        }
        let b = self.sum()?;
        if !self.eat(')') {
            return self.error("`)`");
        }
        Ok(match function {
            Function::FloorDiv => a.floor_div(&b),
            Function::Mod => a.modulo(&b),
            Function::Min => a.minimum(&b),
            Function::Max => a.maximum(&b),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_is_canonical() {
        for (text, printed) in [
            ("784", "784"),
            ("b", "b"),
            ("1+2 * b*t", "2*b*t + 1"),
            ("t*b - 3*b", "b*t - 3*b"),
            ("floordiv(b + 1, 2)", "floordiv(b + 1, 2)"),
            ("max(b, 4)*2", "2*max(4, b)"),
            ("-b", "-b"),
        ] {
            let dim: Dim = text.parse().unwrap();
            assert_eq!(dim.to_string(), printed);
            assert_eq!(printed.parse::<Dim>().unwrap(), dim);
        }
    }

    #[test]
    fn bad_text_is_refused_with_the_offset() {
        for (text, offset) in [
            ("", 0),
            ("b +", 3),
            ("b c", 2),
            ("floordiv(b)", 10),
            ("sin(b, 1)", 4),
            ("99999999999999999999", 0),
        ] {
            assert_eq!(text.parse::<Dim>().unwrap_err().offset, offset, "{text}");
        }
        assert!("floordiv(".repeat(10_000).parse::<Dim>().is_err());
        assert!("b*".repeat(10_000).parse::<Dim>().is_err());
    }

    #[test]
    fn polynomials_that_grow_are_refused_in_time() {
        let sum: Vec<String> = (0..100).map(|i| format!("2*s{i}")).collect();
        let factor = format!("floordiv({}, 2)", sum.join(" + "));
        let power = vec![factor; 20].join("*");
        assert_eq!(power.parse::<Dim>().unwrap_err().expected, "fewer terms");
        assert_eq!(
            "b+".repeat(100_000).parse::<Dim>().unwrap_err().expected,
            "fewer terms"
        );
        let long: Vec<String> = (0..100_000).map(|i| format!("s{i}")).collect();
        assert_eq!(
            long.join(" + ").parse::<Dim>().unwrap_err().expected,
            "fewer terms"
        );
    }

    #[test]
    fn what_is_readable_reads_back() {
        let mut nested = Dim::symbol("b");
        let mut readable = 0;
        for _ in 0..40 {
            assert_eq!(
                nested.to_string().parse::<Dim>().ok().as_ref() == Some(&nested),
                nested.unreadable().is_none(),
                "{nested}"
            );
            readable += usize::from(nested.unreadable().is_none());
            nested = (nested + 1).floor_div(&Dim::from(2));
        }
        assert_eq!(readable, MAX_DEPTH);
        let power = (0..64).fold(Dim::from(1), |p, _| p * Dim::symbol("b"));
        assert!(power.unreadable().is_none());
        assert!((power.clone() * 2).unreadable().is_some());
        assert!(Dim::symbol("2b").unreadable().is_some());
        assert!((Dim::symbol("b") * i64::MIN).unreadable().is_some());
        assert_eq!(power.to_string().parse::<Dim>(), Ok(power));
    }
}
