//! What a run is given: tensors by name, and the sizes of dims. All of it is compared with the graph before anything is computed.

use super::names;
use crate::commands::dims;
use crate::failure::Failure;
use crate::source::{Source, unfit};
use kiln_interop::{TensorRef, Tensors, npz};
use kiln_ir::{Bindings, Dim, Equation, Graph, Role, Slot, TensorType, solve};
use std::path::PathBuf;

/// Tensors and sizes that fit a graph. Every input has its tensor.
pub(super) struct Given {
    /// What the user gave, and behind it the weights that came with the graph.
    files: Vec<Tensors>,
    /// Every symbol that a tensor or `--dims` gives.
    pub(super) bindings: Bindings,
}

impl Given {
    /// What `files` have for the graph of `source`, whose weights go here: they are for params that no file has.
    ///
    /// # Errors
    /// Tensors that the graph does not have, or has with another type; missing inputs, each with its type; sizes that contradict one
    /// another.
    pub(super) fn new(source: &mut Source, mut files: Vec<Tensors>) -> Result<Given, Failure> {
        for (at, file) in files.iter().enumerate() {
            known(source, file, &files[..at])?;
        }
        files.extend(source.weights.take());
        let mut given = Given {
            files,
            bindings: Bindings::new(),
        };
        given.complete(&source.graph)?;
        given.bindings = given.bound(&source.graph, &source.dims)?;
        Ok(given)
    }

    /// The tensor for a slot, if there is one.
    pub(super) fn tensor(&self, name: &str) -> Option<TensorRef<'_>> {
        self.files.iter().find_map(|file| file.get(name))
    }

    /// The files, those first whose tensors others hide.
    pub(super) fn files(&self) -> impl Iterator<Item = &Tensors> {
        self.files.iter().rev()
    }

    /// Every input has a tensor.
    fn complete(&self, graph: &Graph) -> Result<(), Failure> {
        let inputs = graph.slots().iter();
        let missing: Vec<String> = inputs
            .filter(|slot| matches!(slot.role, Role::Input) && self.tensor(&slot.name).is_none())
            .map(|slot| match graph.node(slot.node) {
                Some(node) => format!("\n  {}: {}", slot.name, node.ty),
                None => format!("\n  {}", slot.name),
            })
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::Wrong(format!(
                "inputs of @{} are in no file of `--inputs`:{}",
                graph.name,
                missing.concat()
            ))),
        }
    }

    /// The sizes that tensors and `--dims` give.
    fn bound(&self, graph: &Graph, given: &[(String, Dim)]) -> Result<Bindings, Failure> {
        let mut equations = Vec::new();
        for (symbol, size) in dims::known(graph, given)? {
            equations.push(Equation {
                dim: Dim::symbol(symbol.name()),
                size,
                place: format!("`{}` of `--dims`", symbol.name()),
            });
        }
        for slot in graph.slots() {
            let (Some(tensor), Some(node)) = (self.tensor(&slot.name), graph.node(slot.node))
            else {
                continue;
            };
            for (axis, (dim, size)) in node.ty.shape.iter().zip(tensor.shape()).enumerate() {
                equations.push(Equation {
                    dim: dim.clone(),
                    // A file is smaller than this.
                    size: i64::try_from(*size).unwrap_or(i64::MAX),
                    place: format!("axis {axis} of `{}`", slot.name),
                });
            }
        }
        solve(&equations).map_err(|error| Failure::Wrong(error.to_string()))
    }
}

/// The tensors of files.
///
/// # Errors
/// Files that cannot be read.
pub(super) fn open(files: &[PathBuf]) -> Result<Vec<Tensors>, Failure> {
    let open = |path: &PathBuf| npz::open(path).and_then(|t| t.verify().map(|()| t));
    let opened: Result<Vec<Tensors>, _> = files.iter().map(open).collect();
    opened.map_err(|error| Failure::Wrong(error.to_string()))
}

/// Whether each tensor of a file is a slot of the graph, of its type, and in no file before. Inputs that the graph was made for are none.
fn known(source: &Source, file: &Tensors, before: &[Tensors]) -> Result<(), Failure> {
    let graph = &source.graph;
    for tensor in file.iter() {
        let wrong = |what: String| Err(Failure::at(file.file(), what));
        let name = tensor.name();
        if let Some(other) = before.iter().find(|other| other.get(name).is_some()) {
            return wrong(format!("`{name}` is in {} too", other.file()));
        }
        if source.settled.iter().any(|settled| settled == name) {
            continue;
        }
        let slot = graph.slots().iter().find(|slot| slot.name == name);
        let Some(ty) = slot.and_then(|slot| type_of(graph, slot)) else {
            let (inputs, residents): (Vec<&Slot>, Vec<&Slot>) =
                (graph.slots().iter()).partition(|slot| matches!(slot.role, Role::Input));
            let listed = |slots: &[&Slot]| names(slots.iter().map(|slot| slot.name.as_str()));
            return wrong(format!(
                "`{name}` is no input, param or state of @{}; inputs: {}; params and states: {}",
                graph.name,
                listed(&inputs),
                listed(&residents)
            ));
        };
        if let Some(what) = unfit(&tensor, ty, "graph") {
            return wrong(what);
        }
    }
    Ok(())
}

fn type_of<'g>(graph: &'g Graph, slot: &Slot) -> Option<&'g TensorType> {
    Some(&graph.node(slot.node)?.ty)
}
