//! ONNX models: read, and imported as graphs.
//!
//! ```no_run
//! use kiln_interop::onnx::{self, ImportOptions};
//!
//! let model = onnx::read("model.onnx").unwrap();
//! let import = model.import(&ImportOptions::default()).unwrap();
//! for (name, data) in &import.params {
//!     println!("{name}: {} of shape {:?}", data.dtype(), data.shape());
//! }
//! ```
//!
//! Extents that a model names are symbols of that name. Floating initializers are params of the graph, so that it can be differentiated, and
//! so are `Constant` nodes of the model's own graph with two or more floating elements, since older exporters keep weights in them; both
//! only where they are used as tensors, not as the scales or bounds of an operator. Their values are given beside the graph. Integer initializers and shape arithmetic are computed at import. What cannot be expressed exactly is
//! refused, all of it in one error; `docs/onnx.md` lists the operators. The form is that of ONNX, <https://onnx.ai/onnx/>, from version 7
//! of its operators on.
//!
//! A file is not trusted: a truncated or hostile one is an error, and external data must lie in the model's folder.

pub mod backend;
mod call;
mod elements;
mod error;
mod export;
mod fold;
mod importer;
mod interface;
mod limits;
mod live;
mod ops;
mod proto;
mod signature;
mod specialise;
mod value;

pub use elements::Elements;
pub use error::{ImportErrors, OnnxError, Unsupported};
pub use export::{ExportError, ExportOptions, Unexported, export, save};
pub use ops::table;

use crate::bytes::Bytes as FileBytes;
use crate::tensors::{Data, Entry, Tensors};
use bytes::Bytes;
use kiln_ir::{DType, Dim, Graph, TensorType};
use limits::Kind;
use prost::Message;
use signature::Symbols;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An ONNX model as it is in its file.
#[derive(Clone, Debug)]
pub struct Model {
    file: String,
    folder: Option<PathBuf>,
    proto: proto::ModelProto,
}

/// How a model is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Inputs whose values are fixed, by name; they are no inputs of the graph. For inputs that decide shapes, such as the target of a
    /// reshape.
    pub fixed: BTreeMap<String, Elements>,
    /// Extents that stand in the place of named or unnamed ones of inputs: numbers, or symbols that say more, such as `32*h` where a model
    /// halves its height five times. The names are those of the symbols that an import without this gives.
    pub dims: BTreeMap<String, Dim>,
    /// The types of the elements of inputs that are sequences or optionals, by name. Element `i` of a sequence `s` is the input `s.i` of the
    /// graph; the element of an optional tensor has the name of the optional. An optional that is not there is left out, and empty.
    pub parts: BTreeMap<String, Vec<TensorType>>,
    /// Weights are constants, so that nothing learns, and what models make of weights alone, such as one matrix of the pieces of several, is
    /// computed at import and not in each step.
    pub frozen: bool,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Import {
    /// The graph. Its inputs and outputs have the names of the model's, its params those of initializers and constants;
    /// what its batch norms have seen, and what was a state where Kiln wrote it, are states.
    pub graph: Graph,
    /// The value of each param and state, by name.
    pub params: Vec<(String, Elements)>,
    /// Outputs that are sequences, with the number of their elements. Element `i` of `s` is the output `s.i` of the graph.
    pub sequences: BTreeMap<String, usize>,
}

/// Maps a model's file and reads it. The file must not be changed as long as the model or what was imported from it lives.
///
/// # Errors
/// A file that the system cannot read, or that is no whole protobuf message.
pub fn read(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
    let path = path.as_ref();
    let folder = path.parent().map(|p| match p.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => p.to_owned(),
    });
    let model = Model::from_bytes(&path.display().to_string(), open(path)?)?;
    Ok(Model { folder, ..model })
}

/// Reads a file that holds one tensor, as ONNX's tests have them.
///
/// # Errors
/// As [`read`], and a tensor of a type that Kiln does not have, or whose bytes do not fill its shape.
pub fn read_tensor(path: impl AsRef<Path>) -> Result<Elements, OnnxError> {
    let path = path.as_ref();
    let tensor: proto::TensorProto = decode(path, "tensor", Kind::Tensor)?;
    Elements::read(&path.display().to_string(), path.parent(), &tensor)
}

/// A file that is one message, called `what`.
fn decode<M: Message + Default>(
    path: &Path,
    what: &'static str,
    kind: Kind,
) -> Result<M, OnnxError> {
    decode_bytes(&path.display().to_string(), open(path)?, what, kind)
}

/// Bytes that are one message, once it is known that this does not take too much memory.
fn decode_bytes<M: Message + Default>(
    file: &str,
    bytes: Bytes,
    what: &'static str,
    kind: Kind,
) -> Result<M, OnnxError> {
    limits::check(&bytes, kind).map_err(|found| OnnxError::Malformed {
        file: file.to_owned(),
        what: format!("the {what} {found}"),
    })?;
    M::decode(bytes).map_err(|source| OnnxError::Protobuf {
        file: file.to_owned(),
        what,
        source,
    })
}

