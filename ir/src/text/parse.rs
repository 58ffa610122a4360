//! The parser. It reports every mistake it can tell apart: after one it goes on behind the end of the line, and what the
//! broken line would have defined is poisoned, so that its users add no further message.

use super::VERSION;
use super::cursor::{Cursor, ParseError, ParseErrors, Places, Trouble, shown};
use super::value::Resources;
use crate::graph::{Graph, Output, Update};
use crate::ops::Dense;
use crate::verify::{Place, verify};
use std::sync::Arc;

mod body;
mod signature;

use body::{Body, Environment};
pub(super) use signature::Symbols;

/// More mistakes than a person reads; the parse stops here.
const MOST_ERRORS: usize = 64;

/// The graph of a text.
pub(super) fn parse(file: &str, text: &str) -> Result<Graph, ParseErrors> {
    let mut parser = Parser {
        cursor: Cursor::new(text),
        file: file.into(),
        places: Places::new(text),
        troubles: Vec::new(),
        symbols: Symbols::default(),
        resources: Resources::new(),
        depth: 0,
    };
    let parsed = parser.file();
    let mut troubles = parser.troubles;
    let graph = match parsed {
        Ok((graph, origins)) if troubles.is_empty() => {
            troubles = violations(&graph, &origins);
            Some(graph)
        }
        Ok(_) => None,
        Err(trouble) => {
            troubles.push(trouble);
            None
        }
    };
    match graph {
        Some(graph) if troubles.is_empty() => Ok(graph),
        Some(_) | None => Err(located(text, troubles)),
    }
}

fn located(text: &str, mut troubles: Vec<Trouble>) -> ParseErrors {
    troubles.sort_by_key(|t| t.offset);
    let mut places = Places::new(text);
    let errors = troubles.into_iter().map(|trouble| {
        let (line, column) = places.at(trouble.offset);
        ParseError {
            line,
            column,
            message: trouble.message,
        }
    });
    ParseErrors(errors.collect())
}

/// Where each part of the graph stands in the text.
#[derive(Default)]
struct Offsets {
    head: usize,
    slots: Vec<usize>,
    nodes: Vec<usize>,
    outputs: Vec<usize>,
    updates: Vec<usize>,
}

/// What the verifier finds, at the lines where it stands.
fn violations(graph: &Graph, offsets: &Offsets) -> Vec<Trouble> {
    let Err(violations) = verify(graph) else {
        return Vec::new();
    };
    let found = violations.0.into_iter().take(MOST_ERRORS).map(|v| {
        let offset = match v.place {
            Place::Graph => Some(&offsets.head),
            Place::Node(id) => offsets.nodes.get(id.index()),
            Place::Slot(i) => offsets.slots.get(i),
            Place::Output(i) => offsets.outputs.get(i),
            Place::Update(i) => offsets.updates.get(i),
        };
        Trouble {
            offset: offset.copied().unwrap_or(offsets.head),
            message: v.message,
        }
    });
    found.collect()
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    file: Arc<str>,
    places: Places<'t>,
    troubles: Vec<Trouble>,
    symbols: Symbols,
    resources: Resources<'t>,
    /// How many regions are around what is read.
    depth: usize,
}

impl<'t> Parser<'t> {
    /// Notes a mistake and goes on behind the line. An error where there have been too many.
    fn recover(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.note(trouble)?;
        self.cursor.skip_line();
        Ok(())
    }

    fn note(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if self.troubles.len() + 1 >= MOST_ERRORS {
            return Err(Trouble {
                offset: trouble.offset,
                message: format!(
                    "{}; too many mistakes, the rest is not read",
                    trouble.message
                ),
            });
        }
        self.troubles.push(trouble);
        Ok(())
    }

    fn file(&mut self) -> Result<(Graph, Offsets), Trouble> {
        self.cursor.gap();
        self.version()?;
        self.cursor.gap();
        let graph_start = self.cursor.clone();
        self.resource_table()?;
        self.cursor = graph_start;
        let parsed = self.graph()?;
        self.cursor.gap();
        if self.cursor.eat_word("resources") {
            // Read before the graph; here only to see what stands behind it.
            self.skip_table();
            self.cursor.gap();
        }
        if self.cursor.peek().is_some() {
            let trouble = self.cursor.expected("the end of the text");
            self.note(trouble)?;
        }
        Ok(parsed)
    }

    fn version(&mut self) -> Result<(), Trouble> {
        if !self.cursor.eat_word("kiln") {
            return Err(self
                .cursor
                .expected("`kiln 1`, which names the version of the text"));
        }
        self.cursor.space();
        let start = self.cursor.clone();
        let digits = self.cursor.digits();
        match digits.parse::<u32>() {
            Ok(version) if (1..=VERSION).contains(&version) => self.cursor.end_of_line(),
            Ok(0) | Err(_) => Err(start.clone().expected("the number of a version from 1")),
            Ok(version) => Err(start.trouble(format!(
                "this is a text of version {version}; this Kiln reads versions up to {VERSION}, so a newer Kiln is needed"
            ))),
        }
    }

