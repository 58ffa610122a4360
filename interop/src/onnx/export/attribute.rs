//! Attributes of nodes.

use super::super::proto::{AttributeProto, GraphProto, attribute_type};
use bytes::Bytes;

fn named(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type,
        ..AttributeProto::default()
    }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..named(name, attribute_type::INT)
    }
}

pub(super) fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto {
        ints: values,
        ..named(name, attribute_type::INTS)
    }
}

/// Axes or the like, which are small numbers.
pub(super) fn axes(name: &str, values: &[usize]) -> AttributeProto {
    ints(name, values.iter().map(|a| *a as i64).collect())
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Bytes::copy_from_slice(value.as_bytes()),
        ..named(name, attribute_type::STRING)
    }
}

pub(super) fn graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto {
        g: Some(value),
        ..named(name, attribute_type::GRAPH)
    }
}
