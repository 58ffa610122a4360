//! One exact number, and its spelling.
//!
//! The spelling depends on the element type: an f32 prints as the shortest decimal that reads back as that f32, a u64 prints unsigned,
//! a `bool` as `true` or `false`. A number that the type does not hold is refused, never rounded to infinity nor wrapped.

use crate::array::{round, wrap};
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::{Class, DType};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One number, exact in its family. Floats are kept as bits, so that NaN compares equal to itself and serialises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Literal {
    /// The bits of an f64.
    Float(u64),
    /// An integer or a truth value; u64 as its bit pattern.
    Int(i64),
}

impl fmt::Display for Literal {
    /// The number without regard to an element type; [`text`](Literal::text) is the spelling in a graph.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Literal::Int(i) => write!(f, "{i}"),
        }
    }
}

/// The spelling before the bits of a NaN that is not the plain one.
const NAN_BITS: &str = "nan:0x";

impl Literal {
    /// `value` in an element type: rounded for floats, truncated and wrapped for integers.
    pub fn of(dtype: DType, value: f64) -> Self {
        if dtype.is_float() {
            let value = round(dtype, value);
            return Literal::Float(if value.is_nan() { f64::NAN } else { value }.to_bits());
        }
        // The upper half of u64 is out of reach of a conversion to i64.
        let bits = if dtype == DType::U64 && value >= 0.0 {
            (value as u64).cast_signed()
        } else {
            value as i64
        };
        Literal::Int(wrap(dtype, bits))
    }

    /// The spelling in the text form. Reads back to the same bits by [`parse`](Literal::parse) where the literal fits the type.
    pub fn text(self, dtype: DType) -> String {
        match (self, dtype.class()) {
            (Literal::Float(bits), _) => float_text(bits, dtype),
            (Literal::Int(i), Class::Unsigned) => i.cast_unsigned().to_string(),
            (Literal::Int(0), Class::Bool) => "false".into(),
            (Literal::Int(1), Class::Bool) => "true".into(),
            (Literal::Int(i), Class::Signed | Class::Bool | Class::Float) => i.to_string(),
        }
    }

    /// The literal of a type that `word` spells; `None` where the type does not hold it.
    pub fn parse(dtype: DType, word: &str) -> Option<Self> {
        match dtype.class() {
            Class::Float => parse_float(dtype, word),
            Class::Signed => {
                let value: i64 = word.parse().ok()?;
                (wrap(dtype, value) == value).then_some(Literal::Int(value))
            }
            Class::Unsigned => {
                let value = word.parse::<u64>().ok()?.cast_signed();
                (wrap(dtype, value) == value).then_some(Literal::Int(value))
            }
            Class::Bool => match word {
                "false" => Some(Literal::Int(0)),
                "true" => Some(Literal::Int(1)),
                _ => None,
            },
        }
    }

    /// What [`parse`](Literal::parse) accepts, for messages.
    pub fn expected(dtype: DType) -> String {
        match dtype.class() {
            Class::Bool => "true or false".into(),
            Class::Float | Class::Signed | Class::Unsigned => {
                format!("a number that {dtype} holds")
            }
        }
    }

    /// Whether the literal is an element of the type.
    pub(super) fn check(self, dtype: DType) -> Result<(), Refusal> {
        let held = match (self, dtype.is_float()) {
            (Literal::Float(_), false) | (Literal::Int(_), true) => {
                return Err(Refusal::new(
                    Kind::Type,
                    format!("`const` of {dtype} with a literal of another family"),
                ));
            }
            (Literal::Float(bits), true) => {
                let value = f64::from_bits(bits);
                value.is_nan() || round(dtype, value).to_bits() == bits
            }
            (Literal::Int(i), false) => wrap(dtype, i) == i,
        };
        if held {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::Type,
            format!("`const` of {dtype} with the literal {self}, which the type does not hold"),
        )
        .help("round or wrap the number to the type"))
    }
}

fn float_text(bits: u64, dtype: DType) -> String {
    let value = f64::from_bits(bits);
    if bits == f64::NAN.to_bits() {
        return "nan".into();
    }
    if value.is_nan() {
        return format!("{NAN_BITS}{bits:016x}");
    }
    let single = value as f32;
    if dtype != DType::F64 && f64::from(single).to_bits() == bits {
        return format!("{single:?}");
    }
    format!("{value:?}")
}

fn parse_float(dtype: DType, word: &str) -> Option<Literal> {
    if word == "nan" {
        return Some(Literal::Float(f64::NAN.to_bits()));
    }
    if let Some(digits) = word.strip_prefix(NAN_BITS) {
        let bits = u64::from_str_radix(digits, 16).ok()?;
        return f64::from_bits(bits)
            .is_nan()
            .then_some(Literal::Float(bits));
    }
    if word == "inf" || word == "-inf" {
        return Some(Literal::Float(word.parse::<f64>().ok()?.to_bits()));
    }
    // An f32 is read at once, not through f64, so that no decimal is rounded twice.
    let value = if dtype == DType::F64 {
        word.parse::<f64>().ok()?
    } else {
        round(dtype, f64::from(word.parse::<f32>().ok()?))
    };
    value.is_finite().then_some(Literal::Float(value.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_back_to_the_same_bits() {
        for (dtype, word) in [
            (DType::F32, "0.1"),
            (DType::F32, "-0.0"),
            (DType::F32, "1e-45"),
            (DType::F32, "nan"),
            (DType::F32, "-inf"),
            (DType::F64, "0.1"),
            (DType::F64, "5e-324"),
            (DType::F64, "nan:0xfff8000000000000"),
            (DType::BF16, "0.100097656"),
            (DType::F16, "65504.0"),
            (DType::I8, "-128"),
            (DType::I64, "-9223372036854775808"),
            (DType::U64, "18446744073709551615"),
            (DType::Bool, "true"),
        ] {
            let literal = Literal::parse(dtype, word).unwrap();
            assert!(literal.check(dtype).is_ok());
            assert_eq!(literal.text(dtype), word);
        }
    }

    #[test]
    fn numbers_that_a_type_does_not_hold_are_refused() {
        for (dtype, word) in [
            (DType::F32, "1e39"),
            (DType::F16, "70000.0"),
            (DType::F32, "nan:0x0"),
            (DType::F32, "true"),
            (DType::I8, "128"),
            (DType::U8, "-1"),
            (DType::I64, "9223372036854775808"),
            (DType::I32, "1.0"),
            (DType::Bool, "1"),
        ] {
            assert_eq!(Literal::parse(dtype, word), None, "{word} of {dtype}");
        }
        assert!(Literal::Int(2).check(DType::Bool).is_err());
        assert!(Literal::Int(2).check(DType::F32).is_err());
        assert!(Literal::Float(0.1f64.to_bits()).check(DType::F32).is_err());
    }

    #[test]
    fn values_beyond_i64_reach_u64() {
        assert_eq!(
            Literal::of(DType::U64, 1.8e19).text(DType::U64),
            "18000000000000000000"
        );
        assert_eq!(Literal::of(DType::I32, -1.9).text(DType::I32), "-1");
        assert_eq!(Literal::of(DType::U8, 257.0).text(DType::U8), "1");
    }
}
