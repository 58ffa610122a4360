//! The attributes of a custom call: names with texts, which are part of the graph.

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// What a custom call is told besides its operands: names, each with a text, in the order in which they were given.
///
/// ```
/// use kiln_ir::CallAttributes;
///
/// let attributes = CallAttributes::of(&[("limit", "0.5"), ("mode", "soft")]);
/// assert_eq!(attributes.get("mode"), Some("soft"));
/// assert_eq!(attributes.parse::<f32>("limit"), Ok(0.5));
/// assert_eq!(
///     attributes.parse::<f32>("mode"),
///     Err("attribute `mode` is \"soft\": invalid float literal".into())
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallAttributes(Vec<(String, String)>);

/// The attributes of the node itself, in the text.
const RESERVED: [&str; 2] = ["target", "results"];

impl CallAttributes {
    /// These pairs. Whether the names can be written down, the shape rule of the call decides.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// As [`new`](Self::new), of borrowed pairs.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }

    /// The text of an attribute, if there is one of the name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The value that an attribute spells.
    ///
    /// # Errors
    /// A message for people, where there is no such attribute or its text does not parse.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, String> {
        let text = self
            .get(name)
            .ok_or_else(|| format!("attribute `{name}` is missing"))?;
        text.parse()
            .map_err(|why| format!("attribute `{name}` is {text:?}: {why}"))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Why they could not be written down and read back, if they could not.
    pub(super) fn trouble(&self) -> Option<String> {
        let names = || self.iter().map(|(name, _)| name);
        for (position, name) in names().enumerate() {
            let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
            let is_word =
                name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
            if !is_word {
                return Some(format!(
                    "the attribute {name:?} has no name of letters, digits and `_`"
                ));
            }
            if RESERVED.contains(&name) {
                return Some(format!("the attribute name `{name}` is the node's own"));
            }
            if names().take(position).any(|before| before == name) {
                return Some(format!("the attribute `{name}` is given twice"));
            }
        }
        None
    }
}
