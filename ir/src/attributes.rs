//! The attributes of a node as the text writes them: `{axes = [0, 1], kind = sum}`.
//!
//! The text's parser of values is `text/value.rs`; a new form of [`Value`] needs an arm there and one in the `Display` below.

use crate::dim::Dim;
use crate::ops::{Dense, Region};
use crate::text::Quoted;
use crate::types::TensorType;
use std::fmt;

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word: a kind, an element type.
    Word(String),
    /// A list of extents, axes or offsets.
    Dims(Vec<Dim>),
    /// Two lists of axes, left and right: `[1]x[0]`.
    Axes(Vec<usize>, Vec<usize>),
    /// Free text, quoted: a message, a file.
    Text(String),
    /// Types of tensors: `(f32[b, 3], i64[b])`.
    Types(Vec<TensorType>),
    /// Bytes of a dense constant. The text writes the name of an entry in its resource table: `@r0`.
    Data(Dense),
    /// The graph of a control op. The text writes what it takes and, line by line, what it computes.
    Region(Region),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
            f.write_str("[")?;
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
            }
            f.write_str("]")
        }
        match self {
            Value::Word(w) => f.write_str(w),
            Value::Dims(d) => list(f, d),
            Value::Axes(l, r) => {
                list(f, l)?;
                f.write_str("x")?;
                list(f, r)
            }
            Value::Text(t) => write!(f, "{}", Quoted(t)),
            Value::Types(types) => {
                let words: Vec<String> = types.iter().map(ToString::to_string).collect();
                write!(f, "({})", words.join(", "))
            }
            Value::Data(data) => write!(f, "<{} bytes>", data.bytes().len()),
            Value::Region(region) => write!(f, "<{} nodes>", region.len()),
        }
    }
}

/// Named attributes, in the order in which they print.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(String, Value)>);

/// An attribute that is missing, of the wrong form, or unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute `{name}`: expected {expected}")]
pub struct AttributeError {
    /// The attribute.
    pub name: String,
    /// What would be right.
    pub expected: String,
}

impl Attributes {
    /// No attributes.
    pub fn none() -> Self {
        Self::default()
    }

