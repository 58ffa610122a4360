//! The verifier: what holds of every graph that Kiln accepts.
//!
//! A graph that was read from a file is checked before anybody sees it, and the compiler checks what each pass returns. All violations are
//! reported, each once. The invariants, by the names of [`Invariant`]:
//!
//! - **Size**: there are fewer than 2^32 - 1 nodes, so that every id names one node.
//! - **Operands**: every operand is an earlier node of the graph.
//! - **Types**: an extent that is a number is not negative; a type has at most 32 axes and 2^63 bytes; every extent, in types and in
//!   attributes, prints to text that reads back (bounded nesting, degree and number of terms; symbols are identifiers).
//! - **Rule**: the type of a node is the one that its op's shape rule gives for the types of its operands. The rule also checks the number
//!   of operands and the attributes, that a literal is a number of its type, and that dense data fills its shape.
//! - **Parts**: a `part` is of an op of several results and has the type of that result; nothing else uses such an op.
//!   The rule of a control op verifies its regions, whose symbols count as its own; regions are at most 16 deep.
//! - **Sources**: the node of a slot is a source, and every source is the node of exactly one slot.
//! - **Names**: no two slots have one name, and no two outputs.
//! - **Initialisers**: `uniform` and `normal` have finite numbers, in order and not negative in deviation.
//! - **Outputs**: the node of an output is a node of the graph.
//! - **Updates**: the target of an update is the node of a param or a state and of no other update, its value is a node of the graph, and
//!   both have one type.
//! - **Symbols**: every symbol that occurs, in a type or in an attribute, has its number from a slot: an extent that is `n*symbol + m` with
//!   numbers `n` and `m`.
//!
//! The verifier does not panic, whatever the graph, and it asks a shape rule only about operands that exist and types that are bounded.
//! It does not judge what a graph is for: dead nodes, unused slots and states without updates are fine.

use crate::attributes::Value;
use crate::dim::{Dim, Symbol};
use crate::graph::{Graph, Node, Role};
use crate::ids::NodeId;
use crate::ops::{self, DEEPEST_REGION, Op};
use crate::provenance::Location;
use crate::text::Labels;
use crate::types::TensorType;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The invariants, as the module's documentation explains them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Invariant {
    Size,
    Operands,
    Types,
    Rule,
    Parts,
    Sources,
    Names,
    Initialisers,
    Outputs,
    Updates,
    Symbols,
}

/// The part of a graph that a violation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The graph as a whole.
    Graph,
    /// The slot at this position.
    Slot(usize),
    /// A node.
    Node(NodeId),
    /// The output at this position.
    Output(usize),
    /// The update at this position.
    Update(usize),
}

/// One invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Of what.
    pub place: Place,
    /// The place in words, as the text form spells it: "node %3 (dot)".
    pub subject: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The user's line, where a node or a slot is at fault.
    pub location: Option<Location>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)?;
        match &self.location {
            Some(location) => write!(f, " (from {location})"),
            None => Ok(()),
        }
    }
}

/// Everything that does not hold of a graph; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, violation) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(violation, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Checks every invariant of `graph`.
pub fn verify(graph: &Graph) -> Result<(), Violations> {
    verify_as(graph, true)
}

/// Checks the graph of a region: every invariant but that of its symbols, which have their numbers from the graph around it.
pub(crate) fn verify_region(graph: &Graph) -> Result<(), Violations> {
    verify_as(graph, false)
}

fn verify_as(graph: &Graph, whole: bool) -> Result<(), Violations> {
    let mut check = Check {
        graph,
        results: BTreeMap::new(),
        found: Vec::new(),
    };
    check.size();
    if whole {
        check.depth();
        if !check.found.is_empty() {
            return Err(check.described());
        }
    }
    check.slots();
    check.nodes();
    check.parts();
    check.outputs();
    check.updates();
    if whole {
        check.symbols();
    }
    if check.found.is_empty() {
        return Ok(());
    }
    Err(check.described())
}

