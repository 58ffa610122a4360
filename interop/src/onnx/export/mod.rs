//! Graphs as ONNX models.
//!
//! A model is written in version 18 of ONNX's operators and version 8 of its form, which onnxruntime reads since 1.14. What it gives is what
//! the graph gives, to the accuracy of the runtime's functions; where a runtime has a choice, it is the runtime's: where NaN stands among
//! numbers in maxima and rows that are sorted.
//!
//! Guards (`require`, and indices that must be in range) are left out, since nothing in ONNX fails on purpose. So are updates: a model
//! keeps nothing from one call to the next.

mod attribute;
mod body;
mod contraction;
mod control;
mod conv;
mod elementwise;
mod error;
mod extents;
mod graph;
mod indexing;
mod movement;
mod random;
mod reduce;
mod types;
mod window;

pub use error::{ExportError, Unexported};

use super::proto::{
    CONSTANTS, GraphProto, ModelProto, OperatorSetIdProto, STATES, StringStringEntryProto,
};
use crate::TensorRef;
use crate::replace::replace_file;
use body::{Body, Model, Value, info};
use bytes::Bytes;
use kiln_ir::{Graph, NodeId, Output, Role, Slot, TensorType, verify};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// The version of the form that goes with the version of the operators.
const IR_VERSION: i64 = 8;
/// The oldest version of the operators that has all that is written: reductions over axes that are inputs, bitwise operators, negative padding.
const OPSET: i64 = 18;
/// What a protobuf message may have.
const MOST_BYTES: usize = i32::MAX as usize;

/// How a graph is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The outputs that the model gives, in this order; where it is empty, all of the graph's. What only other outputs need is left out, inputs
    /// too, so that the predictions alone of a graph that also measures a loss need no targets.
    pub outputs: Vec<String>,
}

/// The graph as an ONNX model: the bytes of a file.
///
/// Inputs and outputs keep their names. Params and states become initializers, with the data that `values` has under their names; values
/// of other names are not looked at. Symbols of extents are named as such, and what follows from them is computed when the model runs.
///
/// # Errors
/// [`ExportError`], with all that cannot be exported in one.
///
/// ```
/// use kiln_interop::TensorRef;
/// use kiln_interop::onnx::{self, ExportOptions, ImportOptions, Model};
/// use kiln_ir::{Builder, DType, Init};
///
/// let g = Builder::new("line");
/// let x = g.input("x", DType::F32, (g.dim("b"), 1));
/// let w = g.param("w", (1, 1), Init::zeros());
/// g.output("y", x.dot(w) + 1.0);
/// let graph = g.finish()?;
///
/// let two = 2f32.to_le_bytes();
/// let w = TensorRef::new("w", DType::F32, &[1, 1], &two)?;
/// let bytes = onnx::export(&graph, [w], &ExportOptions::default())?;
///
/// let back = Model::from_bytes("line", bytes)?.import(&ImportOptions::default())?;
/// assert_eq!(back.params[0].1.bytes(), two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export<'a>(
    graph: &Graph,
    values: impl IntoIterator<Item = TensorRef<'a>>,
    options: &ExportOptions,
) -> Result<Vec<u8>, ExportError> {
    verify(graph)?;
    let outputs = chosen(graph, options)?;
    let values: BTreeMap<&str, TensorRef<'a>> = values.into_iter().map(|v| (v.name(), v)).collect();
    let ids: Vec<NodeId> = outputs.iter().map(|o| o.node).collect();
    let needed = graph::needed(graph, &ids);
    let mut model = Model::default();
    let mut inputs = Vec::new();
    let mut states = Vec::new();
    let mut sources = Vec::with_capacity(graph.slots().len());
    for slot in graph.slots() {
        let used = needed[slot.node.index()];
        let Some(ty) = graph.node(slot.node).map(|n| n.ty.clone()) else {
            continue;
        };
        let value = Value {
            name: slot.name.clone(),
            ty,
        };
        sources.push(value.clone());
        match slot.role {
            Role::Input if used || options.outputs.is_empty() => {
                model.take(&slot.name);
                model.extents.declare(&value);
                inputs.push(value);
            }
            Role::Param(_) | Role::State(_) if used => {
                model.take(&slot.name);
                if matches!(slot.role, Role::State(_)) {
                    states.push(slot.name.clone());
                }
                store(&mut model, slot, &value.ty, &values);
            }
            Role::Input | Role::Param(_) | Role::State(_) => {}
        }
    }
    for output in &outputs {
        let same = sources.iter().zip(graph.slots());
        let same = same
            .into_iter()
            .any(|(_, slot)| slot.name == output.name && slot.node == output.node);
        if !model.take(&output.name) && !same {
            let ty = graph.node(output.node).map(|n| n.ty.clone());
            model.problems.extend(ty.map(|ty| Unexported {
                node: output.name.clone(),
                op: "output".into(),
                ty,
                reason: "an input, param or state has the same name, and a model has one name for one thing".into(),
            }));
        }
    }
    let mut body = Body {
        model: &mut model,
        nodes: Vec::new(),
        stem: String::new(),
    };
    let results = graph::outputs(&mut body, graph, sources, &outputs);
    let nodes = std::mem::take(&mut body.nodes);
    if !model.problems.is_empty() {
        return Err(ExportError::Unexported {
            graph: graph.name.clone(),
            nodes: model.problems,
        });
    }
    let first = std::mem::take(&mut model.extents.nodes);
    let slots: BTreeSet<&str> = graph.slots().iter().map(|s| s.name.as_str()).collect();
    let initializers = model.initializers.iter().map(|t| t.name.clone());
    let constants = initializers.filter(|name| !slots.contains(name.as_str()));
    let constants: Vec<String> = constants.collect();
    let graph = GraphProto {
        name: graph.name.clone(),
        node: first.into_iter().chain(nodes).collect(),
        initializer: model.initializers,
        input: inputs.iter().map(info).collect(),
        output: results.iter().map(info).collect(),
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "kiln".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: [(STATES, states), (CONSTANTS, constants)]
            .map(|(key, names)| StringStringEntryProto {
                key: key.into(),
                value: names.join("\n"),
            })
            .into(),
        ..ModelProto::default()
    };
    match model.encoded_len() {
        size if size > MOST_BYTES => Err(ExportError::TooLarge(size)),
        _ => Ok(model.encode_to_vec()),
    }
}

