//! A step of the interpreter, which shares no code with the compiler.

use super::given::Given;
use super::{Held, Results};
use kiln_ir::{Array, Graph, NodeId, Role, eval};
use std::collections::BTreeMap;
use std::error::Error;

pub(super) fn run(graph: &Graph, given: &Given, seed: u64) -> Result<Results, Box<dyn Error>> {
    let mut feeds: BTreeMap<NodeId, Array> = BTreeMap::new();
    for slot in graph.slots() {
        let node = graph.node(slot.node).ok_or("a slot has no node")?;
        let array = match (given.tensor(&slot.name), &slot.role) {
            (Some(tensor), _) => tensor.to_array()?,
            (None, Role::Param(init) | Role::State(init)) => {
                let shape = node
                    .ty
                    .shape
                    .iter()
                    .map(|dim| dim.eval_size(&given.bindings));
                let shape = shape
                    .collect::<Result<Vec<usize>, _>>()
                    .map_err(|error| format!("`{}`, {}: {error}", slot.name, node.ty))?;
                init.draw(seed, &slot.name, node.ty.dtype, &shape)
                    .map_err(|error| format!("`{}`: {error}", slot.name))?
            }
            (None, Role::Input) => continue,
        };
        feeds.insert(slot.node, array);
    }
    let step = eval(graph, |slot| feeds.get(&slot.node).cloned())?;
    feeds.extend(step.updates);
    let names = graph.outputs().iter().map(|output| output.name.as_str());
    let residents = graph.slots().iter();
    let residents = residents.filter(|slot| !matches!(slot.role, Role::Input));
    let states = residents.filter_map(|slot| Some(held(&slot.name, feeds.get(&slot.node)?)));
    Ok(Results {
        outputs: names.zip(&step.outputs).map(|(n, a)| held(n, a)).collect(),
        states: states.collect(),
        profile: None,
    })
}

fn held(name: &str, array: &Array) -> Held {
    Held {
        name: name.to_owned(),
        dtype: array.dtype(),
        shape: array.shape().to_vec(),
        bytes: array.to_bytes(),
    }
}
