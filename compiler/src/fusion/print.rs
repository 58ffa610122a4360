//! The `fused` dump: groups with their spaces, members and roots, then the joins that were refused.

use super::{Group, Groups, Level, Space};
use kiln_ir::{Dim, Graph, NodeId, Shape};
use std::fmt;

/// Groups with the graph that they partition, for printing.
pub struct Printed<'g> {
    /// The partition.
    pub groups: &'g Groups,
    /// The graph.
    pub graph: &'g Graph,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "groups @{} {{", self.graph.name)?;
        for (i, group) in self.groups.groups.iter().enumerate() {
            self.group(f, i, group)?;
        }
        for refusal in &self.groups.refusals {
            writeln!(
                f,
                "  ; {} does not join {}: {}",
                refusal.producer, refusal.group, refusal.reason
            )?;
        }
        f.write_str("}\n")
    }
}

impl Printed<'_> {
    fn group(&self, f: &mut fmt::Formatter<'_>, i: usize, group: &Group) -> fmt::Result {
        writeln!(
            f,
            "  g{i} {} over {} {{",
            group.kind(self.graph),
            group.space
        )?;
        for (node, level) in &group.members {
            let level = match level {
                Level::Unit => "unit ",
                Level::Point => "point",
                Level::Inline => "inline",
                Level::Parts => "parts",
            };
            write!(f, "    {level} {}", self.node(*node))?;
            if group.product == Some(*node) {
                f.write_str("  product")?;
            }
            if group.roots.contains(node) {
                f.write_str("  stored")?;
            }
            if group.blocks.contains(node) {
                f.write_str("  from blocks")?;
            }
            f.write_str("\n")?;
        }
        for node in &group.sides {
            writeln!(f, "    side  {}", self.node(*node))?;
        }
        f.write_str("  }\n")
    }

    fn node(&self, id: NodeId) -> String {
        let Some(node) = self.graph.node(id) else {
            return id.to_string();
        };
        let operands: Vec<String> = node.operands.iter().map(NodeId::to_string).collect();
        format!(
            "{id}: {} = {} {}",
            node.ty,
            node.op.rules().name(),
            operands.join(", ")
        )
        .trim_end()
        .to_owned()
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |dims: &[Dim]| Shape::from(dims);
        match self {
            Space::Rows {
                rows,
                columns,
                fixed: false,
            } => write!(f, "{}", list(&[&rows[..], columns].concat())),
            Space::Rows { rows, columns, .. } => {
                write!(f, "rows {} x {}", list(rows), list(columns))
            }
            Space::Columns {
                outer,
                reduced,
                inner,
            } => write!(
                f,
                "columns {} along {} x {}",
                list(outer),
                list(reduced),
                list(inner)
            ),
        }
    }
}