fn describe(graph: &Graph, labels: &Labels, place: Place) -> (String, Option<Location>) {
    let from = |id: NodeId| graph.node(id).map(|n| n.provenance.location.clone());
    match place {
        Place::Graph => (format!("graph `{}`", graph.name), None),
        Place::Slot(i) => graph.slots().get(i).map_or_else(Default::default, |slot| {
            (format!("slot `{}`", slot.name), from(slot.node))
        }),
        Place::Node(id) => {
            let name = graph.node(id).map_or("?", |n| n.op.rules().name());
            (format!("node {} ({name})", labels.get(id)), from(id))
        }
        Place::Output(i) => graph
            .outputs()
            .get(i)
            .map_or_else(Default::default, |o| (format!("output `{}`", o.name), None)),
        Place::Update(i) => graph.updates().get(i).map_or_else(Default::default, |u| {
            (format!("update of {}", labels.get(u.target)), None)
        }),
    }
}

struct Check<'g> {
    graph: &'g Graph,
    /// The types of the results of each compound op that fits its operands. To find them verifies its regions, so it is done once: the
    /// work would grow with the depth as a power otherwise.
    results: BTreeMap<NodeId, Vec<TensorType>>,
    found: Vec<(Place, Invariant, String)>,
}

impl Check<'_> {
    fn report(&mut self, place: Place, invariant: Invariant, message: impl Into<String>) {
        self.found.push((place, invariant, message.into()));
    }

    fn described(self) -> Violations {
        let mut found = self.found;
        found.sort_by_key(|(place, _, _)| *place);
        let labels = Labels::of(self.graph);
        let described = found.into_iter().map(|(place, invariant, message)| {
            let (subject, location) = describe(self.graph, &labels, place);
            Violation {
                invariant,
                place,
                subject,
                message,
                location,
            }
        });
        Violations(described.collect())
    }

    /// Before anything else, because every other check descends.
    fn depth(&mut self) {
        if is_deeper(self.graph, DEEPEST_REGION) {
            let message = format!("its regions are more than {DEEPEST_REGION} deep");
            self.report(Place::Graph, Invariant::Size, message);
        }
    }

    fn parts(&mut self) {
        let graph = self.graph;
        let compound = |id: &NodeId| graph.node(*id).filter(|n| n.op.as_compound().is_some());
        for (id, node) in graph.nodes() {
            let place = Place::Node(id);
            let Op::Part(part) = &node.op else {
                if node.operands.iter().any(|o| compound(o).is_some()) {
                    let message =
                        "it uses an op of several results as a whole; a `part` of it is one value";
                    self.report(place, Invariant::Parts, message);
                }
                continue;
            };
            let of = node.operands.first().copied();
            let Some(of) = of.filter(|of| compound(of).is_some()) else {
                let message = "its operand is no op of several results";
                self.report(place, Invariant::Parts, message);
                continue;
            };
            // An op that does not fit its operands has its own message.
            let Some(results) = self.results.get(&of) else {
                continue;
            };
            let message = match results.get(part.index) {
                Some(ty) if *ty == node.ty => continue,
                Some(ty) => format!("result {} is {ty}, not {}", part.index, node.ty),
                None => format!("there is no result {} of {}", part.index, results.len()),
            };
            self.report(place, Invariant::Parts, message);
        }
        for (i, output) in graph.outputs().iter().enumerate() {
            if compound(&output.node).is_some() {
                let message = "the op has several results; a `part` of it is one value";
                self.report(Place::Output(i), Invariant::Parts, message);
            }
        }
        for (i, update) in graph.updates().iter().enumerate() {
            if compound(&update.value).is_some() {
                let message = "the op has several results; a `part` of it is one value";
                self.report(Place::Update(i), Invariant::Parts, message);
            }
        }
    }

    fn size(&mut self) {
        if u32::try_from(self.graph.len()).is_ok_and(|n| n < u32::MAX) {
            return;
        }
        let message = format!("{} nodes are too many; ids have 32 bits", self.graph.len());
        self.report(Place::Graph, Invariant::Size, message);
    }

    fn slots(&mut self) {
        let graph = self.graph;
        let mut names = BTreeSet::new();
        let mut owners = BTreeSet::new();
        for (i, slot) in graph.slots().iter().enumerate() {
            let place = Place::Slot(i);
            if !names.insert(slot.name.as_str()) {
                let message = "another slot has the name; a name is given once";
                self.report(place, Invariant::Names, message);
            }
            match graph.node(slot.node).map(|n| &n.op) {
                Some(Op::Source(_)) => {
                    if !owners.insert(slot.node) {
                        let message = "another slot has the same source; each needs its own";
                        self.report(place, Invariant::Sources, message);
                    }
                }
                Some(other) => {
                    let name = other.rules().name();
                    let message = format!("its node is a `{name}`, not a source");
                    self.report(place, Invariant::Sources, message);
                }
                None => self.report(place, Invariant::Sources, "its node does not exist"),
            }
            let trouble = match (&slot.role, graph.node(slot.node)) {
                (Role::Param(init) | Role::State(init), Some(node)) => init.trouble(&node.ty),
                (Role::Input, _) | (_, None) => None,
            };
            if let Some(why) = trouble {
                self.report(place, Invariant::Initialisers, why);
            }
        }
        for (id, node) in graph.nodes() {
            if matches!(node.op, Op::Source(_)) && !owners.contains(&id) {
                let message = "a source that is no slot; it would never have a value";
                self.report(Place::Node(id), Invariant::Sources, message);
            }
        }
    }

    fn nodes(&mut self) {
        let graph = self.graph;
        let mut bounded = Vec::with_capacity(graph.len());
        for (id, node) in graph.nodes() {
            let place = Place::Node(id);
            let trouble = node.ty.trouble().or_else(|| {
                let unreadable = |d: &Dim| Some(format!("`{d}`: {}", d.unreadable()?));
                attribute_dims(node).iter().find_map(unreadable)
            });
            bounded.push(trouble.is_none());
            if let Some(why) = trouble {
                self.report(place, Invariant::Types, why);
            }
            let mut types = Some(Vec::new());
            for (i, operand) in node.operands.iter().enumerate() {
                if *operand < id {
                    // Of a bad type the rule is not asked: that mistake has its message.
                    let ty = graph.node(*operand).filter(|_| bounded[operand.index()]);
                    types = types.zip(ty).map(|(mut types, node)| {
                        types.push(&node.ty);
                        types
                    });
                } else {
                    types = None;
                    let why = if graph.node(*operand).is_some() {
                        "is not an earlier node; nodes stand behind what they use"
                    } else {
                        "does not exist"
                    };
                    let message = format!("operand {i} {why}");
                    self.report(place, Invariant::Operands, message);
                }
            }
            if let (Some(types), true) = (types, bounded[id.index()]) {
                self.rule(id, node, &types);
            }
        }
    }

    fn rule(&mut self, id: NodeId, node: &Node, types: &[&TensorType]) {
        let rules = node.op.rules();
        let inferred = match node.op.as_compound() {
            None => rules.infer(types),
            // What its `infer` would give, and the others beside it.
            Some(compound) => compound.results(types).and_then(|results| {
                let first = ops::first_result(results.clone());
                self.results.insert(id, results);
                first
            }),
        };
        let message = match inferred {
            Ok(ty) if ty == node.ty => return,
            Ok(ty) => format!("the type is {}, but `{}` gives {ty}", node.ty, rules.name()),
            Err(refusal) => match refusal.help {
                Some(help) => format!("{}; {help}", refusal.message),
                None => refusal.message,
            },
        };
        self.report(Place::Node(id), Invariant::Rule, message);
    }

    fn outputs(&mut self) {
        let graph = self.graph;
        let mut names = BTreeSet::new();
        for (i, output) in graph.outputs().iter().enumerate() {
            let place = Place::Output(i);
            if !names.insert(output.name.as_str()) {
                let message = "another output has the name; a name is given once";
                self.report(place, Invariant::Names, message);
            }
            if graph.node(output.node).is_none() {
                self.report(place, Invariant::Outputs, "its node does not exist");
            }
        }
    }

    fn updates(&mut self) {
        let graph = self.graph;
        let roles: BTreeMap<NodeId, &Role> =
            graph.slots().iter().map(|s| (s.node, &s.role)).collect();
        let mut targets = BTreeSet::new();
        for (i, update) in graph.updates().iter().enumerate() {
            let place = Place::Update(i);
            if matches!(roles.get(&update.target), None | Some(Role::Input)) {
                let message = "the target is neither a param nor a state";
                self.report(place, Invariant::Updates, message);
            }
            if !targets.insert(update.target) {
                let message = "the target is updated twice; one value remains";
                self.report(place, Invariant::Updates, message);
            }
            match (graph.node(update.target), graph.node(update.value)) {
                (_, None) => self.report(place, Invariant::Updates, "its value does not exist"),
                (Some(target), Some(value)) if target.ty != value.ty => {
                    let message = format!("the value is {}, the target {}", value.ty, target.ty);
                    self.report(place, Invariant::Updates, message);
                }
                (None | Some(_), Some(_)) => {}
            }
        }
    }

    fn symbols(&mut self) {
        let graph = self.graph;
        let slots = graph.slots().iter().filter_map(|s| graph.node(s.node));
        let bound: BTreeSet<Symbol> = slots
            .flat_map(|n| n.ty.shape.iter())
            .filter_map(|d| d.linear().map(|(symbol, _, _)| symbol))
            .collect();
        let mut unbound = BTreeSet::new();
        for (id, node) in graph.nodes() {
            let own = attribute_dims(node);
            for dim in node.ty.shape.iter().chain(&own) {
                // The symbols of a dim that is too deep are not walked; it has its message.
                if dim.unreadable().is_some() {
                    continue;
                }
                for symbol in dim.symbols() {
                    if !bound.contains(&symbol) && unbound.insert(symbol.clone()) {
                        let message = format!(
                            "the symbol `{symbol}` has no number: an extent of some slot must be `{symbol}`, or a multiple of it plus a number"
                        );
                        self.report(Place::Node(id), Invariant::Symbols, message);
                    }
                }
            }
        }
    }
}

