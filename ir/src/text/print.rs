//! The printer.

use super::cursor::{Name, Quoted, is_bare_file};
use super::labels::Labels;
use super::{TextOptions, VERSION};
use crate::attributes::Value;
use crate::graph::{Graph, Node, Role, Slot};
use crate::ops::Dense;
use crate::provenance::Provenance;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// A signature that is longer than this stands on several lines.
const SIGNATURE_WIDTH: usize = 120;

/// Writes the text of `graph` under `name`.
pub(crate) fn write_graph(
    out: &mut dyn Write,
    graph: &Graph,
    name: &str,
    options: TextOptions,
) -> fmt::Result {
    let mut printer = Printer {
        out,
        options,
        resources: Resources::default(),
    };
    writeln!(printer.out, "kiln {VERSION}")?;
    let labels = Labels::of(graph);
    printer.signature(graph, name)?;
    printer.body(graph, &labels, 1)?;
    printer.results(graph, &labels)?;
    printer.out.write_str("}\n")?;
    printer.table()
}

struct Printer<'o> {
    out: &'o mut dyn Write,
    options: TextOptions,
    resources: Resources,
}

/// Dense data by content: equal data is written once. Numbered in order of first use.
#[derive(Default)]
struct Resources {
    numbers: BTreeMap<Dense, usize>,
    entries: Vec<Dense>,
}

impl Resources {
    fn number(&mut self, data: Dense) -> usize {
        let entries = &mut self.entries;
        *self.numbers.entry(data).or_insert_with_key(|data| {
            entries.push(data.clone());
            entries.len() - 1
        })
    }
}

/// The symbols of the signature, in order of first appearance.
fn symbols(graph: &Graph) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let slots = graph.slots().iter().filter_map(|s| graph.node(s.node));
    for dim in slots.flat_map(|n| n.ty.shape.iter()) {
        for symbol in dim.symbols() {
            if seen.insert(symbol.clone()) {
                found.push(symbol.name().to_owned());
            }
        }
    }
    found
}

fn slot_text(graph: &Graph, slot: &Slot) -> String {
    let ty = graph.node(slot.node).map_or_else(
        || format!("?{}", slot.node.index()),
        |node| node.ty.to_string(),
    );
    let name = Name(&slot.name);
    match &slot.role {
        Role::Input => format!("%{name}: {ty}"),
        Role::Param(init) => format!("param %{name}: {ty} = {init}"),
        Role::State(init) => format!("state %{name}: {ty} = {init}"),
    }
}

