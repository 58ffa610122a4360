//! Sizes of symbolic dims on the command line: `--dims b=4,t=16`.

use super::listed;
use crate::failure::Failure;
use kiln_ir::{Dim, Graph, Symbol};

/// A binding of `--dims`.
pub(super) fn binding(text: &str) -> Result<(String, i64), String> {
    let wanted = || "expected DIM=SIZE, as in b=4".to_owned();
    let (symbol, size) = text.split_once('=').ok_or_else(wanted)?;
    let size: i64 = size.trim().parse().map_err(|_| wanted())?;
    match size {
        0.. => Ok((symbol.trim().to_owned(), size)),
        _ => Err("a size is not negative".to_owned()),
    }
}

/// The symbols of a graph, in order of name.
pub(super) fn symbols(graph: &Graph) -> Vec<Symbol> {
    let nodes = graph.nodes();
    let types = nodes.flat_map(|(_, node)| node.ty.shape.iter());
    let mut symbols: Vec<Symbol> = types.flat_map(Dim::symbols).collect();
    symbols.sort();
    symbols.dedup();
    symbols
}

/// The bindings of `--dims`, each of a symbol that the graph has.
///
/// # Errors
/// [`Failure::Usage`] for another symbol.
pub(super) fn known(graph: &Graph, given: &[(String, i64)]) -> Result<Vec<(Symbol, i64)>, Failure> {
    let symbols = symbols(graph);
    let one = |(name, size): &(String, i64)| {
        let found = symbols.iter().find(|symbol| symbol.name() == name);
        let symbol = found.cloned().ok_or_else(|| {
            let known = listed(symbols.iter().map(|symbol| format!("`{}`", symbol.name())));
            let name = format!("--dims: @{} has no dim `{name}`", graph.name);
            Failure::Usage(format!("{name}; it has {known}"))
        })?;
        Ok((symbol, *size))
    };
    given.iter().map(one).collect()
}
