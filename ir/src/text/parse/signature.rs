//! The signature: symbols in angle brackets, slots in parentheses.

use super::super::cursor::{Trouble, shown};
use super::super::value::ty;
use super::body::{Body, Environment, ValueName};
use super::{Offsets, Parser};
use crate::dim::Dim;
use crate::graph::{Node, Role, Slot};
use crate::init::{Init, UnknownInit};
use crate::ops::Source;
use std::collections::BTreeMap;

/// The symbols that the signature declares, and where.
#[derive(Default)]
pub(in crate::text) struct Symbols(BTreeMap<String, usize>);

impl Symbols {
    /// Whether all symbols of a dim are declared; the message if not.
    pub(in crate::text) fn check(&self, dim: &Dim) -> Result<(), String> {
        let unknown = dim
            .symbols()
            .into_iter()
            .find(|s| !self.0.contains_key(s.name()));
        match unknown {
            Some(s) => Err(format!(
                "the symbol `{}` is not declared; declare it in angle brackets behind the graph's name",
                shown(s.name())
            )),
            None => Ok(()),
        }
    }
}

impl Parser<'_> {
    /// The names in angle brackets, if there are any.
    pub(super) fn declared_symbols(&mut self) -> Result<(), Trouble> {
        if !self.cursor.eat("<") {
            return Ok(());
        }
        loop {
            self.cursor.space();
            let start = self.cursor.clone();
            let name = self.cursor.word("the name of a symbol")?;
            let before = self.symbols.0.insert(name.to_owned(), start.offset());
            if before.is_some() {
                let name = shown(name);
                return Err(start.trouble(format!("the symbol `{name}` is declared twice")));
            }
            if self.cursor.eat(">") {
                return Ok(());
            }
            if !self.cursor.eat(",") {
                return Err(self.cursor.expected("`,` or `>`"));
            }
        }
    }

    /// The slots in parentheses. After a mistake the next slot, or the body, is read.
    pub(super) fn signature(
        &mut self,
        environment: &mut Environment,
        body: &mut Body,
        slots: &mut Vec<Slot>,
        offsets: &mut Offsets,
    ) -> Result<(), Trouble> {
        self.cursor.expect("(")?;
        self.cursor.blank();
        let mut more = !self.cursor.eat(")");
        while more {
            self.cursor.blank();
            offsets.slots.push(self.cursor.offset());
            match self.slot(environment, body) {
                Ok(slot) => slots.push(slot),
                Err(trouble) => {
                    environment.incomplete = true;
                    self.note(trouble)?;
                    self.skip_slot();
                }
            }
            self.cursor.blank();
            more = self.cursor.eat(",") || self.cursor.eat(";");
            if !more && !self.cursor.eat(")") {
                return Err(self.cursor.expected("`,`, `;` or `)`"));
            }
        }
        self.cursor.expect("{")?;
        self.cursor.end_of_line()?;
        if environment.incomplete {
            return Ok(());
        }
        self.unused_symbols(body)
    }

    /// A symbol gets its number from a slot; one that stands in none says that the signature is not what was meant.
    fn unused_symbols(&mut self, body: &Body) -> Result<(), Trouble> {
        let mut unused = self.symbols.0.clone();
        for dim in body.nodes.iter().flat_map(|n| n.ty.shape.iter()) {
            for symbol in dim.symbols() {
                unused.remove(symbol.name());
            }
        }
        for (name, offset) in unused {
            let message = format!("the symbol `{}` stands in no slot", shown(&name));
            self.note(Trouble { offset, message })?;
        }
        Ok(())
    }

    /// Moves to the separator behind the slot: one that stands outside of brackets.
    fn skip_slot(&mut self) {
        let mut depth = 0usize;
        for (i, c) in self.cursor.rest().char_indices() {
            match c {
                '[' | '(' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                ')' if depth > 0 => depth -= 1,
                ',' | ';' | ')' if depth == 0 => return self.cursor.advance(i),
                '{' | '}' => return self.cursor.advance(i),
                _ => {}
            }
        }
        self.cursor.advance(self.cursor.rest().len());
    }

    fn slot(&mut self, environment: &mut Environment, body: &mut Body) -> Result<Slot, Trouble> {
        let trainable = self.cursor.eat_word("param");
        let kept = !trainable && self.cursor.eat_word("state");
        self.cursor.blank();
        let start = self.cursor.clone();
        if !self.cursor.eat("%") {
            return Err(self.cursor.expected("a slot such as `%x: f32[2]`"));
        }
        let name = self.cursor.name("the name of a slot")?.into_owned();
        let key = ValueName::Name(name.clone());
        if environment.values.insert(key, None).is_some() {
            let name = shown(&name);
            return Err(start.trouble(format!("the slot `{name}` is declared twice")));
        }
        self.cursor.blank();
        self.cursor.expect(":")?;
        self.cursor.blank();
        let ty = ty(&mut self.cursor, &self.symbols)?;
        self.cursor.blank();
        let role = if trainable || kept {
            self.cursor.expect("=")?;
            self.cursor.blank();
            let init = self.initialiser()?;
            if trainable {
                Role::Param(init)
            } else {
                Role::State(init)
            }
        } else {
            Role::Input
        };
        let provenance = self.provenance_at(start.offset());
        let source = Node {
            op: Source { ty: ty.clone() }.into(),
            operands: Vec::new(),
            ty,
            provenance,
        };
        let node = body.push(source, start.offset());
        environment
            .values
            .insert(ValueName::Name(name.clone()), Some(node));
        Ok(Slot { name, role, node })
    }

    fn initialiser(&mut self) -> Result<Init, Trouble> {
        let start = self.cursor.clone();
        let rest = self.cursor.rest();
        // An initialiser ends with its parenthesis, on its line.
        let end = rest.find([')', '\n']).map_or(rest.len(), |end| end + 1);
        let init = rest[..end]
            .trim_end()
            .parse()
            .map_err(|error: UnknownInit| start.trouble(error.to_string()))?;
        self.cursor.advance(end);
        Ok(init)
    }
}
