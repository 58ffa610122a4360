//! The parser. It reports every mistake it can tell apart: after one it goes on behind the end of the line, and what the
//! broken line would have defined is poisoned, so that its users add no further message.

use super::VERSION;
use super::cursor::{Cursor, Name, ParseError, ParseErrors, Places, Trouble, shown};
use super::labels::literal_type;
use super::value::{Resources, ty, value};
use crate::attributes::Attributes;
use crate::dim::Dim;
use crate::graph::{Graph, Node, Output, Role, Slot, Update};
use crate::ids::NodeId;
use crate::init::Init;
use crate::ops::{Constant, ConstantValue, Dense, Literal, Op, Source};
use crate::provenance::{Location, Origin, Provenance};
use crate::types::TensorType;
use crate::verify::{Place, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// The symbols that the signature declares.
#[derive(Default)]
pub(super) struct Symbols(BTreeSet<String>);

impl Symbols {
    /// Whether all symbols of a dim are declared; the message if not.
    pub(super) fn check(&self, dim: &Dim) -> Result<(), String> {
        let unknown = dim
            .symbols()
            .into_iter()
            .find(|s| !self.0.contains(s.name()));
        match unknown {
            Some(s) => Err(format!(
                "the symbol `{}` is not declared; declare it in angle brackets behind the graph's name",
                shown(s.name())
            )),
            None => Ok(()),
        }
    }
}

/// How a text names a value: by number, or by a name that may be quoted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ValueName {
    Number(u64),
    Name(String),
}

impl ValueName {
    fn spelling(&self) -> String {
        match self {
            ValueName::Number(number) => format!("%{number}"),
            ValueName::Name(name) => format!("%{}", Name(&shown(name))),
        }
    }
}

/// The names in scope. `None` stands for a value whose line has a mistake.
#[derive(Default)]
struct Environment {
    values: BTreeMap<ValueName, Option<NodeId>>,
    /// Whether names may be missing because what would define them could not be read; they are poisoned then.
    incomplete: bool,
}

/// A list of nodes under construction, and where each stands in the text.
#[derive(Default)]
struct Body {
    nodes: Vec<Node>,
    offsets: Vec<usize>,
}

impl Body {
    fn push(&mut self, node: Node, offset: usize) -> NodeId {
        self.nodes.push(node);
        self.offsets.push(offset);
        NodeId::new(self.nodes.len() - 1)
    }
}

