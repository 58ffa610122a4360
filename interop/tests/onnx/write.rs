//! ONNX models as protobuf bytes, written by hand: field numbers are those of `onnx.proto3`.

use kiln_interop::onnx::Model;

/// Numbers of `TensorProto.DataType`.
pub(crate) const F32: u64 = 1;
pub(crate) const I64: u64 = 7;
pub(crate) const BOOL: u64 = 9;

/// A field of a message: a varint.
pub(crate) fn int(field: u64, value: u64) -> Vec<u8> {
    let mut bytes = varint(field << 3);
    bytes.extend(varint(value));
    bytes
}

/// A field of a message: bytes, a text or another message.
pub(crate) fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = varint(field << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A node of one output without attributes.
pub(crate) fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    node_with(operator, inputs, &[output], &[])
}

/// A node.
pub(crate) fn node_with(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    node.extend(outputs.iter().flat_map(|o| bytes(2, o)));
    node.extend(bytes(4, operator));
    node.extend(attributes.iter().flat_map(|a| bytes(5, a)));
    node
}

pub(crate) fn int_attribute(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name), int(3, value as u64), int(20, 2)].concat()
}

pub(crate) fn text_attribute(name: &str, value: &str) -> Vec<u8> {
    [bytes(1, name), bytes(4, value), int(20, 3)].concat()
}

/// Integers below 128.
pub(crate) fn int_list(name: &str, values: &[u8]) -> Vec<u8> {
    [bytes(1, name), bytes(8, values), int(20, 7)].concat()
}

pub(crate) fn float_list(name: &str, values: &[f32]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    [bytes(1, name), bytes(7, packed), int(20, 6)].concat()
}

pub(crate) fn text_list(name: &str, values: &[&str]) -> Vec<u8> {
    let texts: Vec<u8> = values.iter().flat_map(|t| bytes(9, t)).collect();
    [bytes(1, name), texts, int(20, 8)].concat()
}

pub(crate) fn graph_attribute(name: &str, graph: &[u8]) -> Vec<u8> {
    [bytes(1, name), bytes(6, graph), int(20, 5)].concat()
}

/// A tensor with its elements as they lie in memory.
pub(crate) fn tensor(name: &str, dtype: u64, dims: &[u64], raw: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = dims.iter().flat_map(|d| int(1, *d)).collect();
    tensor.extend([int(2, dtype), bytes(8, name), bytes(9, raw)].concat());
    tensor
}

pub(crate) fn floats(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor(name, F32, dims, &raw)
}

pub(crate) fn ints(name: &str, dims: &[u64], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor(name, I64, dims, &raw)
}

/// The type of a tensor, whose extents are numbers or names.
pub(crate) fn tensor_type(dtype: u64, dims: &[&str]) -> Vec<u8> {
    let dim = |d: &&str| match d.parse::<u64>() {
        Ok(extent) => bytes(1, int(1, extent)),
        Err(_) => bytes(1, bytes(2, d)),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    bytes(1, [int(1, dtype), bytes(2, shape)].concat())
}

/// An input or output.
pub(crate) fn value(name: &str, ty: &[u8]) -> Vec<u8> {
    [bytes(1, name), bytes(2, ty)].concat()
}

/// A graph.
#[derive(Default)]
pub(crate) struct Parts<'p> {
    pub(crate) nodes: &'p [Vec<u8>],
    pub(crate) initializers: &'p [Vec<u8>],
    pub(crate) inputs: &'p [Vec<u8>],
    pub(crate) outputs: &'p [&'p str],
    /// Functions of the model.
    pub(crate) functions: &'p [Vec<u8>],
}

pub(crate) fn graph(parts: &Parts<'_>) -> Vec<u8> {
    let mut graph: Vec<u8> = parts.nodes.iter().flat_map(|n| bytes(1, n)).collect();
    graph.extend(bytes(2, "g"));
    graph.extend(parts.initializers.iter().flat_map(|t| bytes(5, t)));
    graph.extend(parts.inputs.iter().flat_map(|i| bytes(11, i)));
    graph.extend(parts.outputs.iter().flat_map(|o| bytes(12, bytes(1, o))));
    graph
}

/// A model of version 20 of the operators.
pub(crate) fn model(parts: &Parts<'_>) -> Vec<u8> {
    let mut model = [int(1, 9), bytes(7, graph(parts)), bytes(8, int(2, 20))].concat();
    model.extend(parts.functions.iter().flat_map(|f| bytes(25, f)));
    model
}

pub(crate) fn read(parts: &Parts<'_>) -> Model {
    Model::from_bytes("small", model(parts)).unwrap()
}
