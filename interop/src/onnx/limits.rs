//! How large what becomes of a file may be, since a small file could fill the machine.
//!
//! How much memory decoding a message would take is found out before it is decoded: an empty node is two bytes of a file and some hundred
//! bytes in memory. The bytes are walked through once, without taking memory. What is no message at all is left to the decoder, which says
//! so. An import bounds its nodes, since functions and loops unfold, and the extents of what each node gives.

use super::proto;
use super::proto::ModelProto;
use super::value::{Known, Value};

/// Decoding may take as much as small models of many nodes need, and twice the file.
const FREE: usize = 32 << 20;
/// As many messages may lie within each other as the decoder follows.
const DEEPEST: usize = 100;

/// No model unfolds to more nodes than this, nor, beyond the first of the two, to more than so many for each that it has.
const MOST_NODES: (usize, usize) = (1 << 14, 1 << 18);
const MOST_FOR_EACH: usize = 64;
/// No extent is written with more numbers and names, and no shape has a number of elements of more terms.
const MOST_WRITTEN: usize = 512;
const MOST_TERMS: usize = 4096;

/// The messages that files consist of.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Model,
    Opset,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Entry,
    Value,
    Type,
    TensorType,
    Element,
    Shape,
    Dimension,
    Sequence,
    Optional,
}

/// What a field holds.
enum Field {
    Message(Kind),
    /// A text, which is copied.
    Text,
    /// Bytes, of which a slice is kept.
    Slice,
    /// One number or several, packed, of so many bytes in memory.
    Varints(usize),
    Fixed,
    /// It takes no memory of its own, or is skipped.
    Free,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<proto::ModelProto>(),
            Kind::Opset => size_of::<proto::OperatorSetIdProto>(),
            Kind::Function => size_of::<proto::FunctionProto>(),
            Kind::Graph => size_of::<proto::GraphProto>(),
            Kind::Node => size_of::<proto::NodeProto>(),
            Kind::Attribute => size_of::<proto::AttributeProto>(),
            Kind::Tensor => size_of::<proto::TensorProto>(),
            Kind::Entry => size_of::<proto::StringStringEntryProto>(),
            Kind::Value => size_of::<proto::ValueInfoProto>(),
            Kind::Type => size_of::<proto::TypeProto>(),
            Kind::TensorType => size_of::<proto::TensorTypeProto>(),
            Kind::Element => size_of::<proto::ElementTypeProto>(),
            Kind::Shape => size_of::<proto::TensorShapeProto>(),
            Kind::Dimension => size_of::<proto::DimensionProto>(),
            Kind::Sequence => size_of::<proto::SequenceProto>(),
            Kind::Optional => size_of::<proto::OptionalProto>(),
        }
    }

    /// The fields of [`super::proto`].
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Kind::Model, 7) | (Kind::Attribute, 6) => Field::Message(Kind::Graph),
            (Kind::Model, 8) | (Kind::Function, 9) => Field::Message(Kind::Opset),
            (Kind::Model, 25) => Field::Message(Kind::Function),
            (Kind::Function, 7) | (Kind::Graph, 1) => Field::Message(Kind::Node),
            (Kind::Function, 11) | (Kind::Node, 5) => Field::Message(Kind::Attribute),
            (Kind::Graph, 5) | (Kind::Attribute, 5) | (Kind::Sequence, 3) | (Kind::Optional, 3) => {
                Field::Message(Kind::Tensor)
            }
            (Kind::Graph, 11 | 12) => Field::Message(Kind::Value),
            (Kind::Attribute, 14) | (Kind::Value, 2) | (Kind::Element, 1) => {
                Field::Message(Kind::Type)
            }
            (Kind::Model, 14) | (Kind::Tensor, 13) => Field::Message(Kind::Entry),
            (Kind::Type, 1) => Field::Message(Kind::TensorType),
            (Kind::Type, 4 | 9) => Field::Message(Kind::Element),
            (Kind::TensorType, 2) => Field::Message(Kind::Shape),
            (Kind::Shape, 1) => Field::Message(Kind::Dimension),
            (Kind::Optional, 5) => Field::Message(Kind::Sequence),
            (Kind::Function, 1 | 4 | 5 | 10 | 13)
            | (Kind::Node, 1..=4 | 7 | 8)
            | (Kind::Graph, 2)
            | (Kind::Attribute, 1 | 21)
            | (Kind::Tensor, 8)
            | (Kind::Entry, 1 | 2)
            | (Kind::Value, 1)
            | (Kind::Opset, 1)
            | (Kind::Dimension, 2) => Field::Text,
            (Kind::Graph, 15) | (Kind::Attribute, 4 | 9) | (Kind::Type, 5 | 8) => Field::Slice,
            (Kind::Tensor, 9) => Field::Slice,
            (Kind::Attribute, 8) | (Kind::Tensor, 1 | 7 | 11) => Field::Varints(8),
            (Kind::Tensor, 5) => Field::Varints(4),
            (Kind::Attribute, 7) | (Kind::Tensor, 4 | 10) => Field::Fixed,
            (_, _) => Field::Free,
        }
    }
}

