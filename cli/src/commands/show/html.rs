//! The page of `kiln show --format html`: signature, groups, memory plan and kernels of a graph, in one file that needs nothing else.
//!
//! Names and texts come from files, so that everything but the page's own tags goes through [`Escaped`].

use super::drawing::{Drawing, drawing};
use kiln_compiler::fusion::{Group, Level};
use kiln_compiler::{CompileError, Inspection, Options, Stage, inspect, stage_text};
use kiln_interop::Tensors;
use kiln_ir::program::place;
use kiln_ir::{Bindings, Graph, Labels, NodeId, Role};
use kiln_train::plot::memory_plan;
use std::fmt;
use std::io::{self, Write};

/// What the page shows.
pub(super) struct Page<'g> {
    graph: &'g Graph,
    /// The weights that came with the graph.
    weights: Option<&'g Tensors>,
    inspection: Inspection,
    /// The groups as text, those of regions among them.
    fused: String,
    /// What the memory plan is drawn for.
    bindings: &'g Bindings,
}

impl<'g> Page<'g> {
    /// Compiles the graph, with which `weights` came.
    pub(super) fn new(
        graph: &'g Graph,
        weights: Option<&'g Tensors>,
        options: &Options,
        bindings: &'g Bindings,
    ) -> Result<Page<'g>, CompileError> {
        Ok(Page {
            graph,
            weights,
            inspection: inspect(graph, options)?,
            fused: stage_text(graph, Stage::Fused, options)?,
            bindings,
        })
    }

    /// Writes the page.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = Escaped(&self.graph.name);
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"
        )?;
        writeln!(out, "<title>{name} in Kiln</title>\n<style>{STYLE}</style>")?;
        writeln!(out, "</head>\n<body>\n<h1>{name}</h1>")?;
        let sections = ["signature", "groups", "memory", "kernels", "texts"];
        let links = sections.map(|section| format!("<a href=\"#{section}\">{section}</a>"));
        writeln!(out, "<nav>{}</nav>", links.join(" "))?;
        for (section, write) in sections.iter().zip([
            Page::signature as fn(&Self, &mut dyn Write) -> io::Result<()>,
            Page::groups,
            Page::memory,
            Page::kernels,
            Page::texts,
        ]) {
            writeln!(out, "<section id=\"{section}\">\n<h2>{section}</h2>")?;
            write(self, out)?;
            writeln!(out, "</section>")?;
        }
        writeln!(out, "</body>\n</html>")
    }

    fn signature(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows: Vec<(&str, &str, NodeId, String)> = Vec::new();
        for slot in self.graph.slots() {
            let (what, init) = match &slot.role {
                Role::Input => ("input", String::new()),
                Role::Param(init) => ("param", init.to_string()),
                Role::State(init) => ("state", init.to_string()),
            };
            let has_value = self.weights.is_some_and(|w| w.get(&slot.name).is_some());
            let init = if has_value {
                "as in the model".into()
            } else {
                init
            };
            rows.push((what, &slot.name, slot.node, init));
        }
        let outputs = self.graph.outputs().iter();
        rows.extend(outputs.map(|o| ("output", o.name.as_str(), o.node, String::new())));
        writeln!(out, "<div class=\"tall\"><table>")?;
        for (what, name, node, init) in rows {
            let ty = self.graph.node(node).map(|node| node.ty.to_string());
            let ty = ty.unwrap_or_default();
            let [name, ty, init] = [name, &ty, &init].map(Escaped);
            writeln!(
                out,
                "<tr><td>{what}<td><code>{name}</code><td><code>{ty}</code><td>{init}"
            )?;
        }
        writeln!(out, "</table></div>")
    }

    fn groups(&self, out: &mut dyn Write) -> io::Result<()> {
        let Inspection { graph, groups, .. } = &self.inspection;
        let Drawing { svg, edges } = drawing(graph, groups);
        writeln!(
            out,
            "<p>What is computed together; lines run down with the data. A click on a group opens its nodes.</p>\n<div class=\"wide\">{svg}</div>"
        )?;
        let labels = Labels::of(graph);
        for (index, group) in groups.groups.iter().enumerate() {
            let title = format!("g{index} {} over {}", group.kind(graph), group.space);
            writeln!(
                out,
                "<details><summary>{}</summary><div id=\"g{index}\">",
                Escaped(&title)
            )?;
            let link = |other: &usize| format!("<a href=\"#g{other}\">g{other}</a>");
            let reads = edges.iter().filter(|(_, to)| *to == index);
            let reads: Vec<String> = reads.map(|(from, _)| link(from)).collect();
            let readers = edges.iter().filter(|(from, _)| *from == index);
            let readers: Vec<String> = readers.map(|(_, to)| link(to)).collect();
            if !reads.is_empty() {
                writeln!(out, "<p>reads {}</p>", reads.join(" "))?;
            }
            if !readers.is_empty() {
                writeln!(out, "<p>is read by {}</p>", readers.join(" "))?;
            }
            writeln!(out, "<pre>{}</pre>", Escaped(&self.members(group, &labels)))?;
            let refusals = groups.refusals.iter();
            for refusal in refusals.filter(|refusal| refusal.group.index() == index) {
                let what = self.name(refusal.producer, &labels);
                let [what, why] = [&*what, &refusal.reason].map(Escaped);
                writeln!(out, "<p><code>{what}</code> does not join: {why}</p>")?;
            }
            writeln!(out, "</div></details>")?;
        }
        Ok(())
    }

    /// The nodes of a group, one on a line.
    fn members(&self, group: &Group, labels: &Labels) -> String {
        let graph = &self.inspection.graph;
        let line = |(id, level): &(NodeId, Level)| {
            let level = match level {
                Level::Unit => "unit  ",
                Level::Point => "point ",
                Level::Inline => "inline",
                Level::Parts => "parts ",
            };
            let Some(node) = graph.node(*id) else {
                return String::new();
            };
            let operands = node.operands.iter();
            let operands: Vec<String> = operands.map(|o| self.name(*o, labels)).collect();
            let operands = operands.join(", ");
            let stored = if group.roots.contains(id) {
                "  stored"
            } else {
                ""
            };
            let (label, ty, op) = (self.name(*id, labels), &node.ty, node.op.rules().name());
            let (location, scope) = (&node.provenance.location, &node.provenance.scope);
            format!("{level} {label}: {ty} = {op} {operands}{stored}    ; {location} {scope}\n")
        };
        group.members.iter().map(line).collect()
    }

    /// A node as groups, buffers and refusals call it: by its id; a source by its name and a literal by its number.
    fn name(&self, id: NodeId, labels: &Labels) -> String {
        let label = labels.get(id).to_string();
        let graph = &self.inspection.graph;
        let is_source = graph.slots().iter().any(|slot| slot.node == id);
        if is_source || !label.starts_with('%') {
            label
        } else {
            id.to_string()
        }
    }

    fn memory(&self, out: &mut dyn Write) -> io::Result<()> {
        let program = &self.inspection.program;
        let sizes = self.bindings.iter();
        let sizes: Vec<String> = sizes
            .map(|(s, size)| format!("{} = {size}", s.name()))
            .collect();
        if !sizes.is_empty() {
            let sizes = sizes.join(", ");
            writeln!(
                out,
                "<p>With {}; <code>--dims</code> gives others.</p>",
                Escaped(&sizes)
            )?;
        }
        let drawn = place(&program.buffers, self.bindings)
            .map_err(|error| error.to_string())
            .and_then(|placement| {
                memory_plan(program, &placement).map_err(|error| error.to_string())
            });
        match drawn {
            Ok(svg) => writeln!(out, "<div class=\"wide\">{svg}</div>")?,
            Err(why) => writeln!(out, "<p>{}</p>", Escaped(&why))?,
        }
        fold(out, "Steps, buffers and offsets", &program.to_string())
    }

    fn kernels(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.inspection.kernels.is_empty() {
            writeln!(out, "<p>The program calls none.</p>")?;
        }
        for kernel in &self.inspection.kernels {
            writeln!(out, "<details><summary>{}</summary>", Escaped(&kernel.name))?;
            writeln!(out, "<pre>{}</pre>", Escaped(&kernel.loops))?;
            fold(out, "Cranelift's IR", &kernel.clif)?;
            fold(out, "machine code", &kernel.asm)?;
            writeln!(out, "</details>")?;
        }
        Ok(())
    }

    fn texts(&self, out: &mut dyn Write) -> io::Result<()> {
        fold(out, "the graph as it was given", &self.graph.to_string())?;
        fold(
            out,
            "the graph that was grouped; its text counts lines, groups and buffers count nodes",
            &self.inspection.graph.to_string(),
        )?;
        fold(out, "all groups, with those of regions", &self.fused)
    }
}

/// A text below a line that opens and closes it.
fn fold(out: &mut dyn Write, title: &str, text: &str) -> io::Result<()> {
    let [title, text] = [title, text].map(Escaped);
    writeln!(
        out,
        "<details><summary>{title}</summary><pre>{text}</pre></details>"
    )
}

/// Text as HTML and XML show it.
pub(super) struct Escaped<'t>(pub(super) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

const STYLE: &str = "
body { font: 15px/1.5 sans-serif; color: #3c3c3c; margin: 2em auto; max-width: 75em; padding: 0 1em }
nav a { margin-right: 1em }
table { border-collapse: collapse }
td { padding: .1em 1em .1em 0; border-bottom: 1px solid #e1e1e1 }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; font-size: 13px; line-height: 1.4 }
details { margin: .2em 0 .2em 1em }
summary { cursor: pointer; font-family: monospace }
div:target { background: #fffbe6; scroll-margin-top: 3em }
.tall { overflow: auto; max-height: 30em }
.wide { overflow: auto; max-height: 45em; border: 1px solid #e1e1e1 }
";
