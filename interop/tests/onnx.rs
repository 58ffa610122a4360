//! ONNX import: small models written here as protobuf bytes, the table in the documentation, and files that were tampered with.

use kiln_interop::onnx::{ImportOptions, Model, table};
use proptest::prelude::*;

/// A field of a message: a varint.
fn int(field: u64, value: u64) -> Vec<u8> {
    let mut bytes = varint(field << 3);
    bytes.extend(varint(value));
    bytes
}

/// A field of a message: bytes, a text or another message.
fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
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

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    node.extend(bytes(2, output));
    node.extend(bytes(4, operator));
    node
}

/// A model of f32 input `x` `[batch, 3]`, output `y` and a 3 x 2 initializer `w`.
fn model(nodes: &[Vec<u8>]) -> Vec<u8> {
    let batch = bytes(1, bytes(2, "batch"));
    let three = bytes(1, int(1, 3));
    let shape = [batch, three].concat();
    let tensor = [int(1, 1), bytes(2, shape)].concat();
    let x = [bytes(1, "x"), bytes(2, bytes(1, tensor))].concat();
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let w = [
        int(1, 3),
        int(1, 2),
        int(2, 1),
        bytes(8, "w"),
        bytes(9, data),
    ]
    .concat();
    let mut graph: Vec<u8> = nodes.iter().flat_map(|n| bytes(1, n)).collect();
    graph.extend(
        [
            bytes(2, "g"),
            bytes(5, w),
            bytes(11, x),
            bytes(12, bytes(1, "y")),
        ]
        .concat(),
    );
    [int(1, 9), bytes(7, graph), bytes(8, int(2, 17))].concat()
}

#[test]
fn initializers_are_params_and_extents_symbols() {
    let nodes = [
        node("Shape", &["w"], "s"),
        node("Abs", &["w"], "a"),
        node("Expand", &["a", "s"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let import = model.import(&ImportOptions::default()).unwrap();
    assert_eq!(import.params.len(), 1);
    assert_eq!(import.params[0].0, "w");
    assert_eq!(import.params[0].1.shape(), [3, 2]);
    let text = import.graph.to_string();
    assert!(text.contains("f32[batch, 3]"), "{text}");
    assert!(
        !text.contains("= const {"),
        "shape arithmetic left a trace: {text}"
    );
}

#[test]
fn all_that_is_unsupported_is_listed() {
    let nodes = [
        node("Unique", &["x"], "n"),
        node("Abs", &["n"], "a"),
        node("Fancy", &["x"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let errors = model.import(&ImportOptions::default()).unwrap_err();
    let found: Vec<(&str, &str)> = (errors.0.iter())
        .map(|e| (e.node.as_str(), e.operator.as_str()))
        .collect();
    assert_eq!(found, [("n", "Unique"), ("y", "Fancy")], "{errors}");
    assert!(errors.to_string().contains("depends on the data"));
}

#[test]
fn the_documentation_has_the_table() {
    let page = include_str!("../../docs/onnx.md");
    assert!(
        page.contains(&table()),
        "docs/onnx.md must have this table:\n{}",
        table()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_tampered_model_panics(
        at in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let nodes = [node("Shape", &["x"], "s"), node("Abs", &["x"], "a"), node("Reshape", &["a", "s"], "y")];
        let mut bytes = model(&nodes);
        for (index, byte) in at {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = Model::from_bytes("tampered", bytes) {
            let _either = model.import(&ImportOptions::default());
        }
    }

    #[test]
    fn no_random_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(model) = Model::from_bytes("random", bytes) {
            let _either = model.import(&ImportOptions::default());
        }
    }
}
