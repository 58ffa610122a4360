//! The parser of attribute values: one arm for each form of [`Value`], and of the dims and types that occur everywhere.

use super::cursor::{Cursor, Trouble, shown};
use super::parse::Symbols;
use crate::attributes::Value;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::Dense;
use crate::types::TensorType;
use std::collections::BTreeMap;

/// The resources of a text, by name.
pub(in crate::text) type Resources<'t> = BTreeMap<&'t str, Dense>;

/// The value of an attribute.
pub(in crate::text) fn value(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
    resources: &Resources<'_>,
) -> Result<Value, Trouble> {
    match cursor.peek() {
        Some('"') => Ok(Value::Text(cursor.quoted()?)),
        Some('@') => resource(cursor, resources),
        Some('[') => {
            let start = cursor.clone();
            let list = dims(cursor, symbols)?;
            if !cursor.rest().starts_with("x[") {
                return Ok(Value::Dims(list));
            }
            cursor.advance(1);
            let behind = dims(cursor, symbols)?;
            let (Some(left), Some(right)) = (axes(&list), axes(&behind)) else {
                return Err(start.trouble("expected axes, which are numbers from 0, on both sides"));
            };
            Ok(Value::Axes(left, right))
        }
        Some('(') => types(cursor, symbols).map(Value::Types),
        Some(_) | None => match cursor.attribute_word() {
            "" => Err(cursor
                .expected("a value: a word, a list in brackets, a text in quotes, types in parentheses or a resource")),
            word => Ok(Value::Word(word.to_owned())),
        },
    }
}

fn resource(cursor: &mut Cursor<'_>, resources: &Resources<'_>) -> Result<Value, Trouble> {
    let start = cursor.clone();
    cursor.expect("@")?;
    let name = cursor.word("the name of a resource")?;
    let data = resources.get(name).cloned();
    data.map(Value::Data).ok_or_else(|| {
        start.trouble(format!(
            "no resource is called `@{}`; the table behind the graph holds them",
            shown(name)
        ))
    })
}

fn axes(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter()
        .map(|d| d.constant().and_then(|c| usize::try_from(c).ok()))
        .collect()
}

/// A list in brackets has at most this many entries. An entry takes a hundred times the memory of its text, and no op needs more.
const LONGEST_LIST: usize = 4096;

/// A list of dims in brackets.
pub(in crate::text) fn dims(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
) -> Result<Vec<Dim>, Trouble> {
    cursor.expect("[")?;
    let mut list = Vec::new();
    if cursor.eat("]") {
        return Ok(list);
    }
    loop {
        list.push(dim(cursor, symbols)?);
        if cursor.eat("]") {
            return Ok(list);
        }
        if !cursor.eat(",") {
            return Err(cursor.expected("`,` or `]`"));
        }
        if list.len() >= LONGEST_LIST {
            return Err(cursor.expected(&format!("a list of at most {LONGEST_LIST} entries")));
        }
    }
}

fn dim(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Result<Dim, Trouble> {
    cursor.space();
    let start = cursor.clone();
    match Dim::parse_prefix(cursor.rest()) {
        Ok((dim, length)) => {
            cursor.advance(length);
            symbols
                .check(&dim)
                .map_err(|message| start.trouble(message))?;
            Ok(dim)
        }
        Err(error) => {
            cursor.advance(error.offset);
            Err(cursor.expected(error.expected))
        }
    }
}

/// A list of types in parentheses.
fn types(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Result<Vec<TensorType>, Trouble> {
    cursor.expect("(")?;
    let mut list = Vec::new();
    if cursor.eat(")") {
        return Ok(list);
    }
    loop {
        list.push(ty(cursor, symbols)?);
        if cursor.eat(")") {
            return Ok(list);
        }
        if !cursor.eat(",") {
            return Err(cursor.expected("`,` or `)`"));
        }
        if list.len() >= LONGEST_LIST {
            return Err(cursor.expected(&format!("a list of at most {LONGEST_LIST} types")));
        }
    }
}

/// A tensor type: `f32[b, 10]`.
pub(in crate::text) fn ty(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
) -> Result<TensorType, Trouble> {
    cursor.space();
    let start = cursor.clone();
    let word = cursor.word("a type such as f32[b, 10]")?;
    let dtype: DType = word.parse().map_err(|_| {
        start
            .clone()
            .expected("an element type: f32, f64, bf16, f16, i8 to i64, u8 to u64 or bool")
    })?;
    let ty = TensorType::new(dtype, dims(cursor, symbols)?);
    match ty.trouble() {
        Some(why) => Err(start.trouble(format!("no tensor has this type: {why}"))),
        None => Ok(ty),
    }
}
