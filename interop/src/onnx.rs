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
//! Extents that a model names are symbols of that name. Floating initializers are params of the graph, so that it can be differentiated;
//! their values are given beside it. Integer initializers and shape arithmetic are computed at import. What cannot be expressed exactly is
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
mod ops;
mod proto;
mod value;

pub use elements::Elements;
pub use error::{ImportErrors, OnnxError, Unsupported};
pub use export::{ExportError, ExportOptions, Unexported, export, save};
pub use ops::table;

use crate::bytes::Bytes as FileBytes;
use bytes::Bytes;
use kiln_ir::{DType, Dim, Graph};
use prost::Message;
use std::collections::BTreeMap;
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
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Import {
    /// The graph. Its inputs and outputs have the names of the model's, its params those of initializers.
    pub graph: Graph,
    /// The value of each param, by name.
    pub params: Vec<(String, Elements)>,
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
    let file = path.display().to_string();
    let tensor = proto::TensorProto::decode(open(path)?);
    let tensor = tensor.map_err(|source| OnnxError::Protobuf {
        file: file.clone(),
        what: "tensor",
        source,
    })?;
    Elements::read(&file, path.parent(), &tensor)
}

fn open(path: &Path) -> Result<Bytes, OnnxError> {
    let mapped = FileBytes::map(path).map_err(|source| OnnxError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Bytes::from_owner(mapped))
}

impl Model {
    /// Reads a model from bytes, which messages call `file`. It has no folder, so external data is refused.
    ///
    /// # Errors
    /// Bytes that are no whole protobuf message.
    pub fn from_bytes(file: &str, bytes: impl Into<Bytes>) -> Result<Self, OnnxError> {
        let decoded = proto::ModelProto::decode(bytes.into());
        let proto = decoded.map_err(|source| OnnxError::Protobuf {
            file: file.to_owned(),
            what: "model",
            source,
        })?;
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

    /// The names of the inputs that must be fed: those that are no initializers, in order.
    pub fn inputs(&self) -> Vec<&str> {
        let Some(graph) = &self.proto.graph else {
            return Vec::new();
        };
        let names = graph.input.iter().map(|i| i.name.as_str());
        let given = |name: &&str| graph.initializer.iter().any(|i| i.name == *name);
        names.filter(|name| !given(name)).collect()
    }

    /// The names of the outputs, in order.
    pub fn outputs(&self) -> Vec<&str> {
        let graph = self.proto.graph.iter();
        graph
            .flat_map(|g| g.output.iter().map(|o| o.name.as_str()))
            .collect()
    }

    /// The element type that the model declares for an input or output.
    fn declared(&self, name: &str) -> Option<DType> {
        let graph = self.proto.graph.as_ref()?;
        let mut all = graph.input.iter().chain(&graph.output);
        let ty = all.find(|v| v.name == name)?.r#type.as_ref()?;
        elements::dtype(ty.tensor_type.as_ref()?.elem_type)
    }
}