    /// Reads the table behind the graph, which no line of a graph can be mistaken for, so that node lines can use it.
    fn resource_table(&mut self) -> Result<(), Trouble> {
        while !self.cursor.eat_word("resources") {
            if self.cursor.peek().is_none() {
                return Ok(());
            }
            self.cursor.skip_line();
        }
        if let Err(trouble) = self
            .cursor
            .expect("{")
            .and_then(|()| self.cursor.end_of_line())
        {
            self.recover(trouble)?;
        }
        loop {
            self.cursor.gap();
            if self.cursor.eat("}") {
                return Ok(());
            }
            if self.cursor.peek().is_none() {
                let trouble = self.cursor.expected("`}` behind the resources");
                return self.note(trouble);
            }
            if let Err(trouble) = self.resource() {
                self.recover(trouble)?;
            }
        }
    }

    fn skip_table(&mut self) {
        self.cursor.skip_line();
        loop {
            self.cursor.gap();
            if self.cursor.eat("}") || self.cursor.peek().is_none() {
                return;
            }
            self.cursor.skip_line();
        }
    }

    fn resource(&mut self) -> Result<(), Trouble> {
        let start = self.cursor.clone();
        if !self.cursor.eat("@") {
            return Err(self.cursor.expected("a resource such as `@r0 = 0x00`"));
        }
        let name = self.cursor.word("the name of a resource")?;
        self.cursor.expect("=")?;
        self.cursor.space();
        let digits_start = self.cursor.clone();
        self.cursor.expect("0x")?;
        let data = Dense::from_hex(self.cursor.number()).ok_or_else(|| {
            digits_start.trouble("expected two hexadecimal digits for each byte behind `0x`")
        })?;
        if self.resources.insert(name, data).is_some() {
            let name = shown(name);
            return Err(start.trouble(format!("the resource `@{name}` is defined twice")));
        }
        self.cursor.end_of_line()
    }

    fn graph(&mut self) -> Result<(Graph, Offsets), Trouble> {
        let mut offsets = Offsets {
            head: self.cursor.offset(),
            ..Offsets::default()
        };
        if !self.cursor.eat_word("graph") {
            return Err(self.cursor.expected("`graph`"));
        }
        self.cursor.expect("@")?;
        let name = self.cursor.name("the name of the graph")?.into_owned();
        let mut environment = Environment::default();
        let mut body = Body::default();
        let mut slots = Vec::new();
        self.declared_symbols()?;
        self.signature(&mut environment, &mut body, &mut slots, &mut offsets)?;
        self.body(&mut environment, &mut body)?;
        let mut graph = Graph::empty(&name);
        self.results(&environment, &mut graph, &mut offsets)?;
        body.nodes.into_iter().for_each(|node| {
            graph.push(node);
        });
        slots.into_iter().for_each(|slot| graph.push_slot(slot));
        offsets.nodes = body.offsets;
        Ok((graph, offsets))
    }

    /// `return` and `update` lines, and the closing brace.
    fn results(
        &mut self,
        environment: &Environment,
        graph: &mut Graph,
        offsets: &mut Offsets,
    ) -> Result<(), Trouble> {
        let mut returned = false;
        loop {
            self.cursor.gap();
            if self.cursor.eat("}") {
                return self.cursor.end_of_line();
            }
            if self.cursor.peek().is_none() {
                return Err(self.cursor.expected("`}` behind the graph"));
            }
            let start = self.cursor.clone();
            let line = if self.cursor.eat_word("return") {
                if returned {
                    Err(start.trouble("a graph has one `return`; separate its outputs by commas"))
                } else {
                    returned = true;
                    self.outputs(environment, graph, offsets)
                }
            } else if self.cursor.eat_word("update") {
                self.update(environment, graph, offsets)
            } else if self.cursor.peek() == Some('%') {
                Err(self
                    .cursor
                    .trouble("nodes stand before `return` and `update`"))
            } else {
                Err(self
                    .cursor
                    .expected("a node such as `%0: f32[2] = exp %x`, `return`, `update` or `}`"))
            };
            if let Err(trouble) = line {
                self.recover(trouble)?;
            }
        }
    }

    fn outputs(
        &mut self,
        environment: &Environment,
        graph: &mut Graph,
        offsets: &mut Offsets,
    ) -> Result<(), Trouble> {
        let mut position = 0;
        let mut more = !self.cursor.at_line_end();
        while more {
            offsets.outputs.push(self.cursor.offset());
            let name = if self.cursor.peek() == Some('%') {
                position.to_string()
            } else {
                let name = self.cursor.name("an output such as `loss: %1`")?;
                self.cursor.expect(":")?;
                name.into_owned()
            };
            if let Some(node) = self.value(environment)? {
                graph.push_output(Output { name, node });
            }
            position += 1;
            more = self.cursor.eat(",");
            self.cursor.space();
        }
        self.cursor.end_of_line()
    }

    fn update(
        &mut self,
        environment: &Environment,
        graph: &mut Graph,
        offsets: &mut Offsets,
    ) -> Result<(), Trouble> {
        self.cursor.space();
        offsets.updates.push(self.cursor.offset());
        let target = self.value(environment)?;
        self.cursor.expect(":=")?;
        let value = self.value(environment)?;
        self.cursor.end_of_line()?;
        if let (Some(target), Some(value)) = (target, value) {
            graph.push_update(Update { target, value });
        }
        Ok(())
    }
}
