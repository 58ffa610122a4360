//! Reading of characters: a position in the text, tokens, names, and messages with line and column.
//!
//! There is no separate list of tokens, so the memory of a parse does not depend on the length of a line. Nothing here recurses.

use std::borrow::Cow;
use std::fmt;

/// A name: bare where it is letters, digits, `_`, `/` and `.` and does not begin with a digit; else quoted.
pub(in crate::text) struct Name<'n>(pub(in crate::text) &'n str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.0.starts_with(begins_name) && self.0.chars().all(continues_name);
        if bare {
            f.write_str(self.0)
        } else {
            write!(f, "{}", Quoted(self.0))
        }
    }
}

/// A quoted text. Quotes, backslashes and control characters are escaped, so that it never leaves its line.
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.')
}

fn continues_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-' | ':')
}

/// Whether a file's path stands in the text without quotes.
pub(in crate::text) fn is_bare_file(file: &str) -> bool {
    let outside = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | ';');
    !file.is_empty() && !file.contains(outside)
}

/// A name as a message shows it: not longer than a person reads.
pub(in crate::text) fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}...", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

const LONGEST_SHOWN: usize = 40;

/// One mistake in a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What was expected and what was found.
    pub message: String,
}

/// All mistakes of a text, in order of place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors(pub Vec<ParseError>);

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseErrors {}

/// A mistake at a byte offset, before lines are counted.
#[derive(Clone, Debug)]
pub(in crate::text) struct Trouble {
    pub(in crate::text) offset: usize,
    pub(in crate::text) message: String,
}

/// Lines and columns of a text, found by one walk each; places are asked for in ascending order.
pub(in crate::text) struct Places<'t> {
    text: &'t str,
    line: u32,
    line_start: usize,
}

impl<'t> Places<'t> {
    pub(in crate::text) fn new(text: &'t str) -> Self {
        Self {
            text,
            line: 1,
            line_start: 0,
        }
    }

    /// Line and column of a byte offset, which is not before the one asked for last.
    pub(in crate::text) fn at(&mut self, offset: usize) -> (u32, u32) {
        let bytes = self.text.as_bytes();
        let offset = offset.min(bytes.len());
        while let Some(end) = bytes[self.line_start.min(offset)..offset]
            .iter()
            .position(|b| *b == b'\n')
        {
            self.line = self.line.saturating_add(1);
            self.line_start += end + 1;
        }
        // Characters are counted as bytes that begin one.
        let before = bytes[self.line_start.min(offset)..offset].iter();
        let characters = before.filter(|b| **b & 0xC0 != 0x80).count();
        let column = u32::try_from(characters).unwrap_or(u32::MAX - 1) + 1;
        (self.line, column)
    }
}

