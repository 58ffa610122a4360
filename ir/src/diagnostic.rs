//! Messages for people: what was wrong, where in their code, and a way out.

use crate::provenance::Location;
use std::fmt;
use std::sync::Arc;

/// What the text of a mistake begins with, before its kind.
const TITLE: &str = "error[";

/// The kind of mistake, printed as `error[shape]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shapes that do not fit.
    Shape,
    /// An element type that the op does not take.
    Type,
    /// An attribute out of range, such as an axis.
    Attribute,
    /// A gradient that does not exist.
    Gradient,
    /// Names and roles of inputs, params, state and outputs.
    Signature,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Shape => "shape",
            Kind::Type => "type",
            Kind::Attribute => "attribute",
            Kind::Gradient => "gradient",
            Kind::Signature => "signature",
        }
    }
}

/// What a rule refused, before anybody knows where in the user's code it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of mistake.
    pub kind: Kind,
    /// What was wrong, naming the op.
    pub message: String,
    /// What would be right, where one can say.
    pub help: Option<String>,
}

impl Refusal {
    /// A refusal without a way out.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            help: None,
        }
    }

    /// Adds a way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One mistake, with its place in the user's code. `Display` is the whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What was wrong.
    pub refusal: Refusal,
    /// The user's line.
    pub location: Location,
    /// The scopes that were open there.
    pub scope: Arc<str>,
    /// The operands and where they were made: `lhs: f32[b, 3] from src/main.rs:4:9`.
    pub notes: Vec<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{TITLE}{}]: {}",
            self.refusal.kind.word(),
            self.refusal.message
        )?;
        write!(f, "  --> {}", self.location)?;
        if !self.scope.is_empty() {
            write!(f, "   in \"{}\"", self.scope)?;
        }
        for note in &self.notes {
            write!(f, "\n   = {note}")?;
        }
        if let Some(help) = &self.refusal.help {
            write!(f, "\n   = help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// All mistakes of a graph, one message each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            fmt::Display::fmt(d, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// What a program says of an error on its way out: `error: ` and the text, unless that begins with the like itself, at once or behind the
/// name of a file, as the text of [`Diagnostics`] does.
///
/// ```
/// use kiln_ir::{Builder, DType, error_text};
///
/// let g = Builder::new("wrong");
/// let (x, y) = (g.input("x", DType::F32, [3]), g.input("y", DType::F32, [4]));
/// g.output("sum", x + y);
/// let mistakes = g.finish().unwrap_err();
/// assert!(error_text(&mistakes).starts_with("error[shape]: "));
/// assert_eq!(error_text("no such file"), "error: no such file");
/// ```
pub fn error_text(error: &(impl fmt::Display + ?Sized)) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with(TITLE) || first.contains(&format!(": {TITLE}")) {
        text
    } else {
        format!("error: {text}")
    }
}