impl Printer<'_> {
    fn signature(&mut self, graph: &Graph, name: &str) -> fmt::Result {
        let mut head = format!("graph @{}", Name(name));
        let symbols = symbols(graph);
        if !symbols.is_empty() {
            head += &format!("<{}>", symbols.join(", "));
        }
        let slots = graph.slots();
        let texts: Vec<String> = slots.iter().map(|s| slot_text(graph, s)).collect();
        // A semicolon marks where inputs end and where they begin again.
        let separators: Vec<&str> = slots
            .windows(2)
            .map(|pair| {
                let fed = |s: &Slot| s.role == Role::Input;
                if fed(&pair[0]) == fed(&pair[1]) {
                    ","
                } else {
                    ";"
                }
            })
            .chain([""])
            .collect();
        let width = head.len() + texts.iter().map(|t| t.len() + 2).sum::<usize>() + 2;
        let (open, between, close) = if width <= SIGNATURE_WIDTH {
            ("(", " ", ") {\n")
        } else {
            ("(\n    ", "\n    ", "\n) {\n")
        };
        self.out.write_str(&head)?;
        self.out.write_str(open)?;
        for (i, (text, separator)) in texts.iter().zip(separators).enumerate() {
            let gap = if i == 0 { "" } else { between };
            write!(self.out, "{gap}{text}{separator}")?;
        }
        self.out.write_str(close)
    }

    /// The lines of a body, each indented by `depth` levels.
    fn body(&mut self, graph: &Graph, labels: &Labels, depth: usize) -> fmt::Result {
        for id in labels.lines() {
            if let Some(node) = graph.node(*id) {
                write!(self.out, "{:1$}", "", 2 * depth)?;
                write!(self.out, "{}: {} = ", labels.get(*id), node.ty)?;
                self.node(node, labels, depth)?;
                self.out.write_str("\n")?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, labels: &Labels, depth: usize) -> fmt::Result {
        let rules = node.op.rules();
        self.out.write_str(rules.name())?;
        for (i, operand) in node.operands.iter().enumerate() {
            let separator = if i == 0 { " " } else { ", " };
            write!(self.out, "{separator}{}", labels.get(*operand))?;
        }
        let attributes = rules.attributes();
        for (i, (name, value)) in attributes.iter().enumerate() {
            let separator = if i == 0 { " {" } else { ", " };
            write!(self.out, "{separator}{name} = ")?;
            match value {
                Value::Data(data) => write!(self.out, "@r{}", self.resources.number(data.clone()))?,
                Value::Region(region) => self.region(region, depth)?,
                Value::Word(_)
                | Value::Dims(_)
                | Value::Axes(..)
                | Value::Text(_)
                | Value::Types(_) => {
                    write!(self.out, "{value}")?;
                }
            }
        }
        if !attributes.is_empty() {
            self.out.write_str("}")?;
        }
        if self.options.locations {
            self.place(&node.provenance)?;
        }
        Ok(())
    }

    /// What a region takes, computes and yields; its lines stand one level deeper than the node.
    fn region(&mut self, region: &Graph, depth: usize) -> fmt::Result {
        let labels = Labels::of(region);
        self.out.write_str("^(")?;
        for (i, slot) in region.slots().iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(self.out, "{separator}{}", slot_text(region, slot))?;
        }
        self.out.write_str(") {\n")?;
        self.body(region, &labels, depth + 1)?;
        write!(self.out, "{:1$}yield", "", 2 * (depth + 1))?;
        for (i, output) in region.outputs().iter().enumerate() {
            let separator = if i == 0 { " " } else { ", " };
            write!(self.out, "{separator}{}", labels.get(output.node))?;
        }
        write!(self.out, "\n{:1$}}}", "", 2 * depth)
    }

    fn place(&mut self, provenance: &Provenance) -> fmt::Result {
        let location = &provenance.location;
        if is_bare_file(&location.file) {
            write!(self.out, " @ {}", location.file)?;
        } else {
            write!(self.out, " @ {}", Quoted(&location.file))?;
        }
        write!(self.out, ":{}:{}", location.line, location.column)?;
        if !provenance.scope.is_empty() {
            write!(self.out, " {}", Quoted(&provenance.scope))?;
        }
        Ok(())
    }

    fn results(&mut self, graph: &Graph, labels: &Labels) -> fmt::Result {
        for (i, output) in graph.outputs().iter().enumerate() {
            self.out
                .write_str(if i == 0 { "  return " } else { ", " })?;
            if output.name != i.to_string() {
                write!(self.out, "{}: ", Name(&output.name))?;
            }
            write!(self.out, "{}", labels.get(output.node))?;
        }
        if !graph.outputs().is_empty() {
            self.out.write_str("\n")?;
        }
        for update in graph.updates() {
            let (target, value) = (labels.get(update.target), labels.get(update.value));
            writeln!(self.out, "  update {target} := {value}")?;
        }
        Ok(())
    }

    fn table(&mut self) -> fmt::Result {
        if self.resources.entries.is_empty() {
            return Ok(());
        }
        self.out.write_str("resources {\n")?;
        for (i, data) in self.resources.entries.iter().enumerate() {
            write!(self.out, "  @r{i} = 0x")?;
            data.write_hex(self.out)?;
            self.out.write_str("\n")?;
        }
        self.out.write_str("}\n")
    }
}