/// Whether a message of this kind may be decoded.
///
/// # Errors
/// How much memory it would take, where that is too much.
pub(super) fn check(bytes: &[u8], kind: Kind) -> Result<(), String> {
    let most = bytes.len().saturating_mul(2).saturating_add(FREE);
    let mut left = most.saturating_sub(kind.size());
    match walk(bytes, kind, &mut left, 0) {
        Some(Verdict::TooMuch) => Err(format!(
            "of {} bytes would take more than {most} bytes of memory",
            bytes.len()
        )),
        Some(Verdict::Fine) | None => Ok(()),
    }
}

enum Verdict {
    Fine,
    TooMuch,
}

/// Takes what the message needs from `left`. `None` where the bytes are no message.
fn walk(mut bytes: &[u8], kind: Kind, left: &mut usize, depth: usize) -> Option<Verdict> {
    if depth > DEEPEST {
        return None;
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (field, mut cost) = (kind.field(key >> 3), 0usize);
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
                cost = match field {
                    Field::Varints(size) => 2 * size,
                    Field::Message(_) | Field::Text | Field::Slice | Field::Fixed | Field::Free => {
                        0
                    }
                };
            }
            width @ (1 | 5) => {
                let size = if width == 1 { 8 } else { 4 };
                take(&mut bytes, size)?;
                if matches!(field, Field::Fixed) {
                    cost = 2 * size;
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = take(&mut bytes, length)?;
                // Lists double when they grow.
                cost = match field {
                    Field::Message(kind) => {
                        if let Verdict::TooMuch = walk(content, kind, left, depth + 1)? {
                            return Some(Verdict::TooMuch);
                        }
                        2 * kind.size()
                    }
                    Field::Text => 2 * size_of::<String>() + length,
                    Field::Slice => 2 * size_of::<::bytes::Bytes>(),
                    Field::Varints(size) => {
                        let ends = content.iter().filter(|b| **b < 128);
                        ends.count().saturating_mul(2 * size)
                    }
                    Field::Fixed => 2 * length,
                    Field::Free => 0,
                };
            }
            // Groups, which the decoder skips.
            3 | 4 => {}
            _ => return None,
        }
        match left.checked_sub(cost) {
            Some(rest) => *left = rest,
            None => return Some(Verdict::TooMuch),
        }
    }
    Some(Verdict::Fine)
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (first, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(first)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127).checked_shl(7 * place).unwrap_or(0);
        if *byte < 128 {
            return Some(value);
        }
    }
    None
}

/// Why the extents of a value are more than any model has, where they are: some nodes are enough to make them double with each.
pub(super) fn large_extent(value: &Value<'_>) -> Option<String> {
    let dims = match value {
        Value::Known(Known::Dims(_, dims, _)) => dims.as_slice(),
        Value::Tensor(tensor) => &tensor.ty()?.shape,
        Value::Known(Known::Data(_))
        | Value::Weight(_)
        | Value::Sequence(_)
        | Value::Absent
        | Value::Failed => return None,
    };
    let terms = dims
        .iter()
        .fold(1usize, |n, d| n.saturating_mul(d.term_count()));
    let large = dims.iter().any(|d| d.is_larger_than(MOST_WRITTEN));
    let of_tensor = matches!(value, Value::Tensor(_));
    (large || of_tensor && terms > MOST_TERMS)
        .then(|| "its extents grow beyond what any model has".into())
}

/// How many nodes of a model may be imported.
pub(super) fn most_nodes(model: &ModelProto) -> usize {
    let graph = model.graph.iter().map(|g| g.node.len());
    let functions = model.functions.iter().map(|f| f.node.len());
    let own: usize = graph.chain(functions).sum();
    own.saturating_mul(MOST_FOR_EACH)
        .clamp(MOST_NODES.0, MOST_NODES.1)
}