/// The dims among a node's attributes, those within its regions included.
fn attribute_dims(node: &Node) -> Vec<Dim> {
    let attributes = node.op.rules().attributes();
    let dims = attributes.iter().flat_map(|(_, value)| match value {
        Value::Dims(dims) => dims.clone(),
        Value::Region(region) => {
            let inside = region.nodes().flat_map(|(_, node)| {
                let own = node.ty.shape.iter().cloned();
                own.chain(attribute_dims(node)).collect::<Vec<Dim>>()
            });
            inside.collect()
        }
        Value::Types(types) => types
            .iter()
            .flat_map(|ty| ty.shape.iter().cloned())
            .collect(),
        Value::Word(_) | Value::Axes(..) | Value::Text(_) | Value::Data(_) => Vec::new(),
    });
    dims.collect()
}

/// Whether regions lie within regions more than `limit` times.
fn is_deeper(graph: &Graph, limit: usize) -> bool {
    let regions = |node: &Node| {
        let compound = node.op.as_compound();
        compound.map_or(Vec::new(), |c| c.regions().into_iter().cloned().collect())
    };
    let mut nodes = graph.nodes();
    nodes.any(|(_, node)| {
        let mut inside = regions(node).into_iter();
        inside.any(|region| limit == 0 || is_deeper(&region, limit - 1))
    })
}