/// A position in a text.
#[derive(Clone)]
pub(in crate::text) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(in crate::text) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(in crate::text) fn offset(&self) -> usize {
        self.at
    }

    pub(in crate::text) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Moves on by `bytes`, which lie inside the text and end between characters.
    pub(in crate::text) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn take_while(&mut self, holds: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !holds(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Skips blanks within the line.
    pub(in crate::text) fn space(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r'));
    }

    /// Skips blanks and line ends.
    pub(in crate::text) fn blank(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
    }

    /// Skips blanks, line ends and comments: to the next statement.
    pub(in crate::text) fn gap(&mut self) {
        self.blank();
        while self.rest().starts_with(';') {
            self.skip_line();
            self.blank();
        }
    }

    /// Skips what is left of the line.
    pub(in crate::text) fn skip_line(&mut self) {
        let rest = self.rest();
        self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }

    /// The next character behind blanks.
    pub(in crate::text) fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }

    /// Whether nothing but blanks and a comment is left of the line.
    pub(in crate::text) fn at_line_end(&mut self) -> bool {
        matches!(self.peek(), None | Some('\n' | ';'))
    }

    /// Reads `token`, if it is next.
    pub(in crate::text) fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Reads `keyword`, if it is next as a whole word.
    pub(in crate::text) fn eat_word(&mut self, keyword: &str) -> bool {
        self.space();
        let rest = self.rest();
        let found = rest
            .strip_prefix(keyword)
            .is_some_and(|behind| !behind.starts_with(continues_name));
        if found {
            self.at += keyword.len();
        }
        found
    }

    pub(in crate::text) fn expect(&mut self, token: &str) -> Result<(), Trouble> {
        if self.eat(token) {
            return Ok(());
        }
        Err(self.expected(&format!("`{token}`")))
    }

    pub(in crate::text) fn end_of_line(&mut self) -> Result<(), Trouble> {
        if !self.at_line_end() {
            return Err(self.expected("the end of the line"));
        }
        self.skip_line();
        Ok(())
    }

    /// A word of letters, digits and `_` that does not begin with a digit.
    pub(in crate::text) fn word(&mut self, what: &str) -> Result<&'t str, Trouble> {
        if !self.peek().is_some_and(begins_name) {
            return Err(self.expected(what));
        }
        Ok(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'))
    }

    /// The characters of a number or of a word that stands for one.
    pub(in crate::text) fn number(&mut self) -> &'t str {
        self.space();
        self.take_while(continues_number)
    }

    /// The characters of an attribute's word: those of a number, and the arrow of `b01f_01io->b01f`.
    pub(in crate::text) fn attribute_word(&mut self) -> &'t str {
        self.space();
        self.take_while(|c| continues_number(c) || c == '>')
    }

    /// Decimal digits.
    pub(in crate::text) fn digits(&mut self) -> &'t str {
        self.take_while(|c| c.is_ascii_digit())
    }

    /// A name, bare or quoted.
    pub(in crate::text) fn name(&mut self, what: &str) -> Result<Cow<'t, str>, Trouble> {
        match self.peek() {
            Some('"') => self.quoted().map(Cow::Owned),
            Some(c) if begins_name(c) => Ok(Cow::Borrowed(self.take_while(continues_name))),
            Some(_) | None => Err(self.expected(what)),
        }
    }

    /// A quoted text, which is next.
    pub(in crate::text) fn quoted(&mut self) -> Result<String, Trouble> {
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            let plain = self.take_while(|c| !matches!(c, '"' | '\\' | '\n'));
            text.push_str(plain);
            if self.rest().starts_with('"') {
                self.at += 1;
                return Ok(text);
            }
            if !self.rest().starts_with('\\') {
                return Err(self.expected("the closing quote"));
            }
            text.push(self.escape()?);
        }
    }

    /// An escape, whose backslash is next.
    fn escape(&mut self) -> Result<char, Trouble> {
        const EXPECTED: &str = "one of the escapes \\\\, \\\", \\n, \\t and \\u{...}";
        let rest = self.rest();
        let mut characters = rest.chars().skip(1);
        let (c, length) = match characters.next() {
            Some(c @ ('"' | '\\')) => (Some(c), 2),
            Some('n') => (Some('\n'), 2),
            Some('t') => (Some('\t'), 2),
            Some('u') => {
                let inside = rest[2..].strip_prefix('{');
                let digits = inside.and_then(|r| r.split_once('}')).map(|(d, _)| d);
                let digits = digits.filter(|d| (1..=6).contains(&d.len()));
                let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
                (
                    code.and_then(char::from_u32),
                    digits.map_or(0, |d| 4 + d.len()),
                )
            }
            Some(_) | None => (None, 0),
        };
        let c = c.ok_or_else(|| self.expected(EXPECTED))?;
        self.at += length;
        Ok(c)
    }

    /// A mistake here: `expected` in words, and what is here instead.
    pub(in crate::text) fn expected(&mut self, expected: &str) -> Trouble {
        self.space();
        let found = self.found();
        self.trouble(format!("expected {expected}, found {found}"))
    }

    /// A mistake here.
    pub(in crate::text) fn trouble(&self, message: impl Into<String>) -> Trouble {
        Trouble {
            offset: self.at,
            message: message.into(),
        }
    }

    /// What stands here, in words and not too many of them.
    fn found(&self) -> String {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return "the end of the text".into();
        };
        if first == '\n' || first == ';' {
            return "the end of the line".into();
        }
        let token: String = if first == '%' || first == '@' || continues_name(first) {
            let behind = rest[1..].chars().take_while(|c| continues_name(*c));
            [first]
                .into_iter()
                .chain(behind.take(LONGEST_SHOWN))
                .collect()
        } else if first.is_control() {
            first.escape_default().collect()
        } else {
            first.to_string()
        };
        format!("`{token}`")
    }
}
