//! The gradients that `--grad` asks for, as further outputs of the graph.

use super::names;
use kiln_ir::{Builder, Graph, Role, Tensor, grad};

/// The graph with an output `grad/NAME` for each of `wrt`; where that is empty, for each param.
///
/// # Errors
/// An unknown name, or an output that has no gradients by these sources, in words.
pub(super) fn differentiate(graph: Graph, output: &str, wrt: &[String]) -> Result<Graph, String> {
    let outputs = names(graph.outputs().iter().map(|o| o.name.as_str()));
    let slots = names(graph.slots().iter().map(|s| s.name.as_str()));
    let params = graph.slots().iter();
    let params = params.filter(|slot| matches!(slot.role, Role::Param(_)));
    let wrt: Vec<String> = match wrt {
        [] => params.map(|slot| slot.name.clone()).collect(),
        named => named.to_vec(),
    };
    if wrt.is_empty() {
        let what = "there are no params to differentiate by; name inputs or states with `--wrt`";
        return Err(format!("{what}: there are {slots}"));
    }
    let g = Builder::resume(graph).map_err(|violations| violations.to_string())?;
    let loss = g.find_output(output);
    let loss = loss.ok_or_else(|| format!("there is no output `{output}`; there are {outputs}"))?;
    let by: Vec<Tensor<'_>> = wrt
        .iter()
        .map(|name| {
            let found = g.find(name);
            found.ok_or_else(|| {
                format!("there is no input, param or state `{name}`; there are {slots}")
            })
        })
        .collect::<Result<_, _>>()?;
    for (name, gradient) in wrt.iter().zip(grad(loss, &by)) {
        g.output(&format!("grad/{name}"), gradient);
    }
    g.finish().map_err(|diagnostics| diagnostics.to_string())
}