fn open(path: &Path) -> Result<Bytes, OnnxError> {
    let mapped = FileBytes::map(path).map_err(|source| OnnxError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Bytes::from_owner(mapped))
}

impl Import {
    /// The values of the params, as the readers of other files give them, so that they are loaded into a session as those are. No element is
    /// copied.
    pub fn weights(&self) -> Tensors {
        let entry = |(name, data): &(String, Elements)| Entry {
            name: name.clone(),
            dtype: data.dtype(),
            shape: data.shape().to_vec(),
            data: Data::Shared(data.shared()),
        };
        Tensors::of_entries(self.graph.name.clone(), self.params.iter().map(entry))
    }
}

impl Model {
    /// Reads a model from bytes, which messages call `file`. It has no folder, so external data is refused.
    ///
    /// # Errors
    /// Bytes that are no whole protobuf message, or that would take more than twice their size, beside 32 MiB, when decoded.
    pub fn from_bytes(file: &str, bytes: impl Into<Bytes>) -> Result<Self, OnnxError> {
        let proto = decode_bytes(file, bytes.into(), "model", Kind::Model)?;
        Ok(Self {
            file: file.to_owned(),
            folder: None,
            proto,
        })
    }

    /// The model as a graph.
    ///
    /// # Errors
    /// All that cannot be imported: operators that the IR cannot express, shapes that are computed when the model runs, elements of types
    /// that Kiln does not have, nodes that contradict themselves.
    pub fn import(&self, options: &ImportOptions) -> Result<Import, ImportErrors> {
        importer::import(&self.proto, &self.file, self.folder.as_deref(), options)
    }

    /// The inputs that must be fed: those that are no initializers, in order.
    fn fed(&self) -> impl Iterator<Item = &proto::ValueInfoProto> {
        let graph = self.proto.graph.iter();
        graph.flat_map(|graph| {
            let given: BTreeSet<&str> = graph.initializer.iter().map(|i| i.name.as_str()).collect();
            let inputs = graph.input.iter();
            inputs.filter(move |input| !given.contains(input.name.as_str()))
        })
    }

    /// The names of the inputs that must be fed: those that are no initializers, in order.
    pub fn inputs(&self) -> Vec<&str> {
        self.fed().map(|input| input.name.as_str()).collect()
    }

    /// The inputs that must be fed with their types as the model declares them, but for those of types that Kiln does not have. Their symbols
    /// are those that [`ImportOptions::dims`] speaks of.
    pub fn input_types(&self) -> Vec<(&str, TensorType)> {
        // As an import declares them, so that extents spelled alike get the same symbols.
        let symbols = Symbols::default();
        let ty = |input: &proto::ValueInfoProto| signature::input_type(input, &symbols).ok();
        self.fed()
            .filter_map(|input| Some((input.name.as_str(), ty(input)?)))
            .collect()
    }

    /// The names of the outputs, in order.
    pub fn outputs(&self) -> Vec<&str> {
        let graph = self.proto.graph.iter();
        graph
            .flat_map(|g| g.output.iter().map(|o| o.name.as_str()))
            .collect()
    }

    /// The operators of all nodes, those of bodies and functions too: each once, in order of name.
    pub fn operators(&self) -> Vec<&str> {
        let mut found = BTreeSet::new();
        let main = self.proto.graph.iter().flat_map(|graph| &graph.node);
        let functions = self.proto.functions.iter().flat_map(|f| &f.node);
        let mut open: Vec<&proto::NodeProto> = main.chain(functions).collect();
        while let Some(node) = open.pop() {
            found.insert(node.op_type.as_str());
            let bodies = node.attribute.iter().filter_map(|a| a.g.as_ref());
            open.extend(bodies.flat_map(|body| &body.node));
        }
        found.into_iter().collect()
    }

    /// The type that the model declares for an input or output.
    fn ty(&self, name: &str) -> Option<&proto::TypeProto> {
        let graph = self.proto.graph.as_ref()?;
        let mut all = graph.input.iter().chain(&graph.output);
        all.find(|v| v.name == name)?.r#type.as_ref()
    }

    /// The element type that the model declares for an input or output.
    fn declared(&self, name: &str) -> Option<DType> {
        elements::dtype(self.ty(name)?.tensor_type.as_ref()?.elem_type)
    }

    /// Whether an input is an optional tensor, which has one element at most.
    fn is_optional_tensor(&self, name: &str) -> bool {
        let optional = self.ty(name).and_then(|t| t.optional_type.as_deref());
        let element = optional.and_then(|o| o.elem_type.as_deref());
        element.is_some_and(|t| t.tensor_type.is_some())
    }
}
