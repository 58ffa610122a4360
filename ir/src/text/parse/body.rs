//! Node lines: names in scope, operands, attributes and places.
//!
//! A body is a list of nodes in an environment of names. The body of a graph is one; a region of a control op is another, in an
//! environment that begins with what it captures.

use super::super::cursor::{Cursor, Name, Trouble, shown};
use super::super::labels::{REGION_NAME, literal_type};
use super::super::value::{ty, value};
use super::Parser;
use crate::attributes::{Attributes, Value};
use crate::graph::{Graph, Node, Output, Role, Slot};
use crate::ids::NodeId;
use crate::ops::{Constant, ConstantValue, DEEPEST_REGION, Literal, Op, Region, Source};
use crate::provenance::{Location, Origin, Provenance};
use crate::types::TensorType;
use std::collections::BTreeMap;

/// How a text names a value: by number, or by a name that may be quoted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueName {
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
pub(super) struct Environment {
    pub(super) values: BTreeMap<ValueName, Option<NodeId>>,
    /// Whether names may be missing because what would define them could not be read; they are poisoned then.
    pub(super) incomplete: bool,
}

/// A list of nodes under construction, and where each stands in the text.
#[derive(Default)]
pub(super) struct Body {
    pub(super) nodes: Vec<Node>,
    pub(super) offsets: Vec<usize>,
}

impl Body {
    pub(super) fn push(&mut self, node: Node, offset: usize) -> NodeId {
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

impl<'t> Parser<'t> {
    /// The node lines of a body, up to the first line that is none.
    pub(super) fn body(
        &mut self,
        environment: &mut Environment,
        body: &mut Body,
    ) -> Result<(), Trouble> {
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
    pub(super) fn value(&mut self, environment: &Environment) -> Result<Option<NodeId>, Trouble> {
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
                let value = if self.cursor.peek() == Some('^') {
                    Value::Region(self.region()?)
                } else {
                    value(&mut self.cursor, &self.symbols, &self.resources)?
                };
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

    /// A region: what it takes, its lines, and what it yields.
    fn region(&mut self) -> Result<Region, Trouble> {
        self.cursor.space();
        let start = self.cursor.clone();
        if self.depth >= DEEPEST_REGION {
            return Err(start.trouble(format!(
                "regions within regions, more than {DEEPEST_REGION} deep"
            )));
        }
        self.depth += 1;
        let region = self.region_at(&start);
        self.depth -= 1;
        region
    }

    fn region_at(&mut self, start: &Cursor<'t>) -> Result<Region, Trouble> {
        self.cursor.expect("^")?;
        self.cursor.expect("(")?;
        let mut environment = Environment::default();
        let mut body = Body::default();
        let mut graph = Graph::empty(REGION_NAME);
        let mut slots = Vec::new();
        self.cursor.space();
        let mut more = !self.cursor.eat(")");
        while more {
            self.cursor.space();
            let at = self.cursor.clone();
            let name = self.value_name()?;
            let ValueName::Name(spelled) = &name else {
                return Err(at.trouble("what a region takes has names, such as `%x`"));
            };
            let spelled = spelled.clone();
            self.cursor.expect(":")?;
            let ty = ty(&mut self.cursor, &self.symbols)?;
            let provenance = self.provenance_at(start.offset());
            let node = body.push(
                Node {
                    op: Source { ty: ty.clone() }.into(),
                    operands: Vec::new(),
                    ty,
                    provenance,
                },
                at.offset(),
            );
            if environment.values.insert(name, Some(node)).is_some() {
                return Err(at.trouble("the region takes two values of this name"));
            }
            let role = Role::Input;
            let name = spelled;
            slots.push(Slot { name, role, node });
            more = self.cursor.eat(",");
            if !more {
                self.cursor.expect(")")?;
            }
        }
        self.cursor.expect("{")?;
        self.cursor.end_of_line()?;
        self.body(&mut environment, &mut body)?;
        if !self.cursor.eat_word("yield") {
            return Err(self
                .cursor
                .expected("a node such as `%0: f32[2] = exp %x`, or `yield`"));
        }
        let mut outputs = Vec::new();
        let mut more = !self.cursor.at_line_end();
        while more {
            outputs.extend(self.value(&environment)?);
            more = self.cursor.eat(",");
        }
        self.cursor.end_of_line()?;
        self.cursor.gap();
        self.cursor.expect("}")?;
        for node in body.nodes {
            graph.push(node);
        }
        slots.into_iter().for_each(|slot| graph.push_slot(slot));
        for (position, node) in outputs.into_iter().enumerate() {
            let name = position.to_string();
            graph.push_output(Output { name, node });
        }
        Ok(Region::new(graph))
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
    pub(super) fn provenance_at(&mut self, offset: usize) -> Provenance {
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