/// As [`export`], into the file at `path`, which is replaced whole or not at all ([`replace_file`]).
///
/// # Errors
/// [`ExportError`]; the file is then as it was.
pub fn save<'a>(
    path: impl AsRef<Path>,
    graph: &Graph,
    values: impl IntoIterator<Item = TensorRef<'a>>,
    options: &ExportOptions,
) -> Result<(), ExportError> {
    let path = path.as_ref();
    let bytes = export(graph, values, options)?;
    replace_file(path, |file| file.write_all(&bytes)).map_err(|source| ExportError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The outputs that the model gives.
fn chosen(graph: &Graph, options: &ExportOptions) -> Result<Vec<Output>, ExportError> {
    let all = graph.outputs();
    if options.outputs.is_empty() {
        return Ok(all.to_vec());
    }
    let chosen = options.outputs.iter().map(|name| {
        let found = all.iter().find(|o| o.name == *name).cloned();
        found.ok_or_else(|| ExportError::NoOutput {
            graph: graph.name.clone(),
            name: name.clone(),
            outputs: all.iter().map(|o| o.name.clone()).collect(),
        })
    });
    chosen.collect()
}

/// The data of a param or state as an initializer.
fn store(model: &mut Model, slot: &Slot, ty: &TensorType, values: &BTreeMap<&str, TensorRef<'_>>) {
    let reason = match (values.get(slot.name.as_str()), ty.shape.constants()) {
        (Some(value), Some(shape)) if value.dtype() == ty.dtype && value.shape() == shape => {
            let bytes = Bytes::copy_from_slice(value.bytes());
            model.initializer(&slot.name, ty.dtype, &shape, bytes);
            return;
        }
        (Some(value), _) => format!(
            "its value has the type {} and the shape {:?}",
            value.dtype(),
            value.shape()
        ),
        (None, _) => "it has no value; a model needs that of each param and state".into(),
    };
    model.problems.push(Unexported {
        node: slot.name.clone(),
        op: match slot.role {
            Role::Param(_) => "param".into(),
            Role::State(_) => "state".into(),
            Role::Input => "input".into(),
        },
        ty: ty.clone(),
        reason,
    });
}
