//! The groups of a graph as a drawing: a box for each, below all that it reads from, and a line for each read.

use super::html::Escaped;
use kiln_compiler::fusion::Groups;
use kiln_ir::{Graph, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The width and height of a box, and how far the next one is, in pixels.
const BOX: (usize, usize) = (230, 40);
const PITCH: (usize, usize) = (250, 76);
/// The most characters that a line of a box has room for: bold ones of 11 pixels are 7 wide.
const ROOM: usize = 30;

/// A drawing of groups.
pub(super) struct Drawing {
    /// The SVG element.
    pub(super) svg: String,
    /// Which group reads from which: from the one that stores to the one that reads, by position.
    pub(super) edges: BTreeSet<(usize, usize)>,
}

/// Draws the groups.
pub(super) fn drawing(graph: &Graph, groups: &Groups) -> Drawing {
    let edges = edges(graph, groups);
    let places = places(groups.groups.len(), &edges);
    let columns = places.iter().map(|(column, _)| column + 1).max();
    let rows = places.iter().map(|(_, row)| row + 1).max();
    let width = 20 + PITCH.0 * columns.unwrap_or(0);
    let height = 20 + PITCH.1 * rows.unwrap_or(0);
    let mut svg = String::new();
    // Writing to a `String` does not fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"monospace,sans-serif\" font-size=\"11\">"
    );
    let corner = |(column, row): (usize, usize)| (10 + PITCH.0 * column, 10 + PITCH.1 * row);
    for (from, to) in &edges {
        let ((x, y), (to_x, to_y)) = (corner(places[*from]), corner(places[*to]));
        let (x, to_x, y) = (x + BOX.0 / 2, to_x + BOX.0 / 2, y + BOX.1);
        let (below, above) = (y + 18, to_y.saturating_sub(18));
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {y}C{x} {below} {to_x} {above} {to_x} {to_y}\" fill=\"none\" stroke=\"#999\"/>\
             <circle cx=\"{to_x}\" cy=\"{to_y}\" r=\"2.5\" fill=\"#666\"/>"
        );
    }
    for (index, group) in groups.groups.iter().enumerate() {
        let (x, y) = corner(places[index]);
        let title = format!("g{index} {}", group.kind(graph));
        let whole = format!("{title} over {}", group.space);
        let (title, space) = (shortened(&title), shortened(&group.space.to_string()));
        let (text_x, first, second) = (x + 8, y + 16, y + 31);
        let _ = writeln!(
            svg,
            "<a href=\"#g{index}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"#dce6f2\" stroke=\"#4477aa\"/>\
             <text x=\"{text_x}\" y=\"{first}\" font-weight=\"bold\">{}</text><text x=\"{text_x}\" y=\"{second}\">{}</text></a>",
            Escaped(&whole),
            BOX.0,
            BOX.1,
            Escaped(&title),
            Escaped(&space),
        );
    }
    svg += "</svg>";
    Drawing { svg, edges }
}

/// Which group reads what another one stores.
fn edges(graph: &Graph, groups: &Groups) -> BTreeSet<(usize, usize)> {
    let mut owners: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (index, group) in groups.groups.iter().enumerate() {
        owners.extend(group.roots.iter().map(|root| (*root, index)));
    }
    let mut edges = BTreeSet::new();
    for (index, group) in groups.groups.iter().enumerate() {
        let nodes = group.members.iter().filter_map(|(id, _)| graph.node(*id));
        for operand in nodes.flat_map(|node| &node.operands) {
            if let Some(owner) = owners.get(operand).filter(|owner| **owner != index) {
                edges.insert((*owner, index));
            }
        }
    }
    edges
}

/// The column and row of each box. A row is one more than the last one that is read from.
fn places(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut rows = vec![0; count];
    // Longest paths: no path has more edges than there are groups.
    for _ in 0..count {
        let before = rows.clone();
        for (from, to) in edges {
            rows[*to] = rows[*to].max(rows[*from] + 1).min(count);
        }
        if rows == before {
            break;
        }
    }
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let place = |row: usize| {
        let column = taken.entry(row).or_insert(0);
        *column += 1;
        (*column - 1, row)
    };
    rows.into_iter().map(place).collect()
}

/// As much of a text as a box has room for.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(ROOM) {
        Some(_) => {
            let end = text.char_indices().nth(ROOM - 3).map_or(0, |(end, _)| end);
            format!("{}...", &text[..end])
        }
        None => text.to_owned(),
    }
}