/// An operand as it is written.
enum Operand<'t> {
    Value(NodeId),
    Literal(&'t str, usize),
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    file: Arc<str>,
    places: Places<'t>,
    troubles: Vec<Trouble>,
    symbols: Symbols,
    resources: Resources<'t>,
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

    fn declared_symbols(&mut self) -> Result<(), Trouble> {
        if !self.cursor.eat("<") {
            return Ok(());
        }
        loop {
            self.cursor.space();
            let start = self.cursor.clone();
            let name = self.cursor.word("the name of a symbol")?;
            if !self.symbols.0.insert(name.to_owned()) {
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
    fn signature(
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
        self.cursor.end_of_line()
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
            .map_err(|error: crate::init::UnknownInit| start.trouble(error.to_string()))?;
        self.cursor.advance(end);
        Ok(init)
    }

    /// The node lines of a body, up to the first line that is none.
    fn body(&mut self, environment: &mut Environment, body: &mut Body) -> Result<(), Trouble> {
        loop {
            self.cursor.gap();
            if self.cursor.peek() != Some('%') {
                return Ok(());
            }
            if let Err(trouble) = self.node(environment, body) {
                self.recover(trouble)?;
            }
        }
    }

    fn value_name(&mut self) -> Result<ValueName, Trouble> {
        self.cursor.expect("%")?;
        let start = self.cursor.clone();
        match self.cursor.digits() {
            "" => Ok(ValueName::Name(
                self.cursor
                    .name("the name or number of a value")?
                    .into_owned(),
            )),
            digits => match digits.parse() {
                Ok(number) => Ok(ValueName::Number(number)),
                Err(_) => Err(start.trouble("expected a number below 2^64 as the name of a value")),
            },
        }
    }

    fn node(&mut self, environment: &mut Environment, body: &mut Body) -> Result<(), Trouble> {
        let start = self.cursor.clone();
        let name = self.value_name()?;
        // Poisoned until the line has been read; the earlier meaning of a name that is defined twice is kept.
        if environment.values.contains_key(&name) {
            return Err(start.trouble(format!("`{}` is defined twice", name.spelling())));
        }
        environment.values.insert(name.clone(), None);
        self.cursor.expect(":")?;
        let ty = ty(&mut self.cursor, &self.symbols)?;
        self.cursor.expect("=")?;
        self.cursor.space();
        let op_start = self.cursor.clone();
        let op_name = self.cursor.word("the name of an op")?;
        let operands = self.operands(environment)?;
        let op = self.op(op_name, &op_start, &ty)?;
        let provenance = self.provenance(start.offset())?;
        let operands = operands.map(|list| resolve(list, body, &provenance));
        let operands = operands.transpose()?;
        // Last, so that recovery from any mistake of this line skips this line.
        self.cursor.end_of_line()?;
        let Some(operands) = operands else {
            return Ok(());
        };
        let node = Node {
            op,
            operands,
            ty,
            provenance,
        };
        let id = body.push(node, start.offset());
        environment.values.insert(name, Some(id));
        Ok(())
    }

    /// The operands; `None` where one of them is poisoned.
    fn operands(&mut self, environment: &Environment) -> Result<Option<Vec<Operand<'t>>>, Trouble> {
        let mut operands = Some(Vec::new());
        if matches!(self.cursor.peek(), Some('{' | '@')) || self.cursor.at_line_end() {
            return Ok(operands);
        }
        loop {
            let operand = if self.cursor.peek() == Some('%') {
                self.value(environment)?.map(Operand::Value)
            } else {
                let offset = self.cursor.offset();
                match self.cursor.number() {
                    "" => {
                        return Err(self
                            .cursor
                            .expected("an operand: a value such as `%0`, or a number"));
                    }
                    word => Some(Operand::Literal(word, offset)),
                }
            };
            operands = operands.zip(operand).map(|(mut list, operand)| {
                list.push(operand);
                list
            });
            if !self.cursor.eat(",") {
                return Ok(operands);
            }
        }
    }

    /// A value that is in scope; `None` where it is poisoned.
    fn value(&mut self, environment: &Environment) -> Result<Option<NodeId>, Trouble> {
        self.cursor.space();
        let start = self.cursor.clone();
        let name = self.value_name()?;
        match environment.values.get(&name) {
            Some(value) => Ok(*value),
            None if environment.incomplete => Ok(None),
            None => Err(start.trouble(format!("`{}` is not defined above", name.spelling()))),
        }
    }

    fn op(&mut self, name: &str, start: &Cursor<'t>, ty: &TensorType) -> Result<Op, Trouble> {
        let mut attributes = Attributes::none();
        let mut places: BTreeMap<&str, Cursor<'t>> = BTreeMap::new();
        if self.cursor.eat("{") && !self.cursor.eat("}") {
            loop {
                self.cursor.space();
                let at = self.cursor.clone();
                let key = self.cursor.word("the name of an attribute")?;
                self.cursor.expect("=")?;
                let value = value(&mut self.cursor, &self.symbols, &self.resources)?;
                if places.insert(key, at.clone()).is_some() {
                    let key = shown(key);
                    return Err(at.trouble(format!("the attribute `{key}` is given twice")));
                }
                attributes = attributes.with(key, value);
                if self.cursor.eat("}") {
                    break;
                }
                if !self.cursor.eat(",") {
                    return Err(self.cursor.expected("`,` or `}`"));
                }
            }
        }
        let Some(parsed) = Op::parse(name, &mut attributes, ty) else {
            return Err(start.trouble(format!("no op is called `{}`", shown(name))));
        };
        let op = parsed.map_err(|error| {
            let at = places.get(error.name.as_str()).unwrap_or(start);
            at.trouble(format!("`{name}`: {error}"))
        })?;
        match attributes.iter().next() {
            Some((left, _)) => {
                let at = places.get(left).unwrap_or(start);
                let left = shown(left);
                Err(at.trouble(format!("`{name}` has no attribute `{left}`")))
            }
            None => Ok(op),
        }
    }

    /// The place that the line names, or the line's own.
    fn provenance(&mut self, offset: usize) -> Result<Provenance, Trouble> {
        if !self.cursor.eat("@") {
            return Ok(self.provenance_at(offset));
        }
        let quoted = self.cursor.peek() == Some('"');
        let start = self.cursor.clone();
        let file = if quoted {
            self.cursor.quoted()?
        } else {
            String::new()
        };
        let rest = self.cursor.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let mut parts = rest[..end].rsplitn(3, ':');
        let column = parts.next().and_then(|n| n.parse().ok());
        let line = parts.next().and_then(|n| n.parse().ok());
        let before = parts.next().filter(|bare| bare.is_empty() == quoted);
        let (Some(column), Some(line), Some(before)) = (column, line, before) else {
            return Err(start.trouble("expected a place such as `model.rs:12:15` behind `@`"));
        };
        self.cursor.advance(end);
        let file = if quoted { file.into() } else { before.into() };
        let scope = if self.cursor.peek() == Some('"') {
            self.cursor.quoted()?
        } else {
            String::new()
        };
        Ok(Provenance {
            location: Location { file, line, column },
            scope: scope.into(),
            origin: Origin::User,
        })
    }

    /// The provenance of something that stands at `offset`, which is not before the one asked for last.
    fn provenance_at(&mut self, offset: usize) -> Provenance {
        let (line, column) = self.places.at(offset);
        Provenance {
            location: Location {
                file: self.file.clone(),
                line,
                column,
            },
            scope: "".into(),
            origin: Origin::User,
        }
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

/// The operands as nodes: each literal becomes a constant of its own.
fn resolve(
    operands: Vec<Operand<'_>>,
    body: &mut Body,
    provenance: &Provenance,
) -> Result<Vec<NodeId>, Trouble> {
    let nodes = operands.iter().map(|operand| match operand {
        Operand::Value(id) => body.nodes.get(id.index()),
        Operand::Literal(..) => None,
    });
    let ty = literal_type(nodes).cloned();
    let mut ids = Vec::with_capacity(operands.len());
    for operand in operands {
        ids.push(match operand {
            Operand::Value(id) => id,
            Operand::Literal(word, offset) => {
                let constant =
                    literal(word, ty.as_ref()).map_err(|message| Trouble { offset, message })?;
                let node = Node {
                    ty: constant.ty.clone(),
                    op: constant.into(),
                    operands: Vec::new(),
                    provenance: provenance.clone(),
                };
                body.push(node, offset)
            }
        });
    }
    Ok(ids)
}

/// The constant that a literal stands for, given the type of the operand beside it.
fn literal(word: &str, ty: Option<&TensorType>) -> Result<Constant, String> {
    let Some(ty) = ty else {
        return Err(
            "a literal takes its type from an operand that is no constant, and there is none; write the constant on a line of its own"
                .into(),
        );
    };
    let literal = Literal::parse(ty.dtype, word).ok_or_else(|| {
        let (expected, found) = (Literal::expected(ty.dtype), shown(word));
        format!("expected {expected}, found `{found}`")
    })?;
    Ok(Constant {
        ty: ty.clone(),
        value: ConstantValue::Splat(literal),
    })
}
