//! The text form: printed by [`Graph::to_text`], parsed by [`Graph::parse`].
//!
//! ```text
//! file      = "kiln 1" graph [resources]
//! graph     = "graph" "@" name ["<" symbol, ... ">"] "(" slots ")" "{" body [return] update* "}"
//! slots     = slot { ("," | ";") slot }
//! slot      = "%" name ":" type  |  ("param" | "state") "%" name ":" type "=" initialiser
//! body      = one node a line: "%" (number | name) ":" type "=" op [operand, ...] ["{" name "=" value, ... "}"] [place]
//! operand   = "%" (number | name) | literal
//! place     = "@" file ":" line ":" column ["\"" scope "\""]
//! return    = "return" [name ":"] operand, ...
//! update    = "update" "%" name ":=" operand
//! type      = dtype "[" dim, ... "]"
//! region    = "^(" "%" name ":" type, ... ")" "{" body "yield" operand, ... "}"
//! value     = region | word | "[" dim, ... "]" | "[" axis, ... "]x[" axis, ... "]" | "\"" text "\"" | "@" resource
//! resources = "resources" "{" one entry a line: "@" word "=" "0x" hexadecimal digits  "}"
//! name      = letters, digits, "_", "/" and ".", not beginning with a digit  |  "\"" any text "\""
//! ```
//!
//! A comment runs from `;` to the end of the line, anywhere but inside the parentheses of the signature, where `;` separates slots and
//! line ends are blanks. An output without a name is called by its position: `return %1` and `return "0": %1` are the same.
//!
//! **What a text preserves.** Printing, parsing and printing again gives the same bytes, for every graph that verifies. Parsing what was
//! printed gives [`Graph::canonical`], which is the graph itself but for the order of its node table: sources stand first, in the order
//! of the signature, and a constant that prints as a literal stands directly before the node that uses it. Nodes are numbered as they
//! stand on lines, so slots and literals take no number. Not in the text: the origin of nodes, the provenance of slots and literals,
//! and all provenance unless [`TextOptions::locations`] asks for it; a node whose line names no place comes from its line in the text.
//!
//! **Literals.** A splat constant prints inside the node that uses it where the constant has no other use at all, and where its type is
//! that of the node's last operand that is no splat constant. A literal is read by the same rule.
//!
//! **Versions.** A text of an older version parses for ever; a newer one is refused by name.
//!
//! A region of a control op is the value of an attribute. Its lines stand one level deeper, and its names are its own: it sees nothing but what
//! it takes. A graph whose region has a name, or names what it yields, prints without these.

use crate::graph::Graph;
use std::fmt;
use std::str::FromStr;

mod cursor;
mod labels;
mod parse;
mod print;
mod value;

pub(crate) use cursor::Quoted;
pub use cursor::{ParseError, ParseErrors};
pub use labels::Labels;
pub(crate) use print::write_graph;

/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;

/// What the text says besides the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// Whether each node's line ends with the user's place and scope: `@ model.rs:12:15 "fc1"`.
    pub locations: bool,
}

impl Graph {
    /// The graph as text. A graph that does not verify prints too, for messages, but its text may not parse.
    pub fn to_text(&self, options: TextOptions) -> String {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = write_graph(&mut text, self, &self.name, options);
        text
    }

    /// The graph of a text. All mistakes that could be told apart are returned, in order of place.
    pub fn parse(text: &str) -> Result<Graph, ParseErrors> {
        Self::parse_file("<text>", text)
    }

    /// The graph of a text that was read from `file`: nodes whose lines name no place come from their lines in it.
    pub fn parse_file(file: &str, text: &str) -> Result<Graph, ParseErrors> {
        parse::parse(file, text)
    }
}

impl fmt::Display for Graph {
    /// The text without locations.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_graph(f, self, &self.name, TextOptions::default())
    }
}

impl FromStr for Graph {
    type Err = ParseErrors;

    fn from_str(text: &str) -> Result<Self, ParseErrors> {
        Graph::parse(text)
    }
}
