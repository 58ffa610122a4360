//! Sizes of a graph's symbolic dims, from `--dims b=4,t=16`.

use crate::failure::Failure;
use crate::listed::listed;
use kiln_ir::{Dim, Graph, Symbol};

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
/// [`Failure::Usage`] for another symbol, and for what is no size.
pub(super) fn known(graph: &Graph, given: &[(String, Dim)]) -> Result<Vec<(Symbol, i64)>, Failure> {
    let symbols = symbols(graph);
    let one = |(name, size): &(String, Dim)| {
        let found = symbols.iter().find(|symbol| symbol.name() == name);
        let symbol = found.cloned().ok_or_else(|| {
            let known = listed(symbols.iter().map(|symbol| format!("`{}`", symbol.name())));
            let name = format!("--dims: @{} has no dim `{name}`", graph.name);
            Failure::Usage(format!("{name}; it has {known}"))
        })?;
        let number = size.constant().ok_or_else(|| {
            let what = format!("--dims: `{size}` is no size for `{name}`");
            Failure::Usage(format!(
                "{what}; an extent that is computed is for ONNX models"
            ))
        })?;
        Ok((symbol, number))
    };
    given.iter().map(one).collect()
}