    /// These and one more.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.push((name.to_owned(), value));
        self
    }

    /// These and a list of axes.
    pub fn with_axes(self, name: &str, axes: &[usize]) -> Self {
        self.with(
            name,
            Value::Dims(axes.iter().map(|a| Dim::from(*a)).collect()),
        )
    }

    /// These and a list of integers.
    pub fn with_integers(self, name: &str, integers: &[i64]) -> Self {
        self.with(
            name,
            Value::Dims(integers.iter().map(|i| Dim::from(*i)).collect()),
        )
    }

    /// These and a flag, which is only there where it is set.
    pub fn with_flag(self, name: &str, set: bool) -> Self {
        if set {
            self.with(name, Value::Word("true".into()))
        } else {
            self
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, name: &str, expected: &str) -> Result<Value, AttributeError> {
        match self.0.iter().position(|(n, _)| n == name) {
            Some(i) => Ok(self.0.remove(i).1),
            None => Err(AttributeError {
                name: name.into(),
                expected: expected.into(),
            }),
        }
    }

    /// Takes out a word.
    pub fn word(&mut self, name: &str) -> Result<String, AttributeError> {
        match self.take(name, "a word")? {
            Value::Word(w) => Ok(w),
            Value::Dims(_)
            | Value::Axes(..)
            | Value::Text(_)
            | Value::Types(_)
            | Value::Data(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: "a word".into(),
            }),
        }
    }

    /// Takes out a word, where there is the attribute at all.
    pub fn optional_word(&mut self, name: &str) -> Result<Option<String>, AttributeError> {
        if self.0.iter().any(|(n, _)| n == name) {
            self.word(name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes out a flag: `true`, or no such attribute.
    pub fn flag(&mut self, name: &str) -> Result<bool, AttributeError> {
        match self.optional_word(name)?.as_deref() {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(AttributeError {
                name: name.into(),
                expected: "true, or no such attribute".into(),
            }),
        }
    }

    /// Takes out a list of dims.
    pub fn dims(&mut self, name: &str) -> Result<Vec<Dim>, AttributeError> {
        match self.take(name, "a list of dims")? {
            Value::Dims(d) => Ok(d),
            Value::Word(_)
            | Value::Axes(..)
            | Value::Text(_)
            | Value::Types(_)
            | Value::Data(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: "a list of dims".into(),
            }),
        }
    }

    /// Takes out a list of axes.
    pub fn axes(&mut self, name: &str) -> Result<Vec<usize>, AttributeError> {
        let axes: Option<Vec<usize>> = self
            .dims(name)?
            .iter()
            .map(|d| d.constant().and_then(|c| usize::try_from(c).ok()))
            .collect();
        axes.ok_or_else(|| AttributeError {
            name: name.into(),
            expected: "a list of axes".into(),
        })
    }

    /// Takes out a list of one axis.
    pub fn axis(&mut self, name: &str) -> Result<usize, AttributeError> {
        match self.axes(name)?.as_slice() {
            [axis] => Ok(*axis),
            [] | [_, _, ..] => Err(AttributeError {
                name: name.into(),
                expected: "a list of one axis".into(),
            }),
        }
    }

    /// Takes out a list of integers.
    pub fn integers(&mut self, name: &str) -> Result<Vec<i64>, AttributeError> {
        let integers: Option<Vec<i64>> = self.dims(name)?.iter().map(Dim::constant).collect();
        integers.ok_or_else(|| AttributeError {
            name: name.into(),
            expected: "a list of integers".into(),
        })
    }

    /// Takes out two lists of axes.
    pub fn axes_pair(&mut self, name: &str) -> Result<(Vec<usize>, Vec<usize>), AttributeError> {
        match self.take(name, "two lists of axes like [1]x[0]")? {
            Value::Axes(l, r) => Ok((l, r)),
            Value::Word(_)
            | Value::Dims(_)
            | Value::Text(_)
            | Value::Types(_)
            | Value::Data(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: "two lists of axes like [1]x[0]".into(),
            }),
        }
    }

    /// Takes out a quoted text.
    pub fn text(&mut self, name: &str) -> Result<String, AttributeError> {
        match self.take(name, "a quoted text")? {
            Value::Text(t) => Ok(t),
            Value::Word(_)
            | Value::Dims(_)
            | Value::Axes(..)
            | Value::Types(_)
            | Value::Data(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: "a quoted text".into(),
            }),
        }
    }

    /// Takes out all that are left, which are quoted texts: those of an op that has others than its own.
    pub fn texts(&mut self) -> Result<Vec<(String, String)>, AttributeError> {
        let names: Vec<String> = self.iter().map(|(name, _)| name.to_owned()).collect();
        let text = |name: String| self.text(&name).map(|text| (name, text));
        names.into_iter().map(text).collect()
    }

    /// Takes out a list of types.
    pub fn types(&mut self, name: &str) -> Result<Vec<TensorType>, AttributeError> {
        let expected = "a list of types such as (f32[b, 3], i64[b])";
        match self.take(name, expected)? {
            Value::Types(types) => Ok(types),
            Value::Word(_)
            | Value::Dims(_)
            | Value::Axes(..)
            | Value::Text(_)
            | Value::Data(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: expected.into(),
            }),
        }
    }

    /// Takes out the data of a resource.
    pub fn data(&mut self, name: &str) -> Result<Dense, AttributeError> {
        match self.take(name, "a resource such as @r0")? {
            Value::Data(data) => Ok(data),
            Value::Word(_)
            | Value::Dims(_)
            | Value::Axes(..)
            | Value::Text(_)
            | Value::Types(_)
            | Value::Region(_) => Err(AttributeError {
                name: name.into(),
                expected: "a resource such as @r0".into(),
            }),
        }
    }

    /// Takes out a region.
    pub fn region(&mut self, name: &str) -> Result<Region, AttributeError> {
        let expected = "a region such as ^(%x: f32[2]) { ... }";
        match self.take(name, expected)? {
            Value::Region(region) => Ok(region),
            Value::Word(_)
            | Value::Dims(_)
            | Value::Axes(..)
            | Value::Text(_)
            | Value::Types(_)
            | Value::Data(_) => Err(AttributeError {
                name: name.into(),
                expected: expected.into(),
            }),
        }
    }
}
